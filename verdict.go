package postrider

import "time"

// Verdict says what an attempt means for its delivery.
type Verdict struct {
	State DeliveryState // succeeded, failed or retrying
	// Wait is how long to wait before the next attempt; 0 unless State is retrying.
	Wait time.Duration
	// Gone says that the receiver answered 410: it wants no more deliveries.
	Gone bool
}

// Judge returns the verdict on an attempt under the policy. random, from 0 to 1, selects the
// jitter. retryAfter is the wait that the receiver asked for, 0 for no wish.
//
// Only 2xx is a success. A 410, a cancelled attempt and one whose transform failed are final. Every other failure is
// retried until MaxRetries is used up.
func (p Policy) Judge(attempt Attempt, retryAfter time.Duration, random float64) Verdict {
	switch {
	case attempt.Result == ResultSuccess:
		return Verdict{State: StateSucceeded}
	case attempt.Gone():
		return Verdict{State: StateFailed, Gone: true}
	case attempt.Result == ResultCancelled, attempt.Result == ResultTransform, attempt.Number > p.MaxRetries:
		return Verdict{State: StateFailed}
	}
	jittered := time.Duration(float64(p.Backoff(attempt.Number)) * (1 + Jitter*(2*random-1)))
	return Verdict{State: StateRetrying, Wait: min(max(jittered, retryAfter), p.longest(attempt.Number))}
}
