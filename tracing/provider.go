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

// Config is the configuration of [NewProvider].
type Config struct {
	// Endpoint is the base URL of an OTLP receiver over HTTP, such as http://127.0.0.1:4318.
	// Spans go to its path /v1/traces.
	Endpoint string
	// Sample is the share of API requests that are traced, from 0 to 1. A traceparent of the
	// caller overrides it.
	Sample  float64
	Version string // of this build
	Logger  *slog.Logger
}

// NewProvider returns a source of tracers. It sends spans from a queue every few seconds. It
// drops spans when the queue is full or the receiver refuses them, so that nothing waits.
// Shutdown sends the remaining spans.
//
// OpenTelemetry's environment variables configure the rest, such as OTEL_EXPORTER_OTLP_HEADERS
// and OTEL_SERVICE_NAME.
func NewProvider(ctx context.Context, config Config) (*sdktrace.TracerProvider, error) {
	endpoint, err := url.Parse(config.Endpoint)
	if err != nil {
		return nil, err
	}
	sender, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(endpoint.JoinPath("v1", "traces").String()))
	if err != nil {
		return nil, err
	}
	// A later option wins, so that the environment can set another name.
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

// exporter logs when the receiver begins to refuse spans, and when it takes them again.
// OpenTelemetry's own error handler is global to the process. The provider calls an exporter
// from one goroutine at a time.
type exporter struct {
	sdktrace.SpanExporter

	logger  *slog.Logger
	dropped int // spans since the receiver began to refuse them
}

// ExportSpans implements [sdktrace.SpanExporter].
func (e *exporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	err := e.SpanExporter.ExportSpans(ctx, spans)
	switch {
	case err != nil && e.dropped == 0:
		e.logger.LogAttrs(ctx, slog.LevelWarn, "the receiver refuses spans, dropping them", slog.Any("error", err))
	case err == nil && e.dropped > 0:
		e.logger.LogAttrs(ctx, slog.LevelInfo, "the receiver takes spans again", slog.Int("dropped", e.dropped))
		e.dropped = 0
	}
	if err != nil {
		e.dropped += len(spans)
	}
	return nil
}
