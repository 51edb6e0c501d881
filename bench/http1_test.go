package main

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider/signing"
	"postrider.dev/postrider/standalone/instance"
)

// The HTTP of load and receiver is written by hand, so these tests use net/http at the other end.

func TestLoadAgainstNetHTTP(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		switch {
		case r.Header.Get("X-API-Key") != "key":
			w.WriteHeader(http.StatusUnauthorized)
		case r.URL.Path == "/api/v1/webhooks":
			_, _ = io.WriteString(w, `{"data":[]}`)
		case r.URL.Path == "/api/v1/events/batch":
			n := bytes.Count(body, []byte(`"type"`))
			w.WriteHeader(http.StatusAccepted)
			_, _ = io.WriteString(w, `{"data":[`+strings.Repeat(`{"id":"evt_a"},`, n-1))
			_ = http.NewResponseController(w).Flush() // makes the answer a chunked one
			_, _ = io.WriteString(w, `{"id":"evt_b"}]}`)
		default:
			w.WriteHeader(http.StatusAccepted)
			_, _ = io.WriteString(w, `{"id":"evt_1","type":"x"}`)
		}
	}))
	t.Cleanup(server.Close)
	l, err := newLoad(t.Context(), instance.Client{API: server.URL, Key: "key"}, 3)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.close()) })
	random := (&bench{runCommand: &runCommand{Seed: 1}}).random()

	published, err := l.publish(t.Context(), &atOnce{n: 20}, l.singles(random, "a", "b", "c"))
	require.NoError(t, err)
	require.Len(t, published, 20)
	require.Equal(t, "evt_1", published[0].event)
	require.False(t, published[0].answered.Before(published[0].sent))

	published, err = l.publish(t.Context(), &atOnce{n: 2}, l.arrays(random, "a"))
	require.NoError(t, err)
	require.Len(t, published, 2*arraySize)
	require.Equal(t, "evt_b", published[arraySize-1].event)

	published, err = l.publish(t.Context(), steadily(t.Context(), 200, 50*time.Millisecond), l.singles(random, "a"))
	require.NoError(t, err)
	require.Len(t, published, 10)

	l.key = "another"
	_, err = l.publish(t.Context(), &atOnce{n: 1}, l.singles(random, "a"))
	require.ErrorContains(t, err, "status 401")
}

func TestEventsHaveTheirSize(t *testing.T) {
	t.Parallel()
	b := &bench{runCommand: &runCommand{Seed: 1}}
	text := newEvent(b.random(), "a.b")
	require.Len(t, text, len(`{"type":"a.b","data":}`)+eventSize)
	require.Equal(t, text, newEvent(b.random(), "a.b"), "the same seed, the same events")
}

func TestReceiverAgainstNetHTTP(t *testing.T) {
	t.Parallel()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	const secret = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
	r := &receiver{notes: make([]note, 2), now: time.Now, secrets: map[string]string{"/hook": secret}}
	ended := make(chan error, 1)
	go func() { ended <- r.accept(listener) }()
	client := &http.Client{}
	t.Cleanup(func() {
		client.CloseIdleConnections()
		require.NoError(t, listener.Close())
		require.ErrorIs(t, <-ended, net.ErrClosed)
	})
	post := func(path, key string) error {
		message := signing.Message{ID: "evt_1", Timestamp: time.Now(), Body: []byte(`{"data":1}`)}
		url := "http://" + listener.Addr().String() + path
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, bytes.NewReader(message.Body))
		require.NoError(t, err)
		request.Header, err = signing.Sign("hmac_sha256", []string{key}, message)
		require.NoError(t, err)
		request.Header.Set(signing.HeaderDeliveryID, "dlv_1")
		response, err := client.Do(request)
		if err == nil {
			want := http.StatusOK
			if strings.HasPrefix(path, failingPath) {
				want = http.StatusInternalServerError
			}
			require.Equal(t, want, response.StatusCode)
			require.NoError(t, response.Body.Close())
		}
		return err
	}
	require.NoError(t, post("/hook", secret))
	require.NoError(t, post(unnotedPath+"1", secret))
	require.EqualValues(t, 1, r.count.Load())
	require.Equal(t, "evt_1", trim(r.notes[0].event))
	require.Equal(t, "dlv_1", trim(r.notes[0].delivery))
	require.False(t, r.notes[0].unsigned)

	r.count.Store(0)
	client.CloseIdleConnections() // on a new connection, the first request is checked
	require.NoError(t, post("/hook", "another"))
	require.True(t, r.notes[0].unsigned)
	for range 3 { // more than the receiver can note
		require.NoError(t, post("/hook", secret))
	}
	require.EqualValues(t, 4, r.count.Load())

	r.count.Store(0)
	require.NoError(t, post(failingPath+"1", secret))
	require.EqualValues(t, 1, r.count.Load())
	require.EqualValues(t, 1, r.refused.Load())
	require.True(t, r.notes[0].refused)

	client.Timeout = 20 * time.Millisecond
	require.Error(t, post(hangingPath+"1", secret))
	require.EqualValues(t, 1, r.hung.Load())
}

func TestReadHeadNoticesACut(t *testing.T) {
	t.Parallel()
	_, err := readHead(bufio.NewReader(strings.NewReader("POST / HTTP/1.1\r\nA: b\r\n")), func([]byte, []byte) {})
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	_, err = readHead(bufio.NewReader(strings.NewReader("")), func([]byte, []byte) {})
	require.ErrorIs(t, err, io.EOF)
}

func TestOwnProcessIsSeen(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		return // without /proc there is nothing to read
	}
	s, err := readStat(os.Getpid())
	require.NoError(t, err)
	require.Equal(t, os.Getppid(), s.parent)
	memory, err := residentMB(os.Getpid())
	require.NoError(t, err)
	require.Positive(t, memory)
	taken, err := cpuTime(os.Getpid())
	require.NoError(t, err)
	require.GreaterOrEqual(t, taken, s.cpu)
}
