package rest

import (
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// trace makes a span of a request, in the caller's trace if it has one (W3C Trace
// Context). The span has no text that the caller chose.
func (a *API) trace(c *gin.Context) {
	route := documentPath(c.FullPath())
	if !strings.HasPrefix(route, "/api/") { // probes come every few seconds
		return
	}
	ctx := propagation.TraceContext{}.Extract(c.Request.Context(), propagation.HeaderCarrier(c.Request.Header))
	method := current(ctx).method
	ctx, span := a.Tracer.Start(ctx, method+" "+route, trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(
		attribute.String("http.request.method", method),
		attribute.String("http.route", route),
	))
	defer span.End()
	c.Request = c.Request.WithContext(ctx)

	c.Next()

	status := c.Writer.Status()
	span.SetAttributes(attribute.Int("http.response.status_code", status))
	if status >= http.StatusInternalServerError {
		span.SetStatus(codes.Error, http.StatusText(status))
	}
}
