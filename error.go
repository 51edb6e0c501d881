package postrider

import (
	"errors"
	"strings"
	"time"
)

// Code says what kind of failure an [Error] is. The API maps each to one HTTP
// status, in one place.
type Code string

// The codes, with the HTTP status that the API answers.
const (
	CodeInvalid      Code = "invalid"      // the input breaks a rule: 422
	CodeUnauthorized Code = "unauthorized" // the key is missing or not valid: 401
	CodeForbidden    Code = "forbidden"    // the key lacks the scope: 403
	CodeNotFound     Code = "not_found"    // unknown, or of another workspace: 404
	CodeConflict     Code = "conflict"     // contradicts stored data: 409
	CodeLimited      Code = "limited"      // too much at once, try again: 429
	CodeUnavailable  Code = "unavailable"  // a dependency is away, try again: 503
)

// Error is a failure with a Code, by which callers decide what to do. Message and Fields are
// texts for the person who sent the input: they hold neither internals nor secrets.
type Error struct {
	Code    Code
	Message string
	Fields  []FieldError
	// RetryAfter is how long the caller of a [CodeLimited] should wait; 0 leaves it to the API.
	RetryAfter time.Duration
	Err        error // the cause, for logs; may be nil
}

// FieldError names one field that broke a rule.
type FieldError struct {
	Field   string // path inside the request body, as timeout_ms or events[2].type
	Message string // the rule, as "must be from 1000 to 30000"
	Value   any    // the given value; nil when it is absent, or may be a secret
}

// Error returns the message, then each field with its rule.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Message)
	for _, f := range e.Fields {
		b.WriteString("; " + f.Field + " " + f.Message)
	}
	if e.Err != nil {
		b.WriteString(": " + e.Err.Error())
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// CodeOf returns the code of the first [Error] in err's chain, or "" when the chain has no
// [Error].
func CodeOf(err error) Code {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// NotFound returns the error for a resource ("webhook", "delivery") that is unknown or belongs
// to another workspace. Both have the same error, so that nobody can find out which ids exist.
func NotFound(resource string) *Error {
	return &Error{Code: CodeNotFound, Message: resource + " not found"}
}

// Invalid returns an error with [CodeInvalid] for the broken fields, or nil without fields.
func Invalid(fields []FieldError) error {
	if len(fields) == 0 {
		return nil
	}
	return &Error{Code: CodeInvalid, Message: "validation failed", Fields: fields}
}
