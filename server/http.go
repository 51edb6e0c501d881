package server

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// Timeouts of the HTTP servers. Without them a slow client could hold a connection for ever.
// The API's bodies are small, so one minute is enough for a request.
const (
	// readHeaderTimeout is also how long a new connection may say nothing. Later requests of a connection
	// may come within idleTimeout; the API lets only callers with a key make them.
	readHeaderTimeout = 5 * time.Second
	requestTimeout    = time.Minute
	idleTimeout       = 2 * time.Minute
	// stallTimeout is how long a body may pause.
	stallTimeout = 10 * time.Second
	// leaveTimeout is how long the server reads what is left of a body after its request was answered. A
	// connection that is closed earlier could take the answer with it.
	leaveTimeout = 500 * time.Millisecond
	// maxHeader is the limit of a request's header, in bytes.
	maxHeader = 32 << 10
)

// unknownDescriptorLimit stands for a limit that the system does not tell.
const unknownDescriptorLimit = 1 << 16

// site is what one listener serves.
type site struct {
	listener    net.Listener
	handler     http.Handler
	connections int           // at once, at most
	linger      time.Duration // how long it goes on after its context is done
}

// serve serves HTTP until ctx is done and the site has lingered. Then it closes what is idle, and lets open
// requests end, up to the shutdown timeout.
func (s *Server) serve(ctx context.Context, site site) error {
	listener := limitListener(site.listener, site.connections, s.shed)
	server := &http.Server{
		Handler: watchConnections(withDeadlines(site.handler)), ConnContext: withConnection, MaxHeaderBytes: maxHeader,
		ReadHeaderTimeout: readHeaderTimeout, ReadTimeout: requestTimeout, WriteTimeout: requestTimeout, IdleTimeout: idleTimeout,
		ErrorLog: slog.NewLogLogger(s.role.Logger.Handler(), slog.LevelWarn),
	}
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		unhurried := context.WithoutCancel(ctx)
		Pause(unhurried, site.linger)
		bound, cancel := context.WithTimeout(unhurried, s.settings.ShutdownTimeout)
		defer cancel()
		stopped <- server.Shutdown(bound)
	})
	err := server.Serve(listener)
	if stop() { // ctx is not done: the server has failed
		return err
	}
	if err := <-stopped; err != nil {
		s.role.Logger.LogAttrs(ctx, slog.LevelWarn, "open requests were cut off at the shutdown timeout", slog.Any("error", err))
	}
	return nil
}

// withDeadlines bounds the wait for a request's body: for each part of it, and for what the handler has not
// read when it returns. net/http bounds only the whole request, so that a caller who announces a body and
// sends none would hold the connection for that long, answered or not.
func withDeadlines(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength == 0 {
			next.ServeHTTP(w, r)
			return
		}
		body := &steadyBody{ReadCloser: r.Body, connection: http.NewResponseController(w), end: time.Now().Add(requestTimeout)}
		watched := r.WithContext(r.Context())
		watched.Body = body
		next.ServeHTTP(w, watched)
		if !body.read {
			body.deadline(time.Now().Add(leaveTimeout))
		}
	})
}

// steadyBody is a body that must not pause for longer than stallTimeout.
type steadyBody struct {
	io.ReadCloser
	connection *http.ResponseController
	end        time.Time // of the whole request
	read       bool      // to its end
}

// Read implements [io.Reader]. After the end of the body the connection has the deadline of the whole request:
// net/http goes on reading, to notice a caller that goes away.
func (b *steadyBody) Read(p []byte) (int, error) {
	b.deadline(time.Now().Add(stallTimeout))
	n, err := b.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) {
		b.read = true
		b.deadline(b.end)
	}
	return n, err
}

// deadline sets the time by which the connection's next bytes must come, but not later than the request must
// end. A connection without deadlines, which only tests have, is left alone.
func (b *steadyBody) deadline(at time.Time) {
	if at.After(b.end) {
		at = b.end
	}
	_ = b.connection.SetReadDeadline(at)
}
