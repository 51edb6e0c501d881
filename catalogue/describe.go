package catalogue

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"

	"postrider.dev/postrider"
)

// maxBroken is how many broken rules are told of one event.
const maxBroken = 10

// describe returns the rules that a value breaks, with their places under the name, in the order of the places.
func describe(name string, value any, broken *jsonschema.ValidationError) []postrider.FieldError {
	var all []postrider.FieldError
	for _, leaf := range leaves(broken, nil) {
		place := name + pathTo(value, leaf.InstanceLocation)
		switch k := leaf.ErrorKind.(type) {
		case *kind.Required:
			for _, missing := range k.Missing {
				all = append(all, postrider.FieldError{Field: place + "." + missing, Message: "is required"})
			}
		case *kind.AdditionalProperties:
			for _, extra := range k.Properties {
				all = append(all, postrider.FieldError{Field: place + "." + extra, Message: "is no property that the schema allows"})
			}
		default:
			all = append(all, postrider.FieldError{Field: place, Message: ruleOf(k)})
		}
	}
	slices.SortFunc(all, func(a, b postrider.FieldError) int {
		return cmp.Or(strings.Compare(a.Field, b.Field), strings.Compare(a.Message, b.Message))
	})
	all = slices.CompactFunc(all, func(a, b postrider.FieldError) bool { return a.Field == b.Field && a.Message == b.Message })
	return all[:min(len(all), maxBroken)]
}

// leaves appends the innermost errors. Of alternatives none is the one that was meant, so they are one error.
func leaves(e *jsonschema.ValidationError, all []*jsonschema.ValidationError) []*jsonschema.ValidationError {
	switch e.ErrorKind.(type) {
	case *kind.AnyOf, *kind.OneOf, *kind.PropertyNames:
		return append(all, e)
	}
	if len(e.Causes) == 0 {
		return append(all, e)
	}
	for _, cause := range e.Causes {
		all = leaves(cause, all)
	}
	return all
}

// pathTo returns where in a value the tokens lead, as .lines[0].amount.
func pathTo(value any, tokens []string) string {
	var path strings.Builder
	for _, token := range tokens {
		items, isList := value.([]any)
		if i, err := strconv.Atoi(token); isList && err == nil && i < len(items) {
			path.WriteString("[" + token + "]")
			value = items[i]
			continue
		}
		path.WriteString("." + token)
		fields, _ := value.(map[string]any)
		value = fields[token]
	}
	return path.String()
}

// ruleOf says which rule was broken. It has values of the schema, and none of the data.
func ruleOf(k jsonschema.ErrorKind) string { //nolint:cyclop // a table
	switch k := k.(type) {
	case *kind.Type:
		return "must be of type " + strings.Join(k.Want, " or ")
	case *kind.Enum:
		return "must be one of " + listOf(k.Want)
	case *kind.Const:
		return "must be " + jsonOf(k.Want)
	case *kind.Pattern:
		return "must match the pattern " + bounded(k.Want)
	case *kind.Minimum:
		return "must be at least " + number(k.Want)
	case *kind.Maximum:
		return "must be at most " + number(k.Want)
	case *kind.ExclusiveMinimum:
		return "must be more than " + number(k.Want)
	case *kind.ExclusiveMaximum:
		return "must be less than " + number(k.Want)
	case *kind.MultipleOf:
		return "must be a multiple of " + number(k.Want)
	case *kind.MinLength:
		return fmt.Sprintf("must have at least %d characters", k.Want)
	case *kind.MaxLength:
		return fmt.Sprintf("must have at most %d characters", k.Want)
	case *kind.MinItems:
		return fmt.Sprintf("must have at least %d items", k.Want)
	case *kind.MaxItems:
		return fmt.Sprintf("must have at most %d items", k.Want)
	case *kind.Format: // of a schema: formats of data are annotations
		return "is no valid " + k.Want + ": " + bounded(k.Err.Error())
	default:
		return "does not keep to " + strings.Join(append([]string{"the schema"}, k.KeywordPath()...), "'s ")
	}
}

// number writes a number of a schema as exactly as a decimal fraction can, without zeros at its end.
func number(n *big.Rat) string {
	if n.IsInt() {
		return bounded(n.Num().String())
	}
	digits, _ := n.FloatPrec()
	return bounded(n.FloatString(digits))
}

func jsonOf(value any) string {
	text, err := json.Marshal(value)
	if err != nil {
		return "as the schema says"
	}
	return bounded(string(text))
}

func listOf(values []any) string {
	texts := make([]string, 0, len(values))
	for _, value := range values {
		texts = append(texts, jsonOf(value))
	}
	return bounded(strings.Join(texts, ", "))
}

// bounded cuts what a schema says to what a message has room for.
func bounded(text string) string {
	const most = 200
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}
