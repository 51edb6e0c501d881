package rest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"runtime/debug"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"postrider.dev/postrider"
)

// HeaderAPIKey carries the workspace's key.
const HeaderAPIKey = "X-API-Key" //nolint:gosec // the header, not a key

const headerRequestID = "X-Request-Id"

// requestIDRule says which request ids of callers are used. Others are replaced.
var requestIDRule = regexp.MustCompile(`^[A-Za-z0-9._:/+=-]{1,128}$`)

// RequestSummary is a finished request. Its texts have few values, so that they can label
// metrics.
type RequestSummary struct {
	Method   string
	Route    string // such as "/api/v1/webhooks/{id}"; "" when no route matched
	Status   int
	Duration time.Duration
}

// request is the state that middlewares and the handler of one request share.
type request struct {
	method string // as it was sent; the router has GET for HEAD
	id     string
	key    postrider.APIKey // the caller's, once it is authorized
	held   int64            // bytes of its body
	body   any              // decoded, on its way from the middleware to the handler
	err    error            // why the request failed, for the log
}

type requestContextKey struct{}

// current returns the request that ctx belongs to.
func current(ctx context.Context) *request {
	r, ok := ctx.Value(requestContextKey{}).(*request)
	if !ok {
		return &request{} // only outside a route; a store finds no resource without a workspace
	}
	return r
}

// Workspace returns the id of the caller's workspace.
func Workspace(ctx context.Context) string { return current(ctx).key.WorkspaceID }

// Caller returns the id of the caller's key.
func Caller(ctx context.Context) string { return current(ctx).key.ID }

// Allows reports whether the caller's key has a scope.
func Allows(ctx context.Context, scope postrider.Scope) bool { return current(ctx).key.Allows(scope) }

// logRequest gives the request its id and logs one line about it when it is over.
func (a *API) logRequest(c *gin.Context) {
	start := a.Now()
	r := current(c.Request.Context())
	r.id = c.GetHeader(headerRequestID)
	if !requestIDRule.MatchString(r.id) {
		r.id = a.NewRequestID()
	}
	c.Header(headerRequestID, r.id)
	c.Header("Connection", "close") // who shows no key holds no connection
	defer a.intake.release(r)

	c.Next()

	route, status, took := documentPath(c.FullPath()), c.Writer.Status(), a.Now().Sub(start)
	a.OnRequest(RequestSummary{Method: r.method, Route: route, Status: status, Duration: took})
	level := slog.LevelInfo
	switch {
	case status >= http.StatusInternalServerError && !isShutdown(r.err):
		level = slog.LevelError
	case !strings.HasPrefix(route, "/api/"):
		level = slog.LevelDebug // probes come every few seconds
	}
	attrs := []slog.Attr{
		slog.String("method", r.method),
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
	a.Logger.LogAttrs(c.Request.Context(), level, "request", attrs...)
}

// recover turns a panic into a 500. Only the log gets the stack.
func (a *API) recover(c *gin.Context) {
	defer func() {
		reason := recover()
		if reason == nil {
			return
		}
		if err, ok := reason.(error); ok && errors.Is(err, http.ErrAbortHandler) {
			panic(reason) // net/http's own way to cut a connection
		}
		a.Logger.LogAttrs(c.Request.Context(), slog.LevelError, "panic",
			slog.String("request_id", current(c.Request.Context()).id),
			slog.Any("reason", reason),
			slog.String("stack", string(debug.Stack())))
		a.fail(c, fmt.Errorf("panic: %v", reason))
	}()
	c.Next()
}
