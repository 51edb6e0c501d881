package rest

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humagin"
	"github.com/gin-gonic/gin"

	"postrider.dev/postrider"
)

// Route is one operation: its part of the OpenAPI document, and the scope that a key needs
// for it.
type Route struct {
	Method, Path string
	ID           string // of the operation, such as "create-webhook"
	Tag          string
	Summary      string
	Description  string // Markdown; optional
	Scope        postrider.Scope
	Status       int   // of a success; 0 for 200, or 204 when there is no answer
	Errors       []int // statuses that the route can answer, besides those of every route
	// Also are other successes: by status, a value of the type of the answer. The handler's answer has a field Status.
	Also map[int]any
}

// Output is an answer with a body and without headers of its own.
type Output[T any] struct {
	Body T
}

// Handle adds a route that takes no body. In has the parameters, Out the answer, both as
// huma's tags describe them. Errors that handler returns become problem documents.
func Handle[In, Out any](a *API, r Route, handler func(context.Context, *In) (*Out, error)) {
	if r.Method == http.MethodGet {
		handler = inTime(a.ReadTimeout, handler)
	}
	register(a, a.operation(r, a.authorizeRoute(r.Scope)), handler)
}

// HandleBody adds a route that takes a body. The handler gets the value that the body's Decode
// returned.
func HandleBody[In, B, Out any](a *API, r Route, body Body[B], handler func(context.Context, *In, B) (*Out, error)) {
	operation := a.operation(r, a.authorizeRoute(r.Scope), a.middleware(func(c *gin.Context) error {
		value, err := body.read(a, c)
		current(c.Request.Context()).body = value
		return err
	}))
	described := new(huma.RequestBody)
	operation.RequestBody = described
	operation.Errors = append(operation.Errors, http.StatusBadRequest, http.StatusRequestEntityTooLarge,
		http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity)
	register(a, operation, func(ctx context.Context, in *In) (*Out, error) {
		value, _ := current(ctx).body.(B) // the middleware put it there
		return handler(ctx, in, value)
	})
	// Only after registering: huma would read and check a body that is described before.
	described.Required = !body.Optional
	described.Content = map[string]*huma.MediaType{"application/json": {Schema: body.Schema}}
}

// operation describes the route to huma.
func (a *API) operation(r Route, middlewares ...func(huma.Context, func(huma.Context))) huma.Operation {
	return huma.Operation{
		OperationID:   r.ID,
		Method:        r.Method,
		Path:          r.Path,
		Summary:       r.Summary,
		Description:   strings.TrimSpace(r.Description + "\n\nThe key needs the scope `" + string(r.Scope) + "`."),
		Tags:          []string{r.Tag},
		DefaultStatus: r.Status,
		Errors: append([]int{
			http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests, http.StatusServiceUnavailable,
		}, r.Errors...),
		Security:    []map[string][]string{{securityAPIKey: {}}},
		Responses:   a.otherAnswers(r),
		Middlewares: middlewares,

		RejectUnknownQueryParameters: true,
	}
}

// otherAnswers describes the route's other successes.
func (a *API) otherAnswers(r Route) map[string]*huma.Response {
	answers := map[string]*huma.Response{}
	for status, answer := range r.Also {
		schema := a.docs.OpenAPI().Components.Schemas.Schema(reflect.TypeOf(answer), true, "")
		answers[strconv.Itoa(status)] = &huma.Response{
			Description: http.StatusText(status), Content: map[string]*huma.MediaType{"application/json": {Schema: schema}},
		}
	}
	return answers
}

// register adds the operation. What its handler changes is the caller's, see [postrider.WithCaller]. A
// handler's error becomes a problem document, and is kept for the log line.
func register[In, Out any](a *API, operation huma.Operation, handler func(context.Context, *In) (*Out, error)) {
	route := operation.Method + " " + operation.Path
	huma.Register(a.docs, operation, func(ctx context.Context, in *In) (*Out, error) {
		this := current(ctx)
		ctx = postrider.WithCaller(ctx, postrider.Caller{Actor: this.key.ID, Route: route, RequestID: this.id})
		answer, err := handler(ctx, in)
		if err != nil {
			this.err = err
			return nil, a.problemOf(err)
		}
		return answer, nil
	})
}

// inTime returns a handler whose reads end with the timeout, so that nobody's hold a connection of the
// database for long. Its caller gets a 503 that says so.
func inTime[In, Out any](
	timeout time.Duration, handler func(context.Context, *In) (*Out, error),
) func(context.Context, *In) (*Out, error) {
	return func(ctx context.Context, in *In) (*Out, error) {
		ctx, cancel := context.WithTimeoutCause(ctx, timeout, errTooSlow)
		defer cancel()
		answer, err := handler(ctx, in)
		if err != nil && errors.Is(context.Cause(ctx), errTooSlow) {
			err = tooSlow(timeout, err)
		}
		return answer, err
	}
}

// middleware makes a check a huma middleware: an error of the check is the answer.
func (a *API) middleware(check func(*gin.Context) error) func(huma.Context, func(huma.Context)) {
	return func(ctx huma.Context, next func(huma.Context)) {
		c := humagin.Unwrap(ctx)
		if err := check(c); err != nil {
			a.fail(c, err)
			return
		}
		next(ctx)
	}
}

// authorizeRoute checks the key first, so that a caller without one does not learn whether
// its request is valid, and has no body read.
func (a *API) authorizeRoute(scope postrider.Scope) func(huma.Context, func(huma.Context)) {
	return a.middleware(func(c *gin.Context) error {
		c.Header("Cache-Control", "no-store")
		ctx := c.Request.Context()
		key, err := a.Authorize(ctx, c.GetHeader(HeaderAPIKey), scope)
		current(ctx).key = key
		if err == nil || key.ID != "" {
			a.keepConnection(c)
		}
		if err != nil {
			return err
		}
		return checkText(c)
	})
}

// keepConnection lets a caller whose key is valid make more requests on its connection, unless the process is
// stopping. Every other connection is closed after its answer, see [API.logRequest].
func (a *API) keepConnection(c *gin.Context) {
	if !a.Stopping() {
		c.Writer.Header().Del("Connection")
	}
}

// checkText refuses bytes that are not UTF-8, and NUL, in the path and the query: no stored
// text can equal them, and PostgreSQL answers them with an error. It refuses a query that does not
// parse, or says something twice, because a filter that is not applied shows what was not asked for.
func checkText(c *gin.Context) error {
	text := func(s string) bool { return utf8.ValidString(s) && !strings.ContainsRune(s, 0) }
	for _, parameter := range c.Params {
		if !text(parameter.Value) {
			return &postrider.Error{Code: postrider.CodeNotFound, Message: "no such resource"}
		}
	}
	if c.Request.URL.RawQuery == "" {
		return nil
	}
	query, err := url.ParseQuery(c.Request.URL.RawQuery)
	if err != nil {
		return BrokenField("query", "must be a valid query string, with % before two hexadecimal digits only and without semicolons", nil)
	}
	for name, values := range query {
		if !text(name) {
			return BrokenField("query", "must be text without the character U+0000", nil)
		}
		if len(values) > 1 {
			return BrokenField("query."+name, "must be given once", nil)
		}
		if !text(strings.Join(values, "")) {
			return BrokenField("query."+name, "must be text without the character U+0000", nil)
		}
	}
	return nil
}
