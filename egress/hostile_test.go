package egress_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"

	"postrider.dev/postrider"
	"postrider.dev/postrider/egress"
)

// Receivers that do anything but answer. What a receiver that speaks HTTP may do is in post_test.go
// and connect_test.go.

// generous is a time that only an attempt without an end takes.
const generous = 10 * time.Second

// The results of most attempts at hostile receivers.
const timedOut, broken = postrider.ResultTimeout, postrider.ResultProtocol

// hostile is a receiver's behaviour, and what an attempt at it comes to.
type hostile[Conn any] struct {
	timeout time.Duration // soon, when the attempt ends by it
	result  postrider.Result
	status  int // 0: none
	behave  func(conn Conn)
}

// check makes the attempt. It ends by its timeout at the latest, and was one request at most.
func (h hostile[Conn]) check(t *testing.T, client bundle, url string, requests *atomic.Int32) {
	t.Helper()
	attempt := client.post(t, url, h.timeout)
	require.Equal(t, h.result, attempt.Result)
	require.Equal(t, "127.0.0.1", *attempt.RemoteIP)
	require.Less(t, attempt.DurationMS, generous.Milliseconds())
	if h.status == 0 {
		require.Nil(t, attempt.StatusCode)
	} else {
		require.Equal(t, h.status, *attempt.StatusCode)
	}
	require.LessOrEqual(t, requests.Load(), int32(1), "requests on the wire")
}

// wire is a connection over which a receiver has its way.
type wire struct {
	net.Conn

	requests *atomic.Int32
	left     context.Context // ends with the test
	sent     *atomic.Int64
}

// take reads a request and begins an answer.
func (w wire) take(answer string) {
	request, err := http.ReadRequest(bufio.NewReader(w))
	if err == nil {
		w.requests.Add(1)
		_, _ = io.Copy(io.Discard, request.Body)
	}
	_, _ = io.WriteString(w, answer)
}

// repeat sends the text until the sender is gone, or has got a gigabyte.
func (w wire) repeat(text string) {
	for w.sent.Load() < 1<<30 {
		n, err := io.WriteString(w, text)
		w.sent.Add(int64(n))
		if err != nil {
			return
		}
	}
}

// drip sends a byte every 10 ms until the sender is gone.
func (w wire) drip() {
	for {
		drop, cancel := context.WithTimeout(w.left, 10*time.Millisecond)
		<-drop.Done()
		cancel()
		if _, err := io.WriteString(w, "x"); err != nil {
			return
		}
	}
}

func (w wire) tcp() *net.TCPConn { return w.Conn.(*net.TCPConn) } //nolint:errcheck // a wrong type panics

// halfClose ends the sending, and goes on receiving.
func (w wire) halfClose() {
	_ = w.tcp().CloseWrite()
	_, _ = io.Copy(io.Discard, w)
}

// reset ends the connection with RST.
func (w wire) reset() {
	_ = w.tcp().SetLinger(0)
	_ = w.Close()
}

// Beginnings of answers.
const (
	ok       = "HTTP/1.1 200 OK\r\n"
	chunked  = ok + "Transfer-Encoding: chunked\r\n\r\n"
	gigabyte = ok + "Content-Length: 1073741824\r\n\r\n"
)

func TestHostileReceivers(t *testing.T) {
	t.Parallel()
	megabyte := strings.Repeat("0", 1<<20)
	for name, h := range map[string]hostile[wire]{
		"reads nothing":            {soon, timedOut, 0, func(w wire) { <-w.left.Done() }},
		"drips its status":         {soon, timedOut, 0, func(w wire) { w.take("HTTP/1.1 200 "); w.drip() }},
		"drips a header":           {soon, timedOut, 0, func(w wire) { w.take(ok + "X: "); w.drip() }},
		"drips a trailer":          {soon, timedOut, 200, func(w wire) { w.take(chunked + "0\r\nX: "); w.drip() }},
		"closes at once":           {long, broken, 0, func(wire) {}},
		"half-closes at once":      {long, broken, 0, func(w wire) { w.halfClose() }},
		"half-closes in its body":  {long, broken, 200, func(w wire) { w.take(gigabyte + "x"); w.halfClose() }},
		"resets in the request":    {long, broken, 0, func(w wire) { _, _ = w.Read(make([]byte, 9)); w.reset() }},
		"resets after the request": {long, broken, 0, func(w wire) { w.take(""); w.reset() }},
		"endless headers":          {long, broken, 0, func(w wire) { w.take(ok); w.repeat("X-Header: value\r\n") }},
		"endless early hints":      {long, broken, 0, func(w wire) { w.take(""); w.repeat("HTTP/1.1 103 x\r\nLink: x\r\n\r\n") }},
		"endless chunk extension":  {long, broken, 200, func(w wire) { w.take(chunked + "1;"); w.repeat("x") }},
		"endless trailer":          {long, broken, 200, func(w wire) { w.take(chunked + "0\r\n"); w.repeat("X: y\r\n") }},
		"compressed transfer":      {long, broken, 0, func(w wire) { w.take(ok + "Transfer-Encoding: gzip\r\n\r\n") }},
		"negative length":          {long, broken, 0, func(w wire) { w.take(ok + "Content-Length: -1\r\n\r\n") }},
		"a gigabyte":               {long, postrider.ResultSuccess, 200, func(w wire) { w.take(gigabyte); w.repeat(megabyte) }},
		"a gigabyte without length": {long, postrider.ResultSuccess, 200, func(w wire) {
			w.take(ok + "\r\n")
			w.repeat(megabyte)
		}},
		"redirect to itself": {long, postrider.ResultRedirect, 308, func(w wire) {
			w.take("HTTP/1.1 308 x\r\nLocation: /\r\nContent-Length: 0\r\n\r\n")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var requests, opened atomic.Int32
			var sent atomic.Int64
			left, leave := context.WithCancel(t.Context())
			address := listen(t, func(_ int, conn net.Conn) {
				opened.Add(1)
				h.behave(wire{conn, &requests, left, &sent})
			})
			t.Cleanup(leave)
			h.check(t, setup(t), "http://"+address, &requests)
			require.EqualValues(t, 1, opened.Load())
			require.Less(t, sent.Load(), int64(64<<20), "what buffers hold, and no more")
		})
	}
}

// frames is an HTTP/2 connection over which a receiver has its way, once the request has come.
type frames struct {
	*http2.Framer

	conn   net.Conn
	stream uint32
	sent   *atomic.Int64
}

// status200 is the header ":status: 200", as HPACK encodes it.
const status200 = "\x88"

func (f frames) headers(block string, end, endStream bool) {
	_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: f.stream, BlockFragment: []byte(block), EndHeaders: end, EndStream: endStream})
}

func (f frames) answer(whole bool) { f.headers(status200, true, whole) }

func (f frames) reset() { _ = f.WriteRSTStream(f.stream, http2.ErrCodeInternal) }

// goAway says that the request is the last one that was taken.
func (f frames) goAway(code http2.ErrCode) { _ = f.WriteGoAway(f.stream, code, nil) }

// repeat sends something of a size until the sender is gone, or has got a gigabyte.
func (f frames) repeat(size int, send func() error) {
	for f.sent.Load() < 1<<30 && send() == nil {
		f.sent.Add(int64(size))
	}
}

func TestHostileHTTP2Receivers(t *testing.T) {
	t.Parallel()
	for name, h := range map[string]hostile[frames]{
		"never answers":              {soon, timedOut, 0, func(frames) {}},
		"never sends a body":         {soon, timedOut, 200, func(f frames) { f.answer(false) }},
		"closes":                     {long, broken, 0, func(f frames) { _ = f.conn.Close() }},
		"resets the stream":          {long, broken, 0, func(f frames) { f.reset() }},
		"resets it in its answer":    {long, broken, 200, func(f frames) { f.answer(false); f.reset() }},
		"goes away with the request": {long, broken, 0, func(f frames) { f.goAway(http2.ErrCodeNo); _ = f.conn.Close() }},
		"goes away with an error":    {long, broken, 0, func(f frames) { f.goAway(http2.ErrCodeEnhanceYourCalm); _ = f.conn.Close() }},
		"goes away, and answers":     {long, postrider.ResultSuccess, 200, func(f frames) { f.goAway(http2.ErrCodeNo); f.answer(true) }},
		"headers that are none":      {long, broken, 0, func(f frames) { f.headers("\xff\xff\xff\xff\xff", true, false) }},
		"endless headers": {long, broken, 0, func(f frames) {
			f.headers(status200, false, false)
			header := []byte("\x00\x01x\x7f\x81\x01" + strings.Repeat("y", 256)) // a name of 1 byte, a value of 256
			f.repeat(len(header), func() error { return f.WriteContinuation(f.stream, false, header) })
		}},
		"a gigabyte, whatever the window": {long, postrider.ResultSuccess, 200, func(f frames) {
			f.answer(false)
			data := make([]byte, 16<<10)
			f.repeat(len(data), func() error { return f.WriteData(f.stream, false, data) })
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var requests atomic.Int32
			var sent atomic.Int64
			server := serveFrames(t, func(f frames) {
				requests.Add(1)
				f.sent = &sent
				h.behave(f)
			})
			h.check(t, setup(t, trusting(server)), server.URL, &requests)
			require.Less(t, sent.Load(), int64(64<<20), "what windows and buffers hold, and no more")
		})
	}
}

// Guards against a request that nobody reads: sending it ends with the timeout, too.
func TestReceiverThatTakesNoBody(t *testing.T) {
	t.Parallel()
	done := make(chan struct{})
	address := listen(t, func(int, net.Conn) { <-done })
	t.Cleanup(func() { close(done) })
	narrow := serveFrames(t, func(frames) {}, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	for url, client := range map[string]bundle{"http://" + address: setup(t), narrow.URL: setup(t, trusting(narrow))} {
		t.Run(url, func(t *testing.T) {
			t.Parallel()
			attempt, _, err := client.Post(t.Context(), egress.Request{URL: url, Body: make([]byte, 16<<20), Timeout: soon})
			require.NoError(t, err)
			require.Equal(t, postrider.ResultTimeout, attempt.Result)
			require.Nil(t, attempt.StatusCode)
			require.Less(t, attempt.DurationMS, generous.Milliseconds())
		})
	}
}

// serveFrames serves HTTP/2 as behave wants it. It reads on whatever behave did.
func serveFrames(t *testing.T, behave func(f frames), settings ...http2.Setting) *httptest.Server {
	t.Helper()
	return serveTLS(t, func(s *httptest.Server) {
		s.TLS = &tls.Config{NextProtos: []string{"h2"}}
		s.Config.TLSNextProto = map[string]func(*http.Server, *tls.Conn, http.Handler){
			"h2": func(_ *http.Server, conn *tls.Conn, _ http.Handler) {
				if _, err := io.ReadFull(conn, make([]byte, len(http2.ClientPreface))); err != nil {
					return
				}
				framer := http2.NewFramer(conn, conn)
				framer.AllowIllegalWrites = true
				_ = framer.WriteSettings(settings...)
				for {
					frame, err := framer.ReadFrame()
					if err != nil {
						return
					}
					switch frame := frame.(type) {
					case *http2.HeadersFrame:
						behave(frames{Framer: framer, conn: conn, stream: frame.StreamID})
					case *http2.SettingsFrame:
						if !frame.IsAck() {
							_ = framer.WriteSettingsAck()
						}
					}
				}
			},
		}
	})
}

// deaf makes an address silent: a listener there holds as many connections as it may, and takes none.
func deaf(t *testing.T, address string) {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("other systems have one loopback address, and refuse what the queue cannot hold")
	}
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", address)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, listener.Close()) })
	tcp, is := listener.(*net.TCPListener)
	require.True(t, is)
	raw, err := tcp.SyscallConn()
	require.NoError(t, err)
	require.NoError(t, raw.Control(func(fd uintptr) { err = syscall.Listen(int(fd), 0) }))
	require.NoError(t, err)
	for {
		ctx, cancel := context.WithTimeout(t.Context(), soon)
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		cancel()
		if err != nil {
			var failed net.Error
			require.ErrorAs(t, err, &failed)
			require.True(t, failed.Timeout())
			return
		}
		t.Cleanup(func() { _ = conn.Close() })
	}
}
