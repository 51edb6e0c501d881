package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider/standalone/instance"
)

// stopwatch is a receiver that fails one first attempt in four, and notes how long each event waited
// from its publication to the request that succeeded.
type stopwatch struct {
	*httptest.Server

	mu        sync.Mutex
	published []time.Time
	waits     map[int]time.Duration
}

func newStopwatch(t *testing.T) *stopwatch {
	t.Helper()
	s := &stopwatch{waits: map[int]time.Duration{}}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var event struct {
			Data struct{ N int } `json:"data"`
		}
		err := json.NewDecoder(r.Body).Decode(&event)
		s.mu.Lock()
		defer s.mu.Unlock()
		if err != nil || event.Data.N%4 == 0 && r.Header.Get("postrider-attempt") == "1" {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		if _, again := s.waits[event.Data.N]; !again {
			s.waits[event.Data.N] = time.Since(s.published[event.Data.N])
		}
	}))
	t.Cleanup(s.Close)
	return s
}

// publish publishes an event.
func (s *stopwatch) publish(t *testing.T, client *instance.Client) {
	t.Helper()
	s.mu.Lock()
	n := len(s.published)
	s.published = append(s.published, time.Now())
	s.mu.Unlock()
	publish(t, client, fmt.Sprint("load.n", n%20), map[string]any{"n": n})
}

// sorted returns the waits of all events, once all have come.
func (s *stopwatch) sorted(t *testing.T) []time.Duration {
	t.Helper()
	await(t, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.waits) == len(s.published)
	})
	var waits []time.Duration
	for _, wait := range s.waits {
		waits = append(waits, wait)
	}
	slices.Sort(waits)
	return waits
}

// TestNoDeliveryWaitsForALeavingWorker stops one worker after the other under load, and starts
// another each time. Every delivery has a workflow of its own, for as many tasks as possible. It
// guards against tasks that Temporal gives to a worker that is leaving: they wait until they time
// out, 5 or 10 s. A start of a worker takes a moment, and this machine may be busy, so the bound is
// far above what a delivery waits, and below that.
func TestNoDeliveryWaitsForALeavingWorker(t *testing.T) {
	t.Parallel()
	const rounds, perRound, bound = 8, 150, 5 * time.Second
	l := newLayout(t)
	l.run(t, "api")
	watch := newStopwatch(t)
	for n := range 20 {
		webhook(t, &l.Client, watch.URL, map[string]any{"events": []string{fmt.Sprint("load.n", n)}})
	}
	start := func() *process { return l.run(t, "worker", "--batching", "never") }
	workers := []*process{start(), start()}
	load := time.NewTicker(20 * time.Millisecond)
	defer load.Stop()
	for range rounds {
		leaving := make(chan error, 1)
		for n := range perRound {
			<-load.C
			watch.publish(t, &l.Client)
			if n == perRound/2 {
				go func() { leaving <- workers[0].Stop() }()
			}
		}
		require.NoError(t, <-leaving)
		workers = append(workers[1:], start())
	}
	waits := watch.sorted(t)
	last := len(waits) - 1
	t.Logf("%d deliveries, %d workers left: waits p50 %s, p99 %s, longest %s", len(waits), rounds, waits[last/2], waits[last*99/100], waits[last])
	require.Less(t, waits[last], bound)
}
