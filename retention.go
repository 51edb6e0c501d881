package postrider

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
