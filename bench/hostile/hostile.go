// Package hostile has receivers that misbehave, for the benchmark and for chaos.
package hostile

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"time"
)

// GoesAway is the path of the receiver that ends every HTTP/2 connection before it took a request,
// see [ConfigureGoAway].
const GoesAway = "goes-away"

const (
	mebibyte = 1 << 20
	flood    = 1 << 30 // bytes that a receiver answers with

	dripEvery = 50 * time.Millisecond
)

// Behaviours are how the receivers answer, by the path of their webhooks. They make an attempt fail,
// but for those that answer 2xx and then with more than anybody reads: these call took. The path
// elsewhere is where redirects lead to.
func Behaviours(elsewhere string, took func(*http.Request)) map[string]http.HandlerFunc {
	packed := bomb() // now: it takes seconds, which would be missing while somebody measures
	return map[string]http.HandlerFunc{
		"hangs": Hang, "fails": Status(http.StatusInternalServerError), "gone": Status(http.StatusGone),
		"redirects": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere, http.StatusFound) },
		"circles": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/circles", http.StatusPermanentRedirect)
		},
		"busy": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusTooManyRequests)
		},
		"closes": Close,
		"drips":  drip,
		"headers": func(w http.ResponseWriter, _ *http.Request) {
			for range 2 {
				w.Header().Add("X-Flood", strings.Repeat("x", mebibyte))
			}
		},
		"floods": func(w http.ResponseWriter, r *http.Request) {
			took(r)
			chunk := []byte(strings.Repeat("x", mebibyte))
			for range flood / mebibyte {
				if _, err := w.Write(chunk); err != nil {
					return
				}
			}
		},
		"bombs": func(w http.ResponseWriter, r *http.Request) {
			took(r)
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write(packed)
		},
		GoesAway: Status(http.StatusInternalServerError), // never reached
	}
}

// Names are the paths of all behaviours, sorted.
func Names() []string { return slices.Sorted(maps.Keys(Behaviours("", nil))) }

// Status answers with a status code.
func Status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

// Hang answers nothing, and breaks off in the end.
func Hang(_ http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body) // only after that does the server see that the caller is gone
	<-r.Context().Done()
	panic(http.ErrAbortHandler)
}

// Close breaks the connection off without an answer.
func Close(w http.ResponseWriter, _ *http.Request) {
	if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
		_ = conn.Close()
	}
}

// drip answers with a byte now and then.
func drip(w http.ResponseWriter, r *http.Request) {
	for r.Context().Err() == nil {
		if _, err := w.Write([]byte("x")); err != nil || http.NewResponseController(w).Flush() != nil {
			return
		}
		late, cancel := context.WithTimeout(r.Context(), dripEvery)
		<-late.Done()
		cancel()
	}
}

// bomb is a gigabyte, compressed to a thousandth.
var bomb = sync.OnceValue(func() []byte { //nolint:gochecknoglobals // made once, when it is needed
	var packed bytes.Buffer
	writer, _ := gzip.NewWriterLevel(&packed, gzip.BestSpeed) // the level is a valid one
	chunk := make([]byte, mebibyte)
	for range flood / mebibyte {
		_, _ = writer.Write(chunk) // into memory
	}
	_ = writer.Close()
	return packed.Bytes()
})

// ConfigureGoAway makes a server that is not started yet take no request on its HTTP/2 connections.
func ConfigureGoAway(server *httptest.Server) {
	server.TLS = &tls.Config{NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS12}
	server.Config.TLSNextProto = map[string]func(*http.Server, *tls.Conn, http.Handler){"h2": goAway}
}

// goAway takes no request on an HTTP/2 connection: it says so before the first stream (RFC 9113,
// section 6.8), and waits for the connection's end.
func goAway(_ *http.Server, conn *tls.Conn, _ http.Handler) {
	_, _ = conn.Write([]byte{
		0, 0, 0, 4, 0, 0, 0, 0, 0, // SETTINGS
		0, 0, 8, 7, 0, 0, 0, 0, 0 /* GOAWAY */, 0, 0, 0, 0 /* last stream */, 0, 0, 0, 0, // NO_ERROR
	})
	_, _ = io.Copy(io.Discard, conn)
}
