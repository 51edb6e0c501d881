package main

import (
	"net/http"
	"slices"
	"sync"
	"time"
)

// ledger is what was accepted, what was received, and what was broken meanwhile.
type ledger struct {
	mu        sync.Mutex
	accepted  map[string]acceptance             // by event
	forgotten map[string]bool                   // accepted events that the database itself has lost
	got       map[string]map[string][]time.Time // requests that were answered with 2xx, by path and event
	first     map[string]time.Time              // when an event came first
	webhooks  map[string]subscribedWebhook      // by id
	spans     []span                            // in order
	requests  int                               // that were answered with 2xx
}

// acceptance is an event that the API has accepted.
type acceptance struct {
	eventType string
	at        time.Time
}

// subscribedWebhook is a webhook of the load.
type subscribedWebhook struct {
	path      string // of its receiver
	eventType string
}

// span is a fault that was injected.
type span struct {
	fault         string
	began, healed time.Time
	recovered     time.Time // when an event that was published after healed had arrived
	refused       int       // publishes that were told to come again, or got no answer
}

func newLedger() *ledger {
	return &ledger{
		accepted: map[string]acceptance{}, forgotten: map[string]bool{}, got: map[string]map[string][]time.Time{},
		first: map[string]time.Time{}, webhooks: map[string]subscribedWebhook{},
	}
}

// webhook returns the id of the webhook whose receiver has the path.
func (l *ledger) webhook(path string) string {
	for id, w := range l.webhooks {
		if w.path == path {
			return id
		}
	}
	return ""
}

func (l *ledger) accept(eventID, eventType string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.accepted[eventID] = acceptance{eventType, time.Now()}
}

// acceptedBetween returns the events that were accepted in a span of time.
func (l *ledger) acceptedBetween(from, to time.Time) (events []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, a := range l.accepted {
		if !a.at.Before(from) && !a.at.After(to) {
			events = append(events, id)
		}
	}
	return events
}

// forget notes an accepted event that the database has lost.
func (l *ledger) forget(eventID string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.forgotten[eventID] = true
}

// received notes a request that is answered with 2xx, and returns how many there were.
func (l *ledger) received(r *http.Request) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	path, eventID, now := r.URL.Path, r.Header.Get("webhook-id"), time.Now()
	if l.got[path] == nil {
		l.got[path] = map[string][]time.Time{}
	}
	l.got[path][eventID] = append(l.got[path][eventID], now)
	if _, known := l.first[eventID]; !known {
		l.first[eventID] = now
	}
	l.requests++
	return l.requests
}

// arrived reports whether an event has come to every good receiver.
func (l *ledger) arrived(eventID string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for n := range goodWebhooks {
		if len(l.got[goodPath(n)][eventID]) == 0 {
			return false
		}
	}
	return true
}

// latency returns the times, from the 202 to the first request, that half of the good events
// accepted in the span have at most, and 99 % of them; those that have not come count with the time
// until now.
func (l *ledger) latency(from, to time.Time) (p50, p99 time.Duration) {
	return l.latencyIf(func(at time.Time) bool { return !at.Before(from) && !at.After(to) })
}

// calmLatency is latency outside of all faults.
func (l *ledger) calmLatency() (p50, p99 time.Duration) {
	return l.latencyIf(func(at time.Time) bool { return l.during(at) == nil })
}

func (l *ledger) latencyIf(counts func(at time.Time) bool) (p50, p99 time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var latencies []time.Duration
	for id, a := range l.accepted {
		if a.eventType != goodEvents || l.forgotten[id] || !counts(a.at) {
			continue
		}
		came, known := l.first[id]
		if !known {
			came = time.Now()
		}
		latencies = append(latencies, max(came.Sub(a.at), 0))
	}
	if len(latencies) == 0 {
		return 0, 0
	}
	slices.Sort(latencies)
	return latencies[len(latencies)/2], latencies[len(latencies)*99/100]
}

// during returns the fault that was under way at a time, or a moment before or after: what was on
// the wire when it began is its, too. nil: there was none. The ledger is locked.
func (l *ledger) during(at time.Time) *span {
	for i, s := range l.spans {
		if at.After(s.began.Add(-slack)) && (s.recovered.IsZero() || at.Before(s.recovered.Add(slack))) {
			return &l.spans[i]
		}
	}
	return nil
}

// begin notes that a fault is injected.
func (l *ledger) begin(fault string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.spans = append(l.spans, span{fault: fault, began: time.Now()})
}

// end notes that the latest fault was healed, and that all is well again now.
func (l *ledger) end(healed time.Time, refused int) span {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := &l.spans[len(l.spans)-1]
	s.healed, s.recovered, s.refused = healed, time.Now(), refused
	return *s
}

// causes counts the copies among the requests for an event to a receiver by the faults that they
// come from: the one that was under way when the repeated request came, so that it was not recorded,
// or else when the copy came.
func (l *ledger) causes(arrivals []time.Time, copies map[string]int) {
	for i, at := range arrivals {
		if i == 0 {
			continue
		}
		cause := noFault
		for _, when := range []time.Time{at, arrivals[i-1]} {
			if s := l.during(when); s != nil {
				cause = s.fault
			}
		}
		copies[cause]++
	}
}
