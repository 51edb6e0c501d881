package server

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"net/url"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.temporal.io/sdk/interceptor"

	"postrider.dev/postrider/tracing"
)

// TracesSettings say which requests are traced and where the spans go.
type TracesSettings struct {
	TracesEndpoint    string  `env:"POSTRIDER_TRACES_ENDPOINT,OTEL_EXPORTER_OTLP_ENDPOINT" placeholder:"URL" help:"http(s)://host:port of an OpenTelemetry receiver (OTLP over HTTP) that spans are sent to. Default: none, and nothing is traced."`
	TracesSample      float64 `env:"POSTRIDER_TRACES_SAMPLE" default:"1" help:"Share of requests to the API that are traced (0 to 1). A caller that sends a traceparent decides for its own."`
	TracesToReceivers bool    `env:"POSTRIDER_TRACES_TO_RECEIVERS" help:"Send traceparent and tracestate (W3C Trace Context) to receivers, for what is traced."`
}

// Validate checks what flag parsing cannot. The error names the flag and the rule. It does not
// repeat the URL, which may hold a password.
func (s *TracesSettings) Validate() error {
	if s.TracesSample < 0 || s.TracesSample > 1 || math.IsNaN(s.TracesSample) {
		return errors.New("--traces-sample (POSTRIDER_TRACES_SAMPLE): must be from 0 to 1")
	}
	if s.TracesEndpoint == "" {
		return nil
	}
	u, err := url.Parse(s.TracesEndpoint)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.User != nil || u.RawQuery != "" {
		return errors.New("--traces-endpoint (POSTRIDER_TRACES_ENDPOINT, OTEL_EXPORTER_OTLP_ENDPOINT): " +
			"must be http://HOST:PORT or https://HOST:PORT, with a path if need be; credentials go into OTEL_EXPORTER_OTLP_HEADERS")
	}
	return nil
}

// tracer makes the spans of a process. The zero value makes no spans.
type tracer struct {
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer // nil when nothing is traced
}

// tracing returns a tracer by the settings.
func (s *TracesSettings) tracing(ctx context.Context, logger *slog.Logger) (tracer, error) {
	if s.TracesEndpoint == "" {
		return tracer{}, nil
	}
	provider, err := tracing.NewProvider(ctx, tracing.Config{
		Endpoint: s.TracesEndpoint, Sample: s.TracesSample, Version: Version, Logger: logger,
	})
	if err != nil {
		return tracer{}, err
	}
	return tracer{provider: provider, tracer: provider.Tracer("postrider", trace.WithInstrumentationVersion(Version))}, nil
}

// interceptors returns the interceptors of a Temporal client: one that traces, or nothing.
func (t tracer) interceptors() ([]interceptor.ClientInterceptor, error) {
	if t.tracer == nil {
		return nil, nil
	}
	traced, err := tracing.NewInterceptor(t.tracer)
	return []interceptor.ClientInterceptor{traced}, err
}

// flushTimeout bounds the time for sending the last spans.
const flushTimeout = 5 * time.Second

// close sends the remaining spans. It does so even when ctx is done.
func (t tracer) close(ctx context.Context) {
	if t.provider == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTimeout)
	defer cancel()
	_ = t.provider.Shutdown(ctx) // the exporter logs its failures
}
