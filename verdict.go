package postrider

import "time"

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
