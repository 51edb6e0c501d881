package shaping

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"postrider.dev/postrider"
)

const (
	// MaxCost is what one evaluation may cost, in units of CEL's specification: about an
	// operation each. It comes to some 20 ms.
	MaxCost = 100_000
	// MaxMemory is how large the values of one evaluation may be, in elements of lists and maps
	// and characters of texts. An event of 256 KiB fits four times.
	MaxMemory = 1 << 20
	// maxTypeDepth bounds the time to compile, which grows with the third power of how deep lists
	// and maps may be in each other.
	maxTypeDepth = 24
	// maxNesting bounds how deep an expression's parts are in each other.
	maxNesting = 50
	// maxPrograms is how many compiled expressions are remembered.
	maxPrograms = 1000
)

// Shaper evaluates filters and transforms, and remembers the compiled ones. It is safe for
// concurrent use.
type Shaper struct {
	env func() *cel.Env // made when it is first asked for: most processes have no expression

	mu       sync.Mutex
	programs map[programKey]cel.Program
}

// programKey is an expression and what it is for.
type programKey struct {
	source string
	filter bool
}

// New returns a Shaper.
func New() *Shaper {
	return &Shaper{env: sync.OnceValue(newEnv), programs: map[programKey]cel.Program{}}
}

func newEnv() *cel.Env {
	env, err := cel.NewEnv(
		cel.Variable("event", cel.MapType(cel.StringType, cel.DynType)),
		cel.OptionalTypes(),
		cel.ParserRecursionLimit(maxNesting),
		cel.ParserExpressionSizeLimit(max(postrider.MaxFilterLength, postrider.MaxTransformLength)),
	)
	if err != nil {
		panic(err) // the options are constants, and every test of an expression would meet it
	}
	return env
}

// CheckFilter returns why a text is not a filter, with the line and column of each mistake, or "".
func (s *Shaper) CheckFilter(source string) string {
	return check(s, programKey{source, true}, postrider.MaxFilterLength)
}

// CheckTransform returns why a text is not a transform, with the line and column of each mistake,
// or "".
func (s *Shaper) CheckTransform(source string) string {
	return check(s, programKey{source, false}, postrider.MaxTransformLength)
}

func check(s *Shaper, key programKey, longest int) string {
	if n := len([]rune(key.source)); n < 1 || n > longest {
		return fmt.Sprintf("must have 1 to %d characters", longest)
	}
	if _, err := s.program(key); err != nil {
		return err.Error()
	}
	return ""
}

// Matches reports whether the filter lets the event through. With an error, the filter failed on
// the event, which does not match then. The error may repeat what the event holds.
func (s *Shaper) Matches(filter string, e *Event) (bool, error) {
	value, err := s.evaluate(programKey{filter, true}, e)
	if err != nil {
		return false, err
	}
	matches, isBool := value.Value().(bool)
	if !isBool {
		return false, fmt.Errorf("the result is of type %s and not bool", value.Type().TypeName())
	}
	return matches, nil
}

// Transform returns the body that the transform makes of the event: JSON, the same bytes each
// time. An error may repeat what the event holds, but for its first words, see [Reason].
func (s *Shaper) Transform(transform string, e *Event) ([]byte, error) {
	value, err := s.evaluate(programKey{transform, false}, e)
	if err != nil {
		return nil, err
	}
	return render(value, e)
}

func (s *Shaper) evaluate(key programKey, e *Event) (ref.Val, error) {
	program, err := s.program(key)
	if err != nil {
		return nil, err
	}
	result, _, err := program.Eval(e.variables)
	return result, err
}

// program returns the compiled expression. Its error says what is wrong with the text.
func (s *Shaper) program(key programKey) (cel.Program, error) {
	s.mu.Lock()
	known, found := s.programs[key]
	s.mu.Unlock()
	if found {
		return known, nil
	}
	compiled, err := s.compile(key)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.programs) >= maxPrograms {
		for any := range s.programs { // all would be compiled again at once, were they all forgotten
			delete(s.programs, any)
			break
		}
	}
	s.programs[key] = compiled
	return compiled, nil
}

func (s *Shaper) compile(key programKey) (cel.Program, error) {
	parsed, issues := s.env().Parse(key.source)
	if issues.Err() != nil {
		return nil, mistakes(issues)
	}
	if typeDepth(parsed.NativeRep().Expr()) > maxTypeDepth {
		return nil, fmt.Errorf("lists and maps may be in each other, or made of each other, %d times", maxTypeDepth)
	}
	checked, issues := s.env().Check(parsed)
	if issues.Err() != nil {
		return nil, mistakes(issues)
	}
	if unknown := unknownField(checked); unknown != nil {
		return nil, unknown
	}
	if result := checked.OutputType(); key.filter && result.Kind() != types.BoolKind && result.Kind() != types.DynKind {
		return nil, fmt.Errorf("must be an expression of type bool, and is of type %s", result)
	}
	return s.env().Program(checked, cel.CostLimit(MaxCost), cel.MemoryLimit(MaxMemory), cel.EvalOptions(cel.OptOptimize))
}

// mistakes says what the compiler found, each mistake with its place.
func mistakes(issues *cel.Issues) error {
	const most = 5
	var texts []string
	for _, e := range issues.Errors() {
		if len(texts) == most {
			break
		}
		texts = append(texts, place(e.Location.Line(), e.Location.Column())+e.Message)
	}
	return errors.New(strings.Join(texts, "; "))
}

// place names a position by line and column, both from 1.
func place(line, column int) string { return fmt.Sprintf("line %d, column %d: ", line, column+1) }

// typeDepth returns how deep lists and maps may be in each other in the value of an expression; more
// where it cannot be told.
func typeDepth(e ast.Expr) int {
	deepest := func(parts ...ast.Expr) (depth int) {
		for _, part := range parts {
			depth = max(depth, typeDepth(part))
		}
		return depth
	}
	switch e.Kind() {
	case ast.ListKind:
		return 1 + deepest(e.AsList().Elements()...)
	case ast.MapKind:
		depth := 0
		for _, entry := range e.AsMap().Entries() {
			depth = max(depth, deepest(entry.AsMapEntry().Key(), entry.AsMapEntry().Value()))
		}
		return 1 + depth
	case ast.SelectKind:
		return typeDepth(e.AsSelect().Operand())
	case ast.CallKind:
		call := e.AsCall()
		depth := deepest(call.Args()...)
		if call.IsMemberFunction() {
			depth = max(depth, typeDepth(call.Target()))
		}
		return depth
	case ast.ComprehensionKind: // its variable may be as deep as what it goes through
		c := e.AsComprehension()
		return typeDepth(c.IterRange()) + deepest(c.AccuInit(), c.LoopCondition(), c.LoopStep(), c.Result())
	default:
		return 0
	}
}

// unknownField returns the mistake of an expression that asks for a field which no event has.
func unknownField(checked *cel.Ast) error {
	var mistake error
	native := checked.NativeRep()
	ast.PostOrderVisit(native.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		if mistake != nil || e.Kind() != ast.SelectKind {
			return
		}
		selected := e.AsSelect()
		of, name := selected.Operand(), selected.FieldName()
		if of.Kind() == ast.IdentKind && of.AsIdent() == "event" && !slices.Contains(eventFields(), name) {
			at := native.SourceInfo().GetStartLocation(e.ID())
			mistake = fmt.Errorf("%sevents have no field %q; they have %s", place(at.Line(), at.Column()), name, strings.Join(eventFields(), ", "))
		}
	}))
	return mistake
}

// Reason returns what may be told of an error of an evaluation where the event's content must not
// be shown: the kind of failure without the values in it.
func Reason(err error) string {
	for _, known := range []string{
		"no such key", "no such overload", "division by zero", "modulus by zero", "index out of bounds", "integer overflow",
		"unsigned integer overflow", "actual cost limit exceeded", "memory limit exceeded", "type conversion error", tooLarge,
		notJSON,
	} {
		if strings.Contains(err.Error(), known) {
			return known
		}
	}
	return "evaluation error"
}
