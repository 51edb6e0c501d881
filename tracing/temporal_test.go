package tracing_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/baggage"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/interceptor"
	sdklog "go.temporal.io/sdk/log"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
	"google.golang.org/grpc"

	"postrider.dev/postrider/tracing"
	"postrider.dev/postrider/workflows"
)

// recorder is a tracer whose spans a test can read.
func recorder(t *testing.T) (trace.Tracer, *tracetest.SpanRecorder) {
	t.Helper()
	spans := tracetest.NewSpanRecorder()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))
	return provider.Tracer("test"), spans
}

// runTraced runs a workflow of that one started with the fields, and returns its ended spans.
func runTraced(t *testing.T, fields map[string]string) []sdktrace.ReadOnlySpan {
	t.Helper()
	tracer, spans := recorder(t)
	traced, err := tracing.NewInterceptor(tracer)
	require.NoError(t, err)
	var suite testsuite.WorkflowTestSuite
	environment := suite.NewTestWorkflowEnvironment()
	environment.SetWorkerOptions(worker.Options{Interceptors: []interceptor.WorkerInterceptor{traced}})
	if fields != nil {
		payload, err := converter.GetDefaultDataConverter().ToPayload(fields)
		require.NoError(t, err)
		environment.SetHeader(&commonpb.Header{Fields: map[string]*commonpb.Payload{"_tracer-data": payload}})
	}
	environment.ExecuteWorkflow(func(workflow.Context) error { return nil })
	require.NoError(t, environment.GetWorkflowError())
	return spans.Ended()
}

func TestWorkflowsOfASampledPublishAreTraced(t *testing.T) {
	t.Parallel()
	spans := runTraced(t, map[string]string{"traceparent": parent, "tracestate": "vendor=value"})
	require.Len(t, spans, 1)
	require.Contains(t, spans[0].Name(), "RunWorkflow:")
	require.Equal(t, "0af7651916cd43dd8448eb211c80319c", spans[0].SpanContext().TraceID().String())
	require.Equal(t, "b7ad6b7169203331", spans[0].Parent().SpanID().String())
	require.Empty(t, spans[0].SpanContext().TraceState().String(), "the publisher's state stays out of Temporal")
}

// TestOtherWorkflowsMakeNoSpan guards that a workflow begins no trace of its own, and that a header
// that cannot be read fails no delivery.
func TestOtherWorkflowsMakeNoSpan(t *testing.T) {
	t.Parallel()
	unsampled := parent[:len(parent)-1] + "0"
	for name, fields := range map[string]map[string]string{
		"without a trace": nil, "not sampled": {"traceparent": unsampled}, "not readable": {"traceparent": "nonsense"},
	} {
		require.Empty(t, runTraced(t, fields), name)
	}
}

// TestReplayMakesNoSpan guards that a query of a delivery that ended long ago leaves its trace alone,
// and that a history replays with the interceptor as it does without.
func TestReplayMakesNoSpan(t *testing.T) {
	t.Parallel()
	for _, history := range []string{"delivery_v2_traced", "delivery_v2_succeeded"} {
		path := "../workflows/testdata/" + history + ".json"
		_, err := os.Stat(path)
		require.NoError(t, err)
		tracer, spans := recorder(t)
		traced, err := tracing.NewInterceptor(tracer)
		require.NoError(t, err)
		replayer, err := worker.NewWorkflowReplayerWithOptions(worker.WorkflowReplayerOptions{
			Interceptors: []interceptor.WorkerInterceptor{traced},
		})
		require.NoError(t, err)
		workflows.Register(replayer)
		require.NoError(t, replayer.ReplayWorkflowHistoryFromJSONFile(nil, path))
		for _, span := range spans.Started() {
			require.NotContains(t, span.Name(), "RunWorkflow:", history)
		}
	}
}

// frontend keeps the header of a workflow that is started.
type frontend struct {
	workflowservice.UnimplementedWorkflowServiceServer

	header chan *commonpb.Header
}

func (f *frontend) StartWorkflowExecution(
	_ context.Context, request *workflowservice.StartWorkflowExecutionRequest,
) (*workflowservice.StartWorkflowExecutionResponse, error) {
	f.header <- request.GetHeader()
	return &workflowservice.StartWorkflowExecutionResponse{RunId: "run"}, nil
}

// startTraced starts a workflow under ctx, and returns the header that Temporal gets, and the spans.
func startTraced(ctx context.Context, t *testing.T) (*commonpb.Header, []sdktrace.ReadOnlySpan) {
	t.Helper()
	tracer, spans := recorder(t)
	traced, err := tracing.NewInterceptor(tracer)
	require.NoError(t, err)
	f := &frontend{header: make(chan *commonpb.Header, 1)}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server := grpc.NewServer()
	workflowservice.RegisterWorkflowServiceServer(server, f)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() { server.Stop(); require.NoError(t, <-served) })
	temporal, err := client.NewLazyClient(client.Options{
		HostPort: listener.Addr().String(), Interceptors: []interceptor.ClientInterceptor{traced},
		Logger: sdklog.NewStructuredLogger(slog.New(slog.DiscardHandler)),
	})
	require.NoError(t, err)
	t.Cleanup(temporal.Close)
	_, err = temporal.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: "delivery/dlv_1", TaskQueue: "queue"}, "Delivery")
	require.NoError(t, err)
	return <-f.header, spans.Ended()
}

// TestTemporalGetsATraceparentAlone guards what leaves for Temporal when a workflow is started: the
// traceparent of its span, and neither state nor baggage of the publisher.
func TestTemporalGetsATraceparentAlone(t *testing.T) {
	t.Parallel()
	member, err := baggage.NewMember("user", "secret")
	require.NoError(t, err)
	carried, err := baggage.New(member)
	require.NoError(t, err)
	ctx := baggage.ContextWithBaggage(tracing.Context(t.Context(), parent+" vendor=value"), carried)
	header, spans := startTraced(ctx, t)
	require.Len(t, spans, 1)
	require.Equal(t, "StartWorkflow:Delivery", spans[0].Name())
	require.Equal(t, "b7ad6b7169203331", spans[0].Parent().SpanID().String())
	require.Len(t, header.GetFields(), 1)
	var fields map[string]string
	require.NoError(t, json.Unmarshal(header.GetFields()["_tracer-data"].GetData(), &fields))
	require.Equal(t, map[string]string{
		"traceparent": "00-0af7651916cd43dd8448eb211c80319c-" + spans[0].SpanContext().SpanID().String() + "-01",
	}, fields)
}

func TestUntracedStartsLeaveNoHeader(t *testing.T) {
	t.Parallel()
	header, spans := startTraced(t.Context(), t)
	require.Empty(t, spans)
	require.Empty(t, header.GetFields())
}
