package postrider

import (
	"bytes"
	"encoding/json"
	"regexp"
	"time"
)

// EventTypeTest is the type of the event that a webhook's test route sends.
const EventTypeTest = "webhook.test"

// MaxBatch is the most events that one batch may publish.
const MaxBatch = 500

// MaxDeliverAhead is how far in the future an event's deliver_at may lie.
const MaxDeliverAhead = 30 * 24 * time.Hour

// Event is something that happened in the platform, as it was published.
type Event struct {
	// Key is Postrider's own id of the event, evt_ and time-ordered: what it is
	// stored by.
	Key string
	// ID is the public id: the publisher's own where one was given, else Key. It
	// is unique inside the workspace, and receivers get it as webhook-id.
	ID          string
	WorkspaceID string
	Type        string
	PersonaID   *string
	Timestamp   time.Time  // when it happened, by the publisher's word
	DeliverAt   *time.Time // nil: at once
	Body        []byte     // what receivers get, see [RenderBody]
	CreatedAt   time.Time  // when it was accepted
}

// eventIDRule leaves the full stop out: Standard Webhooks joins id, timestamp and
// body by full stops, so one inside the id would make the signed text ambiguous.
var eventIDRule = regexp.MustCompile(`^[A-Za-z0-9_:-]{1,128}$`)

// ValidEventID reports whether s can be a publisher's own event id: 1 to 128
// letters, digits, underscores, colons and hyphens.
func ValidEventID(s string) bool { return eventIDRule.MatchString(s) }

// RenderBody returns the bytes that receivers get for an event: they are made
// once, when it is published, so that every attempt sends the same and a
// signature over them can be checked. Data must be valid JSON without white space,
// as [json.Compact] leaves it, and goes in as it is: with its own spelling of
// numbers and order of keys. It returns an error when the timestamp is none of
// RFC 3339's.
func RenderBody(e Event, data json.RawMessage) ([]byte, error) {
	b := make([]byte, 0, len(data)+len(e.ID)+len(e.Type)+bodyFrame)
	b = appendText(append(b, `{"id":`...), e.ID)
	b = appendText(append(b, `,"type":`...), e.Type)
	b, err := e.Timestamp.AppendText(append(b, `,"timestamp":"`...))
	if err != nil {
		return nil, err
	}
	b = append(b, `","persona_id":`...)
	if e.PersonaID == nil {
		b = append(b, "null"...)
	} else {
		b = appendText(b, *e.PersonaID)
	}
	b = append(append(b, `,"data":`...), data...)
	return append(b, '}'), nil
}

// bodyFrame is about what a body has beside its data, id and type.
const bodyFrame = 192

// appendText appends s as a JSON string. Nothing is escaped that need not be.
func appendText(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c > 0x7e || c == '"' || c == '\\' {
			return appendEscaped(b, s)
		}
	}
	b = append(append(b, '"'), s...)
	return append(b, '"')
}

func appendEscaped(b []byte, s string) []byte {
	text := bytes.NewBuffer(b)
	encoder := json.NewEncoder(text)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(s) // a string in memory cannot fail
	return bytes.TrimSuffix(text.Bytes(), []byte("\n"))
}

// Publication is one publish request: its events are accepted all or none.
type Publication struct {
	WorkspaceID string
	// IdempotencyKey makes the request repeatable; "" means it is not, but for
	// events that carry their publisher's own id.
	IdempotencyKey string
	Events         []PublishedEvent
	// OnlyWebhookID sends the events to this webhook alone, whatever it subscribes
	// to; "" means to every webhook that matches.
	OnlyWebhookID string
	// TraceContext is the W3C trace context of the publish where that is traced, as
	// package traces writes it; "" where it is not.
	TraceContext string
}

// PublishedEvent is an event of a publication with the hash of what was asked
// for, by which a repeated request is told from a different one. Nobody looks at
// the hash of an event without an id of its own in a publication without a key.
type PublishedEvent struct {
	Event
	RequestHash string
}

// Receipt says what became of one published event. It is the same when the
// publication is repeated, but for Duplicate.
type Receipt struct {
	ID          string   `json:"id"` // public id
	Type        string   `json:"type"`
	DeliveryIDs []string `json:"delivery_ids"` // one a webhook
	Duplicate   bool     `json:"-"`            // accepted earlier; nothing was sent again
}

// EventFilter narrows a list of events; a zero field does not.
type EventFilter struct {
	Type  string
	Since time.Time // accepted at or after
	Until time.Time // accepted before
}
