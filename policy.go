package postrider

import "time"

// MaxBackoff is the longest wait between two attempts, also of one that a Retry-After header
// asks for.
const MaxBackoff = time.Hour

// Jitter is the largest share by which a wait is made shorter or longer at random, so that
// deliveries that failed together are not retried together.
const Jitter = 0.2

// Policy says how often and how long a delivery is tried.
type Policy struct {
	TimeoutMS  int `json:"timeout_ms" db:"timeout_ms" minimum:"1000" maximum:"30000" doc:"One deadline in milliseconds over connecting, TLS, sending, headers and body."`
	MaxRetries int `json:"max_retries" db:"max_retries" minimum:"0" maximum:"10" doc:"Attempts after the first."`
	BackoffMS  int `json:"backoff_ms" db:"backoff_ms" minimum:"100" maximum:"3600000" doc:"The first retry's wait in milliseconds; it doubles each time, is capped at one hour and carries 20 % jitter."`
}

// Timeout returns the deadline of one attempt.
func (p Policy) Timeout() time.Duration { return time.Duration(p.TimeoutMS) * time.Millisecond }

// Backoff returns the wait after attempt number (from 1), without jitter.
func (p Policy) Backoff(number int) time.Duration {
	wait := time.Duration(p.BackoffMS) * time.Millisecond
	for range number - 1 {
		if wait *= 2; wait >= MaxBackoff {
			return MaxBackoff
		}
	}
	return min(wait, MaxBackoff)
}
