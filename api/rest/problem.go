package rest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
	"github.com/gin-gonic/gin"

	"postrider.dev/postrider"
)

// RetryAfterSeconds is how long a 503 asks the caller to wait, as the Retry-After header
// has it.
const RetryAfterSeconds = "2"

// maxEcho is the longest text that an error repeats, in bytes.
const maxEcho = 256

// problem is an error that is an RFC 9457 document and has the headers of the answer.
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

// BrokenField returns a 422 about a single place, such as "query.cursor". The answer
// repeats the value unless that is long or sensitive.
func BrokenField(location, message string, value any) error {
	return unprocessable("validation failed", []*huma.ErrorDetail{{Location: location, Message: message, Value: value}})
}

// Within puts location before the places that a [BrokenField] or an error with fields is about,
// and returns any other error unchanged.
func Within(location string, err error) error {
	var p *problem
	if errors.As(err, &p) {
		for _, d := range p.Errors {
			d.Location = location + "." + d.Location
		}
		return err
	}
	var e *postrider.Error
	if errors.As(err, &e) && len(e.Fields) > 0 {
		return invalid(location, e)
	}
	return err
}

// TooLarge returns a 413 about something that is over the limit, in bytes.
func TooLarge(what string, limit int64) error {
	return newProblem(http.StatusRequestEntityTooLarge, fmt.Sprintf("%s is over %d KiB", what, limit>>10))
}

func errMethodNotAllowed(c *gin.Context) error {
	return newProblem(http.StatusMethodNotAllowed, "this route does not know "+current(c.Request.Context()).method+"; see the Allow header")
}

func unprocessable(message string, details []*huma.ErrorDetail) *problem {
	p := newProblem(http.StatusUnprocessableEntity, message)
	p.Errors = details
	return p
}

// problemOf maps an error to the answer. Here alone the domain's codes become HTTP statuses.
// The answer does not show the text of an unknown error.
func (a *API) problemOf(err error) *problem {
	var p *problem
	if !errors.As(err, &p) {
		p = problemOfCode(err)
	}
	a.redact(p.Errors)
	return p
}

func problemOfCode(err error) *problem {
	if isShutdown(err) {
		return unavailable()
	}
	var e *postrider.Error
	if !errors.As(err, &e) {
		return newProblem(http.StatusInternalServerError, "something went wrong here; the log says what, under this X-Request-Id")
	}
	switch e.Code {
	case postrider.CodeInvalid:
		return invalid("body", e)
	case postrider.CodeUnauthorized:
		p := newProblem(http.StatusUnauthorized, e.Message)
		p.headers.Set("WWW-Authenticate", `ApiKey header="`+HeaderAPIKey+`"`)
		return p
	case postrider.CodeForbidden:
		return newProblem(http.StatusForbidden, e.Message)
	case postrider.CodeNotFound:
		return newProblem(http.StatusNotFound, e.Message)
	case postrider.CodeConflict:
		return newProblem(http.StatusConflict, e.Message)
	case postrider.CodeLimited:
		p := newProblem(http.StatusTooManyRequests, e.Message)
		p.headers.Set("Retry-After", RetryAfterSeconds)
		if e.RetryAfter > 0 {
			p.headers.Set("Retry-After", strconv.Itoa(int(math.Ceil(e.RetryAfter.Seconds()))))
		}
		return p
	default: // CodeUnavailable
		return unavailable()
	}
}

func unavailable() *problem {
	p := newProblem(http.StatusServiceUnavailable, "a service that this needs is away; try again")
	p.headers.Set("Retry-After", RetryAfterSeconds)
	return p
}

// errTooSlow is why the context of a read has ended that took too long.
var errTooSlow = errors.New("the read took too long")

// tooSlow returns the 503 of a read that did not end in time. The log gets err.
func tooSlow(timeout time.Duration, err error) error {
	p := newProblem(http.StatusServiceUnavailable,
		fmt.Sprintf("reading took longer than %s; try again, or ask for less: a smaller limit, a shorter time", timeout))
	p.headers.Set("Retry-After", RetryAfterSeconds)
	return fmt.Errorf("%w (%s)", p, err.Error())
}

// isShutdown reports whether the cause of err is that the caller went away or that the process
// is stopping.
func isShutdown(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// invalid names the fields that broke rules, of what stands at the location.
func invalid(location string, e *postrider.Error) *problem {
	details := make([]*huma.ErrorDetail, len(e.Fields))
	for i, f := range e.Fields {
		details[i] = &huma.ErrorDetail{Location: location + "." + f.Field, Message: f.Message, Value: f.Value}
	}
	return unprocessable(e.Message, details)
}

// redact removes values that an answer must not repeat from the details.
func (a *API) redact(details []*huma.ErrorDetail) {
	for _, d := range details {
		// Before the value is cut, because a part of it may look harmless.
		if a.Sensitive(d.Location, d.Value) {
			d.Value = nil
		}
		d.Value = bounded(d.Value)
	}
}

// bounded cuts a long text, and returns nil for an object, an array or an infinite number.
func bounded(value any) any {
	switch v := value.(type) {
	case string:
		if len(v) > maxEcho {
			return strings.ToValidUTF8(v[:maxEcho], "") + "…"
		}
		if !utf8.ValidString(v) {
			return nil
		}
		return v
	case float64:
		if math.IsInf(v, 0) { // JSON cannot write it
			return nil
		}
		return v
	case []any, []string, map[string]any:
		return nil
	default:
		return value
	}
}

// fromHuma is a huma transformer that makes huma's own refusals look like the others. They
// are about parameters of the query, the path and the header.
func (a *API) fromHuma(_ huma.Context, _ string, response any) (any, error) {
	if model, ok := response.(*huma.ErrorModel); ok && model.Type == "" {
		p := unprocessable(model.Detail, model.Errors)
		p.Status, p.Title = model.Status, http.StatusText(model.Status)
		a.redact(p.Errors)
		return p.ErrorModel, nil
	}
	return response, nil
}

// fail answers with the problem document that err becomes.
func (a *API) fail(c *gin.Context, err error) {
	this := current(c.Request.Context())
	this.err = err
	if c.Writer.Written() {
		c.Abort() // too late for another answer
		return
	}
	p := a.problemOf(err)
	for name, values := range p.headers {
		c.Writer.Header()[name] = values
	}
	c.Header("Content-Type", "application/problem+json")
	c.AbortWithStatus(p.Status)
	encoder := json.NewEncoder(c.Writer)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(p.ErrorModel); err != nil {
		this.err = errors.Join(this.err, err)
	}
}
