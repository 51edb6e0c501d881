package api

import (
	"context"
	"net/http"
	"reflect"
	"strings"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humagin"
	"github.com/gin-gonic/gin"

	"postrider.dev/postrider"
)

// route is one operation: what the OpenAPI document says about it, and what is
// enforced before its handler runs.
type route struct {
	method, path string
	id           string
	tag          string
	summary      string
	description  string
	scope        postrider.Scope
	status       int // of a success
	errors       []int
	body         *bodyRules // nil: it takes none
}

// bodyRules say what a route's body must be.
type bodyRules struct {
	schema   *huma.Schema
	optional bool
	limit    int64 // bytes
	// plain reads events the quick way, and returns nil when it cannot. Optional.
	plain func(raw []byte) []publishEvent
}

// reads returns the rules for a body of type T.
func reads[T any](s *server) *bodyRules {
	registry := s.docs.OpenAPI().Components.Schemas
	return &bodyRules{schema: registry.Schema(reflect.TypeFor[T](), true, ""), limit: maxBody}
}

// output is a response with a body and no headers of its own.
type output[T any] struct {
	Body T
}

// handle registers a handler. Errors that it returns are mapped by [problemOf].
func handle[I, O any](s *server, r route, handler func(context.Context, *I) (*O, error)) {
	operation := huma.Operation{
		OperationID:   r.id,
		Method:        r.method,
		Path:          r.path,
		Summary:       r.summary,
		Description:   strings.TrimSpace(r.description + "\n\nThe key needs the scope `" + string(r.scope) + "`."),
		Tags:          []string{r.tag},
		DefaultStatus: r.status,
		Errors:        append([]int{http.StatusUnauthorized, http.StatusForbidden, http.StatusServiceUnavailable}, r.errors...),
		Security:      []map[string][]string{{securityAPIKey: {}}},
		Middlewares:   huma.Middlewares{s.admission(r)},

		RejectUnknownQueryParameters: true,
	}
	var described *huma.RequestBody
	if r.body != nil {
		described = new(huma.RequestBody)
		operation.RequestBody = described
		operation.Errors = append(operation.Errors, http.StatusBadRequest, http.StatusRequestEntityTooLarge,
			http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity)
	}
	huma.Register(s.docs, operation, func(ctx context.Context, input *I) (*O, error) {
		answer, err := handler(ctx, input)
		if err != nil {
			current(ctx).err = err
			return nil, problemOf(err)
		}
		return answer, nil
	})
	if described != nil {
		// Only now, so that huma describes the body and leaves reading it to admit.
		described.Required = !r.body.optional
		described.Content = map[string]*huma.MediaType{"application/json": {Schema: r.body.schema}}
	}
}

// admission is admit as a huma middleware.
func (s *server) admission(r route) func(huma.Context, func(huma.Context)) {
	return func(ctx huma.Context, next func(huma.Context)) {
		c := humagin.Unwrap(ctx)
		if err := s.admit(c, r); err != nil {
			s.fail(c, err)
			return
		}
		next(ctx)
	}
}

// admit checks what every route asks for, cheapest and least telling first.
func (s *server) admit(c *gin.Context, r route) error {
	ctx := c.Request.Context()
	this := current(ctx)
	key, err := s.keys.authenticate(ctx, c.GetHeader(headerAPIKey))
	if err != nil {
		return err
	}
	this.key = key
	if !key.Allows(r.scope) {
		return &postrider.Error{Code: postrider.CodeForbidden, Message: "the API key lacks the scope " + string(r.scope)}
	}
	if err := checkText(c); err != nil || r.body == nil {
		return err
	}
	raw, err := readBody(c, r.body.limit)
	if err != nil {
		return err
	}
	this.body, err = s.parseBody(raw, r.body)
	return err
}

// checkText refuses what no stored text can equal, and PostgreSQL takes for an
// error: bytes that are not UTF-8, and NUL.
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
	for name, values := range c.Request.URL.Query() {
		if !text(name) {
			return brokenField("query", "must be text without the character U+0000", nil)
		}
		if !text(strings.Join(values, "")) {
			return brokenField("query."+name, "must be text without the character U+0000", nil)
		}
	}
	return nil
}
