package worker

import (
	"maps"
	"net/url"
	"slices"
	"time"

	"postrider.dev/postrider"
)

// Limits on the attempts that one receiver gets from this process at once. They apply within
// the webhook's own max_in_flight.
const (
	// initialWindow is the window of an unknown receiver. Every quick answer widens the
	// window by one, so it doubles in about the time of an answer.
	initialWindow = 4
	// slowAfter is the duration from which an attempt counts as slow.
	slowAfter = 2 * time.Second
	// unprovenShare divides the process's slots: slow and unproven receivers together get at
	// most one slot of this number, so the others always find free slots. Each of them gets
	// at most half of the rest of that share.
	unprovenShare = 4
	// latencyWeight is the weight of the latest answer in a receiver's average latency.
	latencyWeight = 0.3
	// maxReceivers is how many idle receivers the process remembers.
	maxReceivers = 4096
)

// receiverLimit limits the attempts of one webhook's receiver, by the answers that it gave to
// this process.
type receiverLimit struct {
	host          string
	window        int                  // attempts that it may have at once by its answers
	maxInFlight   int                  // the webhook's, as last read
	latency       time.Duration        // moving average, see latencyWeight
	proven        bool                 // it has answered quickly
	failures      int                  // of its first attempts, since one succeeded
	saturated     bool                 // the latest claim used up its capacity, so more may be due
	firstAttempts int                  // with a permit
	retries       int                  // with a slot
	recording     int                  // first attempts that were answered and passed no permit on
	ahead         []string             // deliveries that were claimed ahead, oldest first
	begunAt       map[string]time.Time // of attempts in flight, by delivery

	retryQueue []waitingRetry
	blocked    bool // its retries wait for a slot that other receivers use
}

// waitingRetry is a retry that waits for its slot.
type waitingRetry struct {
	deliveryID string
	granted    chan struct{} // closed when the retry has its slot
}

func newReceiverLimit(host string) *receiverLimit {
	return &receiverLimit{
		host: host, window: initialWindow, maxInFlight: postrider.DefaultMaxInFlight, begunAt: map[string]time.Time{},
	}
}

func (r *receiverLimit) inFlight() int { return r.firstAttempts + r.retries }

// slow reports whether the receiver answers slowly, or lets an attempt wait.
func (r *receiverLimit) slow(now time.Time) bool {
	if r.latency > slowAfter {
		return true
	}
	for _, begun := range r.begunAt {
		if now.Sub(begun) > slowAfter {
			return true
		}
	}
	return false
}

// unproven reports whether the receiver is slow, or has not answered yet.
func (r *receiverLimit) unproven(now time.Time) bool { return !r.proven || r.slow(now) }

// answered notes how long an attempt took, and adapts the window.
func (r *receiverLimit) answered(took time.Duration) {
	r.latency += time.Duration(latencyWeight * float64(took-r.latency))
	if took > slowAfter {
		r.window = max(r.window/2, initialWindow)
		return
	}
	r.proven = true
	r.window = min(r.window+1, postrider.MaxMaxInFlight)
}

// ended counts the slot's attempt no longer.
func (r *receiverLimit) ended(deliveryID string, s *slot) {
	delete(r.begunAt, deliveryID)
	switch {
	case s.retry:
		r.retries--
	case s.answered:
		r.recording--
		fallthrough
	default:
		r.firstAttempts--
	}
}

func (r *receiverLimit) leaveQueue(granted chan struct{}) {
	r.retryQueue = slices.DeleteFunc(r.retryQueue, func(w waitingRetry) bool { return w.granted == granted })
}

// allowance returns how many attempts the receiver may have at once.
func (r *receiverLimit) allowance() int { return min(r.window, r.maxInFlight) }

// fairShare returns how many attempts first attempts leave to waiting retries, and retries
// to waiting first attempts.
func (r *receiverLimit) fairShare() int { return (r.allowance() + 1) / 2 }

// firstCapacity returns how many more first attempts may begin. It leaves max_in_flight to
// the claim, which reads the current value.
func (r *receiverLimit) firstCapacity() int {
	reserved := max(r.retries, min(r.retries+len(r.retryQueue), r.fairShare()))
	return max(r.window-r.firstAttempts-reserved, 0)
}

// retryCapacity returns how many more retries may begin.
func (r *receiverLimit) retryCapacity() int {
	capacity := r.allowance() - r.inFlight()
	if r.saturated {
		capacity = min(capacity, r.fairShare()-r.retries)
	}
	return capacity
}

// hostOf returns the host and port of a URL, by which attempts are counted. A URL that does
// not parse counts as a host of its own.
func hostOf(address string) string {
	parsed, err := url.Parse(address)
	if err != nil {
		return address
	}
	return parsed.Host
}

// limitOf returns the limit of a webhook's receiver. The caller holds the lock.
func (t *inflight) limitOf(webhookID, address string) *receiverLimit {
	r, found := t.receivers[webhookID]
	if !found {
		if len(t.receivers) >= maxReceivers {
			maps.DeleteFunc(t.receivers, func(_ string, r *receiverLimit) bool {
				return r.inFlight()+len(r.retryQueue)+len(r.ahead) == 0
			})
		}
		r = newReceiverLimit(hostOf(address))
		t.receivers[webhookID] = r
	}
	if t.perHost > 0 && address != "" { // the webhook's URL may have changed
		r.host = hostOf(address)
	}
	return r
}

// setMaxInFlight notes the webhooks' current limits.
func (t *inflight) setMaxInFlight(targets []postrider.Target) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, target := range targets {
		if r, found := t.receivers[target.Delivery.WebhookID]; found {
			r.maxInFlight = target.MaxInFlight
		}
	}
}

// hostInFlight returns how many attempts a host has. The caller holds the lock.
func (t *inflight) hostInFlight(host string) int {
	n := 0
	for _, r := range t.receivers {
		if r.host == host {
			n += r.inFlight()
		}
	}
	return n
}

// unprovenCapacity returns how many more attempts slow and unproven receivers may have
// together. The caller holds the lock.
func (t *inflight) unprovenCapacity(now time.Time) int {
	capacity := max(t.total/unprovenShare, 1)
	for _, r := range t.receivers {
		if r.inFlight() > 0 && r.unproven(now) {
			capacity -= r.inFlight()
		}
	}
	return max(capacity, 0)
}

// sharedCapacity returns how many more attempts a receiver may begin under the limits that it
// shares with others: its host's and the unproven receivers'. The caller holds the lock.
func (t *inflight) sharedCapacity(r *receiverLimit, now time.Time) int {
	capacity := t.total
	if r.unproven(now) {
		capacity = min(capacity, (t.unprovenCapacity(now)+1)/2)
	}
	if t.perHost > 0 {
		capacity = min(capacity, t.perHost-t.hostInFlight(r.host))
	}
	return capacity
}

// capacity returns how much a claim may take now. With ahead, it may claim ahead for quick
// receivers.
func (t *inflight) capacity(ahead bool) postrider.Capacity {
	now := t.now()
	t.mu.Lock()
	defer t.mu.Unlock()
	c := postrider.Capacity{
		Receivers: make(map[string]postrider.ReceiverCapacity, len(t.receivers)), Unknown: initialWindow, Unproven: t.unprovenCapacity(now),
	}
	byHost := map[string]int{}
	if t.perHost > 0 {
		c.Unknown = min(c.Unknown, t.perHost)
		for _, r := range t.receivers {
			byHost[r.host] += r.inFlight()
		}
	}
	for id, r := range t.receivers {
		slow := r.slow(now)
		capacity := r.firstCapacity()
		if t.perHost > 0 {
			capacity = max(min(capacity, t.perHost-byHost[r.host]), 0)
		}
		known := postrider.ReceiverCapacity{Room: capacity, Unproven: slow || !r.proven, Slow: slow}
		if ahead && r.quick(now) {
			known.Ahead, known.UnderWay, known.Waiting = aheadPerAttempt, r.firstAttempts-r.recording, len(r.ahead)
		}
		c.Receivers[id] = known
	}
	return c
}

// noteClaim notes which receivers' capacity the claim used up, and reports whether more
// deliveries may be waiting.
func (t *inflight) noteClaim(claimed []postrider.Dispatch, request postrider.ClaimRequest) (more bool) {
	byWebhook := map[string]int{} // first attempts that begin; 0 where all were claimed ahead
	for _, d := range claimed {
		if !d.Ahead {
			byWebhook[d.WebhookID]++
		} else {
			byWebhook[d.WebhookID] += 0
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for id, n := range byWebhook {
		capacity := request.Capacity.Unknown
		if known, found := request.Capacity.Receivers[id]; found {
			capacity = known.Room
		}
		r := t.limitOf(id, "")
		r.saturated = n >= min(capacity, r.allowance()-r.inFlight()) || len(claimed) == request.Limit
		more = more || r.saturated
	}
	for id, known := range request.Capacity.Receivers {
		if r, found := t.receivers[id]; found && known.Room > 0 && byWebhook[id] == 0 && len(claimed) < request.Limit {
			r.saturated = false
		}
	}
	return more
}
