package api

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"time"

	"postrider.dev/postrider"
)

// publishEvent is the body of a publish request. Times stay text, because the hash of a
// request is that of the text that was sent.
type publishEvent struct {
	Type      string          `json:"type" maxLength:"128" pattern:"^[A-Za-z0-9_]+(\\.[A-Za-z0-9_]+)*$" patternDescription:"an event type: words of letters, digits and underscores, joined by dots" doc:"Not one that begins with postrider., which are the engine's own." example:"call.ended"`
	Data      json.RawMessage `json:"data" doc:"Any JSON, null too. Receivers get it as it was sent, but for white space."`
	ID        *string         `json:"id,omitempty" nullable:"true" pattern:"^[A-Za-z0-9_:-]{1,128}$" patternDescription:"1 to 128 letters, digits, underscores, colons and hyphens" doc:"The publisher's own id, unique in the workspace: publishing it again sends nothing. One is made when it is left out."`
	PersonaID *string         `json:"persona_id,omitempty" nullable:"true" minLength:"1" maxLength:"1024" doc:"Selects persona-scoped webhooks; global ones get every event. At most 2,048 bytes in UTF-8."`
	Timestamp *string         `json:"timestamp,omitempty" nullable:"true" format:"date-time" doc:"When it happened (RFC 3339); now when left out."`
	DeliverAt *string         `json:"deliver_at,omitempty" nullable:"true" format:"date-time" doc:"When to deliver it (RFC 3339), at most 90 days ahead; at once when left out or past."`

	TTLSeconds  *int              `json:"ttl_seconds,omitempty" nullable:"true" minimum:"1" maximum:"2592000" doc:"For how long after it was accepted it is worth delivering. No request is made after that: what is not delivered by then fails with last_error expired, at once when the next retry would come too late. deliver_at must be earlier. Never when left out."`
	Headers     map[string]string `json:"headers,omitempty" nullable:"true" maxProperties:"32" doc:"Headers added to the requests of this event, under the rules of a webhook's headers. They replace the webhook's of the same name. They are encrypted at rest."`
	OrderingKey *string           `json:"ordering_key,omitempty" nullable:"true" minLength:"1" maxLength:"256" doc:"Webhooks with the ordering key get events with the same one in the order in which they were accepted, one at a time."`
	WebhookID   *string           `json:"webhook_id,omitempty" nullable:"true" minLength:"1" maxLength:"128" doc:"Sends it to this webhook alone, whatever events that subscribes to; parked where that is paused or disabled. A webhook of a persona gets no event of another persona, and may get one without."`
}

// publishBatch is the body of a batch request.
type publishBatch struct {
	Events []publishEvent `json:"events" minItems:"1" maxItems:"500" nullable:"false"`
}

// Receipt is the answer about a published event.
type Receipt struct {
	ID         string `json:"id" doc:"Id of the event; receivers get it as webhook-id." example:"evt_019a8f3c5b7e7c3a9d2e4f6081a2b3c4"`
	Type       string `json:"type" example:"call.ended"`
	Deliveries int    `json:"deliveries" doc:"How many webhooks it goes to."`
	Parked     int    `json:"parked" doc:"How many of these wait because their webhook is paused or disabled."`
	Duplicate  bool   `json:"duplicate" doc:"It was accepted earlier; nothing was sent again."`

	SchemaErrors []string `json:"schema_errors,omitempty" nullable:"false" doc:"How it breaks the schema of its type, where that only warns; left out otherwise." example:"[\"data.amount must be of type number\"]"`
	Deprecated   bool     `json:"deprecated,omitempty" doc:"Whether its type is deprecated; left out when not."`
	ReplacedBy   *string  `json:"replaced_by,omitempty" doc:"What to publish instead of a deprecated type; left out where the catalogue does not say." example:"call.finished"`
}

// receipts are the answer to a batch, in the order of its events.
type receipts struct {
	Data []Receipt `json:"data" nullable:"false"`
}

// Event is an event in a list.
type Event struct {
	ID          string     `json:"id"`
	Type        string     `json:"type"`
	PersonaID   *string    `json:"persona_id"`
	Timestamp   time.Time  `json:"timestamp" doc:"When it happened, by the publisher's word."`
	DeliverAt   *time.Time `json:"deliver_at" doc:"When it was to be delivered; null for at once."`
	ExpiresAt   *time.Time `json:"expires_at" doc:"No request of it is made from then on; null for never."`
	WebhookID   *string    `json:"webhook_id" doc:"The webhook that alone gets it; null for all that subscribe to it."`
	OrderingKey *string    `json:"ordering_key" doc:"Of those with the same one, webhooks with the ordering key get one at a time; null without one."`
	CreatedAt   time.Time  `json:"created_at" doc:"When it was accepted."`

	SchemaValid *bool `json:"schema_valid" doc:"false when it breaks the schema of its type, which only warned; null when nothing is known against it."`
}

// eventWithData is the answer about one event.
type eventWithData struct {
	Event
	Headers map[string]string `json:"headers" nullable:"false" doc:"Its own request headers. Their values are shown to keys with the scope manage; to others each is ***."`
	Data    json.RawMessage   `json:"data" doc:"As it was published, but for white space."`
}

func showReceipt(r postrider.Receipt) Receipt {
	return Receipt{
		ID: r.ID, Type: r.Type, Deliveries: r.Deliveries, Parked: r.Parked, Duplicate: r.Duplicate,
		SchemaErrors: r.SchemaErrors, Deprecated: r.Deprecated, ReplacedBy: r.ReplacedBy,
	}
}

func showEvent(e postrider.Event) Event {
	return Event{
		ID: e.ID, Type: e.Type, PersonaID: e.PersonaID,
		Timestamp: e.Timestamp, DeliverAt: e.DeliverAt, ExpiresAt: e.ExpiresAt, WebhookID: e.WebhookID, OrderingKey: e.OrderingKey,
		CreatedAt: e.CreatedAt, SchemaValid: e.SchemaValid,
	}
}

// showEventWithData takes the data from the body that receivers get.
func showEventWithData(ctx context.Context, e postrider.Event) (eventWithData, error) {
	var rendered struct {
		Data json.RawMessage `json:"data"`
	}
	err := json.Unmarshal(e.Body, &rendered)
	return eventWithData{Event: showEvent(e), Headers: showHeaders(ctx, e.Headers), Data: rendered.Data}, err
}

// hash returns the hex SHA-256 of the request, whose data must be compact. Two requests have
// the same hash if every field is the same; a field that is left out is the same as null. Stored
// hashes are compared with it for as long as idempotency keys are kept, so a field that came later
// adds nothing where it is left out, and its name where it is given.
func (p publishEvent) hash() string {
	h := sha256.New()
	var length [8]byte
	write := func(field []byte) {
		// The length before each field keeps two different lists of fields from becoming the
		// same bytes.
		binary.BigEndian.PutUint64(length[:], uint64(len(field)))
		h.Write(length[:])
		h.Write(field)
	}
	write([]byte(p.Type))
	write(p.Data)
	for _, optional := range []*string{p.ID, p.PersonaID, p.Timestamp, p.DeliverAt} {
		if optional == nil {
			h.Write([]byte{0})
			continue
		}
		h.Write([]byte{1})
		write([]byte(*optional))
	}
	later := func(name, value string) {
		write([]byte(name))
		write([]byte(value))
	}
	if p.TTLSeconds != nil {
		later("ttl_seconds", strconv.Itoa(*p.TTLSeconds))
	}
	if p.WebhookID != nil {
		later("webhook_id", *p.WebhookID)
	}
	if p.OrderingKey != nil {
		later("ordering_key", *p.OrderingKey)
	}
	for _, name := range slices.Sorted(maps.Keys(p.Headers)) {
		later("headers."+name, p.Headers[name])
	}
	return hex.EncodeToString(h.Sum(nil))
}
