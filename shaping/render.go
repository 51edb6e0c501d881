package shaping

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strconv"
	"time"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"

	"postrider.dev/postrider"
)

// The reasons why a value has no JSON text.
const (
	tooLarge = "the result is larger than 256 KiB"
	notJSON  = "the result cannot be JSON"
)

// renderer appends JSON until it is too large. Parts of a value may be shared, so that the text
// of a small value may be without bounds.
type renderer struct {
	event *Event
	text  []byte
	depth int
}

// maxDepth is how deep lists and maps may be in each other.
const maxDepth = 100

// render returns a value as JSON, with the keys of maps in order.
func render(value ref.Val, e *Event) ([]byte, error) {
	r := renderer{event: e}
	err := r.value(value)
	return r.text, err
}

func (r *renderer) value(v ref.Val) error {
	if len(r.text) > postrider.MaxBodyBytes {
		return errors.New(tooLarge)
	}
	switch v := v.(type) {
	case types.Null:
		r.text = append(r.text, "null"...)
	case types.Bool:
		r.text = strconv.AppendBool(r.text, bool(v))
	case types.Int:
		r.text = strconv.AppendInt(r.text, int64(v), 10)
	case types.Uint:
		r.text = strconv.AppendUint(r.text, uint64(v), 10)
	case types.Double:
		return r.double(float64(v))
	case types.String:
		r.text = postrider.AppendJSONText(r.text, string(v))
	case types.Bytes:
		r.text = postrider.AppendJSONText(r.text, base64.StdEncoding.EncodeToString(v))
	case types.Timestamp:
		r.text = postrider.AppendJSONText(r.text, v.UTC().Format(time.RFC3339Nano))
	case types.Duration:
		r.text = postrider.AppendJSONText(r.text, strconv.FormatFloat(v.Seconds(), 'f', -1, 64)+"s")
	case *types.Optional:
		if v.HasValue() {
			return r.value(v.GetValue())
		}
		r.text = append(r.text, "null"...)
	case traits.Mapper:
		return r.nested(func() error { return r.mapping(v) })
	case traits.Lister:
		return r.nested(func() error { return r.list(v) })
	default:
		return errors.New(notJSON)
	}
	if len(r.text) > postrider.MaxBodyBytes {
		return errors.New(tooLarge)
	}
	return nil
}

func (r *renderer) nested(inner func() error) error {
	if r.depth++; r.depth > maxDepth {
		return errors.New(tooLarge)
	}
	err := inner()
	r.depth--
	return err
}

// double appends a double, as the event spelled it where it is one of the event's.
func (r *renderer) double(d float64) error {
	if spelled := r.event.spelled[d]; spelled != "" {
		r.text = append(r.text, spelled...)
		return nil
	}
	if math.IsNaN(d) || math.IsInf(d, 0) {
		return errors.New(notJSON)
	}
	text, err := json.Marshal(d)
	r.text = append(r.text, text...)
	return err
}

func (r *renderer) list(list traits.Lister) error {
	r.text = append(r.text, '[')
	for i, elements := 0, list.Iterator(); elements.HasNext() == types.True; i++ {
		if i > 0 {
			r.text = append(r.text, ',')
		}
		if err := r.value(elements.Next()); err != nil {
			return err
		}
	}
	r.text = append(r.text, ']')
	return nil
}

func (r *renderer) mapping(m traits.Mapper) error {
	var keys []string
	for all := m.Iterator(); all.HasNext() == types.True; {
		key, isText := all.Next().(types.String)
		if !isText {
			return errors.New(notJSON + ": its keys must be strings")
		}
		keys = append(keys, string(key))
	}
	slices.Sort(keys)
	r.text = append(r.text, '{')
	for i, key := range keys {
		if i > 0 {
			r.text = append(r.text, ',')
		}
		r.text = append(postrider.AppendJSONText(r.text, key), ':')
		if err := r.value(m.Get(types.String(key))); err != nil {
			return err
		}
	}
	r.text = append(r.text, '}')
	return nil
}
