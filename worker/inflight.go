package worker

import (
	"context"
	"slices"
	"sync"
	"time"

	"postrider.dev/postrider"
	"postrider.dev/postrider/activities"
)

// inflight is the table of this process's slots. A first attempt has its slot from the claim
// on, a retry from [inflight.reserve] on.
type inflight struct {
	total         int
	perHost       int // of the total; 0 for no limit
	now           func() time.Time
	slotFreed     chan struct{} // gets a token when a slot was freed
	capacityFreed chan struct{} // gets a token when a slot was freed that the latest claim lacked

	mu        sync.Mutex
	slots     map[string]*slot            // by delivery
	receivers map[string]*receiverLimit   // by webhook
	waiting   map[*receiverLimit]struct{} // receivers with retries that wait for a slot
	ahead     int                         // slots of deliveries that were claimed ahead
}

// slot is the entry of one delivery's attempt.
type slot struct {
	receiver        *receiverLimit
	batch           *batch // of a first attempt
	claimedAt       time.Time
	workflowStarted time.Time // of a first attempt; zero before
	begunAt         time.Time // zero before the attempt began
	retry           bool
	answered        bool
	ahead           bool                // it has no permit yet, see [postrider.Dispatch.Ahead]
	arrival         *activities.Arrival // of a delivery claimed ahead, when it has been read
}

func newInflight(total, perHost int, now func() time.Time) *inflight {
	return &inflight{
		total: total, perHost: perHost, now: now, slotFreed: make(chan struct{}, 1), capacityFreed: make(chan struct{}, 1),
		slots: map[string]*slot{}, receivers: map[string]*receiverLimit{}, waiting: map[*receiverLimit]struct{}{},
	}
}

// available returns how many slots are free.
func (t *inflight) available() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return max(t.total-len(t.slots), 0)
}

// take gives slots to claimed deliveries. It returns the deliveries that got no slot as
// excess: a claim may exceed the host's limit when it did not know the webhook's host.
func (t *inflight) take(b *batch, claimed []postrider.Dispatch) (kept, excess []postrider.Dispatch) {
	now := t.now()
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, d := range claimed {
		r := t.limitOf(d.WebhookID, d.URL)
		if !d.Ahead && t.perHost > 0 && t.hostInFlight(r.host) >= t.perHost { // one claimed ahead adds nothing at the host
			excess = append(excess, d)
			continue
		}
		if before, found := t.slots[d.ID]; found { // its lease expired
			t.remove(d.ID, before)
		}
		t.slots[d.ID] = &slot{receiver: r, batch: b, claimedAt: now, ahead: d.Ahead}
		if d.Ahead {
			r.ahead = append(r.ahead, d.ID)
			t.ahead++
		} else {
			r.firstAttempts++
		}
		if r.stranded() {
			signal(t.capacityFreed)
		}
		kept = append(kept, d)
	}
	return kept, excess
}

// started notes that the batch's workflow was started.
func (t *inflight) started(b *batch) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range t.slots {
		if s.batch == b && s.workflowStarted.IsZero() {
			s.workflowStarted = t.now()
		}
	}
}

// beganFirst notes that first attempts begin in this process.
func (t *inflight) beganFirst(b *batch, arrivals []activities.Arrival) {
	now := t.now()
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, a := range arrivals {
		if s, found := t.slots[a.DeliveryID]; found && s.batch == b {
			s.begunAt = now
			s.receiver.begunAt[a.DeliveryID] = now
		}
	}
}

// beganRetry notes that a retry begins, which has its slot and its permit.
func (t *inflight) beganRetry(deliveryID string) {
	now := t.now()
	t.mu.Lock()
	defer t.mu.Unlock()
	if s, found := t.slots[deliveryID]; found && s.retry {
		s.begunAt = now
		s.receiver.begunAt[deliveryID] = now
	}
}

// done frees the slot of a delivery whose attempt has ended. It ignores a delivery without a
// slot.
func (t *inflight) done(deliveryID string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s, found := t.slots[deliveryID]
	if !found {
		return
	}
	if !s.begunAt.IsZero() && !s.answered {
		s.receiver.answered(t.now().Sub(s.begunAt))
	}
	t.remove(deliveryID, s)
}

// drop frees the slot of a delivery that the workflow will not attempt in this process.
func (t *inflight) drop(deliveryID, workflowID string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s, found := t.slots[deliveryID]; found && s.batch != nil && s.batch.workflowID == workflowID {
		t.remove(deliveryID, s)
	}
}

// remove frees a slot. The caller holds the lock.
func (t *inflight) remove(deliveryID string, s *slot) {
	delete(t.slots, deliveryID)
	r := s.receiver
	signal(t.slotFreed)
	if s.ahead {
		r.ahead = slices.DeleteFunc(r.ahead, func(id string) bool { return id == deliveryID })
		t.ahead--
		s.batch.letGo() // the delivery will not arrive
		return
	}
	r.ended(deliveryID, s)
	if r.stranded() || r.saturated || t.perHost > 0 || r.unproven(t.now()) {
		signal(t.capacityFreed)
	}
	t.grant(r)
}

// expire frees the slots of first attempts whose leases have expired.
func (t *inflight) expire() {
	now := t.now()
	t.mu.Lock()
	defer t.mu.Unlock()
	for id, s := range t.slots {
		if !s.retry && now.Sub(s.claimedAt) > Lease {
			t.remove(id, s)
		}
	}
}

// startedElsewhere returns deliveries whose workflow was started longer ago than the given
// time and whose attempt has not begun here: another worker may be making it.
func (t *inflight) startedElsewhere(longerAgo time.Duration) []string {
	now := t.now()
	t.mu.Lock()
	defer t.mu.Unlock()
	var found []string
	for id, s := range t.slots {
		if s.begunAt.IsZero() && !s.ahead && !s.workflowStarted.IsZero() && now.Sub(s.workflowStarted) > longerAgo {
			found = append(found, id)
		}
	}
	return found
}

// dropUnleased frees the slots of the deliveries that are not leased any more.
func (t *inflight) dropUnleased(deliveryIDs, leased []string) {
	isLeased := make(map[string]bool, len(leased))
	for _, id := range leased {
		isLeased[id] = true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, id := range deliveryIDs {
		if s, found := t.slots[id]; found && !isLeased[id] && s.begunAt.IsZero() {
			t.remove(id, s)
		}
	}
}

// reserve waits for a slot for a retry. Retries of one webhook get slots in their order.
func (t *inflight) reserve(ctx context.Context, target postrider.Target) error {
	granted := t.enqueue(target)
	select {
	case <-granted:
		return nil
	case <-ctx.Done():
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	select {
	case <-granted: // at the same moment
		return nil
	default:
		t.receivers[target.Delivery.WebhookID].leaveQueue(granted)
		return ctx.Err()
	}
}

// enqueue returns a channel that is closed when the retry has its slot.
func (t *inflight) enqueue(target postrider.Target) chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.limitOf(target.Delivery.WebhookID, target.URL)
	r.maxInFlight = target.MaxInFlight
	granted := make(chan struct{})
	r.retryQueue = append(r.retryQueue, waitingRetry{deliveryID: target.Delivery.ID, granted: granted})
	t.waiting[r] = struct{}{}
	t.grant(r)
	return granted
}

// grant gives free slots to waiting retries: first to the receiver's own, then to retries of
// receivers that a shared limit has blocked. The caller holds the lock.
func (t *inflight) grant(first *receiverLimit) {
	t.grantTo(first)
	for r := range t.waiting {
		if r.blocked {
			t.grantTo(r)
		}
	}
}

func (t *inflight) grantTo(r *receiverLimit) {
	now := t.now()
	for len(r.retryQueue) > 0 && r.retryCapacity() > 0 {
		next := r.retryQueue[0]
		if r.blocked = len(t.slots) >= t.total || t.sharedCapacity(r, now) <= 0; r.blocked {
			return
		}
		r.retryQueue = r.retryQueue[1:]
		if before, found := t.slots[next.deliveryID]; found { // of an earlier try, or another workflow's
			delete(t.slots, next.deliveryID)
			before.receiver.ended(next.deliveryID, before)
		}
		t.slots[next.deliveryID] = &slot{receiver: r, claimedAt: now, retry: true}
		r.retries++
		close(next.granted)
	}
	r.blocked = false
	if len(r.retryQueue) == 0 {
		delete(t.waiting, r)
	}
}
