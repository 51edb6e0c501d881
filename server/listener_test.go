package server

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
)

func TestConnectionsLeaveDescriptorsForOthers(t *testing.T) {
	t.Parallel()
	for descriptors, want := range map[uint64][2]int{
		0: {1, 1}, 16: {8, 1}, 1024: {512, 64}, 20_000: {4096, 64}, 1 << 63: {4096, 64},
	} {
		require.Equal(t, want, [2]int{apiConnections(descriptors), probeConnections(descriptors)}, descriptors)
	}
	require.Positive(t, descriptorLimit())
}

// crowded is a process whose API is served on another listener, too, which holds few connections.
type crowded struct {
	*process
	address string
}

func runCrowded(t *testing.T, connections int) crowded {
	t.Helper()
	p := run(t, t.TempDir(), nil)
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- p.serve(ctx, site{listener: listener, handler: p.api, connections: connections}) }()
	t.Cleanup(func() {
		p.client.CloseIdleConnections()
		stop()
		require.NoError(t, <-served)
	})
	return crowded{process: p, address: listener.Addr().String()}
}

// connect opens a connection that lasts as long as the test, and sends a text.
func (c crowded) connect(t *testing.T, text string) net.Conn {
	t.Helper()
	connection, err := new(net.Dialer).DialContext(t.Context(), "tcp", c.address)
	require.NoError(t, err)
	t.Cleanup(func() { _ = connection.Close() })
	require.NoError(t, connection.SetDeadline(time.Now().Add(patience)))
	_, err = io.WriteString(connection, text)
	require.NoError(t, err)
	return connection
}

// list asks for the webhooks with the process's key, and reports whether the connection had been used before.
func (c crowded) list(t *testing.T) (reused bool) {
	t.Helper()
	// Far below the timeouts by which silent connections end anyway.
	ctx, cancel := context.WithTimeout(t.Context(), readHeaderTimeout-time.Second)
	defer cancel()
	back := make(chan error, 1) // the client has its connection back, for the next request
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn:     func(info httptrace.GotConnInfo) { reused = info.Reused },
		PutIdleConn: func(err error) { back <- err },
	})
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.address+"/api/v1/webhooks", nil)
	require.NoError(t, err)
	request.Header.Set("X-API-Key", c.key)
	response, err := c.client.Do(request)
	require.NoError(t, err)
	_, err = io.Copy(io.Discard, response.Body)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, http.StatusOK, response.StatusCode)
	require.NoError(t, <-back)
	return reused
}

// TestStrangersKeepNobodyOut guards the API against connections that only wait: 1,100 of them stopped it for all.
// Who has shown a key keeps its connection, and who has one gets another.
func TestStrangersKeepNobodyOut(t *testing.T) {
	t.Parallel()
	const room = 8
	c := runCrowded(t, room)
	require.False(t, c.list(t))
	for _, text := range []string{"", "G", "GET / HTTP/1.1\r\nHost: x\r\nX-Slow: "} {
		for range 5 * room {
			c.connect(t, text)
		}
		require.True(t, c.list(t), "the connection was kept")
	}
	first := c.connect(t, "")
	for range room {
		c.connect(t, "")
	}
	_, err := first.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF, "the oldest stranger made room")
	c.client.CloseIdleConnections()
	require.False(t, c.list(t), "a new one is served at once")
	require.GreaterOrEqual(t, testutil.ToFloat64(c.shed), float64(14*room))
}

// TestWhoHasAKeyWaitsForAPlace guards that a full listener closes no connection of a caller with a key, and that
// it stops while one waits.
func TestWhoHasAKeyWaitsForAPlace(t *testing.T) {
	t.Parallel()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	limited := limitListener(listener, 1, prometheus.NewCounter(prometheus.CounterOpts{}))
	accepted, failed := make(chan net.Conn), make(chan error, 1)
	go func() {
		for {
			c, err := limited.Accept()
			if err != nil {
				failed <- err
				return
			}
			accepted <- c
		}
	}()
	dial := func() net.Conn {
		c, err := new(net.Dialer).DialContext(t.Context(), "tcp", listener.Addr().String())
		require.NoError(t, err)
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	dial()
	first := <-accepted
	trustConnection(withConnection(t.Context(), first))
	dial()
	require.Empty(t, accepted)
	require.NoError(t, first.Close())
	second := <-accepted
	require.Error(t, first.Close(), "a second close gives no second place")
	trustConnection(withConnection(t.Context(), second))
	waiting := dial()
	require.NoError(t, limited.Close())
	require.Error(t, <-failed)
	_, err = waiting.Read(make([]byte, 1))
	require.Error(t, err, "closed, and not forgotten")
	require.NoError(t, second.Close())
}

// TestRequestsUnderWayAreNotCutOff guards probes, and callers whose key is being looked up, against those that come
// after them.
func TestRequestsUnderWayAreNotCutOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		arrived := make(chan struct{})
		p, _ := servePipes(t, 0, func(_ http.ResponseWriter, r *http.Request) {
			close(arrived)
			Pause(r.Context(), time.Second)
		})
		first := p.dial()
		go func() {
			<-arrived
			for range 4 * pipeConnections {
				connection := p.dial()
				t.Cleanup(func() { _ = connection.Close() })
			}
		}()
		status, _ := exchange(t, first, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		require.Equal(t, http.StatusOK, status)
		require.NoError(t, first.Close())
	})
}

// exhausted is a listener of a process that has no descriptor left.
type exhausted struct{ net.Listener }

func (exhausted) Accept() (net.Conn, error) {
	return nil, &net.OpError{Op: "accept", Err: syscall.EMFILE}
}

// TestStrangersGiveDescriptorsBack guards against a process whose last descriptors are held by strangers.
func TestStrangersGiveDescriptorsBack(t *testing.T) {
	t.Parallel()
	p := newPipes()
	limited := limitListener(p, 2, prometheus.NewCounter(prometheus.CounterOpts{}))
	dialed := make(chan net.Conn, 1)
	go func() { dialed <- p.dial() }()
	_, err := limited.Accept()
	require.NoError(t, err)
	limited.Listener = exhausted{p}
	_, err = limited.Accept()
	require.ErrorIs(t, err, syscall.EMFILE)
	_, err = (<-dialed).Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
}

// TestKeylessBodiesAreNotAwaited guards that a caller without a key is answered before its body comes, and that
// its connection ends then, however long a body it has announced.
func TestKeylessBodiesAreNotAwaited(t *testing.T) {
	t.Parallel()
	c := runCrowded(t, 16)
	for _, header := range []string{
		"Content-Length: 8388608", "Content-Length: 10", "Transfer-Encoding: chunked", "Content-Length: 8388608\r\nExpect: 100-continue",
	} {
		for name, request := range map[string]string{
			"no key":     "POST /api/v1/events/batch HTTP/1.1\r\nHost: x\r\n",
			"wrong key":  "POST /api/v1/events HTTP/1.1\r\nHost: x\r\nX-API-Key: prk_wrong\r\n",
			"open route": "GET /healthz HTTP/1.1\r\nHost: x\r\n",
		} {
			connection := c.connect(t, request+header+"\r\n\r\n")
			require.NoError(t, connection.SetDeadline(time.Now().Add(stallTimeout/2)))
			reader := bufio.NewReader(connection)
			response, err := http.ReadResponse(reader, nil)
			require.NoError(t, err, "%s, %s", name, header)
			_, err = io.Copy(io.Discard, response.Body)
			require.NoError(t, err)
			require.NoError(t, response.Body.Close())
			require.True(t, response.Close)
			require.Equal(t, name != "open route", response.StatusCode == http.StatusUnauthorized, name)
			_, err = reader.ReadByte()
			require.ErrorIs(t, err, io.EOF, "%s, %s: closed", name, header)
		}
	}
}

// TestAnswersReachWhoIsStillSending guards that the end of a connection does not take its last answer with it.
func TestAnswersReachWhoIsStillSending(t *testing.T) {
	t.Parallel()
	c := runCrowded(t, 16)
	for _, size := range []int{1 << 10, 64 << 10, 8 << 20} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+c.address+"/api/v1/events",
			strings.NewReader(strings.Repeat("x", size)))
		require.NoError(t, err)
		response, err := c.client.Do(request)
		require.NoError(t, err, size)
		require.NoError(t, response.Body.Close())
		require.Equal(t, http.StatusUnauthorized, response.StatusCode)
	}
}

// pipes is a listener whose connections are made in memory, so that their time can be the test's.
type pipes struct {
	connections chan net.Conn
	closed      chan struct{}
}

func newPipes() *pipes { return &pipes{connections: make(chan net.Conn), closed: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.connections:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { close(p.closed); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

// dial returns a client's end, or nil when nobody listens.
func (p *pipes) dial() net.Conn {
	client, server := net.Pipe()
	select {
	case p.connections <- server:
		return client
	case <-p.closed:
		return nil
	}
}

// pipeConnections is how many connections [servePipes] holds.
const pipeConnections = 10

// servePipes serves a handler on connections in memory until the test's end.
func servePipes(t *testing.T, linger time.Duration, handler http.HandlerFunc) (p *pipes, stop func()) {
	t.Helper()
	p = newPipes()
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	server := &Server{
		settings: Settings{ShutdownTimeout: time.Minute}, role: Role{Logger: discardLogger()},
		shed: prometheus.NewCounter(prometheus.CounterOpts{}),
	}
	go func() {
		served <- server.serve(ctx, site{listener: p, handler: handler, connections: pipeConnections, linger: linger})
	}()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-served)
	})
	return p, cancel
}

// exchange sends a request and returns the status of its answer, and how long that took.
func exchange(t *testing.T, connection net.Conn, request string) (status int, took time.Duration) {
	t.Helper()
	start := time.Now()
	go func() { _, _ = io.WriteString(connection, request) }()
	response, err := http.ReadResponse(bufio.NewReader(connection), nil)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	return response.StatusCode, time.Since(start)
}

// TestSilenceEnds guards the times for which a caller can hold a connection by saying nothing: before its first
// request, inside a header, inside a body, and between requests.
func TestSilenceEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p, _ := servePipes(t, 0, func(w http.ResponseWriter, r *http.Request) {
			if _, err := io.Copy(io.Discard, r.Body); err != nil {
				w.WriteHeader(http.StatusTeapot)
			}
		})
		for name, c := range map[string]struct {
			sent   string
			after  time.Duration
			status int // of an answer before the end
		}{
			"nothing":         {"", readHeaderTimeout, 0},
			"half a header":   {"POST / HTTP/1.1\r\nHost:", readHeaderTimeout, 0},
			"no body":         {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n", stallTimeout, http.StatusTeapot},
			"half a body":     {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n1234", stallTimeout, http.StatusTeapot},
			"half a chunk":    {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n1234", stallTimeout, http.StatusTeapot},
			"between two":     {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", idleTimeout, http.StatusOK},
			"after a body":    {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n1234", idleTimeout, http.StatusOK},
			"after the chunk": {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", idleTimeout, http.StatusOK},
		} {
			connection, start := p.dial(), time.Now()
			go func() { _, _ = io.WriteString(connection, c.sent) }()
			text, err := io.ReadAll(connection)
			require.NoError(t, err, name)
			require.Equal(t, c.status != 0, strings.Contains(string(text), http.StatusText(c.status)) && len(text) > 0, "%s: %s", name, text)
			require.InDelta(t, c.after.Seconds(), time.Since(start).Seconds(), 1.5, name)
			require.NoError(t, connection.Close())
		}
	})
}

// TestSlowHandlersAreNotCutOff guards that the time for a body does not end its request: the publish of a body may
// take longer than its pauses may.
func TestSlowHandlersAreNotCutOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p, _ := servePipes(t, 0, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			Pause(r.Context(), 2*stallTimeout)
			if r.Context().Err() != nil {
				w.WriteHeader(http.StatusTeapot)
			}
		})
		connection := p.dial()
		status, took := exchange(t, connection, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n1234")
		require.Equal(t, http.StatusOK, status)
		require.Equal(t, 2*stallTimeout, took)
		require.NoError(t, connection.Close())
	})
}

// TestLingeringSitesAcceptConnections guards the change from one process to the next: who has not heard yet that
// this one stops is served.
func TestLingeringSitesAcceptConnections(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const linger = 3 * time.Second
		p, stop := servePipes(t, linger, func(http.ResponseWriter, *http.Request) {})
		const request = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
		idle := p.dial()
		exchange(t, idle, request)
		stop()
		Pause(t.Context(), linger-time.Millisecond)
		late := p.dial()
		require.NotNil(t, late)
		exchange(t, late, request)
		Pause(t.Context(), 2*time.Millisecond)
		synctest.Wait()
		require.Nil(t, p.dial())
		for _, connection := range []net.Conn{idle, late} {
			_, err := io.ReadAll(connection)
			require.NoError(t, err, "idle ones are closed")
			require.NoError(t, connection.Close())
		}
	})
}
