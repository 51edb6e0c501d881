package postrider

import (
	"encoding/json"
	"fmt"
	"time"
	"unicode/utf8"
)

// Enforcement is what the schema of an event type does to an event that does not keep to it.
type Enforcement string

// The enforcements.
const (
	EnforceOff  Enforcement = "off"     // nothing: it is documentation
	EnforceWarn Enforcement = "warn"    // the event is accepted, marked and counted
	EnforceAll  Enforcement = "enforce" // the event is refused
)

// Bounds of an event type.
const (
	MaxSchemaBytes = 64 << 10
	MaxEventTypes  = 1000 // of a workspace
)

// EventType is an entry of a workspace's catalogue: what its publishers may send, for people and, by its
// schema, for this server.
type EventType struct {
	ID          string // orders lists, and is shown as nothing but that
	WorkspaceID string
	Type        string
	EventTypeSettings
	CreatedAt time.Time
	UpdatedAt time.Time
}

// EventTypeSettings are the fields of an event type that can be changed.
type EventTypeSettings struct {
	Description *string         `json:"description" db:"description" nullable:"true" maxLength:"1024" doc:"For people: when it happens, what its data means."`
	Schema      json.RawMessage `json:"schema" db:"schema" doc:"A JSON Schema (2020-12) of data, of up to 64 KiB and 2,000 values, as an object. It may refer to places in itself, and to no other document. Numbers are compared as they are written; format is an annotation."`
	Example     json.RawMessage `json:"example" db:"example" doc:"Data of such an event, up to 64 KiB. It must keep to the schema. A webhook's test can send it."`
	Enforcement Enforcement     `json:"enforcement" db:"enforcement" enum:"off,warn,enforce" doc:"What the schema does to an event that does not keep to it. off: nothing; warn: the event is accepted, counted and marked as schema_valid: false; enforce: the publish is refused (422), with all of its batch."`
	Deprecated  bool            `json:"deprecated" db:"deprecated" doc:"The answer to a publish of such an event warns. The event is accepted."`
	ReplacedBy  *string         `json:"replaced_by" db:"replaced_by" nullable:"true" maxLength:"128" pattern:"^[A-Za-z0-9_]+(\\.[A-Za-z0-9_]+)*$" patternDescription:"an event type" doc:"What to publish instead, of a deprecated type." example:"call.finished"`
}

// Validate returns the rules that the event type breaks, in the order of its fields. Whether its schema is one,
// and whether its example keeps to it, is the task of package catalogue.
func (e *EventType) Validate() []FieldError {
	var broken []FieldError
	add := func(field, message string, value any) {
		broken = append(broken, FieldError{Field: field, Message: message, Value: value})
	}
	switch {
	case !ValidEventType(e.Type):
		add("type", "must be an event type, as call.ended, of at most 128 characters", e.Type)
	case e.Type == EventTypeTest || Operational(e.Type):
		add("type", "must be no type that Postrider publishes itself", e.Type)
	}
	if e.Description != nil && utf8.RuneCountInString(*e.Description) > MaxTextLength {
		add("description", fmt.Sprintf("must have at most %d characters", MaxTextLength), *e.Description)
	}
	if len(e.Example) > MaxSchemaBytes {
		add("example", fmt.Sprintf("must have at most %d bytes", MaxSchemaBytes), nil)
	}
	switch e.Enforcement {
	case EnforceOff:
	case EnforceWarn, EnforceAll:
		if e.Schema == nil {
			add("enforcement", "must be off without a schema", e.Enforcement)
		}
	default:
		add("enforcement", "must be off, warn or enforce", e.Enforcement)
	}
	return append(broken, e.checkReplacement()...)
}

func (e *EventType) checkReplacement() []FieldError {
	if e.ReplacedBy == nil {
		return nil
	}
	var message string
	switch {
	case !ValidEventType(*e.ReplacedBy):
		message = "must be an event type, as call.ended, of at most 128 characters"
	case !e.Deprecated:
		message = "goes with deprecated: true only"
	case *e.ReplacedBy == e.Type:
		message = "must be another type"
	default:
		return nil
	}
	return []FieldError{{Field: "replaced_by", Message: message, Value: *e.ReplacedBy}}
}
