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

// NewInterceptor returns an interceptor for a Temporal client, and the workers on it,
// that makes spans of workflows' starts and runs and of activities. Nothing but a
// traceparent goes into Temporal for it, as the header "_tracer-data". Histories
// replay the same with it and without.
func NewInterceptor(tracer trace.Tracer) (interceptor.Interceptor, error) {
	options := opentelemetry.TracerOptions{
		Tracer:               tracer,
		TextMapPropagator:    propagation.TraceContext{},
		DisableBaggage:       true,
		DisableSignalTracing: true,
		DisableQueryTracing:  true,
		DisableUpdateTracing: true,
		// A header that cannot be read must not fail a delivery.
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

// tracing chooses how a workflow's run is traced.
type tracing struct {
	interceptor.Interceptor

	replayed interceptor.Interceptor
}

// InterceptWorkflow implements [interceptor.WorkerInterceptor].
func (t tracing) InterceptWorkflow(ctx workflow.Context, next interceptor.WorkflowInboundInterceptor) interceptor.WorkflowInboundInterceptor {
	if workflow.IsReplaying(ctx) {
		return t.replayed.InterceptWorkflow(ctx, next)
	}
	return t.Interceptor.InterceptWorkflow(ctx, next)
}

// startUnderParent starts a span in the trace of a sampled publish, and none
// outside of one. Its tracestate, which is the publisher's, stays out of Temporal.
func startUnderParent(ctx context.Context, tracer trace.Tracer, name string, options ...trace.SpanStartOption) trace.Span {
	parent := trace.SpanContextFromContext(ctx)
	if !parent.IsSampled() {
		return trace.SpanFromContext(ctx)
	}
	_, span := tracer.Start(trace.ContextWithSpanContext(ctx, parent.WithTraceState(trace.TraceState{})), name, options...)
	return span
}

// startInReplay leaves out the span of a run that had one before it was replayed: a
// query of a delivery that ended days ago would make it one of days.
func startInReplay(ctx context.Context, tracer trace.Tracer, name string, options ...trace.SpanStartOption) trace.Span {
	if strings.HasPrefix(name, "RunWorkflow:") {
		return trace.SpanFromContext(ctx)
	}
	return startUnderParent(ctx, tracer, name, options...)
}
