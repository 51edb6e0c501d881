package tracing_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/trace"
	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"postrider.dev/postrider/tracing"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

func TestContextRestoresText(t *testing.T) {
	t.Parallel()
	for _, text := range []string{parent, parent + " vendor=value,other=1"} {
		ctx := tracing.Context(t.Context(), text)
		require.True(t, trace.SpanContextFromContext(ctx).IsRemote())
		require.Equal(t, text, tracing.Text(ctx))
	}
	long := " vendor=" + strings.Repeat("x", 255) + ",other=" + strings.Repeat("x", 255)
	require.Equal(t, parent, tracing.Text(tracing.Context(t.Context(), parent+long)), "a longer tracestate is left out")
}

func TestNoTextWithoutASampledSpan(t *testing.T) {
	t.Parallel()
	require.Empty(t, tracing.Text(t.Context()))
	for _, text := range []string{"", "nonsense", strings.TrimSuffix(parent, "1") + "0"} {
		require.Empty(t, tracing.Text(tracing.Context(t.Context(), text)), text)
	}
}

// TestProvider guards that spans reach a receiver that refused earlier ones, that its trouble is
// logged once, and that a caller's decision to sample wins over the share.
func TestProvider(t *testing.T) {
	t.Parallel()
	var refused atomic.Bool
	var got coltracepb.ExportTraceServiceRequest
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.URL.Path != "/otlp/v1/traces" || refused.CompareAndSwap(false, true) {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		_ = proto.Unmarshal(body, &got)
	}))
	t.Cleanup(receiver.Close)
	var log strings.Builder
	provider, err := tracing.NewProvider(t.Context(), tracing.Config{
		Endpoint: receiver.URL + "/otlp", Version: "1.2.3", Logger: slog.New(slog.NewTextHandler(&log, nil)),
	})
	require.NoError(t, err)
	tracer := provider.Tracer("test")
	_, unsampled := tracer.Start(t.Context(), "own trace")
	unsampled.End()
	for _, name := range []string{"dropped", "taken"} {
		_, span := tracer.Start(tracing.Context(t.Context(), parent), name)
		span.End()
		require.NoError(t, provider.ForceFlush(t.Context()))
	}
	require.NoError(t, provider.Shutdown(context.WithoutCancel(t.Context())))

	require.Equal(t, 1, strings.Count(log.String(), "the receiver refuses spans"))
	require.Equal(t, 1, strings.Count(log.String(), "the receiver takes spans again\" dropped=1"))
	require.Len(t, got.GetResourceSpans(), 1)
	spans := got.GetResourceSpans()[0].GetScopeSpans()[0].GetSpans()
	require.Len(t, spans, 1, "only the caller's trace is sampled at a share of 0")
	require.Equal(t, "taken", spans[0].GetName())
	about := map[string]string{}
	for _, attribute := range got.GetResourceSpans()[0].GetResource().GetAttributes() {
		about[attribute.GetKey()] = attribute.GetValue().GetStringValue()
	}
	require.Equal(t, "postrider", about["service.name"])
	require.Equal(t, "1.2.3", about["service.version"])
}

// TestEnvironmentNamesTheService guards that OpenTelemetry's own variables win over the defaults.
func TestEnvironmentNamesTheService(t *testing.T) {
	t.Setenv("OTEL_SERVICE_NAME", "webhooks")
	t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=staging")
	var got coltracepb.ExportTraceServiceRequest
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_ = proto.Unmarshal(body, &got)
	}))
	t.Cleanup(receiver.Close)
	provider, err := tracing.NewProvider(t.Context(), tracing.Config{
		Endpoint: receiver.URL, Sample: 1, Version: "1.2.3", Logger: slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	_, span := provider.Tracer("test").Start(t.Context(), "sampled by its share")
	span.End()
	require.NoError(t, provider.Shutdown(t.Context()))
	require.Len(t, got.GetResourceSpans(), 1)
	text := got.GetResourceSpans()[0].GetResource().String()
	require.Contains(t, text, "webhooks")
	require.Contains(t, text, "staging")
	require.Contains(t, text, "1.2.3")
	require.NotContains(t, text, `string_value:"postrider"`)
}

func TestBrokenEndpointIsAnError(t *testing.T) {
	t.Parallel()
	_, err := tracing.NewProvider(t.Context(), tracing.Config{Endpoint: "http://[::1", Logger: slog.New(slog.DiscardHandler)})
	require.Error(t, err)
}

func TestTraceIDOfAText(t *testing.T) {
	t.Parallel()
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	require.Equal(t, parent[3:35], tracing.TraceID(parent))
	require.Equal(t, parent[3:35], tracing.TraceID(parent+" vendor=value"))
	for _, text := range []string{"", "00", parent[:35], "x" + parent} {
		require.Empty(t, tracing.TraceID(text), text)
	}
}
