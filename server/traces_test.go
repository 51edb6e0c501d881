package server

import (
	"log/slog"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/stretchr/testify/require"
)

// settings returns those of an empty command line.
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
		endpoint := "https://" + name + ":4318/otlp" // the latter wins: both are set by then
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
