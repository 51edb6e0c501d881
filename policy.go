package postrider

import "time"

// MaxBackoff is the longest wait between two attempts that backoff_ms or a Retry-After header asks for. A retry
// schedule may ask for longer ones.
const MaxBackoff = time.Hour

// Jitter is the largest share by which a wait is made shorter or longer at random, so that
// deliveries that failed together are not retried together.
const Jitter = 0.2

// Policy says how often and how long a delivery is tried.
type Policy struct {
	TimeoutMS  int `json:"timeout_ms" db:"timeout_ms" minimum:"1000" maximum:"30000" doc:"One deadline in milliseconds over connecting, TLS, sending, headers and body."`
	MaxRetries int `json:"max_retries" db:"max_retries" minimum:"0" maximum:"10" doc:"Attempts after the first."`
	BackoffMS  int `json:"backoff_ms" db:"backoff_ms" minimum:"100" maximum:"3600000" doc:"The first retry's wait in milliseconds; it doubles each time, is capped at one hour and carries 20 % jitter."`
	// RetrySchedule takes the place of backoff; MaxRetries is its length then, unless an operator has changed that.
	RetrySchedule RetrySchedule `json:"retry_schedule_ms,omitempty" db:"retry_schedule_ms" nullable:"true" minItems:"1" maxItems:"20" minimum:"100" maximum:"86400000" doc:"The waits before the retries in milliseconds, instead of max_retries and backoff_ms: as many retries as waits. Each carries 20 % jitter; a Retry-After that asks for longer wins. Where it is set, max_retries shows its length, and backoff_ms its first wait, an hour at most." example:"[1000,60000,3600000]"`
}

// Scheduled returns the policy with what its retry schedule, if it has one, means for its other fields.
func (p Policy) Scheduled() Policy {
	if waits := p.RetrySchedule.waits(); len(waits) > 0 {
		p.MaxRetries, p.BackoffMS = len(waits), min(waits[0], MaxBackoffMS)
	}
	return p
}

// Timeout returns the deadline of one attempt.
func (p Policy) Timeout() time.Duration { return time.Duration(p.TimeoutMS) * time.Millisecond }

// Backoff returns the wait after attempt number (from 1), without jitter.
func (p Policy) Backoff(number int) time.Duration {
	if p.RetrySchedule != "" {
		return p.RetrySchedule.wait(number)
	}
	wait := time.Duration(p.BackoffMS) * time.Millisecond
	for range number - 1 {
		if wait *= 2; wait >= MaxBackoff {
			return MaxBackoff
		}
	}
	return min(wait, MaxBackoff)
}

// longest returns the longest wait after attempt number, with jitter.
func (p Policy) longest(number int) time.Duration {
	if p.RetrySchedule != "" {
		return max(time.Duration(float64(p.Backoff(number))*(1+Jitter)), MaxBackoff)
	}
	return MaxBackoff
}
