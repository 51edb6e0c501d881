package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
	"github.com/gin-gonic/gin"

	"postrider.dev/postrider"
)

// retryAfterSeconds is what a 503 asks the caller to wait.
const retryAfterSeconds = "2"

// maxEcho is the longest text that an error repeats, in bytes.
const maxEcho = 256

// problem is an RFC 9457 document with the response headers that go with it.
type problem struct {
	*huma.ErrorModel
	headers http.Header
}

// GetHeaders tells huma the headers.
func (p *problem) GetHeaders() http.Header { return p.headers }

func newProblem(status int, detail string) *problem {
	return &problem{
		ErrorModel: &huma.ErrorModel{Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: detail},
		headers:    http.Header{},
	}
}

// problemOf maps an error to what the caller is told: the one place where domain
// codes become HTTP statuses. What is not the caller's to know stays out of it.
func problemOf(err error) *problem {
	var known *problem
	if errors.As(err, &known) {
		return known
	}
	if isShutdown(err) {
		return unavailable()
	}
	var e *postrider.Error
	if !errors.As(err, &e) {
		return newProblem(http.StatusInternalServerError, "something went wrong here; the log says what, under this X-Request-Id")
	}
	switch e.Code {
	case postrider.CodeInvalid:
		return invalid(e)
	case postrider.CodeUnauthorized:
		p := newProblem(http.StatusUnauthorized, e.Message)
		p.headers.Set("WWW-Authenticate", `ApiKey header="`+headerAPIKey+`"`)
		return p
	case postrider.CodeForbidden:
		return newProblem(http.StatusForbidden, e.Message)
	case postrider.CodeNotFound:
		return newProblem(http.StatusNotFound, e.Message)
	case postrider.CodeConflict:
		return newProblem(http.StatusConflict, e.Message)
	default: // CodeUnavailable
		return unavailable()
	}
}

func unavailable() *problem {
	p := newProblem(http.StatusServiceUnavailable, "a service that this needs is away; try again")
	p.headers.Set("Retry-After", retryAfterSeconds)
	return p
}

// isShutdown reports whether err only says that the caller or the process is
// going away.
func isShutdown(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// invalid tells which fields of the body broke which rules.
func invalid(e *postrider.Error) *problem {
	details := make([]*huma.ErrorDetail, len(e.Fields))
	for i, f := range e.Fields {
		details[i] = &huma.ErrorDetail{Location: "body." + f.Field, Message: f.Message, Value: f.Value}
	}
	return unprocessable(e.Message, details)
}

// unprocessable returns a 422 with the given details, made safe to show.
func unprocessable(message string, details []*huma.ErrorDetail) *problem {
	p := newProblem(http.StatusUnprocessableEntity, message)
	for _, d := range details {
		d.Value = echo(d.Location, d.Value)
	}
	p.Errors = details
	return p
}

// brokenField returns a 422 about a single place, as "query.cursor".
func brokenField(location, message string, value any) error {
	return unprocessable("validation failed", []*huma.ErrorDetail{{Location: location, Message: message, Value: value}})
}

// echo returns what an error may repeat of a value: nothing secret, nothing large.
func echo(location string, value any) any {
	if location == "body.secret" || strings.HasPrefix(location, "body.headers") {
		return nil
	}
	switch v := value.(type) {
	case string:
		if location == "body.url" && strings.Contains(v, "@") {
			return nil // may carry a password
		}
		if len(v) > maxEcho {
			return strings.ToValidUTF8(v[:maxEcho], "") + "…"
		}
		if !utf8.ValidString(v) {
			return nil
		}
		return v
	case []any, []string, map[string]any:
		return nil
	default:
		return value
	}
}

// fromHuma is a huma transformer: it makes huma's own refusals, which are about
// query, path and header parameters, look like ours.
func fromHuma(_ huma.Context, _ string, response any) (any, error) {
	if model, ok := response.(*huma.ErrorModel); ok && model.Type == "" {
		p := unprocessable(model.Detail, model.Errors)
		p.Status, p.Title = model.Status, http.StatusText(model.Status)
		return p.ErrorModel, nil
	}
	return response, nil
}

// fail answers with the problem that err is.
func (s *server) fail(c *gin.Context, err error) {
	current(c.Request.Context()).err = err
	if c.Writer.Written() {
		c.Abort() // too late for another answer
		return
	}
	p := problemOf(err)
	for name, values := range p.headers {
		c.Writer.Header()[name] = values
	}
	c.Header("Content-Type", "application/problem+json")
	c.AbortWithStatus(p.Status)
	encoder := json.NewEncoder(c.Writer)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(p.ErrorModel); err != nil {
		current(c.Request.Context()).err = errors.Join(current(c.Request.Context()).err, err)
	}
}

func errMethodNotAllowed(c *gin.Context) error {
	return newProblem(http.StatusMethodNotAllowed, "this route does not know "+c.Request.Method+"; see the Allow header")
}
