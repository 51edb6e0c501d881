package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
)

// stopwatch publishes events, each when one before it was delivered, to a receiver that fails one
// first attempt in four. It notes how long each event waits from its publication to the request that
// succeeds.
type stopwatch struct {
	*httptest.Server

	mu        sync.Mutex
	published []time.Time
	delivered []chan struct{} // closed when the event was
	waits     []time.Duration // of those that were delivered
}

func newStopwatch(t *testing.T) *stopwatch {
	t.Helper()
	s := &stopwatch{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var event struct {
			Data struct{ N int } `json:"data"`
		}
		err := json.NewDecoder(r.Body).Decode(&event)
		if err != nil || event.Data.N%4 == 0 && r.Header.Get("postrider-attempt") == "1" {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		s.note(event.Data.N)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *stopwatch) note(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.delivered[n]: // it came twice
	default:
		close(s.delivered[n])
		s.waits = append(s.waits, time.Since(s.published[n]))
	}
}

// next returns the number of a new event, and a channel that is closed when it was delivered.
func (s *stopwatch) next() (int, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.published = append(s.published, time.Now())
	s.delivered = append(s.delivered, make(chan struct{}))
	return len(s.published) - 1, s.delivered[len(s.delivered)-1]
}

// publish publishes events one after another until ctx is done.
func (s *stopwatch) publish(ctx context.Context, to caller) error {
	for ctx.Err() == nil {
		n, delivered := s.next()
		event := map[string]any{"type": fmt.Sprint("load.n", n%20), "data": map[string]any{"n": n}}
		if _, err := to.Publish(context.WithoutCancel(ctx), event); err != nil {
			return err
		}
		if err := awaitDelivery(ctx, delivered); err != nil {
			return fmt.Errorf("event %d was not delivered: %w", n, err)
		}
	}
	return nil
}

func awaitDelivery(ctx context.Context, delivered <-chan struct{}) error {
	late, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	select {
	case <-delivered:
		return nil
	case <-late.Done():
		return late.Err()
	}
}

// sorted returns the waits so far, the shortest first.
func (s *stopwatch) sorted() []time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(slices.Values(s.waits))
}

// TestNoDeliveryWaitsForALeavingWorker stops one worker after the other under load, and starts
// another each time. Every delivery has a workflow of its own, for as many tasks as possible. It
// guards against tasks that Temporal gives to a worker that is leaving: they wait for 5 or 10 s,
// until they time out. Timeouts are looked for in the histories, because a busy machine lets
// deliveries wait as well. Temporal can still lose a task whose start it records while it ends the
// poll that the task was for, so less than one for each worker that leaves is let pass.
func TestNoDeliveryWaitsForALeavingWorker(t *testing.T) {
	t.Parallel()
	const rounds, perRound, atOnce = 8, 100, 10
	l := newLayout(t)
	l.run(t, "api")
	watch := newStopwatch(t)
	for n := range 20 {
		webhook(t, &l.Client, watch.URL, map[string]any{"events": []string{fmt.Sprint("load.n", n)}})
	}
	start := func() *process { return l.run(t, "worker", "--batching", "never") }
	workers := []*process{start(), start()}
	ctx, enough := context.WithCancel(t.Context())
	defer enough()
	published := make(chan error, atOnce)
	for range atOnce {
		go func() { published <- watch.publish(ctx, &l.Client) }()
	}
	for round := range rounds {
		require.Eventually(t, func() bool { return len(watch.sorted()) >= (round+1)*perRound }, patience, tick)
		require.NoError(t, workers[0].Stop())
		workers = append(workers[1:], start())
	}
	enough()
	for range atOnce {
		require.NoError(t, <-published)
	}
	waits := watch.sorted()
	last := len(waits) - 1
	t.Logf("%d deliveries, %d workers left: waits p50 %s, p99 %s, longest %s",
		len(waits), rounds, waits[last/2], waits[last*99/100], waits[last])
	timeouts := l.timeouts(t)
	t.Logf("tasks that timed out: %v", timeouts)
	sum := 0
	for _, n := range timeouts {
		sum += n
	}
	require.Less(t, sum, rounds)
}

// timeouts returns the workflow tasks of deliveries that timed out, by the kind of timeout.
func (l *layout) timeouts(t *testing.T) map[string]int {
	t.Helper()
	c, err := client.DialContext(t.Context(), client.Options{
		HostPort: l.setting("POSTRIDER_TEMPORAL_ADDRESS"), Namespace: l.setting("POSTRIDER_TEMPORAL_NAMESPACE"),
	})
	require.NoError(t, err)
	t.Cleanup(c.Close)
	found, read := map[string]int{}, 0
	request := &workflowservice.ListWorkflowExecutionsRequest{Query: "WorkflowType = 'Delivery'"}
	for more := true; more; more = len(request.NextPageToken) > 0 {
		page, err := c.ListWorkflow(t.Context(), request)
		require.NoError(t, err)
		for _, execution := range page.GetExecutions() {
			read++
			for event := range eventsOf(t, c, execution.GetExecution().GetWorkflowId()) {
				if timeout := event.GetWorkflowTaskTimedOutEventAttributes(); timeout != nil {
					found[timeout.GetTimeoutType().String()]++
				}
			}
		}
		request.NextPageToken = page.GetNextPageToken()
	}
	require.NotZero(t, read)
	return found
}
