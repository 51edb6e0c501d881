package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"runtime/debug"
	"strings"

	"github.com/gin-gonic/gin"

	"postrider.dev/postrider"
)

const headerRequestID = "X-Request-Id"

// requestIDRule is what a caller's own request id must look like to be taken over.
var requestIDRule = regexp.MustCompile(`^[A-Za-z0-9._:/+=-]{1,128}$`)

// request is what is known about a request on its way.
type request struct {
	id   string
	key  postrider.APIKey // the caller's, once admitted
	body body             // checked, on routes that take one
	err  error            // why it failed, for the log
}

type requestContextKey struct{}

// current returns the request that ctx belongs to.
func current(ctx context.Context) *request {
	r, ok := ctx.Value(requestContextKey{}).(*request)
	if !ok {
		return &request{} // only outside a route; it has no workspace, so it finds nothing
	}
	return r
}

// workspace returns the caller's workspace.
func workspace(ctx context.Context) string { return current(ctx).key.WorkspaceID }

// record gives the request its id and logs one line about it when it is over.
func (s *server) record(c *gin.Context) {
	start := s.Now()
	r := &request{id: c.GetHeader(headerRequestID)}
	if !requestIDRule.MatchString(r.id) {
		r.id = s.IDs.New("req")
	}
	c.Header(headerRequestID, r.id)
	c.Request = c.Request.WithContext(context.WithValue(c.Request.Context(), requestContextKey{}, r))

	c.Next()

	route, status, took := routeName(c), c.Writer.Status(), s.Now().Sub(start)
	s.OnRequest(RequestSummary{Method: c.Request.Method, Route: route, Status: status, Duration: took})
	level := slog.LevelInfo
	switch {
	case status >= http.StatusInternalServerError && !isShutdown(r.err):
		level = slog.LevelError
	case !strings.HasPrefix(route, "/api/"):
		level = slog.LevelDebug // probes come every few seconds
	}
	attrs := []slog.Attr{
		slog.String("method", c.Request.Method),
		slog.String("route", route),
		slog.Int("status", status),
		slog.Float64("duration_ms", float64(took.Microseconds())/1000),
		slog.String("request_id", r.id),
		slog.String("workspace_id", r.key.WorkspaceID),
		slog.Int("bytes", max(c.Writer.Size(), 0)),
	}
	if r.err != nil && status >= http.StatusInternalServerError {
		attrs = append(attrs, slog.String("error", r.err.Error()))
	}
	s.Logger.LogAttrs(c.Request.Context(), level, "request", attrs...)
}

// recover turns a panic into a 500. The stack goes into the log alone.
func (s *server) recover(c *gin.Context) {
	defer func() {
		reason := recover()
		if reason == nil {
			return
		}
		if err, ok := reason.(error); ok && errors.Is(err, http.ErrAbortHandler) {
			panic(reason) // net/http's own way to cut a connection
		}
		s.Logger.LogAttrs(c.Request.Context(), slog.LevelError, "panic",
			slog.String("request_id", current(c.Request.Context()).id),
			slog.Any("reason", reason),
			slog.String("stack", string(debug.Stack())))
		s.fail(c, fmt.Errorf("panic: %v", reason))
	}()
	c.Next()
}
