package worker

import (
	"context"
	"slices"
	"time"

	"postrider.dev/postrider"
	"postrider.dev/postrider/activities"
)

// A webhook's place is held from the claim of an attempt to its record, and so by no more
// than the max_in_flight in all processes. The time that claim and record take would be
// lost to its receiver, so more is claimed ahead: a delivery that has no place of its own
// begins when an attempt is answered, in whose record the place becomes its.
const (
	// aheadOfEach is how many are claimed ahead for each attempt that is under way: as many
	// as are answered, at a quick receiver, while a claim is made.
	aheadOfEach = 8
	// quickAnswer is the longest an answer takes of a receiver for which it is done.
	quickAnswer = 100 * time.Millisecond
	// aheadPatience is for how long one may wait for its place before it is given back.
	aheadPatience = time.Second
)

// quick reports whether deliveries are claimed ahead for the receiver: it answers quickly,
// its window is as wide as the webhook allows, so that claims cannot give it more places,
// and no retry waits for one of them.
func (r *receiver) quick(now time.Time) bool {
	return r.proven && r.latency <= quickAnswer && !r.slow(now) && r.window >= r.limit && r.retries+len(r.retryQueue) == 0
}

// stranded reports whether deliveries that were claimed ahead will get no place, since no
// attempt is left that could hand them its own.
func (r *receiver) stranded() bool { return len(r.ahead) > 0 && r.firsts == r.kept }

// answered notes that a first attempt was answered, and gives its place to the delivery
// that is next of those that were claimed ahead.
func (t *inflight) answered(deliveryID string) (successor string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s, found := t.slots[deliveryID]
	if !found || s.retry || s.ahead || s.answered {
		return ""
	}
	r := s.receiver
	if !s.begun.IsZero() {
		r.answered(t.now().Sub(s.begun))
		delete(r.open, deliveryID)
	}
	s.answered = true
	r.kept++
	if len(r.ahead) == 0 || len(r.retryQueue) > 0 || r.under() > r.allowance() {
		if r.stranded() {
			signal(t.wanted)
		}
		return ""
	}
	successor, r.ahead = r.ahead[0], r.ahead[1:]
	delete(t.slots, deliveryID)
	r.ended(deliveryID, s)
	t.begins(successor)
	return successor
}

// begins gives a place to a delivery that was claimed ahead. The table is locked.
func (t *inflight) begins(deliveryID string) {
	s := t.slots[deliveryID]
	s.ahead = false
	t.ahead--
	s.receiver.firsts++
	if s.arrival != nil {
		s.batch.arrive([]activities.Arrival{*s.arrival})
	}
	signal(t.freed)
	if s.receiver.hungry {
		signal(t.wanted)
	}
}

// withPlaces returns those of a batch's arrivals that have places, and keeps the others
// until they have. Those that were given back meanwhile do not arrive.
func (t *inflight) withPlaces(b *batch, claimed []postrider.Dispatch, arrivals []activities.Arrival) []activities.Arrival {
	t.mu.Lock()
	defer t.mu.Unlock()
	placed := make([]activities.Arrival, 0, len(arrivals))
	for i, a := range arrivals {
		s, found := t.slots[a.DeliveryID]
		mine := found && s.batch == b
		switch {
		case mine && s.ahead:
			s.arrival = &a
		case mine || !claimed[i].Ahead:
			placed = append(placed, a)
		}
	}
	return placed
}

// takeStranded takes the deliveries out of the table that were claimed ahead and wait in
// vain, or for too long; all that were, where that is said.
func (t *inflight) takeStranded(all bool) (deliveryIDs []string) {
	now := t.now()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ahead == 0 {
		return nil
	}
	for _, r := range t.receivers {
		stranded := all || r.stranded()
		for _, id := range slices.Clone(r.ahead) {
			if s := t.slots[id]; stranded || now.Sub(s.claimed) > aheadPatience {
				t.giveBack(id, s)
				deliveryIDs = append(deliveryIDs, id)
			}
		}
	}
	return deliveryIDs
}

// releaseStranded gives deliveries back that were claimed ahead and get no place.
func (d *Dispatcher) releaseStranded(ctx context.Context, all bool) {
	if ids := d.takeStranded(all); len(ids) > 0 {
		d.releaseIDs(ctx, "", ids)
	}
}
