package tracing

import (
	"context"
	"strings"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"go.temporal.io/sdk/contrib/opentelemetry"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/workflow"
)

// NewInterceptor returns an interceptor for a Temporal client and its workers. It makes spans for
// the starts and runs of workflows and for activities. It puts only a traceparent into Temporal,
// as the header "_tracer-data". Histories replay the same with the interceptor and without it.
func NewInterceptor(tracer trace.Tracer) (interceptor.Interceptor, error) {
	options := opentelemetry.TracerOptions{
		Tracer:               tracer,
		TextMapPropagator:    propagation.TraceContext{},
		DisableBaggage:       true,
		DisableSignalTracing: true,
		DisableQueryTracing:  true,
		DisableUpdateTracing: true,
		// A header that cannot be read must not make a delivery fail.
		AllowInvalidParentSpans: true,
		SpanStarter:             startUnderParent,
	}
	first, err := opentelemetry.NewTracingInterceptor(options)
	if err != nil {
		return nil, err
	}
	options.SpanStarter = startInReplay
	replayed, err := opentelemetry.NewTracingInterceptor(options)
	return tracing{Interceptor: first, replayed: replayed}, err
}

// tracing is the interceptor. Runs that are replayed get another one, see startInReplay.
type tracing struct {
	interceptor.Interceptor

	replayed interceptor.Interceptor
}

// InterceptWorkflow implements [interceptor.WorkerInterceptor].
func (t tracing) InterceptWorkflow(
	ctx workflow.Context, next interceptor.WorkflowInboundInterceptor,
) interceptor.WorkflowInboundInterceptor {
	if workflow.IsReplaying(ctx) {
		return t.replayed.InterceptWorkflow(ctx, next)
	}
	return t.Interceptor.InterceptWorkflow(ctx, next)
}

// startUnderParent starts a span only inside the trace of a sampled publish. It removes the
// tracestate, because data of the publisher must not go into Temporal.
func startUnderParent(ctx context.Context, tracer trace.Tracer, name string, options ...trace.SpanStartOption) trace.Span {
	parent := trace.SpanContextFromContext(ctx)
	if !parent.IsSampled() {
		return trace.SpanFromContext(ctx)
	}
	_, span := tracer.Start(trace.ContextWithSpanContext(ctx, parent.WithTraceState(trace.TraceState{})), name, options...)
	return span
}

// startInReplay makes no span for the run itself, which had its span before the replay. A query
// of a delivery that ended days ago would otherwise make a span that lasts for days.
func startInReplay(ctx context.Context, tracer trace.Tracer, name string, options ...trace.SpanStartOption) trace.Span {
	if strings.HasPrefix(name, "RunWorkflow:") {
		return trace.SpanFromContext(ctx)
	}
	return startUnderParent(ctx, tracer, name, options...)
}
