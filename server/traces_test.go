package server

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/stretchr/testify/require"
)

// settings returns the settings of an empty command line.
func settings(t *testing.T) (*Settings, error) {
	t.Helper()
	s := new(Settings)
	parser, err := kong.New(s, kong.Vars{"allow_networks": "none", "shutdown_timeout": "1s"})
	require.NoError(t, err)
	_, err = parser.Parse(nil)
	return s, err
}

func TestNothingIsTracedUnlessAsked(t *testing.T) {
	t.Parallel()
	c, err := settings(t)
	require.NoError(t, err)
	require.InDelta(t, 1, c.TracesSample, 0)
	require.False(t, c.TracesToReceivers)
	none, err := c.tracing(t.Context(), slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	require.Nil(t, none.tracer)
	interceptors, err := none.interceptors()
	require.NoError(t, err)
	require.Empty(t, interceptors)
	none.close(t.Context())
}

func TestTracesEndpoint(t *testing.T) { //nolint:paralleltest // the environment is the process's
	for _, name := range []string{"OTEL_EXPORTER_OTLP_ENDPOINT", "POSTRIDER_TRACES_ENDPOINT"} {
		endpoint := "https://" + name + ":4318/otlp" // in the second round both are set, and the second wins
		t.Setenv(name, endpoint)
		c, err := settings(t)
		require.NoError(t, err)
		require.Equal(t, endpoint, c.TracesEndpoint)
		some, err := c.tracing(t.Context(), slog.New(slog.DiscardHandler))
		require.NoError(t, err)
		require.NotNil(t, some.tracer)
		interceptors, err := some.interceptors()
		require.NoError(t, err)
		require.Len(t, interceptors, 1)
		some.close(t.Context())
	}
}

// TestLastSpansAreSent guards that a process sends the spans of its last requests before it ends.
func TestLastSpansAreSent(t *testing.T) {
	t.Parallel()
	var exports atomic.Int64
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if body, err := io.ReadAll(r.Body); err == nil && len(body) > 0 && r.URL.Path == "/v1/traces" {
			exports.Add(1)
		}
	}))
	t.Cleanup(collector.Close)
	p := run(t, t.TempDir(), func(s *Settings, r *Role) {
		s.TracesEndpoint, r.Worker = collector.URL, nil
	})
	p.publish(t)
	require.Zero(t, exports.Load(), "spans wait for a few seconds")
	require.NoError(t, p.end())
	require.Positive(t, exports.Load())
}

func TestBrokenTracesEndpointIsRefused(t *testing.T) {
	t.Parallel()
	err := refused(t, t.TempDir(), func(s *Settings, _ *Role) { s.TracesEndpoint = "http://collector:port" })
	require.ErrorContains(t, err, "traces: ")
}
