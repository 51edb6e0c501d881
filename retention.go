package postrider

// Removed is the data that a retention run removed, and the days that it had to keep.
type Removed struct {
	Days            []string `json:"days,omitempty"` // days such as 2026-08-03, removed as a whole
	Deliveries      int64    `json:"deliveries"`     // removed one by one
	Events          int64    `json:"events"`
	IdempotencyKeys int64    `json:"idempotency_keys"`
	// Parked deliveries failed because they had waited for a webhook for too long.
	Parked int64 `json:"parked,omitempty"`
	// AuditEntries and Stats (hours by webhook, type of event and result) have retentions of their own.
	AuditEntries int64 `json:"audit_entries,omitempty"`
	Stats        int64 `json:"stats,omitempty"`
	Replays      int64 `json:"replays,omitempty"` // jobs that have ended
	// Compacted is how many minutes of stats became hours.
	Compacted int64 `json:"compacted,omitempty"`
	// Unfinished days are past their retention, and kept because they have deliveries that are
	// not finished, parked ones of a webhook that is paused or disabled, or that were scheduled for
	// a day which is not past its retention.
	Unfinished []string `json:"unfinished,omitempty"`
}
