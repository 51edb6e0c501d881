package worker

import (
	"context"
	"slices"
	"time"

	"postrider.dev/postrider"
	"postrider.dev/postrider/activities"
)

// An attempt holds its webhook's permit from the claim to the record. A quick receiver would
// be idle during both, so the dispatcher claims further deliveries ahead. Such a delivery has
// a slot and no permit: it begins when an attempt of its webhook is answered, and the record
// of that attempt passes the permit on.
const (
	// aheadPerAttempt is how many deliveries are claimed ahead for each attempt in flight: a
	// quick receiver answers about this often during one claim.
	aheadPerAttempt = 8
	// quickAnswer is the longest latency at which deliveries are claimed ahead.
	quickAnswer = 100 * time.Millisecond
	// failsAhead is how many attempts fail in a row before none passes its permit on any more: what was
	// claimed ahead goes back, since the webhook's circuit may be about to open.
	failsAhead = 5
	// maxAheadWait is how long a delivery may wait for its permit before it is released.
	maxAheadWait = time.Second
)

// quick reports whether deliveries are claimed ahead for the receiver. It must answer
// quickly. Its window must be as wide as the webhook allows, since otherwise each answer
// widens the window and the next claim gives it more. No retry may wait for a permit. And a
// receiver that fails is not hurried: its first attempts would all fail within a moment, and
// their retries come due together, at the cost of everybody else's latency.
func (r *receiverLimit) quick(now time.Time) bool {
	return r.proven && r.failures == 0 && r.latency <= quickAnswer && !r.slow(now) && r.window >= r.maxInFlight &&
		r.retries+len(r.retryQueue) == 0
}

// stranded reports whether the deliveries claimed ahead wait in vain: every first attempt
// was answered without a successor, so no permit will be passed on.
func (r *receiverLimit) stranded() bool { return len(r.ahead) > 0 && r.firstAttempts == r.recording }

// answered notes that a first attempt was answered, and whether it succeeded. It passes the permit to the delivery that
// was claimed ahead first, and returns its id; "" when no delivery may begin.
func (t *inflight) answered(deliveryID string, succeeded bool) (successor string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s, found := t.slots[deliveryID]
	if !found || s.retry || s.ahead || s.answered {
		return ""
	}
	r := s.receiver
	if !s.begunAt.IsZero() {
		r.answered(t.now().Sub(s.begunAt))
		delete(r.begunAt, deliveryID)
		r.failures++
		if succeeded {
			r.failures = 0
		}
	}
	s.answered = true
	r.recording++
	if len(r.ahead) == 0 || r.failures >= failsAhead || len(r.retryQueue) > 0 || r.inFlight() > r.allowance() {
		if r.stranded() {
			signal(t.capacityFreed)
		}
		return ""
	}
	successor, r.ahead = r.ahead[0], r.ahead[1:]
	delete(t.slots, deliveryID)
	r.ended(deliveryID, s)
	t.promote(successor)
	return successor
}

// promote gives a permit to a delivery that was claimed ahead. The caller holds the lock.
func (t *inflight) promote(deliveryID string) {
	s := t.slots[deliveryID]
	s.ahead = false
	t.ahead--
	s.receiver.firstAttempts++
	if s.arrival != nil {
		s.batch.arrive([]activities.Arrival{*s.arrival})
	}
	signal(t.slotFreed)
	if s.receiver.saturated {
		signal(t.capacityFreed)
	}
}

// ready returns the batch's arrivals that may begin. It keeps the arrivals of deliveries
// without a permit until [inflight.promote], and drops deliveries that were released.
func (t *inflight) ready(b *batch, claimed []postrider.Dispatch, arrivals []activities.Arrival) []activities.Arrival {
	t.mu.Lock()
	defer t.mu.Unlock()
	ready := make([]activities.Arrival, 0, len(arrivals))
	for i, a := range arrivals {
		s, found := t.slots[a.DeliveryID]
		mine := found && s.batch == b
		switch {
		case mine && s.ahead:
			s.arrival = &a
		case mine || !claimed[i].Ahead:
			ready = append(ready, a)
		}
	}
	return ready
}

// removeStranded frees the slots of deliveries that were claimed ahead and wait in vain, or
// for longer than maxAheadWait, and returns the deliveries. With all, it frees every slot of
// a delivery that was claimed ahead.
func (t *inflight) removeStranded(all bool) (deliveryIDs []string) {
	now := t.now()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ahead == 0 {
		return nil
	}
	for _, r := range t.receivers {
		stranded := all || r.stranded()
		for _, id := range slices.Clone(r.ahead) {
			if s := t.slots[id]; stranded || now.Sub(s.claimedAt) > maxAheadWait {
				t.remove(id, s)
				deliveryIDs = append(deliveryIDs, id)
			}
		}
	}
	return deliveryIDs
}

// releaseStranded releases deliveries that were claimed ahead and will get no permit.
func (d *Dispatcher) releaseStranded(ctx context.Context, all bool) {
	if ids := d.inflight.removeStranded(all); len(ids) > 0 {
		d.releaseIDs(ctx, "", ids)
	}
}
