package workflows_test

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.temporal.io/sdk/interceptor"
	sdkworker "go.temporal.io/sdk/worker"
	"go.uber.org/goleak"

	"postrider.dev/postrider/tracing"
	"postrider.dev/postrider/workflows"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestReplay runs the code as it is over histories that a real server recorded:
// workflows that started before a change must be able to go on after it. When it
// fails, put the change behind workflow.GetVersion; do not record again.
func TestReplay(t *testing.T) {
	t.Parallel()
	histories, err := filepath.Glob("testdata/*.json")
	require.NoError(t, err)
	require.NotEmpty(t, histories, "record some with make histories")
	for _, history := range histories {
		t.Run(filepath.Base(history), func(t *testing.T) {
			t.Parallel()
			recorder := tracetest.NewSpanRecorder()
			for _, interceptors := range [][]interceptor.WorkerInterceptor{nil, {tracedBy(t, recorder)}} {
				replayer, err := sdkworker.NewWorkflowReplayerWithOptions(sdkworker.WorkflowReplayerOptions{Interceptors: interceptors})
				require.NoError(t, err)
				workflows.Register(replayer)
				require.NoError(t, replayer.ReplayWorkflowHistoryFromJSONFile(nil, history))
			}
			require.Empty(t, recorder.Started(), "what was traced when it ran is not traced again")
		})
	}
}

// tracedBy is what traces workflows where operators want it: some histories were
// recorded with it, and each must go on with it and without.
func tracedBy(t *testing.T, recorder *tracetest.SpanRecorder) interceptor.Interceptor {
	t.Helper()
	traced, err := tracing.NewInterceptor(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder)).Tracer("test"))
	require.NoError(t, err)
	return traced
}
