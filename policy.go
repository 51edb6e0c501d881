package postrider

import "time"

// MaxBackoff caps every wait between two attempts, and what a Retry-After header
// can ask for.
const MaxBackoff = time.Hour

// Jitter is the largest share by which a wait is made shorter or longer, so that
// deliveries that failed together do not come back together.
const Jitter = 0.2

// Policy is how hard a delivery is tried.
type Policy struct {
	TimeoutMS  int `json:"timeout_ms" minimum:"1000" maximum:"30000" doc:"One deadline in milliseconds over connecting, TLS, sending, headers and body."`
	MaxRetries int `json:"max_retries" minimum:"0" maximum:"10" doc:"Attempts after the first."`
	BackoffMS  int `json:"backoff_ms" minimum:"100" maximum:"3600000" doc:"The first retry's wait in milliseconds; it doubles each time, is capped at one hour and carries 20 % jitter."`
}

// Timeout returns the deadline of one attempt.
func (p Policy) Timeout() time.Duration { return time.Duration(p.TimeoutMS) * time.Millisecond }

// Backoff returns the wait after attempt number (from 1) without jitter.
func (p Policy) Backoff(number int) time.Duration {
	wait := time.Duration(p.BackoffMS) * time.Millisecond
	for range number - 1 {
		if wait *= 2; wait >= MaxBackoff {
			return MaxBackoff
		}
	}
	return min(wait, MaxBackoff)
}

// Verdict is what an attempt means for its delivery.
type Verdict struct {
	State DeliveryState // succeeded, failed or retrying
	// Wait is how long to wait before the next attempt; 0 unless State is retrying.
	Wait time.Duration
	// Gone is true when the receiver asked for no more deliveries at all (410).
	Gone bool
}

// Judge says what attempt means under the policy. The random number, from 0 to 1,
// picks the jitter; retryAfter is what the receiver asked to wait, 0 for nothing.
//
// Success is 2xx and nothing else. 410 is permanent, and so is an attempt that
// was called off. Every other failure is retried until MaxRetries is used up.
func (p Policy) Judge(attempt Attempt, retryAfter time.Duration, random float64) Verdict {
	switch {
	case attempt.Result == ResultSuccess:
		return Verdict{State: StateSucceeded}
	case attempt.Gone():
		return Verdict{State: StateFailed, Gone: true}
	case attempt.Result == ResultCancelled, attempt.Number > p.MaxRetries:
		return Verdict{State: StateFailed}
	}
	jittered := time.Duration(float64(p.Backoff(attempt.Number)) * (1 + Jitter*(2*random-1)))
	return Verdict{State: StateRetrying, Wait: min(max(jittered, retryAfter), MaxBackoff)}
}
