package worker

import (
	"sync"

	"postrider"
)

// places are the first attempts that may go on at once in this process.
type places struct {
	freed chan struct{} // told when a place came back

	mu    sync.Mutex
	free  int
	alone int               // taken ones whose delivery has a workflow of its own
	taken map[string]*place // by delivery
}

// place is a delivery's that was claimed and whose first attempt has not ended.
type place struct {
	flight *flight
	target *postrider.Target // until the attempt takes it
}

// flight is what one workflow carries.
type flight struct {
	carried []postrider.Dispatch
	left    int           // first attempts that have not ended
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

func newPlaces(free int) *places {
	return &places{free: free, freed: make(chan struct{}, 1), taken: map[string]*place{}}
}

// count returns how many places are free, and how many of the others are those of
// deliveries with a workflow of their own.
func (p *places) count() (free, alone int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.free, p.alone
}

// take gives each delivery of a workflow a place. There must be that many.
func (p *places) take(carried []postrider.Dispatch) *flight {
	f := &flight{carried: carried, left: len(carried), landed: make(chan struct{})}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.free -= len(carried)
	for _, d := range carried {
		if before, found := p.taken[d.DeliveryID]; found { // its lease ran out
			p.endLocked(d.DeliveryID, before.flight)
		}
		p.taken[d.DeliveryID] = &place{flight: f, target: d.Target}
		if d.Alone() {
			p.alone++
		}
	}
	return f
}

// unload returns what the delivery's first attempt needs, the first time.
func (p *places) unload(deliveryID string) *postrider.Target {
	p.mu.Lock()
	defer p.mu.Unlock()
	taken, found := p.taken[deliveryID]
	if !found {
		return nil
	}
	target := taken.target
	taken.target = nil
	return target
}

// end frees the place of a delivery, if it has one.
func (p *places) end(deliveryID string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if taken, found := p.taken[deliveryID]; found {
		p.endLocked(deliveryID, taken.flight)
	}
}

// leave frees the places that the flight still has.
func (p *places) leave(f *flight) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, d := range f.carried {
		if taken, found := p.taken[d.DeliveryID]; found && taken.flight == f {
			p.endLocked(d.DeliveryID, f)
		}
	}
}

func (p *places) endLocked(deliveryID string, f *flight) {
	delete(p.taken, deliveryID)
	p.free++
	if f.carried[0].Alone() {
		p.alone--
	}
	if f.left--; f.left == 0 {
		close(f.landed)
	}
	signal(p.freed)
}
