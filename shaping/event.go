package shaping

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
)

// Event is an event as expressions see it.
type Event struct {
	variables map[string]any
	// spelled are the numbers of the event that a double stands for, by that double: rendered
	// again they are spelled as the publisher did, and keep digits that a double has not. A
	// double that stands for different numbers is spelled "".
	spelled map[float64]string
}

// envelope is the body that receivers get of an event, see [postrider.RenderBody].
type envelope struct {
	ID        string          `json:"id"`
	Type      string          `json:"type"`
	Timestamp time.Time       `json:"timestamp"`
	PersonaID *string         `json:"persona_id"`
	Data      json.RawMessage `json:"data"`
}

// eventFields returns the names of the fields that expressions may ask for.
func eventFields() []string { return []string{"id", "type", "persona_id", "timestamp", "data"} }

// NewEvent returns the event with the body, as [postrider.RenderBody] renders it.
func NewEvent(body []byte) (*Event, error) {
	var in envelope
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, err
	}
	decoder := json.NewDecoder(bytes.NewReader(in.Data))
	decoder.UseNumber()
	var data any
	if err := decoder.Decode(&data); err != nil {
		return nil, err
	}
	e := &Event{spelled: map[float64]string{}}
	fields := map[string]any{
		"id": types.String(in.ID), "type": types.String(in.Type), "persona_id": types.NullValue,
		"timestamp": types.Timestamp{Time: in.Timestamp}, "data": e.valueOf(data),
	}
	if in.PersonaID != nil {
		fields["persona_id"] = types.String(*in.PersonaID)
	}
	e.variables = map[string]any{"event": types.NewStringInterfaceMap(types.DefaultTypeAdapter, fields)}
	return e, nil
}

// valueOf returns the value of JSON that was decoded with its numbers as they are spelled.
func (e *Event) valueOf(decoded any) ref.Val {
	switch v := decoded.(type) {
	case map[string]any:
		for name, field := range v {
			v[name] = e.valueOf(field)
		}
		return types.NewStringInterfaceMap(types.DefaultTypeAdapter, v)
	case []any:
		values := make([]ref.Val, len(v))
		for i, element := range v {
			values[i] = e.valueOf(element)
		}
		return types.NewRefValList(types.DefaultTypeAdapter, values)
	case json.Number:
		return e.number(v.String())
	case string:
		return types.String(v)
	case bool:
		return types.Bool(v)
	default:
		return types.NullValue
	}
}

// number returns an integer of up to 64 bits as it is, and any other number as the nearest
// double, whose spelling is remembered.
func (e *Event) number(text string) ref.Val {
	if !strings.ContainsAny(text, ".eE") && text != "-0" {
		if signed, err := strconv.ParseInt(text, 10, 64); err == nil {
			return types.Int(signed)
		}
		if unsigned, err := strconv.ParseUint(text, 10, 64); err == nil {
			return types.Uint(unsigned)
		}
	}
	double, _ := strconv.ParseFloat(text, 64) // beyond its range it is an infinity
	if other, known := e.spelled[double]; known && other != text {
		text = ""
	}
	e.spelled[double] = text
	return types.Double(double)
}
