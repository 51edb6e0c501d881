package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider/standalone/instance"
)

// gauge is a receiver that takes a while, fails as often as it is told to, and
// counts what is under way and what came.
type gauge struct {
	*httptest.Server

	mu       sync.Mutex
	inFlight int
	most     int            // under way at once
	came     map[string]int // attempts that it answered with success, by delivery
	requests int
	times    []time.Time // of the requests
}

// newGauge returns a receiver that answers after delay, and fails a request if
// failing says so of its number.
func newGauge(t *testing.T, delay time.Duration, failing func(request int) bool) *gauge {
	t.Helper()
	g := &gauge{came: map[string]int{}}
	g.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fails := g.begin(failing)
		late, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), delay)
		<-late.Done()
		cancel()
		g.end(r.Header.Get("postrider-delivery-id"), fails)
		if fails {
			w.WriteHeader(http.StatusInternalServerError)
		}
	}))
	t.Cleanup(g.Close)
	return g
}

func (g *gauge) begin(failing func(int) bool) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inFlight++
	g.most = max(g.most, g.inFlight)
	g.requests++
	g.times = append(g.times, time.Now())
	return failing != nil && failing(g.requests)
}

func (g *gauge) end(deliveryID string, failed bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inFlight--
	if !failed {
		g.came[deliveryID]++
	}
}

// arrived returns how many deliveries came, and how many of them more than once.
func (g *gauge) arrived() (deliveries, twice int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, n := range g.came {
		twice += n - 1
	}
	return len(g.came), twice
}

// publishMany publishes n events, each of the type that typeOf gives its number, in
// batches, over the clients in turn.
func publishMany(t *testing.T, clients []*instance.Client, n int, typeOf func(int) string) {
	t.Helper()
	const batch = 50
	for from := 0; from < n; from += batch {
		var events []map[string]any
		for i := from; i < min(from+batch, n); i++ {
			events = append(events, map[string]any{"type": typeOf(i), "data": map[string]any{"n": i}})
		}
		client := clients[from/batch%len(clients)]
		require.NoError(t, client.Call(t.Context(), http.MethodPost, "/api/v1/events/batch", map[string]any{"events": events}, nil))
	}
}

// TestManyProcesses runs two APIs and three workers, kills one worker and stops
// another in the middle of 2,000 deliveries to 20 webhooks: all arrive, and only
// what the killed one had under way may arrive twice.
func TestManyProcesses(t *testing.T) {
	t.Parallel()
	const deliveries, webhooks, inFlight = 2000, 20, 64
	l := newLayout(t)
	apis := []*instance.Client{&l.run(t, "api").Client, &l.run(t, "api").Client}
	var workers []*member
	for range 3 {
		workers = append(workers, l.run(t, "worker", "--max-in-flight", strconv.Itoa(inFlight)))
	}
	receiver := newGauge(t, 200*time.Millisecond, nil)
	for n := range webhooks {
		webhook(t, &l.Client, receiver.URL, map[string]any{"events": []string{fmt.Sprintf("load.n%d", n)}, "max_in_flight": 100})
	}
	publishMany(t, apis, deliveries, func(i int) string { return fmt.Sprintf("load.n%d", i%webhooks) })

	await(t, func() bool { n, _ := receiver.arrived(); return n > deliveries/5 })
	require.NoError(t, workers[0].Stop())
	_, twice := receiver.arrived()
	require.Zero(t, twice, "a worker that stops hands over and repeats nothing")
	await(t, func() bool { n, _ := receiver.arrived(); return n > deliveries*2/5 })
	require.NoError(t, workers[1].Kill())

	await(t, func() bool { return l.finished(t) == deliveries })
	arrived, twice := receiver.arrived()
	require.Equal(t, deliveries, arrived)
	require.LessOrEqual(t, twice, inFlight)
	t.Logf("%d deliveries over 3 workers, one stopped and one killed: all arrived, %d twice", arrived, twice)
}

// finished returns how many deliveries have ended, of all webhooks.
func (l *layout) finished(t *testing.T) int {
	t.Helper()
	var page struct {
		Data []instance.Webhook `json:"data"`
	}
	if err := l.Call(t.Context(), http.MethodGet, "/api/v1/webhooks?limit=200", nil, &page); err != nil {
		return 0
	}
	total := 0
	for _, w := range page.Data {
		total += w.Stats.TotalDeliveries
	}
	return total
}

// TestOutages restarts PostgreSQL and then kills Temporal for 20 seconds while
// events are published all the time: each publish is accepted or refused with a
// 503 that says when to try again, and everything accepted arrives by itself.
func TestOutages(t *testing.T) {
	t.Parallel()
	l := newLayout(t)
	l.run(t, "api")
	l.run(t, "worker")
	l.run(t, "worker")
	receiver := newGauge(t, 0, nil)
	webhook(t, &l.Client, receiver.URL, nil)

	var accepted, refused atomic.Int64
	publishing, stop := context.WithCancel(t.Context())
	var publishers sync.WaitGroup
	for range 4 {
		publishers.Go(func() {
			for publishing.Err() == nil {
				l.publishOnce(t, &accepted, &refused) //nolint:contextcheck // a publish under way is not broken off
				pause, cancel := context.WithTimeout(publishing, 20*time.Millisecond)
				<-pause.Done()
				cancel()
			}
		})
	}
	reach := func(more int64) {
		t.Helper()
		target := accepted.Load() + more
		await(t, func() bool { return accepted.Load() >= target })
	}
	reach(100)
	require.NoError(t, l.postgres.Restart(t.Context()))
	reach(100)
	require.NoError(t, l.temporal.Kill())
	without, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	<-without.Done()
	cancel()
	before := accepted.Load()
	reach(50) // Temporal is away still, and publishing goes on
	t.Logf("%d accepted while Temporal was away", accepted.Load()-before)
	l.startTemporal(t)
	reach(100)
	stop()
	publishers.Wait()

	await(t, func() bool { n, _ := receiver.arrived(); return int64(n) >= accepted.Load() })
	arrived, twice := receiver.arrived()
	t.Logf("%d accepted, %d refused with 503, %d arrived, %d of them twice", accepted.Load(), refused.Load(), arrived, twice)
}

// publishOnce publishes an event and counts what became of it.
func (l *layout) publishOnce(t *testing.T, accepted, refused *atomic.Int64) {
	t.Helper()
	_, err := l.Publish(t.Context(), map[string]any{"type": "load.outage", "data": nil})
	var status *instance.StatusError
	switch {
	case err == nil:
		accepted.Add(1)
	case errors.As(err, &status) && status.Status == http.StatusServiceUnavailable:
		refused.Add(1)
	default:
		t.Errorf("neither accepted nor refused: %v", err)
	}
}

// TestLimitsAcrossWorkers holds webhooks' limits over three workers, retries included,
// and where attempts hand their places on.
func TestLimitsAcrossWorkers(t *testing.T) {
	t.Parallel()
	l := newLayout(t)
	l.run(t, "api")
	for range 3 {
		l.run(t, "worker")
	}
	few := newGauge(t, 50*time.Millisecond, func(request int) bool { return request%4 == 0 })
	webhook(t, &l.Client, few.URL, map[string]any{"events": []string{"load.few"}, "max_in_flight": 5, "max_retries": 10})
	slow := newGauge(t, 0, nil)
	webhook(t, &l.Client, slow.URL, map[string]any{"events": []string{"load.slow"}, "rate_limit": 20})
	quick := newGauge(t, 2*time.Millisecond, nil)
	webhook(t, &l.Client, quick.URL, map[string]any{"events": []string{"load.quick"}, "max_in_flight": 4})
	publishMany(t, []*instance.Client{&l.Client}, 900, func(i int) string { return []string{"load.few", "load.slow", "load.quick"}[i%3] })

	await(t, func() bool {
		n, _ := few.arrived()
		m, _ := slow.arrived()
		q, _ := quick.arrived()
		return n == 300 && m == 300 && q == 300
	})
	require.LessOrEqual(t, few.most, 5)
	require.LessOrEqual(t, quick.most, 4)
	perSecond := rate(slow.times, 10*time.Second)
	t.Logf("max_in_flight 5: %d at once at most, over %d requests; rate_limit 20: %.1f a second over the first 10 s", few.most, few.requests, perSecond)
	require.LessOrEqual(t, perSecond, 22.0)
}

// TestWorkerDeployment upgrades a worker by promoting the new version: deliveries
// that the one before had begun go on with it.
func TestWorkerDeployment(t *testing.T) {
	t.Parallel()
	l := newLayout(t)
	l.env = append(l.env, "POSTRIDER_WORKER_DEPLOYMENT=postrider")
	l.run(t, "api")
	before := l.run(t, "worker", "--build-id", "one")
	l.command(t, "temporal", "promote", "--build-id", "one")
	var well atomic.Bool
	receiver := newGauge(t, 0, func(int) bool { return !well.Load() })
	w := webhook(t, &l.Client, receiver.URL, map[string]any{"max_retries": 10, "backoff_ms": 1000})
	publish(t, &l.Client, "call.ended", nil)
	id := only(t, &l.Client, w.ID).ID
	await(t, func() bool {
		d, err := l.Delivery(t.Context(), id)
		return err == nil && d.AttemptCount > 0
	})
	l.run(t, "worker", "--build-id", "two")
	l.command(t, "temporal", "promote", "--build-id", "two")
	require.NoError(t, before.Stop())
	well.Store(true)
	require.Equal(t, "succeeded", finished(t, &l.Client, w.ID).State)
	publish(t, &l.Client, "call.ended", nil)
	await(t, func() bool { n, _ := receiver.arrived(); return n == 2 })
}

// rate returns how many of the times a second there are in the span from the first.
func rate(times []time.Time, span time.Duration) float64 {
	n := 0
	for _, at := range times {
		if at.Sub(times[0]) < span {
			n++
		}
	}
	return float64(n) / span.Seconds()
}
