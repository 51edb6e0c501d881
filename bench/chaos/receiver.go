package main

import (
	"context"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"time"

	"postrider.dev/postrider/bench/hostile"
)

// goodAways spaces the answers after which the good receiver on HTTP/2 ends its connection.
const goodAways = 20

// receiver is all webhooks' receivers, one for each path.
type receiver struct {
	ledger *ledger
	plain  *httptest.Server
	tls    *httptest.Server // HTTP/2
	away   *httptest.Server // HTTP/2 that takes no request

	authority string // file of who signed the certificate
	urls      map[*httptest.Server]string

	mu    sync.Mutex
	moods map[string]http.HandlerFunc // how good receivers misbehave now, by path
}

// newReceiver starts the receivers, which write what they got and took into the ledger. They are
// reached through a link of that name.
func newReceiver(ctx context.Context, l *ledger, through links, link, dir string) (*receiver, error) {
	r := &receiver{ledger: l, moods: map[string]http.HandlerFunc{}, urls: map[*httptest.Server]string{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /good/{n}", r.good)
	for name, answer := range hostile.Behaviours(goodPath(0), func(r *http.Request) { l.received(r) }) {
		mux.HandleFunc("POST /"+name, answer)
	}
	r.plain, r.tls, r.away = httptest.NewUnstartedServer(mux), httptest.NewUnstartedServer(mux), httptest.NewUnstartedServer(mux)
	for _, server := range []*httptest.Server{r.plain, r.tls, r.away} {
		server.Config.ErrorLog = log.New(io.Discard, "", 0) // handshakes that a cut link breaks off
	}
	r.plain.Start()
	r.tls.EnableHTTP2 = true
	r.tls.StartTLS()
	hostile.ConfigureGoAway(r.away)
	r.away.StartTLS()
	for server, scheme := range map[*httptest.Server]string{r.plain: "http", r.tls: "https", r.away: "https"} {
		address, err := through.through(ctx, link, server.Listener.Addr().String())
		if err != nil {
			return r, err
		}
		r.urls[server] = scheme + "://" + address
	}
	r.authority = filepath.Join(dir, "authority.pem")
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.tls.Certificate().Raw})
	return r, os.WriteFile(r.authority, certificate, 0o600)
}

// url returns the URL of a path. The last good receiver speaks HTTP/2.
func (r *receiver) url(path string) string {
	switch path {
	case goodPath(goodWebhooks - 1):
		return r.urls[r.tls] + path
	case "/" + hostile.GoesAway:
		return r.urls[r.away] + path
	default:
		return r.urls[r.plain] + path
	}
}

func goodPath(n int) string { return fmt.Sprintf("/good/%d", n) }

// good takes what comes, unless it is in a mood.
func (r *receiver) good(w http.ResponseWriter, request *http.Request) {
	r.mu.Lock()
	mood := r.moods[request.URL.Path]
	r.mu.Unlock()
	if mood != nil {
		mood(w, request)
		return
	}
	if request.ProtoMajor == 2 && r.ledger.received(request)%goodAways == 0 {
		w.Header().Set("Connection", "close") // HTTP/2's GOAWAY, after this answer
	} else if request.ProtoMajor == 1 {
		r.ledger.received(request)
	}
	w.WriteHeader(http.StatusNoContent)
}

// misbehave makes a good receiver answer in another way for a while. What hangs ends with it.
func (r *receiver) misbehave(ctx context.Context, path string, span time.Duration, mood http.HandlerFunc) {
	ctx, cancel := context.WithTimeout(ctx, span)
	defer cancel()
	set := func(mood http.HandlerFunc) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.moods[path] = mood
	}
	set(func(w http.ResponseWriter, request *http.Request) {
		bound, end := context.WithCancel(request.Context())
		defer end()
		defer context.AfterFunc(ctx, end)()
		mood(w, request.WithContext(bound)) //nolint:contextcheck // the request's, which ends with ctx, too
	})
	<-ctx.Done()
	set(nil)
}

func (r *receiver) close() {
	for _, server := range []*httptest.Server{r.plain, r.tls, r.away} {
		if server != nil {
			server.CloseClientConnections()
			server.Close()
		}
	}
}

// pause waits for the time, or until ctx is done.
func pause(ctx context.Context, span time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, span)
	defer cancel()
	<-ctx.Done()
}
