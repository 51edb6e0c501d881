package rest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
	"github.com/gin-gonic/gin"

	"postrider.dev/postrider"
)

// MaxBody is the limit of most request bodies, in bytes.
const MaxBody = postrider.MaxBodyBytes

// Body has the rules for the body of a route, and decodes it to a T. [JSONBody] and
// [PatchBody] make the usual ones.
type Body[T any] struct {
	Schema   *huma.Schema // as the OpenAPI document shows it
	Optional bool         // a request without a body is read as {}
	Limit    int64        // bytes
	// Decode returns the value of a body that is not empty. An error is the answer.
	Decode func(raw []byte) (T, error)
}

// JSONBody is a body that is decoded over what defaults returns, so that a field that is
// not sent keeps its default. Without defaults, nil, it is decoded over the zero value.
func JSONBody[T any](a *API, defaults func() T) Body[T] {
	schema := SchemaOf[T](a)
	return Body[T]{Schema: schema, Limit: MaxBody, Decode: func(raw []byte) (T, error) {
		var value T
		if _, err := a.CheckObject(raw, schema); err != nil {
			return value, err
		}
		if defaults != nil {
			value = defaults()
		}
		err := Decode(raw, &value, "body")
		return value, err
	}}
}

// Patch is the body of a PATCH: the values that were sent, and the names of their fields.
type Patch[T any] struct {
	Values T // zero where a field was not sent
	raw    []byte
	sent   map[string]json.RawMessage
}

// PatchBody is a body that changes the fields that it has and leaves the others as they are.
func PatchBody[T any](a *API) Body[Patch[T]] {
	schema := SchemaOf[T](a)
	return Body[Patch[T]]{Schema: schema, Limit: MaxBody, Decode: func(raw []byte) (Patch[T], error) {
		patch := Patch[T]{raw: raw}
		var err error
		if patch.sent, err = a.CheckObject(raw, schema); err != nil {
			return patch, err
		}
		err = Decode(raw, &patch.Values, "body")
		return patch, err
	}}
}

// Has reports whether the field was sent, as null or with a value.
func (p Patch[T]) Has(field string) bool {
	_, found := p.sent[field]
	return found
}

// IsNull reports whether the field was sent as null.
func (p Patch[T]) IsNull(field string) bool { return string(p.sent[field]) == "null" }

// ApplyTo stores the values that were sent in v and leaves its other fields as they are.
// It adds the entries of a map to a map that is there.
func (p Patch[T]) ApplyTo(v any) error { return Decode(p.raw, v, "body") }

// SchemaOf returns the schema that the OpenAPI document has for a T.
func SchemaOf[T any](a *API) *huma.Schema {
	return a.docs.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[T](), true, "")
}

// CheckObject returns the fields of a body. Returns a 400 when it is not JSON, and a 422
// that names every broken rule when it does not keep to the schema.
func (a *API) CheckObject(raw []byte, schema *huma.Schema) (map[string]json.RawMessage, error) {
	if !utf8.Valid(raw) {
		return nil, newProblem(http.StatusBadRequest, "the body is not valid UTF-8")
	}
	var fields map[string]json.RawMessage
	err := json.Unmarshal(raw, &fields)
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		return nil, newProblem(http.StatusBadRequest, fmt.Sprintf("the body is not valid JSON: %v (byte %d)", syntax, syntax.Offset))
	}
	check := schemaCheck{registry: a.docs.OpenAPI().Components.Schemas}
	if err != nil || fields == nil {
		check.add("body", "must be an object", nil)
	} else {
		check.once(raw, "body")
		check.fields(fields, check.resolve(schema), "body")
	}
	if len(check.broken) > 0 {
		return nil, unprocessable("validation failed", check.broken)
	}
	return fields, nil
}

// Decode stores JSON that keeps to v's schema in v; location is its place in the request.
// Returns a 422 about a value that Go cannot store: an integer that is written with a fraction or an exponent,
// or one that its schema does not bound.
func Decode(raw []byte, v any, location string) error {
	err := json.Unmarshal(raw, v)
	var mismatch *json.UnmarshalTypeError
	if errors.As(err, &mismatch) {
		return BrokenField(location+"."+jsonPath(mismatch.Field), "must be "+wordFor(mismatch.Type), nil)
	}
	return err
}

// wordFor says what JSON a Go type is written as.
func wordFor(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return "an integer, written without a fraction or an exponent"
	case reflect.Float32, reflect.Float64:
		return "a number"
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "a string"
	case reflect.Slice, reflect.Array:
		return "an array"
	default:
		return "an object"
	}
}

// jsonPath returns a field's path in the JSON. That of encoding/json also names embedded
// structs.
func jsonPath(path string) string {
	names := slices.DeleteFunc(strings.Split(path, "."), func(name string) bool { return unicode.IsUpper(rune(name[0])) })
	return strings.Join(names, ".")
}

// read reads and decodes the body of a request.
func (b Body[T]) read(a *API, c *gin.Context) (value T, err error) {
	raw, err := a.readBody(c, b.Limit)
	if err != nil {
		return value, err
	}
	if len(bytes.TrimSpace(raw)) == 0 {
		if !b.Optional {
			return value, newProblem(http.StatusBadRequest, "a JSON body is required")
		}
		raw = []byte("{}")
	}
	return b.Decode(raw)
}

// checkContentType accepts JSON. It also accepts a missing type, because some clients do not
// send one.
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

// checkContentEncoding accepts bodies that are sent as they are. To decompress one would be work whose size the
// caller chooses.
func checkContentEncoding(headers []string) error {
	for _, encoding := range headers {
		if encoding != "" && !strings.EqualFold(strings.TrimSpace(encoding), "identity") {
			p := newProblem(http.StatusUnsupportedMediaType, "the body must be sent as it is, without the Content-Encoding "+encoding)
			p.headers.Set("Accept-Encoding", "identity")
			return p
		}
	}
	return nil
}
