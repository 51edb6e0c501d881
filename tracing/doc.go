// Package tracing is Postrider's use of OpenTelemetry: where spans go, how the trace of a publish
// waits in the database for the attempts of its deliveries, and which spans Temporal's SDK makes.
//
//   - [NewProvider] sends spans to an OTLP receiver.
//   - [Text] stores the context of a span as text, and [Context] restores it in a later process.
//   - [NewInterceptor] traces workflows and activities of a Temporal client.
//
// Invariants:
//   - Only a request to the API begins a trace, or its caller did before. A workflow without a
//     sampled request behind it, such as the maintenance, makes no span.
//   - Temporal gets nothing but a traceparent. Its histories replay the same with the
//     interceptor and without it.
//   - Nothing waits for the receiver of spans: spans that it does not take are dropped.
//
// The package must not know Postrider's types. Spans of attempts are made in package activities,
// spans of requests in package api.
package tracing
