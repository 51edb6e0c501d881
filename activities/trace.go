package activities

import (
	"context"
	"net/url"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"postrider.dev/postrider"
	"postrider.dev/postrider/egress"
	"postrider.dev/postrider/tracing"
)

// send sends the request of an attempt, in a span if its delivery is traced. The span belongs
// to the trace of the delivery's publish. It is only linked to the activity's span, since an
// activity may carry deliveries of many traces.
func (a *Activities) send(
	ctx context.Context, target postrider.Target, number int, request egress.Request,
) (postrider.Attempt, time.Duration, error) {
	if a.Tracer == nil || target.Delivery.TraceContext == "" {
		return a.Poster.Post(ctx, request)
	}
	// Only the URL's host, since paths and queries may contain tokens.
	options := []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(
		attribute.String("http.request.method", "POST"),
		attribute.String("server.address", hostOf(request.URL)),
		attribute.String("postrider.delivery_id", target.Delivery.ID),
		attribute.String("postrider.webhook_id", target.Delivery.WebhookID),
		attribute.Int("postrider.attempt", number),
	)}
	if activity := trace.LinkFromContext(ctx); activity.SpanContext.IsValid() {
		options = append(options, trace.WithLinks(activity))
	}
	ctx, span := a.Tracer.Start(tracing.Context(ctx, target.Delivery.TraceContext), "POST", options...)
	defer span.End()
	if a.TraceReceivers {
		propagation.TraceContext{}.Inject(ctx, propagation.HeaderCarrier(request.Header))
	}
	attempt, retryAfter, err := a.Poster.Post(ctx, request)
	annotate(span, attempt, err)
	return attempt, retryAfter, err
}

// hostOf returns the host of a URL without its port; "" for a URL that does not parse.
func hostOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.Hostname()
}

// annotate adds the attempt's result to the span.
func annotate(span trace.Span, attempt postrider.Attempt, err error) {
	if err != nil {
		span.SetStatus(codes.Error, "interrupted")
		return
	}
	span.SetAttributes(attribute.String("postrider.result", string(attempt.Result)))
	if attempt.StatusCode != nil {
		span.SetAttributes(attribute.Int("http.response.status_code", *attempt.StatusCode))
	}
	if attempt.Result != postrider.ResultSuccess {
		span.SetStatus(codes.Error, string(attempt.Result))
	}
}
