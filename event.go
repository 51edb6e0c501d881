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
// signature over them can be checked. Data keeps its own spelling of numbers and
// order of keys; only white space goes. It returns an error when data is not
// valid JSON.
func RenderBody(e Event, data json.RawMessage) ([]byte, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(struct {
		ID        string          `json:"id"`
		Type      string          `json:"type"`
		Timestamp time.Time       `json:"timestamp"`
		PersonaID *string         `json:"persona_id"`
		Data      json.RawMessage `json:"data"`
	}{e.ID, e.Type, e.Timestamp, e.PersonaID, data})
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
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
// for, by which a repeated request is told from a different one.
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
