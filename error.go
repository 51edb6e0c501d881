package postrider

import (
	"errors"
	"strings"
)

// Code says what kind of failure an [Error] is. The API maps each to one HTTP
// status, in one place.
type Code string

// The codes, with the HTTP status that the API answers.
const (
	CodeInvalid      Code = "invalid"      // a rule on the input is broken: 422
	CodeUnauthorized Code = "unauthorized" // no key, or one that is not valid: 401
	CodeForbidden    Code = "forbidden"    // a valid key without the scope: 403
	CodeNotFound     Code = "not_found"    // unknown, or another workspace's: 404
	CodeConflict     Code = "conflict"     // contradicts what is stored: 409
	CodeUnavailable  Code = "unavailable"  // a dependency is away, try again: 503
)

// Error is a failure that callers tell apart by its Code. Message and Fields are
// meant for the person who sent the input and hold no internals and no secret.
type Error struct {
	Code    Code
	Message string
	Fields  []FieldError
	Err     error // the cause, for logs; may be nil
}

// FieldError names one field that broke a rule.
type FieldError struct {
	Field   string // path inside the request body, as timeout_ms or events[2].type
	Message string // the rule, as "must be from 1000 to 30000"
	Value   any    // what was given; nil where it is absent or must not be repeated (secrets)
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

// CodeOf returns the code of the first [Error] in err's chain, and the empty code
// when there is none.
func CodeOf(err error) Code {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// NotFound returns the error for a resource ("webhook", "delivery") that is
// unknown or belongs to another workspace: the two look the same on purpose.
func NotFound(resource string) *Error {
	return &Error{Code: CodeNotFound, Message: resource + " not found"}
}

// Invalid returns an error with [CodeInvalid] for the broken fields, and nil when
// there are none.
func Invalid(fields []FieldError) error {
	if len(fields) == 0 {
		return nil
	}
	return &Error{Code: CodeInvalid, Message: "validation failed", Fields: fields}
}
