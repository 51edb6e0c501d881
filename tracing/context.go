// Package traces is Postrider's side of OpenTelemetry: where spans go, how a trace
// waits in the database for its deliveries' attempts, and which spans Temporal's SDK
// makes of it.
//
// A trace begins with a request to the API, or before it, at the caller. Nothing else
// begins one: a workflow that no sampled request is behind, such as maintenance, makes
// no span.
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

// maxState is the most of a tracestate that is passed on, in bytes: the W3C asks for
// so much, and it is kept with every delivery.
const maxState = 512

// Text returns the span of ctx as text that a later attempt, in another process,
// goes on from: its traceparent and, after a space, its tracestate if it has one.
// It returns "" for a span that is not sampled, and without one.
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

// Context returns ctx inside the span that text, as [Text] returns it, stands for;
// ctx itself when it stands for none.
func Context(ctx context.Context, text string) context.Context {
	parent, state, _ := strings.Cut(text, " ")
	return propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{fieldParent: parent, fieldState: state})
}
