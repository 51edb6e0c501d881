package server

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider/api"
)

// slowServer serves a handler that answers when it is released, and returns how to stop it.
type slowServer struct {
	url      string
	arrived  chan struct{}
	release  chan struct{}
	log      *logBuffer
	stop     context.CancelFunc
	served   chan error
	answered chan string // the answer's body, or the client's error
}

func startSlowServer(t *testing.T, shutdownTimeout time.Duration) *slowServer {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	s := &slowServer{
		url: "http://" + listener.Addr().String(), arrived: make(chan struct{}), release: make(chan struct{}), log: &logBuffer{},
		stop: stop, served: make(chan error, 1), answered: make(chan string, 1),
	}
	server := &Server{
		settings: Settings{ShutdownTimeout: shutdownTimeout}, role: Role{Logger: slog.New(slog.NewTextHandler(s.log, nil))},
	}
	go func() {
		answer := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			close(s.arrived)
			<-s.release
			_, _ = io.WriteString(w, "answer")
		})
		s.served <- server.serve(ctx, site{listener: listener, handler: answer, connections: 1})
	}()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url, nil)
	require.NoError(t, err)
	client := &http.Client{}
	t.Cleanup(client.CloseIdleConnections)
	go func() {
		response, err := client.Do(request)
		if err != nil {
			s.answered <- err.Error()
			return
		}
		defer response.Body.Close()
		text, _ := io.ReadAll(response.Body)
		s.answered <- string(text)
	}()
	<-s.arrived
	return s
}

// TestOpenRequestsEndBeforeTheServer guards that a shutdown answers the requests it has taken, and
// takes no more.
func TestOpenRequestsEndBeforeTheServer(t *testing.T) {
	t.Parallel()
	s := startSlowServer(t, patience)
	s.stop()
	require.Eventually(t, func() bool {
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(s.url, "http://"))
		if err == nil {
			_ = conn.Close()
		}
		return err != nil
	}, patience, tick)
	require.Empty(t, s.served, "the server waits for the open request")
	close(s.release)
	require.Equal(t, "answer", <-s.answered)
	require.NoError(t, <-s.served)
	require.Empty(t, s.log.String())
}

// TestShutdownTimeoutBoundsOpenRequests guards that a request that does not end cannot keep the
// process, and that the log says what happened.
func TestShutdownTimeoutBoundsOpenRequests(t *testing.T) {
	t.Parallel()
	s := startSlowServer(t, 20*time.Millisecond)
	s.stop()
	require.NoError(t, <-s.served, "a cut-off request is no failure of the process")
	require.Contains(t, s.log.String(), "open requests were cut off at the shutdown timeout")
	close(s.release)
	<-s.answered
}

func TestBrokenListenerIsAnError(t *testing.T) {
	t.Parallel()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, listener.Close())
	server := &Server{role: Role{Logger: discardLogger()}}
	require.ErrorIs(t, server.serve(t.Context(), site{listener: listener, handler: http.NotFoundHandler(), connections: 1}), net.ErrClosed)
}

// scrape returns what Prometheus reads.
func scrape(t *testing.T, handler http.Handler) string {
	t.Helper()
	answer := httptest.NewRecorder()
	handler.ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	require.Equal(t, http.StatusOK, answer.Code)
	return answer.Body.String()
}

// TestNoLabelIsACallers guards against metrics that grow with every path or method that a caller
// makes up.
func TestNoLabelIsACallers(t *testing.T) {
	t.Parallel()
	registry := newRegistry()
	metrics := newAPIMetrics(registry)
	metrics.accepted(2, 6)
	for _, method := range []string{"GET", "BREW", "MADE-UP"} {
		metrics.request(api.RequestSummary{Method: method, Status: http.StatusNotFound, Duration: time.Millisecond})
	}
	metrics.request(api.RequestSummary{Method: "POST", Route: "/api/v1/webhooks/{id}", Status: http.StatusOK, Duration: 2 * time.Second})
	text := scrape(t, metricsHandler(registry, http.NotFoundHandler()))
	require.Contains(t, text, "postrider_events_accepted_total 2\n")
	require.Contains(t, text, "postrider_deliveries_accepted_total 6\n")
	require.Contains(t, text, `postrider_api_request_duration_seconds_count{method="other",route="",status="404"} 3`)
	require.Contains(t, text, `postrider_api_request_duration_seconds_count{method="POST",route="/api/v1/webhooks/{id}",status="200"} 1`)
	require.NotContains(t, text, "BREW")
	require.Contains(t, text, "go_goroutines ", "the runtime's metrics are there")
}

// TestMetricsListenerServesHealthToo guards the one port that containers and Prometheus use.
func TestMetricsListenerServesHealthToo(t *testing.T) {
	t.Parallel()
	health := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "health "+r.URL.Path) })
	handler := metricsHandler(newRegistry(), health)
	answer := httptest.NewRecorder()
	handler.ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/readyz", nil))
	require.Equal(t, "health /readyz", answer.Body.String())
	require.NotEmpty(t, scrape(t, handler))
}
