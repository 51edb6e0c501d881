package catalogue

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
)

const (
	// maxSteps is what one check may cost: twice what it takes to look at each value of the longest body. A
	// step is a schema that is applied to a value, a value of an enum, or five hundred instructions and bytes
	// of a pattern; it takes some microseconds at most.
	maxSteps = 250_000
	// stepsBetweenLooks is how many steps are made between looks at the clock.
	stepsBetweenLooks = 64
	// maxPattern is how long the program of a regular expression may be, in instructions.
	maxPattern = 1000
)

// meter counts the steps of a check, and stops it. A schema can ask for any number of steps: one that refers
// to two others, each of which refers to two others, and so on, applies 2^n for n lines. The library has no
// bound, so it is counted where the library lets us look in: by a format, which it asks of every schema that
// it applies before those inside.
type meter struct {
	ctx   context.Context //nolint:containedctx // the library hands none through
	spent int
	next  int // look at the clock when so much is spent
}

// stop is what a meter panics with: the library takes an error for one of the data, and goes on.
type stop struct{ err error }

var errTooCostly = errors.New("the check takes too many steps")

func (m *meter) begin(ctx context.Context) { m.ctx, m.spent, m.next = ctx, 0, stepsBetweenLooks }

func (m *meter) spend(steps int) {
	if m.spent += steps; m.spent < m.next {
		return
	}
	m.next = m.spent + stepsBetweenLooks
	if m.spent > maxSteps {
		panic(stop{errTooCostly})
	}
	if m.ctx != nil && m.ctx.Err() != nil {
		panic(stop{context.Cause(m.ctx)})
	}
}

// vocabulary makes the library ask the meter about every schema that it applies.
func (m *meter) vocabulary() *jsonschema.Vocabulary {
	counted := &jsonschema.Format{Name: "counted", Validate: func(any) error {
		m.spend(1)
		return nil
	}}
	return &jsonschema.Vocabulary{
		URL: "urn:postrider:meter",
		Compile: func(ctx *jsonschema.CompilerContext, _ map[string]any) (jsonschema.SchemaExt, error) {
			this := ctx.Enqueue(nil)
			this.Format = counted // formats themselves are annotations, as the draft says
			if this.Enum == nil {
				return nil, nil
			}
			values := this.Enum.Values
			this.Enum = nil
			return &enum{values, m}, nil
		},
	}
}

// enum is the keyword of that name, whose values are counted.
type enum struct {
	values []any
	meter  *meter
}

// Validate implements jsonschema.SchemaExt.
func (e *enum) Validate(ctx *jsonschema.ValidatorContext, v any) {
	for _, allowed := range e.values {
		e.meter.spend(1)
		if same, err := ctx.Equals(v, allowed); err == nil && same {
			return
		}
	}
	ctx.AddError(&kind.Enum{Got: v, Want: e.values})
}

// pattern is a regular expression whose work is counted.
type pattern struct {
	*regexp.Regexp
	size  int
	meter *meter
}

// pattern implements jsonschema.RegexpEngine.
func (m *meter) pattern(text string) (jsonschema.Regexp, error) {
	parsed, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		return nil, err
	}
	program, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		return nil, err
	}
	if len(program.Inst) > maxPattern {
		return nil, fmt.Errorf("a pattern must have at most %d instructions", maxPattern)
	}
	compiled, err := regexp.Compile(text)
	return pattern{compiled, len(program.Inst), m}, err
}

// MatchString implements jsonschema.Regexp.
func (p pattern) MatchString(s string) bool {
	p.meter.spend(1 + len(s)*p.size/500)
	return p.Regexp.MatchString(s)
}
