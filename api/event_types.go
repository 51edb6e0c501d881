package api

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"time"

	"postrider.dev/postrider"
)

// publishEvent is the body of a publish request. Times stay text, because the hash of a
// request is that of the text that was sent.
type publishEvent struct {
	Type      string          `json:"type" maxLength:"128" pattern:"^[A-Za-z0-9_]+(\\.[A-Za-z0-9_]+)*$" patternDescription:"an event type: words of letters, digits and underscores, joined by dots" example:"call.ended"`
	Data      json.RawMessage `json:"data" doc:"Any JSON, null too. Receivers get it as it was sent, but for white space."`
	ID        *string         `json:"id,omitempty" nullable:"true" pattern:"^[A-Za-z0-9_:-]{1,128}$" patternDescription:"1 to 128 letters, digits, underscores, colons and hyphens" doc:"The publisher's own id, unique in the workspace: publishing it again sends nothing. One is made when it is left out."`
	PersonaID *string         `json:"persona_id,omitempty" nullable:"true" minLength:"1" maxLength:"1024" doc:"Selects persona-scoped webhooks; global ones get every event. At most 2,048 bytes in UTF-8."`
	Timestamp *string         `json:"timestamp,omitempty" nullable:"true" format:"date-time" doc:"When it happened (RFC 3339); now when left out."`
	DeliverAt *string         `json:"deliver_at,omitempty" nullable:"true" format:"date-time" doc:"When to deliver it (RFC 3339), at most 90 days ahead; at once when left out or past."`
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
}

// receipts are the answer to a batch, in the order of its events.
type receipts struct {
	Data []Receipt `json:"data" nullable:"false"`
}

// Event is an event in a list.
type Event struct {
	ID        string     `json:"id"`
	Type      string     `json:"type"`
	PersonaID *string    `json:"persona_id"`
	Timestamp time.Time  `json:"timestamp" doc:"When it happened, by the publisher's word."`
	DeliverAt *time.Time `json:"deliver_at" doc:"When it was to be delivered; null for at once."`
	CreatedAt time.Time  `json:"created_at" doc:"When it was accepted."`
}

// eventWithData is the answer about one event.
type eventWithData struct {
	Event
	Data json.RawMessage `json:"data" doc:"As it was published, but for white space."`
}

func showReceipt(r postrider.Receipt) Receipt {
	return Receipt{ID: r.ID, Type: r.Type, Deliveries: r.Deliveries, Parked: r.Parked, Duplicate: r.Duplicate}
}

func showEvent(e postrider.Event) Event {
	return Event{
		ID: e.ID, Type: e.Type, PersonaID: e.PersonaID,
		Timestamp: e.Timestamp, DeliverAt: e.DeliverAt, CreatedAt: e.CreatedAt,
	}
}

// showEventWithData takes the data from the body that receivers get.
func showEventWithData(e postrider.Event) (eventWithData, error) {
	var rendered struct {
		Data json.RawMessage `json:"data"`
	}
	err := json.Unmarshal(e.Body, &rendered)
	return eventWithData{Event: showEvent(e), Data: rendered.Data}, err
}

// hash returns the hex SHA-256 of the request, whose data must be compact. Two requests have
// the same hash if every field is the same; a field that is left out is the same as null.
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
	return hex.EncodeToString(h.Sum(nil))
}
