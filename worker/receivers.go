package worker

import (
	"net/url"
	"time"
)

// How many attempts a webhook's receiver gets at once from this process, within the
// webhook's own max_in_flight.
const (
	// firstWindow is what a receiver gets of which nothing is known; with every quick
	// answer it gets one more, so that the number doubles in about the time of an answer.
	firstWindow = 32
	// slowAfter is from when on an attempt is slow.
	slowAfter = 2 * time.Second
	// slowShare is the part of all places that slow receivers may hold together: the
	// rest is always there for the quick ones. Each gets half of what is left of it.
	slowShare = 4
	// memory is how much a receiver's latest answer counts among those before.
	memory = 0.3
	// maxReceivers is how many receivers are remembered that have nothing under way.
	maxReceivers = 4096
)

// receiver is what a process knows of a webhook's receiver from its own attempts.
type receiver struct {
	host    string
	window  int
	latency time.Duration        // of the latest answers, see memory
	refused bool                 // the latest claim found no room for it
	begun   map[string]time.Time // what has a place, by delivery; zero until its attempt begins
}

func newReceiver(address string) *receiver {
	return &receiver{host: hostOf(address), window: firstWindow, begun: map[string]time.Time{}}
}

// slow reports whether the receiver answers slowly, or not at all for a while.
func (r *receiver) slow(now time.Time) bool {
	if r.latency > slowAfter {
		return true
	}
	for _, begun := range r.begun {
		if !begun.IsZero() && now.Sub(begun) > slowAfter {
			return true
		}
	}
	return false
}

// answered notes the end of an attempt.
func (r *receiver) answered(deliveryID string, now time.Time) {
	begun := r.begun[deliveryID]
	if begun.IsZero() {
		return
	}
	took := now.Sub(begun)
	r.latency += time.Duration(memory * float64(took-r.latency))
	if took > slowAfter {
		r.window = max(r.window/2, firstWindow)
	} else {
		r.window++
	}
}

// hostOf returns host and port of an address, by which attempts are counted.
func hostOf(address string) string {
	parsed, err := url.Parse(address)
	if err != nil { // it was checked when it was stored, and counts by itself
		return address
	}
	return parsed.Host
}

// room is what a claim may take, by the state of the places when it began.
type room struct {
	places *places
	now    time.Time
	slow   int            // places left for slow receivers
	hosts  map[string]int // places left of hosts, where they are limited
	tight  bool           // a webhook was asked about that got none
}

// roomAt looks at what is under way.
func (p *places) roomAt(now time.Time) *room {
	p.mu.Lock()
	defer p.mu.Unlock()
	lane := max(p.total/slowShare, 1)
	r := &room{places: p, now: now, slow: lane, hosts: map[string]int{}}
	for _, known := range p.receivers {
		if known.slow(now) {
			r.slow -= len(known.begun)
		}
		if p.perHost > 0 && len(known.begun) > 0 {
			r.hosts[known.host] = r.leftOf(known.host) - len(known.begun)
		}
	}
	p.slowRefused = p.slowRefused && r.slow < lane
	return r
}

func (r *room) leftOf(host string) int {
	if left, found := r.hosts[host]; found {
		return left
	}
	return r.places.perHost
}

// of returns how many deliveries of a webhook may be taken, and counts them as taken
// where several webhooks share what is left. Those of a slow receiver join no batch,
// which would last as long as they do.
func (r *room) of(webhookID, address string) (int, bool) {
	r.places.mu.Lock()
	defer r.places.mu.Unlock()
	known, found := r.places.receivers[webhookID]
	if !found {
		known = newReceiver(address)
	}
	known.host = hostOf(address) // the webhook may have been changed
	slow := known.slow(r.now)
	free := known.window - len(known.begun)
	if slow {
		free = min(free, (r.slow+1)/2)
	}
	if r.places.perHost > 0 {
		free = min(free, r.leftOf(known.host))
	}
	free = max(free, 0)
	known.refused = free == 0
	r.tight = r.tight || known.refused
	r.places.slowRefused = r.places.slowRefused || known.refused && slow
	if slow {
		r.slow -= free
	}
	if r.places.perHost > 0 {
		r.hosts[known.host] = r.leftOf(known.host) - free
	}
	return free, slow
}
