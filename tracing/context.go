package tracing

import (
	"context"
	"strings"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// The fields of W3C Trace Context (https://www.w3.org/TR/trace-context/).
const (
	fieldParent = "traceparent"
	fieldState  = "tracestate"
)

// maxState is the longest tracestate that is kept, in bytes. The W3C asks for at least this
// length. It is not longer, because every delivery stores it.
const maxState = 512

// Text returns the context of the span in ctx as text, from which another process can go on: the
// traceparent and, after a space, the tracestate if there is one. It returns "" without a span,
// and for a span that is not sampled.
func Text(ctx context.Context) string {
	if !trace.SpanContextFromContext(ctx).IsSampled() {
		return ""
	}
	fields := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, fields)
	if state := fields[fieldState]; state != "" && len(state) <= maxState {
		return fields[fieldParent] + " " + state
	}
	return fields[fieldParent]
}

// Context returns ctx with the span context of a text that [Text] returned. For any other text it
// returns a context without a span.
func Context(ctx context.Context, text string) context.Context {
	parent, state, _ := strings.Cut(text, " ")
	return propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{fieldParent: parent, fieldState: state})
}

// TraceID returns the trace of a text that [Text] returned; "" for any other text.
func TraceID(text string) string {
	const begin, end = 3, 35 // of the id, in version-id-span-flags
	if len(text) <= end || text[begin-1] != '-' || text[end] != '-' {
		return ""
	}
	return text[begin:end]
}
