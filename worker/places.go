package worker

import (
	"maps"
	"sync"
	"time"

	"postrider"
)

// places are the first attempts that may go on at once in this process.
type places struct {
	total   int
	perHost int // of the total; 0 for all
	now     func() time.Time
	freed   chan struct{} // told when a place came back
	eased   chan struct{} // told when one came back that others may have waited for while places were free

	mu        sync.Mutex
	alone     int                  // taken ones whose delivery has a workflow of its own that makes an attempt at a quick receiver
	queued    int                  // taken ones of deliveries whose own workflow has not been started
	taken     map[string]*place    // by delivery
	receivers map[string]*receiver // by webhook
	// slowRefused says that a slow receiver found no room, since slow ones had places.
	slowRefused bool
}

// place is a delivery's that was claimed and whose first attempt has not ended.
type place struct {
	flight   *flight
	receiver *receiver                // nil where no attempt is made
	target   func() *postrider.Target // until the attempt takes it
	at       time.Time                // when it was taken
	quick    bool                     // counted among the quick ones that are alone
	queued   bool                     // counted among those
}

// flight is what one workflow carries.
type flight struct {
	carried []postrider.Dispatch
	left    int           // first attempts that have not ended
	tried   time.Time     // when its start ended; zero until then
	landed  chan struct{} // closed when none is left
}

// attempts reports whether the workflow makes requests when it is started.
func (f *flight) attempts() bool { return !f.carried[0].Cancel && !f.carried[0].Attempted }

func (f *flight) deliveries() []string {
	ids := make([]string, len(f.carried))
	for i, d := range f.carried {
		ids[i] = d.DeliveryID
	}
	return ids
}

func newPlaces(total, perHost int, now func() time.Time) *places {
	return &places{
		total: total, perHost: perHost, now: now, freed: make(chan struct{}, 1), eased: make(chan struct{}, 1),
		taken: map[string]*place{}, receivers: map[string]*receiver{},
	}
}

// count returns how many places are free, how many of the others are those of quick
// receivers' deliveries with a workflow of their own, and how many wait for one to be
// started.
func (p *places) count() (free, alone, queued int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.total - len(p.taken), p.alone, p.queued
}

// take gives each delivery of a workflow a place. There must be that many.
func (p *places) take(carried []postrider.Dispatch) *flight {
	f := &flight{carried: carried, left: len(carried), landed: make(chan struct{})}
	now := p.now()
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, d := range carried {
		if before, found := p.taken[d.DeliveryID]; found { // its lease ran out
			p.endLocked(d.DeliveryID, before)
		}
		taken := &place{flight: f, target: d.Target, at: now}
		carried[i].Target = nil // it holds the payloads, and the flight lasts
		if f.attempts() {
			taken.receiver = p.receiverOf(d)
			taken.quick = d.Alone() && !taken.receiver.slow(now)
			taken.receiver.begun[d.DeliveryID] = time.Time{}
		}
		if taken.quick {
			p.alone++
		}
		if taken.queued = f.attempts() && d.Alone(); taken.queued {
			p.queued++
		}
		p.taken[d.DeliveryID] = taken
	}
	return f
}

func (p *places) receiverOf(d postrider.Dispatch) *receiver {
	known, found := p.receivers[d.WebhookID]
	if !found {
		if len(p.receivers) >= maxReceivers {
			maps.DeleteFunc(p.receivers, func(_ string, r *receiver) bool { return len(r.begun) == 0 })
		}
		known = newReceiver("")
		p.receivers[d.WebhookID] = known
	}
	if d.URL != "" {
		known.host = hostOf(d.URL)
	}
	return known
}

// carriedFor is how long what a claim brought along may be used: a delivery may be
// cancelled, or its webhook changed.
const carriedFor = 2 * time.Second

// unload returns what the delivery's first attempt needs, the first time and while it
// is fresh, and waits for it where it is being read: then the attempt begins.
func (p *places) unload(deliveryID string) *postrider.Target {
	var carried *postrider.Target
	taken, target := p.takeTarget(deliveryID)
	if target != nil {
		carried = target()
	}
	if !p.begin(deliveryID, taken) {
		return nil
	}
	return carried
}

// takeTarget returns the delivery's place, if it has one, and, the first time, what
// brings its target.
func (p *places) takeTarget(deliveryID string) (*place, func() *postrider.Target) {
	p.mu.Lock()
	defer p.mu.Unlock()
	taken, found := p.taken[deliveryID]
	if !found {
		return nil, nil
	}
	target := taken.target
	taken.target = nil
	return taken, target
}

// begin notes that the first attempt of the delivery begins that has the place, and
// reports whether what was read for it is fresh.
func (p *places) begin(deliveryID string, taken *place) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if taken == nil || p.taken[deliveryID] != taken {
		return false
	}
	now := p.now()
	if taken.receiver != nil {
		taken.receiver.begun[deliveryID] = now
	}
	return now.Sub(taken.at) <= carriedFor
}

// started notes that the flight's workflow has been started, or could not be.
func (p *places) started(f *flight) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f.tried = p.now()
	for _, d := range f.carried {
		if taken, found := p.taken[d.DeliveryID]; found && taken.flight == f {
			p.leaveQueue(taken)
		}
	}
}

// elsewhere returns the deliveries, with their flights, whose workflow was started so long
// ago that their attempt, which has not begun here, may be another worker's.
func (p *places) elsewhere(longer time.Duration) map[string]*flight {
	p.mu.Lock()
	defer p.mu.Unlock()
	found := map[string]*flight{}
	for id, taken := range p.taken {
		tried := taken.flight.tried
		if taken.receiver != nil && taken.receiver.begun[id].IsZero() && !tried.IsZero() && p.now().Sub(tried) > longer {
			found[id] = taken.flight
		}
	}
	return found
}

func (p *places) leaveQueue(taken *place) {
	if taken.queued {
		taken.queued = false
		p.queued--
		signal(p.freed)
	}
}

// end frees the place of a delivery, if it has one, whose attempt has ended.
func (p *places) end(deliveryID string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	taken, found := p.taken[deliveryID]
	if !found {
		return
	}
	if taken.receiver != nil {
		taken.receiver.answered(deliveryID, p.now())
	}
	p.endLocked(deliveryID, taken)
}

// leave frees the places that the flight still has, of the deliveries given.
func (p *places) leave(f *flight, deliveryIDs ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, id := range deliveryIDs {
		if taken, found := p.taken[id]; found && taken.flight == f {
			p.endLocked(id, taken)
		}
	}
}

func (p *places) endLocked(deliveryID string, taken *place) {
	delete(p.taken, deliveryID)
	p.leaveQueue(taken)
	if r := taken.receiver; r != nil {
		if r.refused || p.perHost > 0 || p.slowRefused && r.slow(p.now()) {
			signal(p.eased)
		}
		delete(r.begun, deliveryID)
	}
	if taken.quick {
		p.alone--
	}
	if taken.flight.left--; taken.flight.left == 0 {
		close(taken.flight.landed)
	}
	signal(p.freed)
}
