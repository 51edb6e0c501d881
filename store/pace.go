package store

import "time"

// paceCatchUp is how far a claim that comes late makes up for the time since the last
// delivery was due. It covers the gap between two claims, so that a webhook's rate is
// reached; an idle webhook saves up no more than this.
const paceCatchUp = 100 * time.Millisecond

// paceHorizon is further ahead than any process with a right clock lets the next delivery be:
// a retry's permit is given some seconds ahead.
const paceHorizon = 10 * time.Second

// pace is a webhook's rate limit as a generic cell rate algorithm (ITU-T I.371, virtual
// scheduling): each delivery moves the time of the next by one interval.
type pace struct {
	interval time.Duration
	next     time.Time
}

// paceAt returns the pace of the given number of deliveries a second, next being the stored
// time of the next one. A time that a clock has left which was hours ahead does not hold.
func paceAt(perSecond int, next, now time.Time) pace {
	earliest := now.Add(-paceCatchUp)
	if next.Before(earliest) || next.After(now.Add(paceHorizon)) {
		next = earliest
	}
	return pace{interval: time.Second / time.Duration(perSecond), next: next}
}

// allowed returns how many deliveries may go at now.
func (p pace) allowed(now time.Time) int {
	if p.next.After(now) {
		return 0
	}
	return int(now.Sub(p.next)/p.interval) + 1
}

// after returns the time of the next delivery when n have gone.
func (p pace) after(n int) time.Time { return p.next.Add(time.Duration(n) * p.interval) }
