package worker

import (
	"context"
	"slices"
	"sync"
	"time"

	"postrider.dev/postrider"
	"postrider.dev/postrider/activities"
)

// inflight is the table of attempts that are under way in this process, or about to be:
// first attempts from their claim on, retries from when they have a place.
type inflight struct {
	total   int
	perHost int // of the total; 0 for all
	now     func() time.Time
	freed   chan struct{} // told when a place came back
	wanted  chan struct{} // told when one came back that a claim had no use for before

	mu        sync.Mutex
	slots     map[string]*slot       // by delivery
	receivers map[string]*receiver   // by webhook
	waiting   map[*receiver]struct{} // whose retries wait for a place
	ahead     int                    // slots of deliveries that were claimed ahead
}

// slot is the place of one delivery's attempt.
type slot struct {
	receiver *receiver
	batch    *batch // of a first attempt
	claimed  time.Time
	started  time.Time // when the workflow of a first attempt was started; zero before
	begun    time.Time // when the attempt began; zero before
	retry    bool
	answered bool
	ahead    bool                // it has no place yet, see [postrider.Dispatch.Ahead]
	arrival  *activities.Arrival // of one that is ahead, when it has been read
}

func newInflight(total, perHost int, now func() time.Time) *inflight {
	return &inflight{
		total: total, perHost: perHost, now: now, freed: make(chan struct{}, 1), wanted: make(chan struct{}, 1),
		slots: map[string]*slot{}, receivers: map[string]*receiver{}, waiting: map[*receiver]struct{}{},
	}
}

// free returns how many places are free.
func (t *inflight) free() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return max(t.total-len(t.slots), 0)
}

// take gives places to claimed deliveries. Those that got none are over: more than the
// host's limit may have been claimed where the webhook's host was not known.
func (t *inflight) take(b *batch, claimed []postrider.Dispatch) (kept, over []postrider.Dispatch) {
	now := t.now()
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, d := range claimed {
		r := t.receiverOf(d.WebhookID, d.URL)
		if t.perHost > 0 && t.underHost(r.host) >= t.perHost {
			over = append(over, d)
			continue
		}
		if before, found := t.slots[d.ID]; found { // its lease ran out
			t.giveBack(d.ID, before)
		}
		t.slots[d.ID] = &slot{receiver: r, batch: b, claimed: now, ahead: d.Ahead}
		if d.Ahead {
			r.ahead = append(r.ahead, d.ID)
			t.ahead++
		} else {
			r.firsts++
		}
		if r.stranded() {
			signal(t.wanted)
		}
		kept = append(kept, d)
	}
	return kept, over
}

// started notes that a workflow was started for what it carries.
func (t *inflight) started(b *batch) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range t.slots {
		if s.batch == b && s.started.IsZero() {
			s.started = t.now()
		}
	}
}

// begin notes that first attempts begin here.
func (t *inflight) begin(b *batch, arrivals []activities.Arrival) {
	now := t.now()
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, a := range arrivals {
		if s, found := t.slots[a.DeliveryID]; found && s.batch == b {
			s.begun = now
			s.receiver.begun(a.DeliveryID, now)
		}
	}
}

// began notes that a retry is attempted that had a place, and its webhook's permit.
func (t *inflight) began(deliveryID string) {
	now := t.now()
	t.mu.Lock()
	defer t.mu.Unlock()
	if s, found := t.slots[deliveryID]; found && s.retry {
		s.begun = now
		s.receiver.begun(deliveryID, now)
	}
}

// done frees the place of a delivery, if it has one, whose attempt has ended.
func (t *inflight) done(deliveryID string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s, found := t.slots[deliveryID]
	if !found {
		return
	}
	if !s.begun.IsZero() && !s.answered {
		s.receiver.answered(t.now().Sub(s.begun))
	}
	t.giveBack(deliveryID, s)
}

// drop frees the place of a delivery that the workflow will not attempt here.
func (t *inflight) drop(deliveryID, workflowID string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s, found := t.slots[deliveryID]; found && s.batch != nil && s.batch.workflowID == workflowID {
		t.giveBack(deliveryID, s)
	}
}

// giveBack frees a place. The table is locked.
func (t *inflight) giveBack(deliveryID string, s *slot) {
	delete(t.slots, deliveryID)
	r := s.receiver
	signal(t.freed)
	if s.ahead {
		r.ahead = slices.DeleteFunc(r.ahead, func(id string) bool { return id == deliveryID })
		t.ahead--
		s.batch.letGo() // it will not come
		return
	}
	r.ended(deliveryID, s)
	if r.stranded() {
		signal(t.wanted)
	}
	if r.hungry || t.perHost > 0 || r.unproven(t.now()) {
		signal(t.wanted)
	}
	t.serve(r)
}

// expire frees the places of first attempts whose lease is over.
func (t *inflight) expire() {
	now := t.now()
	t.mu.Lock()
	defer t.mu.Unlock()
	for id, s := range t.slots {
		if !s.retry && now.Sub(s.claimed) > Lease {
			t.giveBack(id, s)
		}
	}
}

// startedElsewhere returns the deliveries whose workflow was started so long ago that
// their attempt, which has not begun here, may be another worker's.
func (t *inflight) startedElsewhere(longer time.Duration) []string {
	now := t.now()
	t.mu.Lock()
	defer t.mu.Unlock()
	var found []string
	for id, s := range t.slots {
		if s.begun.IsZero() && !s.ahead && !s.started.IsZero() && now.Sub(s.started) > longer {
			found = append(found, id)
		}
	}
	return found
}

// dropOthers frees the places of those of the deliveries that are not among the leased.
func (t *inflight) dropOthers(deliveryIDs, leased []string) {
	still := make(map[string]bool, len(leased))
	for _, id := range leased {
		still[id] = true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, id := range deliveryIDs {
		if s, found := t.slots[id]; found && !still[id] && s.begun.IsZero() {
			t.giveBack(id, s)
		}
	}
}

// reserve waits for a place for a retry, behind those of its webhook that wait already.
func (t *inflight) reserve(ctx context.Context, target postrider.Target) error {
	turn := t.queue(target)
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	select {
	case <-turn: // it came at the same time
		return nil
	default:
		t.receivers[target.Delivery.WebhookID].leaveQueue(turn)
		return ctx.Err()
	}
}

// queue returns a channel that is closed when the retry has its place.
func (t *inflight) queue(target postrider.Target) chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.receiverOf(target.Delivery.WebhookID, target.URL)
	r.limit = target.MaxInFlight
	turn := make(chan struct{})
	r.retryQueue = append(r.retryQueue, waitingRetry{deliveryID: target.Delivery.ID, turn: turn})
	t.waiting[r] = struct{}{}
	t.serve(r)
	return turn
}

// serve gives places to retries that wait: of the receiver, which has one back, and of
// those that wait for one that is not their receiver's own. The table is locked.
func (t *inflight) serve(first *receiver) {
	t.serveOne(first)
	for r := range t.waiting {
		if r.blocked {
			t.serveOne(r)
		}
	}
}

func (t *inflight) serveOne(r *receiver) {
	now := t.now()
	for len(r.retryQueue) > 0 && r.roomForRetries() > 0 {
		next := r.retryQueue[0]
		if r.blocked = len(t.slots) >= t.total || t.shared(r, now) <= 0; r.blocked {
			return
		}
		r.retryQueue = r.retryQueue[1:]
		if before, found := t.slots[next.deliveryID]; found { // of an earlier try, or another workflow's
			delete(t.slots, next.deliveryID)
			before.receiver.ended(next.deliveryID, before)
		}
		t.slots[next.deliveryID] = &slot{receiver: r, claimed: now, retry: true}
		r.retries++
		close(next.turn)
	}
	r.blocked = false
	if len(r.retryQueue) == 0 {
		delete(t.waiting, r)
	}
}
