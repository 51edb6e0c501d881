package catalogue

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"postrider.dev/postrider"
)

// Schema is a compiled schema. It is safe for concurrent use; checks against it take turns.
type Schema struct {
	mu       sync.Mutex
	compiled *jsonschema.Schema
	meter    *meter
	size     int // JSON values in it
}

// IDOf returns a name for a schema's text, which no other text has.
func IDOf(source []byte) string {
	sum := sha256.Sum256(source)
	return hex.EncodeToString(sum[:])
}

// location is what the schema is called while it is compiled. Nothing is ever loaded by it.
const location = "postrider://catalogue/schema"

// dialect is the only one that there is.
const dialect = "https://json-schema.org/draft/2020-12/schema"

// Compile returns the schema of a text that is JSON. Its error says, for people, which rule the text breaks.
func Compile(source []byte) (*Schema, error) {
	if len(source) > postrider.MaxSchemaBytes {
		return nil, fmt.Errorf("must have at most %d bytes", postrider.MaxSchemaBytes)
	}
	document, err := decode(source)
	if err != nil {
		return nil, err
	}
	size, err := inspect(document, 0)
	if err != nil {
		return nil, err
	}
	meter := &meter{}
	compiler := jsonschema.NewCompiler()
	compiler.DefaultDraft(jsonschema.Draft2020)
	compiler.UseLoader(nothing{})
	compiler.UseRegexpEngine(meter.pattern)
	compiler.RegisterVocabulary(meter.vocabulary())
	compiler.AssertVocabs()
	if err := compiler.AddResource(location, document); err != nil {
		return nil, explain(err)
	}
	compiled, err := compiler.Compile(location)
	if err != nil {
		return nil, explain(err)
	}
	return &Schema{compiled: compiled, meter: meter, size: size}, nil
}

// Check returns the rules that JSON breaks, at most ten, with their places under the name; none for
// JSON that keeps to the schema. Returns the context's cause when that ends first.
func (s *Schema) Check(ctx context.Context, name string, data []byte) ([]postrider.FieldError, error) {
	value, err := decode(data)
	if err != nil {
		return []postrider.FieldError{{Field: name, Message: err.Error()}}, nil //nolint:nilerr // it is a rule that is broken
	}
	err = s.validate(ctx, value)
	var broken *jsonschema.ValidationError
	switch {
	case errors.As(err, &broken):
		return describe(name, value, broken), nil
	case errors.Is(err, errTooCostly):
		return []postrider.FieldError{{Field: name, Message: "takes too many steps to check against the schema of its type"}}, nil
	}
	return nil, err
}

// validate runs the library, which a meter can only stop by a panic.
func (s *Schema) validate(ctx context.Context, value any) (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.meter.begin(ctx)
	defer func() {
		if reason := recover(); reason != nil {
			stopped, ours := reason.(stop)
			if !ours {
				panic(reason)
			}
			err = stopped.err
		}
	}()
	return s.compiled.Validate(value)
}

// nothing is the loader of a compiler that may not load.
type nothing struct{}

var errRemote = errors.New("refers to another document")

func (nothing) Load(string) (any, error) { return nil, errRemote }

// explain says for people why a schema does not compile.
func explain(err error) error {
	var broken *jsonschema.SchemaValidationError
	var invalid *jsonschema.ValidationError
	var unloaded *jsonschema.LoadURLError
	switch {
	case errors.As(err, &unloaded):
		return errors.New("must not refer to another document: a $ref may only lead to a place in the same schema")
	case errors.As(err, &broken) && errors.As(broken.Err, &invalid):
		found := describe("", nil, invalid)
		return fmt.Errorf("is no JSON Schema (2020-12): at %s: %s", strings.TrimPrefix(found[0].Field, "."), found[0].Message)
	}
	why := strings.ReplaceAll(strings.ReplaceAll(err.Error(), location+"#", ""), location, "schema")
	return fmt.Errorf("is no JSON Schema (2020-12): %s", why)
}

// decode returns JSON with its numbers as they are written. Numbers that take long to compute with are refused.
func decode(text []byte) (any, error) {
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return nil, errors.New("is no JSON")
	}
	return value, checkNumbers(value)
}
