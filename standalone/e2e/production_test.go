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

// countingReceiver is a receiver that answers after a delay and fails some requests. It counts
// requests, and notes how many deliveries were under way at once: the second copy of one, which
// another worker sends when a workflow task has timed out, is not another delivery.
type countingReceiver struct {
	*httptest.Server

	mu       sync.Mutex
	inFlight map[string]int // requests under way, by delivery
	most     int            // most deliveries under way at once
	came     map[string]int // successful requests, by delivery
	requests int
	times    []time.Time // when each request came
}

// newCountingReceiver starts a receiver. failing decides by the number of a request whether it
// fails; nil means that no request fails.
func newCountingReceiver(t *testing.T, delay time.Duration, failing func(request int) bool) *countingReceiver {
	t.Helper()
	receiver := &countingReceiver{inFlight: map[string]int{}, came: map[string]int{}}
	receiver.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := r.Header.Get("postrider-delivery-id")
		fails := receiver.begin(id, failing)
		late, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), delay)
		<-late.Done()
		cancel()
		receiver.end(id, fails)
		if fails {
			w.WriteHeader(http.StatusInternalServerError)
		}
	}))
	t.Cleanup(receiver.Close)
	return receiver
}

func (r *countingReceiver) begin(deliveryID string, failing func(int) bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.inFlight[deliveryID]++
	r.most = max(r.most, len(r.inFlight))
	r.requests++
	r.times = append(r.times, time.Now())
	return failing != nil && failing(r.requests)
}

func (r *countingReceiver) end(deliveryID string, failed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.inFlight[deliveryID]--; r.inFlight[deliveryID] == 0 {
		delete(r.inFlight, deliveryID)
	}
	if !failed {
		r.came[deliveryID]++
	}
}

// arrived returns the number of deliveries that succeeded, and of requests that repeated one.
func (r *countingReceiver) arrived() (deliveries, twice int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range r.came {
		twice += n - 1
	}
	return len(r.came), twice
}

// publishMany publishes n events in batches, over the clients in turn. typeOf returns the type of
// an event by its number.
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

// TestManyProcesses guards that all deliveries arrive when one of three workers is stopped and
// another one is killed in the middle of 2,000 deliveries. Only deliveries that were under way in
// the killed worker may arrive twice.
func TestManyProcesses(t *testing.T) {
	t.Parallel()
	const deliveries, webhooks, inFlight = 2000, 20, 64
	l := newLayout(t)
	apis := []*instance.Client{&l.run(t, "api").Client, &l.run(t, "api").Client}
	var workers []*process
	for range 3 {
		workers = append(workers, l.run(t, "worker", "--max-in-flight", strconv.Itoa(inFlight)))
	}
	receiver := newCountingReceiver(t, 200*time.Millisecond, nil)
	for n := range webhooks {
		webhook(t, &l.Client, receiver.URL, map[string]any{"events": []string{fmt.Sprintf("load.n%d", n)}, "max_in_flight": 100})
	}
	publishMany(t, apis, deliveries, func(i int) string { return fmt.Sprintf("load.n%d", i%webhooks) })

	await(t, func() bool { n, _ := receiver.arrived(); return n > deliveries/5 })
	require.NoError(t, workers[0].Stop())
	_, twice := receiver.arrived()
	require.Zero(t, twice, "a worker that stops lets its attempts end")
	await(t, func() bool { n, _ := receiver.arrived(); return n > deliveries*2/5 })
	require.NoError(t, workers[1].Kill())

	await(t, func() bool { return l.finished(t) == deliveries })
	arrived, twice := receiver.arrived()
	require.Equal(t, deliveries, arrived)
	require.LessOrEqual(t, twice, inFlight)
	t.Logf("%d deliveries over 3 workers, one stopped and one killed: all arrived, %d twice", arrived, twice)
}

// finished returns the number of finished deliveries of all webhooks.
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

// TestOutages guards that accepted events arrive after a restart of PostgreSQL and an outage of
// Temporal, while events are published all the time. Each publish must be accepted, or refused
// with a 503.
func TestOutages(t *testing.T) {
	t.Parallel()
	l := newLayout(t)
	l.run(t, "api")
	l.run(t, "worker")
	l.run(t, "worker")
	receiver := newCountingReceiver(t, 0, nil)
	webhook(t, &l.Client, receiver.URL, nil)

	var accepted, refused atomic.Int64
	publishing, stop := context.WithCancel(t.Context())
	var publishers sync.WaitGroup
	for range 4 {
		publishers.Go(func() {
			for publishing.Err() == nil {
				l.publishOnce(t, &accepted, &refused) //nolint:contextcheck // the end of the test must not interrupt a publish
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
	reach(50) // publishing goes on while Temporal is away
	t.Logf("%d accepted while Temporal was away", accepted.Load()-before)
	l.startTemporal(t)
	reach(100)
	stop()
	publishers.Wait()

	await(t, func() bool { n, _ := receiver.arrived(); return int64(n) >= accepted.Load() })
	arrived, twice := receiver.arrived()
	t.Logf("%d accepted, %d refused with 503, %d arrived, %d of them twice", accepted.Load(), refused.Load(), arrived, twice)
}

// publishOnce publishes an event and counts whether it was accepted or refused.
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

// TestLimitsAcrossWorkers guards that three workers together keep each webhook's limits, for
// retries too, and when attempts hand their slots over.
func TestLimitsAcrossWorkers(t *testing.T) {
	t.Parallel()
	l := newLayout(t)
	l.run(t, "api")
	for range 3 {
		l.run(t, "worker")
	}
	few := newCountingReceiver(t, 50*time.Millisecond, func(request int) bool { return request%4 == 0 })
	webhook(t, &l.Client, few.URL, map[string]any{"events": []string{"load.few"}, "max_in_flight": 5, "max_retries": 10})
	slow := newCountingReceiver(t, 0, nil)
	webhook(t, &l.Client, slow.URL, map[string]any{"events": []string{"load.slow"}, "rate_limit": 20})
	quick := newCountingReceiver(t, 2*time.Millisecond, nil)
	webhook(t, &l.Client, quick.URL, map[string]any{"events": []string{"load.quick"}, "max_in_flight": 4})
	publishMany(t, []*instance.Client{&l.Client}, 900, func(i int) string { return []string{"load.few", "load.slow", "load.quick"}[i%3] })

	await(t, func() bool {
		n, _ := few.arrived()
		m, _ := slow.arrived()
		q, _ := quick.arrived()
		return n == 300 && m == 300 && q == 300
	})
	perSecond := rate(slow.times, 10*time.Second)
	_, fewTwice := few.arrived()
	_, quickTwice := quick.arrived()
	t.Logf("max_in_flight 5: %d at once at most, over %d requests, %d twice; 4: %d, %d twice; rate_limit 20: %.1f a second over 10 s",
		few.most, few.requests, fewTwice, quick.most, quickTwice, perSecond)
	require.LessOrEqual(t, few.most, 5)
	require.LessOrEqual(t, quick.most, 4)
	require.LessOrEqual(t, perSecond, 22.0)
}

// TestWorkerDeployment guards that deliveries go on with a new version of the worker after it was
// promoted.
func TestWorkerDeployment(t *testing.T) {
	t.Parallel()
	l := newLayout(t)
	l.env = append(l.env, "POSTRIDER_WORKER_DEPLOYMENT=postrider")
	l.run(t, "api")
	before := l.run(t, "worker", "--build-id", "one")
	l.command(t, "temporal", "promote", "--build-id", "one")
	var well atomic.Bool
	receiver := newCountingReceiver(t, 0, func(int) bool { return !well.Load() })
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

// rate returns how many times a second there are in the span after the first time.
func rate(times []time.Time, span time.Duration) float64 {
	n := 0
	for _, at := range times {
		if at.Sub(times[0]) < span {
			n++
		}
	}
	return float64(n) / span.Seconds()
}
