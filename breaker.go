package postrider

import "time"

// HealthState says how a webhook's attempts go.
type HealthState string

// The states of a webhook's health.
const (
	HealthOK      HealthState = "ok"
	HealthFailing HealthState = "failing" // its latest attempts failed
	HealthOpen    HealthState = "open"    // its circuit is open
)

// WebhookHealth is how a webhook's attempts go.
type WebhookHealth struct {
	State               HealthState `json:"state" enum:"ok,failing,open" doc:"failing: its latest attempts failed; open: so many have failed that the circuit is open, and only one probe at a time is sent."`
	FailingSince        *time.Time  `json:"failing_since" doc:"When the first of the latest attempts failed that all failed; null when the latest succeeded."`
	ConsecutiveFailures int         `json:"consecutive_failures" doc:"How many attempts have failed since one succeeded. Those that say nothing about the receiver do not count."`
	OpenUntil           *time.Time  `json:"open_until" doc:"When the next probe may be sent; null unless the circuit is open."`
}

// HealthOf returns a webhook's health; gate is nil when it has none.
func HealthOf(failures int, since *time.Time, gate *Gate) WebhookHealth {
	h := WebhookHealth{State: HealthOK, FailingSince: since, ConsecutiveFailures: failures}
	switch {
	case gate != nil && gate.Open():
		h.State, h.OpenUntil = HealthOpen, &gate.ProbeAt
	case failures > 0:
		h.State = HealthFailing
	}
	return h
}

// Gate limits how many attempts of a webhook are under way at once, within its max_in_flight: after its
// circuit has opened, or after it was resumed. A webhook that is well has none.
type Gate struct {
	Allowance int       // attempts at once; 0: one probe at a time
	ProbeAt   time.Time // with 0: no probe begins earlier
	ChangedAt time.Time // when Allowance changed
	Openings  int       // how many times the circuit has opened since the gate is there
}

// Open reports whether the circuit is open. The gate of a webhook that was resumed is not, before its
// probe has failed.
func (g Gate) Open() bool { return g.Allowance == 0 && g.Openings > 0 }

// Permits returns how many attempts may be under way.
func (g Gate) Permits(now time.Time) int {
	switch {
	case g.Allowance > 0:
		return g.Allowance
	case now.Before(g.ProbeAt):
		return 0
	}
	return 1
}

// ProbeFirst returns the gate of a webhook that was resumed.
func ProbeFirst(now time.Time) Gate { return Gate{ProbeAt: now, ChangedAt: now} }

// Breaker says when a webhook's circuit opens, and how a gate gives way. Decision 16 has the reasons.
type Breaker struct {
	// After and Failing open the circuit: so many attempts have failed since one succeeded, the first
	// of them so long ago.
	After   int
	Failing time.Duration
	// FirstWait is the wait for the first probe. It doubles with each probe that fails, up to
	// LongestWait, give or take [Jitter].
	FirstWait, LongestWait time.Duration
	// Step is how long each allowance lasts at least. After that it doubles with a success, and is
	// halved by a failure.
	Step time.Duration
}

// DefaultBreaker is the breaker that all webhooks have.
func DefaultBreaker() Breaker {
	return Breaker{After: 20, Failing: 10 * time.Second, FirstWait: 5 * time.Second, LongestWait: 5 * time.Minute, Step: time.Second}
}

// Opens reports whether the circuit of a webhook without a gate opens.
func (b Breaker) Opens(failures int, since *time.Time, now time.Time) bool {
	return failures >= b.After && since != nil && now.Sub(*since) >= b.Failing
}

// Opened returns the gate after the circuit has opened, once more if it was open. random, from 0 to 1,
// selects the jitter.
func (b Breaker) Opened(g Gate, now time.Time, random float64) Gate {
	wait := b.FirstWait
	for range g.Openings {
		if wait *= 2; wait >= b.LongestWait {
			wait = b.LongestWait
			break
		}
	}
	wait = time.Duration(float64(wait) * (1 + Jitter*(2*random-1)))
	return Gate{ProbeAt: Timestamp(now.Add(wait)), ChangedAt: now, Openings: g.Openings + 1}
}

// Succeeded returns the gate after an attempt has succeeded. It reports false when there is none any
// more: all that max_in_flight allows may go.
func (b Breaker) Succeeded(g Gate, maxInFlight int, now time.Time) (Gate, bool) {
	switch {
	case g.Allowance == 0:
		g.Allowance, g.ChangedAt = 1, now
	case now.Sub(g.ChangedAt) >= b.Step:
		g.Allowance, g.ChangedAt = 2*g.Allowance, now
	}
	return g, g.Allowance < maxInFlight
}

// Failed returns the gate after an attempt has failed. failures is how many have since one succeeded.
func (b Breaker) Failed(g Gate, failures int, now time.Time, random float64) Gate {
	switch {
	case g.Allowance == 0 && now.Before(g.ProbeAt): // it began before the circuit opened
		return g
	case g.Allowance == 0, failures >= b.After:
		return b.Opened(g, now, random)
	case now.Sub(g.ChangedAt) < b.Step:
		return g
	case g.Allowance == 1:
		return b.Opened(g, now, random)
	}
	g.Allowance, g.ChangedAt = g.Allowance/2, now
	return g
}
