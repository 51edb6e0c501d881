package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/gin-gonic/gin"
)

// Limits of a request body in bytes.
const (
	maxBody      = 256 << 10 // also of each event in a batch
	maxBatchBody = 8 << 20
)

// body is a JSON object that keeps to its schema.
type body struct {
	raw    []byte
	fields map[string]json.RawMessage
	events []publishEvent // of a plain body, which has no fields; see plain.go
}

// has reports whether the field was sent, be it as null.
func (b body) has(field string) bool {
	_, found := b.fields[field]
	return found
}

// into stores the body in v; fields that were not sent keep what v has.
func (b body) into(v any) error { return decode(b.raw, v, "body") }

// decode stores JSON that keeps to v's schema in v. What is left to go wrong are
// integers spelled as fractions, which the schema takes and Go does not.
func decode(raw []byte, v any, location string) error {
	if len(raw) == 0 {
		return nil
	}
	err := json.Unmarshal(raw, v)
	var mismatch *json.UnmarshalTypeError
	if errors.As(err, &mismatch) {
		return brokenField(location+"."+mismatch.Field, "must be written as a whole number", nil)
	}
	return err
}

// readBody returns the request's body. Returns a 413 when it is longer than limit,
// announced or not, and a 415 when it calls itself something else than JSON.
func readBody(c *gin.Context, limit int64) ([]byte, error) {
	r := c.Request
	if r.ContentLength == 0 || r.Body == nil {
		return nil, nil
	}
	if r.ContentLength > limit {
		return nil, errTooLarge("the body", limit)
	}
	if err := checkContentType(r.Header.Get("Content-Type")); err != nil {
		return nil, err
	}
	var buffer bytes.Buffer
	buffer.Grow(int(max(r.ContentLength, 0)) + bytes.MinRead)
	_, err := buffer.ReadFrom(http.MaxBytesReader(c.Writer, r.Body, limit))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, errTooLarge("the body", limit)
	case err != nil:
		return nil, newProblem(http.StatusBadRequest, "the body broke off or came too slowly")
	}
	return buffer.Bytes(), nil
}

// checkContentType lets JSON pass, and nothing: some clients send no type at all.
func checkContentType(header string) error {
	if header == "" || header == "application/json" {
		return nil
	}
	media, _, err := mime.ParseMediaType(header)
	if err == nil && (media == "application/json" || strings.HasPrefix(media, "application/") && strings.HasSuffix(media, "+json")) {
		return nil
	}
	detail := "the body must be JSON: send -H 'Content-Type: application/json'"
	if media == "application/x-www-form-urlencoded" {
		detail += " (curl -d says " + media + " unless told otherwise)"
	}
	return newProblem(http.StatusUnsupportedMediaType, detail)
}

func errTooLarge(what string, limit int64) error {
	return newProblem(http.StatusRequestEntityTooLarge, fmt.Sprintf("%s is over %d KiB", what, limit>>10))
}

// parseBody checks that raw is a JSON object that keeps to the schema. Returns a
// 400 when it is not JSON, and a 422 that names every broken rule.
func (s *server) parseBody(raw []byte, rules *bodyRules) (body, error) {
	if rules.plain != nil {
		if events := rules.plain(raw); events != nil {
			return body{raw: raw, events: events}, nil
		}
	}
	if len(bytes.TrimSpace(raw)) == 0 {
		if rules.optional {
			return body{}, nil
		}
		return body{}, newProblem(http.StatusBadRequest, "a JSON body is required")
	}
	if !utf8.Valid(raw) {
		return body{}, newProblem(http.StatusBadRequest, "the body is not valid UTF-8")
	}
	b := body{raw: raw}
	err := json.Unmarshal(raw, &b.fields)
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		return body{}, newProblem(http.StatusBadRequest, fmt.Sprintf("the body is not valid JSON: %v (byte %d)", syntax, syntax.Offset))
	}
	check := schemaCheck{registry: s.docs.OpenAPI().Components.Schemas}
	if err != nil || b.fields == nil {
		check.add("body", "must be an object", nil)
	} else {
		check.fields(b.fields, check.resolve(rules.schema), "body")
	}
	if len(check.broken) > 0 {
		return body{}, unprocessable("validation failed", check.broken)
	}
	return b, nil
}
