package activities_test

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"postrider.dev/postrider"
	"postrider.dev/postrider/tracing"
)

const publishTrace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

// trace turns tracing on.
func (b *bench) trace() *tracetest.SpanRecorder {
	recorder := tracetest.NewSpanRecorder()
	b.acts.Tracer = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder)).Tracer("test")
	return recorder
}

func TestAttemptIsASpanOfItsPublishsTrace(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	recorder := b.trace()
	b.answer(http.StatusBadGateway)
	id := b.publishTraced(publishTrace + " vendor=value")
	ctx, activity := b.acts.Tracer.Start(t.Context(), "an activity of another trace")
	_, err := b.acts.Deliver(ctx, alone(id))
	require.NoError(t, err)
	activity.End()

	spans := recorder.Ended()
	require.Len(t, spans, 2)
	span := spans[0]
	require.Equal(t, "POST", span.Name())
	require.Equal(t, trace.SpanKindClient, span.SpanKind())
	require.Equal(t, "0af7651916cd43dd8448eb211c80319c", span.SpanContext().TraceID().String())
	require.Equal(t, "b7ad6b7169203331", span.Parent().SpanID().String())
	require.Len(t, span.Links(), 1)
	require.Equal(t, activity.SpanContext(), span.Links()[0].SpanContext)
	require.Equal(t, sdktrace.Status{Code: codes.Error, Description: "server_error"}, span.Status())
	address, err := url.Parse(b.webhook.URL)
	require.NoError(t, err)
	require.ElementsMatch(t, []attribute.KeyValue{
		attribute.String("http.request.method", "POST"),
		attribute.String("server.address", address.Hostname()),
		attribute.Int("http.response.status_code", http.StatusBadGateway),
		attribute.String("postrider.delivery_id", id),
		attribute.String("postrider.webhook_id", b.webhook.ID),
		attribute.Int("postrider.attempt", 1),
		attribute.String("postrider.result", "server_error"),
	}, span.Attributes())
	require.Empty(t, b.requests[0].header.Get("traceparent"), "it is sent only when configured")
}

func TestReceiverGetsTheTraceWhenAsked(t *testing.T) {
	t.Parallel()
	b := setup(t, func(w *postrider.Webhook) { w.BackoffMS = 100 })
	recorder := b.trace()
	b.acts.TraceReceivers = true
	b.answer(http.StatusBadGateway)
	id := b.publishTraced(publishTrace + " vendor=value")
	b.deliver(id)
	b.answer(http.StatusNoContent)
	report, failed := b.retry(id)
	require.Nil(t, failed)
	require.Equal(t, postrider.StateSucceeded, report.State)
	require.Equal(t, []string{"vendor=value", "vendor=value"}, b.sent("tracestate"))
	spans := recorder.Ended()
	require.Len(t, spans, 2)
	for i, header := range b.sent("traceparent") {
		got := trace.SpanContextFromContext(tracing.Context(t.Context(), header))
		require.Equal(t, spans[i].SpanContext().TraceID(), got.TraceID())
		require.Equal(t, spans[i].SpanContext().SpanID(), got.SpanID())
		require.Equal(t, []codes.Code{codes.Error, codes.Unset}[i], spans[i].Status().Code)
	}
}

// One activity carries deliveries of many publishes.
func TestAttemptsOfABatchAreSpansOfTheirOwnTraces(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	recorder := b.trace()
	other := strings.Replace(publishTrace, "0af7", "1af7", 1)
	claimed := b.claim(batchID, publishTrace, "", other)
	_, err := b.acts.Deliver(t.Context(), together())
	require.NoError(t, err)
	require.Len(t, b.requests, 3)
	traceOf := map[attribute.Value]string{}
	for _, span := range recorder.Ended() {
		for _, kv := range span.Attributes() {
			if kv.Key == "postrider.delivery_id" {
				traceOf[kv.Value] = span.SpanContext().TraceID().String()
			}
		}
		require.Empty(t, span.Links(), "the activity is not traced")
	}
	require.Equal(t, map[attribute.Value]string{
		attribute.StringValue(claimed[0]): publishTrace[3:35],
		attribute.StringValue(claimed[2]): other[3:35],
	}, traceOf)
}

func TestUntracedDeliveryMakesNoSpan(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	recorder := b.trace()
	b.acts.TraceReceivers = true
	b.deliver(b.publish())
	require.Empty(t, recorder.Started())
	require.Empty(t, b.requests[0].header.Get("traceparent"))
}

func TestInterruptedAttemptHasASpan(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	recorder := b.trace()
	id := b.publishTraced(publishTrace)
	ctx, cancel := context.WithCancel(t.Context())
	b.answerBy(func(_ http.ResponseWriter, r *http.Request) { cancel(); <-r.Context().Done() })
	_, err := b.acts.Deliver(ctx, alone(id))
	require.ErrorIs(t, err, context.Canceled)
	require.Len(t, recorder.Ended(), 1)
	require.Equal(t, sdktrace.Status{Code: codes.Error, Description: "interrupted"}, recorder.Ended()[0].Status())
}

// Guards against tokens in traces: only the host of a URL is in the span.
func TestSpansHoldNothingSecret(t *testing.T) {
	t.Parallel()
	b := setup(t, func(w *postrider.Webhook) {
		w.URL = strings.Replace(w.URL, "http://", "http://user:SECRET@", 1) + "/SECRET?token=SECRET#SECRET"
		w.Headers = map[string]string{"X-Token": "SECRET"}
	})
	recorder := b.trace()
	b.deliver(b.publishTraced(publishTrace))
	require.Len(t, recorder.Ended(), 1)
	span := fmt.Sprintf("%+v", tracetest.SpanStubFromReadOnlySpan(recorder.Ended()[0]))
	require.Contains(t, span, "127.0.0.1")
	require.NotContains(t, span, "SECRET")
	require.NotContains(t, span, b.secret)
}
