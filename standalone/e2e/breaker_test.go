package e2e

import (
	"context"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider/standalone/instance"
	"postrider.dev/postrider/store/pgtest"
)

// patient is a receiver that can be down, answers slowly, and notes what it is sent.
type patient struct {
	*httptest.Server

	mu     sync.Mutex
	down   bool
	atOnce int
	most   int // requests at once, since the last reset
	seen   []seenRequest
}

type seenRequest struct {
	event string
	at    time.Time
	ok    bool
}

func newPatient(t *testing.T, answersAfter time.Duration) *patient {
	t.Helper()
	p := &patient{}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ok := p.begin(r.Header.Get("webhook-id"))
		late, cancel := context.WithTimeout(r.Context(), answersAfter)
		defer cancel()
		<-late.Done()
		p.mu.Lock()
		p.atOnce--
		p.mu.Unlock()
		if !ok {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	t.Cleanup(p.Close)
	return p
}

func (p *patient) begin(event string) (ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.atOnce++
	p.most = max(p.most, p.atOnce)
	p.seen = append(p.seen, seenRequest{event, time.Now(), !p.down})
	return !p.down
}

// turn lets the receiver be down or not, and begins to note anew.
func (p *patient) turn(down bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down, p.most, p.seen = down, p.atOnce, nil
}

func (p *patient) requests() []seenRequest {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]seenRequest(nil), p.seen...)
}

func (p *patient) mostAtOnce() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.most
}

// ok returns the events of requests that were answered with 2xx, in their order.
func (p *patient) ok() []string {
	var events []string
	for _, r := range p.requests() {
		if r.ok {
			events = append(events, r.event)
		}
	}
	return events
}

// requireGrowth requires that the receiver was not sent all at once: one at first, and in each second at
// most so many as the allowance of that second lets through.
func requireGrowth(t *testing.T, requests []seenRequest, answersAfter time.Duration) {
	t.Helper()
	perSecond := map[int]int{}
	for _, r := range requests {
		perSecond[int(r.at.Sub(requests[0].at)/time.Second)]++
	}
	allowance := 1
	for second := range 4 {
		most := allowance*int(time.Second/answersAfter) + allowance
		require.LessOrEqual(t, perSecond[second], most, "second %d of %v", second, perSecond)
		allowance *= 2
	}
	busiest := slices.Max(slices.Collect(maps.Values(perSecond)))
	require.Greater(t, busiest, 2*perSecond[0], "the rate grows: %v", perSecond)
	t.Logf("requests a second: %v", perSecond)
}

func healthOf(t *testing.T, i *instance.Instance, webhookID string) (state string, w instance.Webhook) {
	t.Helper()
	require.NoError(t, i.Call(t.Context(), http.MethodGet, "/api/v1/webhooks/"+webhookID, nil, &w))
	return w.Health.State, w
}

// publishBatches publishes events in batches, and returns their ids in the order of acceptance.
func publishBatches(t *testing.T, i *instance.Instance, n int) []string {
	t.Helper()
	var ids []string
	for begin := 0; begin < n; begin += 100 {
		var events []map[string]any
		for k := begin; k < min(begin+100, n); k++ {
			events = append(events, map[string]any{"type": "call.ended", "data": k})
		}
		var answer struct{ Data []instance.Receipt }
		require.NoError(t, i.Call(t.Context(), http.MethodPost, "/api/v1/events/batch", map[string]any{"events": events}, &answer))
		for _, r := range answer.Data {
			ids = append(ids, r.ID)
		}
	}
	return ids
}

// onBoth runs a test on an instance with either database.
func onBoth(t *testing.T, test func(t *testing.T, env []string)) {
	t.Helper()
	server, err := pgtest.Start(t.Context())
	require.NoError(t, err)
	t.Cleanup(server.Stop)
	for name, env := range map[string][]string{"SQLite": nil, "PostgreSQL": {"POSTRIDER_DATABASE_URL=" + server.EmptyDatabase(t)}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, env)
		})
	}
}

// TestCircuitBreaker guards a receiver that is down under load from being sent more than probes, and from
// a herd when it is back; and its deliveries from being lost or failed meanwhile.
func TestCircuitBreaker(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, env []string) {
		t.Helper()
		const answersAfter = 20 * time.Millisecond
		i := startWith(t, t.TempDir(), env)
		receiver := newPatient(t, answersAfter)
		receiver.turn(true)
		w := webhook(t, i, receiver.URL, map[string]any{"max_retries": 10, "backoff_ms": 2000})
		published := publishBatches(t, i, 50)
		require.Eventually(t, func() bool {
			published = append(published, publish(t, i, "call.ended", "more").ID)
			state, _ := healthOf(t, i, w.ID)
			return state == "open"
		}, patience, 100*time.Millisecond)
		require.Eventually(t, func() bool { return receiver.idle() }, patience, tick)

		receiver.turn(true)
		published = append(published, publishBatches(t, i, 300)...)
		require.Eventually(t, func() bool { return len(receiver.requests()) >= 2 }, patience, tick, "probes")
		require.Equal(t, 1, receiver.mostAtOnce(), "one at a time")
		probes := receiver.requests()
		require.Greater(t, probes[1].at.Sub(probes[0].at), 5*time.Second, "the waits grow")

		receiver.turn(false)
		require.Eventually(t, func() bool { return len(unique(receiver.ok())) == len(published) }, patience, tick)
		require.ElementsMatch(t, published, unique(receiver.ok()))
		requireGrowth(t, receiver.requests(), answersAfter)
		state, well := healthOf(t, i, w.ID)
		require.Equal(t, "ok", state)
		require.Zero(t, well.Stats.FailedDeliveries)
	})
}

// idle reports whether no request is under way.
func (p *patient) idle() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.atOnce == 0
}

func unique(texts []string) []string {
	seen := map[string]bool{}
	var kept []string
	for _, text := range texts {
		if !seen[text] {
			kept = append(kept, text)
		}
		seen[text] = true
	}
	return kept
}

// TestResumeAfterAKill guards what waits for a paused webhook, new and retried, from a kill, and its
// receiver from requests in the pause and from a herd after it.
func TestResumeAfterAKill(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, env []string) {
		t.Helper()
		const answersAfter = 20 * time.Millisecond
		dir := t.TempDir()
		i := startWith(t, dir, env)
		receiver := newPatient(t, answersAfter)
		receiver.turn(true)
		w := webhook(t, i, receiver.URL, map[string]any{
			"events": []string{"call.ended"}, "max_retries": 10, "backoff_ms": 3600000,
		})
		retried := publishBatches(t, i, 60)
		allInState(t, i, w.ID, "retrying", len(retried))
		require.NoError(t, i.Call(t.Context(), http.MethodPost, "/api/v1/webhooks/"+w.ID+"/pause", nil, nil))
		require.Eventually(t, func() bool { return receiver.idle() }, patience, tick)
		receiver.turn(false)
		fresh := publishBatches(t, i, 140)
		allInState(t, i, w.ID, "parked", len(retried)+len(fresh))
		require.NoError(t, i.Kill())

		i = startWith(t, dir, env)
		sentinel := newPatient(t, 0)
		webhook(t, i, sentinel.URL, map[string]any{"events": []string{"sentinel"}})
		publish(t, i, "sentinel", nil)
		require.Eventually(t, func() bool { return len(sentinel.requests()) == 1 }, patience, tick)
		require.Empty(t, receiver.requests(), "no request in the pause")
		require.NoError(t, i.Call(t.Context(), http.MethodPost, "/api/v1/webhooks/"+w.ID+"/resume", nil, nil))
		require.Eventually(t, func() bool { return len(receiver.requests()) >= len(retried)+len(fresh) }, patience, tick)
		arrived := receiver.ok()
		require.ElementsMatch(t, append(append([]string(nil), retried...), fresh...), arrived)
		requireOrder(t, retried, arrived)
		requireOrder(t, fresh, arrived)
		require.Contains(t, retried[:1], arrived[0], "the oldest is the probe")
		requireGrowth(t, receiver.requests(), answersAfter)
	})
}

// requireOrder requires that the events arrived in their order, but for those that were under way
// together.
func requireOrder(t *testing.T, events, arrived []string) {
	t.Helper()
	const together = 32 // max_in_flight
	place := map[string]int{}
	for n, id := range events {
		place[id] = n
	}
	next := 0
	for _, id := range arrived {
		if n, found := place[id]; found {
			require.Less(t, max(n-next, next-n), together, "%s is number %d, and came as number %d", id, n, next)
			next++
		}
	}
	require.Equal(t, len(events), next)
}

// TestDisableAfterFailures guards that a webhook whose every attempt fails is disabled in the end, and that
// nothing is lost by it.
func TestDisableAfterFailures(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, env []string) {
		t.Helper()
		i := startWith(t, t.TempDir(), env)
		receiver := newPatient(t, 0)
		receiver.turn(true)
		w := webhook(t, i, receiver.URL, map[string]any{
			"max_retries": 10, "backoff_ms": 500, "disable_after_seconds": 3,
		})
		waiting := publishBatches(t, i, 3)
		var disabled instance.Webhook
		require.Eventually(t, func() bool {
			_, disabled = healthOf(t, i, w.ID)
			return disabled.Status == "disabled"
		}, patience, tick)
		require.Equal(t, "failing", *disabled.DisabledReason)
		allInState(t, i, w.ID, "parked", len(waiting))
		waiting = append(waiting, publishBatches(t, i, 3)...)
		allInState(t, i, w.ID, "parked", len(waiting))

		receiver.turn(false)
		require.NoError(t, i.Call(t.Context(), http.MethodPost, "/api/v1/webhooks/"+w.ID+"/resume", nil, nil))
		require.Eventually(t, func() bool { return len(receiver.ok()) == len(waiting) }, patience, tick)
		require.ElementsMatch(t, waiting, receiver.ok())
		state, resumed := healthOf(t, i, w.ID)
		require.Equal(t, []string{"ok", "active"}, []string{state, resumed.Status})
	})
}
