package main

import (
	"context"
	"net"
	"net/http"
	"strings"
	"time"
)

// behaviours are how the hostile receivers answer, by the path of their webhooks. All of them
// make an attempt fail, but for one that answers 2xx and does not come to an end.
func behaviours(l *ledger) map[string]http.HandlerFunc {
	return map[string]http.HandlerFunc{
		"hangs":     func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"fails":     func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) },
		"gone":      func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusGone) },
		"redirects": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/good", http.StatusFound) },
		"busy": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusTooManyRequests)
		},
		"closes": func(w http.ResponseWriter, _ *http.Request) {
			if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
				_ = conn.Close()
			}
		},
		"drips": func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := w.Write([]byte("x")); err != nil || http.NewResponseController(w).Flush() != nil {
					return
				}
				pause(r.Context(), 50*time.Millisecond)
			}
		},
		"floods": func(w http.ResponseWriter, r *http.Request) {
			l.received(r.URL.Path, r.Header.Get("webhook-id"))
			chunk := []byte(strings.Repeat("x", 1<<20))
			for range 1 << 10 {
				if _, err := w.Write(chunk); err != nil {
					return
				}
			}
		},
	}
}

// receiver is all webhooks' receivers, one for each path.
type receiver struct {
	url    string
	server *http.Server
	ended  chan error
}

// newReceiver starts the receivers, which write what they got and took into the ledger.
func newReceiver(ctx context.Context, l *ledger) (*receiver, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /good/{n}", func(w http.ResponseWriter, r *http.Request) {
		l.received(r.URL.Path, r.Header.Get("webhook-id"))
		w.WriteHeader(http.StatusNoContent)
	})
	for name, answer := range behaviours(l) {
		mux.HandleFunc("POST /"+name, answer)
	}
	r := &receiver{
		url: "http://" + listener.Addr().String(), ended: make(chan error, 1),
		server: &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute},
	}
	go func() { r.ended <- r.server.Serve(listener) }()
	return r, nil
}

func (r *receiver) close() {
	_ = r.server.Close()
	<-r.ended //nolint:errcheck // http.ErrServerClosed
}

// pause waits for the time, or until ctx is done.
func pause(ctx context.Context, span time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, span)
	defer cancel()
	<-ctx.Done()
}
