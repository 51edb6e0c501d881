package tracing

import (
	"context"
	"log/slog"
	"net/url"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// Config is what [NewProvider] needs.
type Config struct {
	// Endpoint is the base URL of an OTLP receiver over HTTP, as
	// http://127.0.0.1:4318; spans go to its path /v1/traces.
	Endpoint string
	// Sample is the share of the API's requests that are traced, from 0 to 1. A caller
	// that sends a traceparent has decided for its own.
	Sample  float64
	Version string // of this build
	Logger  *slog.Logger
}

// NewProvider returns what makes tracers. Spans wait in a queue and go out every few
// seconds; those that find it full, and those that the receiver does not take, are
// dropped, so nothing waits for it. Shutdown sends what is left.
//
// What Config does not say, OpenTelemetry's environment variables do, such as
// OTEL_EXPORTER_OTLP_HEADERS and OTEL_SERVICE_NAME.
func NewProvider(ctx context.Context, config Config) (*sdktrace.TracerProvider, error) {
	endpoint, err := url.Parse(config.Endpoint)
	if err != nil {
		return nil, err
	}
	sender, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(endpoint.JoinPath("v1", "traces").String()))
	if err != nil {
		return nil, err
	}
	// The later wins: the environment may give another name.
	process, err := resource.New(ctx,
		resource.WithTelemetrySDK(),
		resource.WithAttributes(attribute.String("service.name", "postrider"), attribute.String("service.version", config.Version)),
		resource.WithFromEnv(),
	)
	if err != nil {
		return nil, err
	}
	return sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(&exporter{SpanExporter: sender, logger: config.Logger}),
		sdktrace.WithResource(process),
		sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(config.Sample))),
	), nil
}

// exporter logs when the receiver begins to take no spans, and when it does again;
// OpenTelemetry's own way is a handler that is one for the whole process. Like any
// exporter it is called by one goroutine at a time.
type exporter struct {
	sdktrace.SpanExporter

	logger  *slog.Logger
	dropped int // since the receiver takes none
}

// ExportSpans implements [sdktrace.SpanExporter].
func (e *exporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	err := e.SpanExporter.ExportSpans(ctx, spans)
	switch {
	case err != nil && e.dropped == 0:
		e.logger.LogAttrs(ctx, slog.LevelWarn, "spans are not taken, dropping them", slog.Any("error", err))
	case err == nil && e.dropped > 0:
		e.logger.LogAttrs(ctx, slog.LevelInfo, "spans are taken again", slog.Int("dropped", e.dropped))
		e.dropped = 0
	}
	if err != nil {
		e.dropped += len(spans)
	}
	return nil
}
