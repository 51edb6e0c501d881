package main

import (
	"bytes"
	"compress/gzip"
	"crypto/tls"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

const (
	// goodAways spaces the answers after which the good receiver on HTTP/2 ends its connection.
	goodAways = 20
	// goesAway is the path of the receiver that ends every connection before it took a request.
	goesAway = "goes-away"
	mebibyte = 1 << 20
	flood    = 1 << 30 // bytes that a receiver answers with
)

// behaviours are how the hostile receivers answer, by the path of their webhooks. They make an
// attempt fail, but for those that answer 2xx and then with more than anybody reads.
func behaviours(l *ledger) map[string]http.HandlerFunc {
	return map[string]http.HandlerFunc{
		"hangs": hang, "fails": status(http.StatusInternalServerError), "gone": status(http.StatusGone),
		"redirects": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, goodPath(0), http.StatusFound) },
		"circles": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/circles", http.StatusPermanentRedirect)
		},
		"busy": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusTooManyRequests)
		},
		"closes": closeConnection,
		"drips":  drip,
		"headers": func(w http.ResponseWriter, _ *http.Request) {
			for range 2 {
				w.Header().Add("X-Flood", strings.Repeat("x", mebibyte))
			}
		},
		"floods": func(w http.ResponseWriter, r *http.Request) {
			l.received(r)
			chunk := []byte(strings.Repeat("x", mebibyte))
			for range flood / mebibyte {
				if _, err := w.Write(chunk); err != nil {
					return
				}
			}
		},
		"bombs": func(w http.ResponseWriter, r *http.Request) {
			l.received(r)
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write(bomb())
		},
		goesAway: status(http.StatusInternalServerError), // never reached
	}
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

// hang answers nothing, and breaks off in the end.
func hang(_ http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body) // only after that does the server see that the caller is gone
	<-r.Context().Done()
	panic(http.ErrAbortHandler)
}

func closeConnection(w http.ResponseWriter, _ *http.Request) {
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
		pause(r.Context(), 50*time.Millisecond)
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

// goAway takes no request on an HTTP/2 connection: it says so before the first stream (RFC 9113,
// section 6.8), and waits for the connection's end.
func goAway(_ *http.Server, conn *tls.Conn, _ http.Handler) {
	_, _ = conn.Write([]byte{
		0, 0, 0, 4, 0, 0, 0, 0, 0, // SETTINGS
		0, 0, 8, 7, 0, 0, 0, 0, 0 /* GOAWAY */, 0, 0, 0, 0 /* last stream */, 0, 0, 0, 0, // NO_ERROR
	})
	_, _ = io.Copy(io.Discard, conn)
}
