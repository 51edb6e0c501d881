package cmd

import (
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestNothingIsTracedUnlessAsked(t *testing.T) {
	t.Parallel()
	c, err := parse(t, serve()...)
	require.NoError(t, err)
	require.InDelta(t, 1, c.Serve.TracesSample, 0)
	require.False(t, c.Serve.TracesToReceivers)
	none, err := c.Serve.tracing(t.Context(), slog.New(slog.DiscardHandler))
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
		c, err := parse(t, serve()...)
		require.NoError(t, err)
		require.Equal(t, endpoint, c.Serve.TracesEndpoint)
		some, err := c.Serve.tracing(t.Context(), slog.New(slog.DiscardHandler))
		require.NoError(t, err)
		require.NotNil(t, some.tracer)
		interceptors, err := some.interceptors()
		require.NoError(t, err)
		require.Len(t, interceptors, 1)
		some.close(t.Context())
	}
}
