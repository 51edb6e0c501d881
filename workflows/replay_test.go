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

// TestReplay replays histories that a real server recorded against the current code: workflows
// that started before a change must go on after it. When it fails, put the change behind
// workflow.GetVersion; do not record the histories again.
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
			require.Empty(t, recorder.Started(), "a replay makes no spans")
		})
	}
}

// tracedBy returns the tracing interceptor. Some histories were recorded with it, and each must
// replay with and without it.
func tracedBy(t *testing.T, recorder *tracetest.SpanRecorder) interceptor.Interceptor {
	t.Helper()
	traced, err := tracing.NewInterceptor(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder)).Tracer("test"))
	require.NoError(t, err)
	return traced
}
