package postrider

import "time"

// Limits of a list's page.
const (
	DefaultPageSize = 50
	MaxPageSize     = 200
)

// Page asks for a part of a list, newest first.
type Page struct {
	Limit int    // 1 to [MaxPageSize]
	After string // id of the last item of the page before; "" for the first page
}

// List is a part of a list, newest first.
type List[T any] struct {
	Items []T
	Next  string // [Page.After] of the next page; "" on the last
}

// WebhookFilter narrows a list of webhooks; a zero field does not.
type WebhookFilter struct {
	Event     string // an event type: webhooks that subscribe to it; or a pattern, as stored
	Status    WebhookStatus
	PersonaID string
}

// EventFilter narrows a list of events; a zero field does not.
type EventFilter struct {
	Type  string
	Since time.Time // accepted at or after
	Until time.Time // accepted before
}

// DeliveryFilter narrows a list of deliveries; a zero field does not. At least
// one of WebhookID and EventID is set.
type DeliveryFilter struct {
	WebhookID string
	EventID   string // public id
	State     DeliveryState
	EventType string
	Since     time.Time // created at or after
	Until     time.Time // created before
}

// WebhookEdit is a webhook about to be stored with other settings.
type WebhookEdit struct {
	Webhook *Webhook
	// Secret is the current secret, "" when there is none.
	Secret string
	// NewSecret replaces the current secret at once when it is not "".
	NewSecret string
}

// Secret is a webhook's signing secret, revealed.
type Secret struct {
	ID        string
	Value     string
	CreatedAt time.Time
	Previous  []PreviousSecret // replaced ones that still sign, newest first
}

// PreviousSecret is a replaced secret in its grace period.
type PreviousSecret struct {
	CreatedAt time.Time `json:"created_at"`
	ExpiresAt time.Time `json:"expires_at"`
}

// Backlog is what waits to be handed to a workflow and is due.
type Backlog struct {
	Pending  int64
	OldestAt *time.Time // when the oldest became due; nil when nothing waits
}

// Removed is what a retention run removed, and what it had to keep.
type Removed struct {
	Days            []string `json:"days,omitempty"` // as 2026-08-03, dropped as a whole
	Deliveries      int64    `json:"deliveries"`     // one by one
	Events          int64    `json:"events"`
	IdempotencyKeys int64    `json:"idempotency_keys"`
	// Unfinished days are past their retention and kept, for deliveries that are not
	// finished: parked ones, of a webhook that is paused or disabled.
	Unfinished []string `json:"unfinished,omitempty"`
}
