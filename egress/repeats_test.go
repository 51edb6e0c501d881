package egress_test

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
	"postrider.dev/postrider/egress"
)

// Guards against an attempt that is several requests: a receiver that reads one on a pooled
// connection and closes may have acted on it.
func TestAttemptIsOneRequest(t *testing.T) {
	t.Parallel()
	const pooled = 32
	var posts atomic.Int32
	together := make(chan struct{})
	server, opened := countConnections(t, func(w http.ResponseWriter, _ *http.Request) {
		switch n := posts.Add(1); {
		case n < pooled:
			<-together // so each of them needs a connection of its own
		case n == pooled:
			close(together)
		default:
			conn, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				_ = conn.Close()
			}
		}
	})
	client := setup(t)
	var warm sync.WaitGroup
	for range pooled {
		warm.Go(func() { client.post(t, server.URL, long) })
	}
	warm.Wait()
	require.EqualValues(t, pooled, opened.Load())
	for name, header := range map[string]http.Header{
		"no key": {}, "the webhook's own key": {"Idempotency-Key": {"k"}, "X-Idempotency-Key": {"k"}},
	} {
		before := posts.Load()
		attempt, _, err := client.Post(t.Context(), egress.Request{URL: server.URL, Header: header, Body: []byte("{}"), Timeout: long})
		require.NoError(t, err)
		require.Equal(t, postrider.ResultProtocol, attempt.Result, name)
		require.Equal(t, "the connection was closed before the answer was complete", *attempt.Error)
		require.EqualValues(t, 1, posts.Load()-before, name)
	}
}

// refuseStreams serves HTTP/2 connections that take no request: each gets GOAWAY before its first
// stream (RFC 9113, section 6.8).
func refuseStreams(t *testing.T) (server *httptest.Server, opened *atomic.Int32) {
	t.Helper()
	opened = &atomic.Int32{}
	server = serveTLS(t, func(s *httptest.Server) {
		s.TLS = &tls.Config{NextProtos: []string{"h2"}}
		s.Config.TLSNextProto = map[string]func(*http.Server, *tls.Conn, http.Handler){
			"h2": func(_ *http.Server, conn *tls.Conn, _ http.Handler) {
				opened.Add(1)
				goAway(conn)
			},
		}
	})
	return server, opened
}

// goAway takes no request on an HTTP/2 connection, and waits for its end.
func goAway(conn net.Conn) {
	_, _ = conn.Write([]byte{
		0, 0, 0, 4, 0, 0, 0, 0, 0, // SETTINGS
		0, 0, 8, 7, 0, 0, 0, 0, 0 /* GOAWAY */, 0, 0, 0, 0 /* last stream */, 0, 0, 0, 0, // NO_ERROR
	})
	_, _ = io.Copy(io.Discard, conn)
}

// Guards against an attempt that dials for as long as its timeout lasts.
func TestAttemptDialsAFewTimes(t *testing.T) {
	t.Parallel()
	server, opened := refuseStreams(t)
	attempt := setup(t, trusting(server)).post(t, server.URL, long)
	require.Contains(t, []postrider.Result{postrider.ResultProtocol, postrider.ResultConnect}, attempt.Result)
	require.Equal(t, "the server closed every connection before it took the request", *attempt.Error)
	require.LessOrEqual(t, opened.Load(), int32(10))
}

// Guards against a failed attempt at an HTTP/2 receiver that closes a connection in an orderly way:
// what it says it has not taken goes out on another one, once.
func TestRequestThatWasNotTakenGoesOutAgain(t *testing.T) {
	t.Parallel()
	var posts, opened atomic.Int32
	server := serveTLS(t, func(s *httptest.Server) {
		s.EnableHTTP2 = true
		s.Config.Handler = read(func(http.ResponseWriter, *http.Request) { posts.Add(1) })
	})
	var open sync.WaitGroup
	closeAll := make(chan struct{})
	address := listen(t, func(number int, conn net.Conn) {
		opened.Add(1)
		kept := hold(t, conn) // the other connection comes while this one is open
		open.Go(func() {
			if number == 1 {
				goAway(tls.Server(kept, server.TLS))
			} else {
				passOn(t, kept, server.Listener.Addr().String())
			}
		})
		open.Go(func() {
			<-closeAll
			_ = kept.Close()
		})
	})
	require.Equal(t, postrider.ResultSuccess, setup(t, trusting(server)).post(t, "https://"+address, long).Result)
	require.EqualValues(t, 1, posts.Load())
	require.Greater(t, opened.Load(), int32(1)) // how often the transport dials is its own affair, up to maxDials
	close(closeAll)
	open.Wait()
}

// hold returns the connection once more, which stays open when the given one is closed.
func hold(t *testing.T, conn net.Conn) net.Conn {
	t.Helper()
	tcp, is := conn.(*net.TCPConn)
	require.True(t, is)
	file, err := tcp.File()
	require.NoError(t, err)
	kept, err := net.FileConn(file)
	require.NoError(t, err)
	require.NoError(t, file.Close())
	return kept
}

// passOn copies both ways between a connection and a server, until one of them ends.
func passOn(t *testing.T, conn net.Conn, address string) {
	t.Helper()
	var dialer net.Dialer
	onward, err := dialer.DialContext(t.Context(), "tcp", address)
	if err != nil {
		return
	}
	var copying sync.WaitGroup
	copying.Go(func() {
		_, _ = io.Copy(onward, conn)
		_ = onward.Close()
	})
	_, _ = io.Copy(conn, onward)
	_ = conn.Close()
	copying.Wait()
}
