package postrider

import "time"

// History is a delivery's life as its workflow tells it: the answer of the
// Temporal query "history".
type History struct {
	State         DeliveryState `json:"state"`
	Policy        Policy        `json:"policy"`
	Attempts      []Attempt     `json:"attempts"`
	NextAttemptAt *time.Time    `json:"next_attempt_at"`
	RunID         string        `json:"run_id"`
}
