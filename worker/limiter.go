package worker

import (
	"maps"
	"net/url"
	"slices"
	"time"

	"postrider.dev/postrider"
)

// How many attempts a webhook's receiver gets at once from this process, within the
// webhook's own max_in_flight.
const (
	// firstWindow is what a receiver gets of which nothing is known; with every quick
	// answer it gets one more, so that the number doubles in about the time of an answer.
	firstWindow = 4
	// slowAfter is from when on an attempt is slow.
	slowAfter = 2 * time.Second
	// unprovenShare is the part of all places that receivers may hold together that are
	// slow, or have not answered yet: the rest is always there for the others. Each gets
	// half of what is left of it.
	unprovenShare = 4
	// memory is how much a receiver's latest answer counts among those before.
	memory = 0.3
	// maxReceivers is how many receivers are remembered that have nothing under way.
	maxReceivers = 4096
)

// receiver is what a process knows of a webhook's receiver from its own attempts.
type receiver struct {
	host    string
	window  int
	limit   int                  // the webhook's max_in_flight, as far as it is known
	latency time.Duration        // of the latest answers, see memory
	proven  bool                 // it has answered quickly
	hungry  bool                 // the latest claim took all that it had room for
	firsts  int                  // first attempts that have places
	retries int                  // retries that do
	kept    int                  // of the first attempts, those that were answered and had no successor
	ahead   []string             // deliveries that were claimed ahead, in their order
	open    map[string]time.Time // attempts that have begun, by delivery

	retryQueue []waitingRetry
	blocked    bool // they wait for a place that is not the receiver's own to give
}

// waitingRetry is a retry that waits for its place.
type waitingRetry struct {
	deliveryID string
	turn       chan struct{} // closed when it has it
}

func newReceiver(host string) *receiver {
	return &receiver{host: host, window: firstWindow, limit: postrider.DefaultMaxInFlight, open: map[string]time.Time{}}
}

func (r *receiver) under() int { return r.firsts + r.retries }

// slow reports whether the receiver answers slowly, or not at all for a while.
func (r *receiver) slow(now time.Time) bool {
	if r.latency > slowAfter {
		return true
	}
	for _, begun := range r.open {
		if now.Sub(begun) > slowAfter {
			return true
		}
	}
	return false
}

// unproven reports whether the receiver is slow, or has not answered yet.
func (r *receiver) unproven(now time.Time) bool { return !r.proven || r.slow(now) }

func (r *receiver) begun(deliveryID string, now time.Time) { r.open[deliveryID] = now }

// answered notes how long an attempt took.
func (r *receiver) answered(took time.Duration) {
	r.latency += time.Duration(memory * float64(took-r.latency))
	if took > slowAfter {
		r.window = max(r.window/2, firstWindow)
		return
	}
	r.proven = true
	r.window = min(r.window+1, postrider.MaxMaxInFlight)
}

func (r *receiver) ended(deliveryID string, s *slot) {
	delete(r.open, deliveryID)
	switch {
	case s.retry:
		r.retries--
	case s.answered:
		r.kept--
		fallthrough
	default:
		r.firsts--
	}
}

func (r *receiver) leaveQueue(turn chan struct{}) {
	r.retryQueue = slices.DeleteFunc(r.retryQueue, func(w waitingRetry) bool { return w.turn == turn })
}

// allowance is how many attempts the receiver may have at once.
func (r *receiver) allowance() int { return min(r.window, r.limit) }

// half is what first attempts leave to retries that wait, and these to them.
func (r *receiver) half() int { return (r.allowance() + 1) / 2 }

// roomForFirsts is how many more first attempts may begin.
func (r *receiver) roomForFirsts() int {
	kept := max(r.retries, min(r.retries+len(r.retryQueue), r.half()))
	// The claim knows the webhook's own limit, and it may have been raised.
	return max(r.window-r.firsts-kept, 0)
}

// roomForRetries is how many more retries may begin.
func (r *receiver) roomForRetries() int {
	room := r.allowance() - r.under()
	if r.hungry {
		room = min(room, r.half()-r.retries)
	}
	return room
}

// hostOf returns host and port of an address, by which attempts are counted.
func hostOf(address string) string {
	parsed, err := url.Parse(address)
	if err != nil { // it was checked when it was stored, and counts by itself
		return address
	}
	return parsed.Host
}

// receiverOf returns what is known of a webhook's receiver. The table is locked.
func (t *inflight) receiverOf(webhookID, address string) *receiver {
	r, found := t.receivers[webhookID]
	if !found {
		if len(t.receivers) >= maxReceivers {
			maps.DeleteFunc(t.receivers, func(_ string, r *receiver) bool { return r.under()+len(r.retryQueue)+len(r.ahead) == 0 })
		}
		r = newReceiver(hostOf(address))
		t.receivers[webhookID] = r
	}
	if t.perHost > 0 && address != "" { // the webhook may have been changed
		r.host = hostOf(address)
	}
	return r
}

// know notes the limits of webhooks.
func (t *inflight) know(targets []postrider.Target) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, target := range targets {
		if r, found := t.receivers[target.Delivery.WebhookID]; found {
			r.limit = target.MaxInFlight
		}
	}
}

// underHost is how many attempts go on at a host. The table is locked.
func (t *inflight) underHost(host string) int {
	n := 0
	for _, r := range t.receivers {
		if r.host == host {
			n += r.under()
		}
	}
	return n
}

// unprovenLeft is how many places are left for receivers that are slow or have not
// answered. The table is locked.
func (t *inflight) unprovenLeft(now time.Time) int {
	left := max(t.total/unprovenShare, 1)
	for _, r := range t.receivers {
		if r.under() > 0 && r.unproven(now) {
			left -= r.under()
		}
	}
	return max(left, 0)
}

// shared is how many more attempts a receiver may begin by what it shares with others:
// its host, and the places of those that are not proven. The table is locked.
func (t *inflight) shared(r *receiver, now time.Time) int {
	room := t.total
	if r.unproven(now) {
		room = min(room, (t.unprovenLeft(now)+1)/2)
	}
	if t.perHost > 0 {
		room = min(room, t.perHost-t.underHost(r.host))
	}
	return room
}

// capacity is what a claim may take now.
func (t *inflight) capacity(ahead bool) postrider.Capacity {
	now := t.now()
	t.mu.Lock()
	defer t.mu.Unlock()
	c := postrider.Capacity{
		Receivers: make(map[string]postrider.ReceiverCapacity, len(t.receivers)), Unknown: firstWindow, Unproven: t.unprovenLeft(now),
	}
	hosts := map[string]int{}
	if t.perHost > 0 {
		c.Unknown = min(c.Unknown, t.perHost)
		for _, r := range t.receivers {
			hosts[r.host] += r.under()
		}
	}
	for id, r := range t.receivers {
		slow := r.slow(now)
		room := r.roomForFirsts()
		if t.perHost > 0 {
			room = max(min(room, t.perHost-hosts[r.host]), 0)
		}
		known := postrider.ReceiverCapacity{Room: room, Unproven: slow || !r.proven, Slow: slow}
		if ahead && r.quick(now) {
			known.Ahead, known.UnderWay, known.Waiting = aheadOfEach, r.firsts-r.kept, len(r.ahead)
		}
		c.Receivers[id] = known
	}
	return c
}

// took notes what was claimed of what there was room for, and reports whether more may
// be waiting.
func (t *inflight) took(claimed []postrider.Dispatch, request postrider.ClaimRequest) (more bool) {
	of := map[string]int{}
	for _, d := range claimed {
		if !d.Ahead {
			of[d.WebhookID]++
		} else {
			of[d.WebhookID] += 0
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for id, n := range of {
		room := request.Capacity.Unknown
		if known, found := request.Capacity.Receivers[id]; found {
			room = known.Room
		}
		r := t.receiverOf(id, "")
		r.hungry = n >= min(room, r.allowance()-r.under()) || len(claimed) == request.Limit
		more = more || r.hungry
	}
	for id, known := range request.Capacity.Receivers {
		if r, found := t.receivers[id]; found && known.Room > 0 && of[id] == 0 && len(claimed) < request.Limit {
			r.hungry = false
		}
	}
	return more
}
