package postrider

import "time"

// Secret is a webhook's signing secret in plain text.
type Secret struct {
	ID        string
	Value     string
	CreatedAt time.Time
	Previous  []PreviousSecret // replaced secrets that sign too, where a header has room for them; newest first
}

// PreviousSecret is a replaced secret in its grace period.
type PreviousSecret struct {
	CreatedAt time.Time `json:"created_at"`
	ExpiresAt time.Time `json:"expires_at"`
}
