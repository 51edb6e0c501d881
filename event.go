package postrider

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"time"
)

// EventTypeTest is the type of the event that a webhook's test route sends.
const EventTypeTest = "webhook.test"

// MaxBatch is the most events that one batch may publish.
const MaxBatch = 500

// MaxDeliverAhead is how far in the future an event's deliver_at may lie.
const MaxDeliverAhead = 90 * 24 * time.Hour

// MaxTTLSeconds is the longest ttl_seconds of an event.
const MaxTTLSeconds = 30 * 24 * 3600

// Expired is the LastError of a delivery that was not made before its event expired.
const Expired = "expired"

// Event is something that happened in a platform, as the platform published it.
type Event struct {
	// Key is Postrider's own id of the event: evt_ and a time-ordered UUID. The database
	// stores the event by it.
	Key string
	// ID is the public id: the publisher's own if it gave one, else Key. It is unique in the
	// workspace, and receivers get it as webhook-id.
	ID          string
	WorkspaceID string
	Type        string
	PersonaID   *string
	Timestamp   time.Time  // when it happened, as the publisher says
	DeliverAt   *time.Time // when the first attempts are due; nil means at once
	ExpiresAt   *time.Time // no attempt begins at or after it; nil means never
	// WebhookID is the webhook that alone gets the event, whatever it subscribes to; nil sends
	// it to every webhook that matches.
	WebhookID *string
	// OrderingKey puts it in order with others of the same key, for the webhooks that want that.
	OrderingKey *string
	// Headers go with each of its requests, in place of the webhook's of the same name.
	Headers map[string]string
	// SchemaValid is false when it was found to break the schema of its type, which only warns; else nil.
	SchemaValid *bool
	Body        []byte    // the request body for receivers, see [RenderBody]
	CreatedAt   time.Time // when it was accepted
}

// eventIDRule does not allow full stops. Standard Webhooks joins id, timestamp and body by full
// stops before it signs them, so a full stop in an id would make the signed text ambiguous.
var eventIDRule = regexp.MustCompile(`^[A-Za-z0-9_:-]{1,128}$`)

// ValidEventID reports whether s can be a publisher's own event id: 1 to 128
// letters, digits, underscores, colons and hyphens.
func ValidEventID(s string) bool { return eventIDRule.MatchString(s) }

// RenderBody returns the request body that receivers get for an event. It is rendered once,
// when the event is published, so that every attempt sends and signs the same bytes.
//
// data must be valid JSON without white space, as [json.Compact] returns it. It is copied
// unchanged, with its spelling of numbers and its order of keys. RenderBody returns an error
// when RFC 3339 cannot represent the timestamp.
func RenderBody(e Event, data json.RawMessage) ([]byte, error) {
	b := make([]byte, 0, len(data)+len(e.ID)+len(e.Type)+bodyFrame)
	b = AppendJSONText(append(b, `{"id":`...), e.ID)
	b = AppendJSONText(append(b, `,"type":`...), e.Type)
	b, err := e.Timestamp.AppendText(append(b, `,"timestamp":"`...))
	if err != nil {
		return nil, err
	}
	b = append(b, `","persona_id":`...)
	if e.PersonaID == nil {
		b = append(b, "null"...)
	} else {
		b = AppendJSONText(b, *e.PersonaID)
	}
	b = append(append(b, `,"data":`...), data...)
	return append(b, '}'), nil
}

// bodyFrame is about the size of a body without its data, id and type.
const bodyFrame = 192

// AppendJSONText appends s as a JSON string. It escapes only what JSON requires.
func AppendJSONText(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c > 0x7e || c == '"' || c == '\\' {
			return appendEscaped(b, s)
		}
	}
	b = append(append(b, '"'), s...)
	return append(b, '"')
}

// appendEscaped appends a string that has characters to escape.
func appendEscaped(b []byte, s string) []byte {
	text := bytes.NewBuffer(b)
	encoder := json.NewEncoder(text)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(s) // a string in memory always encodes
	return bytes.TrimSuffix(text.Bytes(), []byte("\n"))
}

// Publication is one publish request. Either all of its events are accepted, or no event is.
type Publication struct {
	WorkspaceID string
	// IdempotencyKey lets the publisher repeat the request safely. With "", only events that
	// have their publisher's own id can be repeated.
	IdempotencyKey string
	Events         []PublishedEvent
	// TraceContext is the W3C trace context of a traced publish, as package tracing writes
	// it; "" for a publish that is not traced.
	TraceContext string
	// Audit is stored with the publication; nil for a publish, which the audit log leaves out.
	Audit *AuditEntry
}

// PublishedEvent is an event of a publication. RequestHash is the hash of its part of the
// request: a repeated request has the same hash, another request with the same key or id has
// not. It is unused for an event without an id of its own in a publication without a key.
type PublishedEvent struct {
	Event
	RequestHash string
}

// EventError is what is wrong with one event of a publication: an error of [CodeInvalid] with
// fields of that event.
type EventError struct {
	Index int // of the event in the publication
	Err   error
}

// Error returns which event it is about, and what is wrong.
func (e *EventError) Error() string { return fmt.Sprintf("event %d: %v", e.Index, e.Err) }

// Unwrap returns what is wrong.
func (e *EventError) Unwrap() error { return e.Err }

// Receipt is the answer to one published event. When the publication is repeated, only
// Duplicate differs.
type Receipt struct {
	ID         string `json:"id"` // public id
	Type       string `json:"type"`
	Deliveries int    `json:"deliveries"` // one for each matching webhook
	Parked     int    `json:"parked"`     // those whose webhook is not active
	// DeliveryIDs are the deliveries; none where they are so many that they are made later.
	DeliveryIDs []string `json:"delivery_ids"`
	Duplicate   bool     `json:"-"` // the event was accepted earlier; nothing is sent again
	Remarks
}

// Remarks are what the catalogue has to say of an event that was accepted.
type Remarks struct {
	SchemaErrors []string `json:"schema_errors,omitempty"` // how it breaks the schema of its type, which only warns
	Deprecated   bool     `json:"deprecated,omitempty"`    // its type is
	ReplacedBy   *string  `json:"replaced_by,omitempty"`   // the type that takes the place of a deprecated one
}

// EventFilter selects events for a list. A zero field selects all.
type EventFilter struct {
	Type  string
	Since time.Time // accepted at or after
	Until time.Time // accepted before
}
