package api_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"postrider.dev/postrider"
	"postrider.dev/postrider/api"
	"postrider.dev/postrider/tracing"
)

// traced makes the API trace into the recorder.
func traced(recorder *tracetest.SpanRecorder) func(*api.Config) {
	return func(c *api.Config) {
		c.Tracer = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder)).Tracer("test")
	}
}

// traceOf returns the trace context that the one delivery of a webhook was given.
func (b *bundle) traceOf(webhookID string) string {
	b.t.Helper()
	w, err := b.store.APIKeyByHash(b.t.Context(), postrider.HashAPIKey(b.key))
	require.NoError(b.t, err)
	list, err := b.store.Deliveries(b.t.Context(), w.WorkspaceID, postrider.DeliveryFilter{WebhookID: webhookID}, postrider.Page{Limit: 1})
	require.NoError(b.t, err)
	require.Len(b.t, list.Items, 1)
	return list.Items[0].TraceContext
}

func TestPublishGoesOnTheCallersTrace(t *testing.T) {
	t.Parallel()
	const callers = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-"
	for _, c := range []struct{ path, body string }{
		{"/api/v1/events", `{"type":"call.ended","data":{"card":"SECRET"}}`},
		{"/api/v1/events/batch", `{"events":[{"type":"call.ended","data":{"card":"SECRET"}}]}`},
		{"/api/v1/webhooks/{id}/test", ""},
	} {
		t.Run(c.path, func(t *testing.T) {
			t.Parallel()
			recorder := tracetest.NewSpanRecorder()
			b := setup(t, traced(recorder))
			w := b.newWebhook("")
			before := len(recorder.Ended())
			path := strings.Replace(c.path, "{id}", w, 1)
			b.do(http.MethodPost, path, c.body, "traceparent", callers+"01", "tracestate", "vendor=value").object(http.StatusAccepted)

			spans := recorder.Ended()[before:]
			require.Len(t, spans, 1)
			span := spans[0]
			require.Equal(t, "POST "+c.path, span.Name())
			require.Equal(t, trace.SpanKindServer, span.SpanKind())
			require.Equal(t, "b7ad6b7169203331", span.Parent().SpanID().String())
			require.ElementsMatch(t, []attribute.KeyValue{
				attribute.String("http.request.method", "POST"), attribute.String("http.route", c.path),
				attribute.Int("http.response.status_code", http.StatusAccepted),
			}, span.Attributes())
			given := trace.SpanContextFromContext(tracing.Context(t.Context(), b.traceOf(w)))
			require.Equal(t, span.SpanContext().WithRemote(true), given)
			require.Equal(t, "vendor=value", given.TraceState().String())
		})
	}
}

// Guards the hot path: a publish that is not traced stores no trace context.
func TestUntracedPublish(t *testing.T) {
	t.Parallel()
	for name, change := range map[string][]func(*api.Config){
		"nothing is traced":         nil,
		"the caller does not trace": {traced(tracetest.NewSpanRecorder())},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, change...)
			w := b.newWebhook("")
			flags := "01"
			if len(change) > 0 {
				flags = "00"
			}
			b.do(http.MethodPost, "/api/v1/events", `{"type":"call.ended","data":1}`,
				"traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-"+flags).object(http.StatusAccepted)
			require.Empty(t, b.traceOf(w))
		})
	}
}

func TestWhichRequestsAreSpans(t *testing.T) {
	t.Parallel()
	recorder := tracetest.NewSpanRecorder()
	b := setup(t, traced(recorder), failing(func() error { return errors.New("SECRET") }))
	b.do(http.MethodGet, "/healthz", "")
	b.do(http.MethodGet, "/api/v1/nowhere/SECRET?token=SECRET", "")
	require.Empty(t, recorder.Ended())
	b.do(http.MethodGet, "/api/v1/webhooks/wh_SECRET", "").problem(http.StatusInternalServerError)
	require.Len(t, recorder.Ended(), 1)
	span := recorder.Ended()[0]
	require.Equal(t, "GET /api/v1/webhooks/{id}", span.Name())
	require.Equal(t, codes.Error, span.Status().Code)
	require.NotContains(t, fmt.Sprintf("%+v", tracetest.SpanStubFromReadOnlySpan(span)), "SECRET")
}
