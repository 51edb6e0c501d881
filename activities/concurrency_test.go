package activities_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
	"postrider.dev/postrider/activities"
	"postrider.dev/postrider/egress"
	"postrider.dev/postrider/signing"
)

// hanging is a poster whose first receivers hang until the deadline, while the others answer
// soon. It runs in virtual time.
type hanging struct {
	mu    sync.Mutex
	began []time.Time
}

// Post implements [activities.Poster].
func (p *hanging) Post(ctx context.Context, _ egress.Request) (postrider.Attempt, time.Duration, error) {
	p.mu.Lock()
	p.began = append(p.began, time.Now())
	lasts := 30 * time.Second
	if len(p.began) > 46 {
		lasts = 40 * time.Millisecond
	}
	p.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, lasts)
	defer cancel()
	<-ctx.Done()
	return postrider.Attempt{StartedAt: time.Now(), Result: postrider.ResultSuccess}, 0, nil
}

// takesAll is a store whose records always succeed.
type takesAll struct{ activities.Store }

func (takesAll) Record(context.Context, []postrider.Outcome) error { return nil }

// crowd is a process that has claimed many deliveries at once.
type crowd struct{ arrivals []activities.Arrival }

func (c *crowd) Feed(string) activities.Feed                     { return c }
func (c *crowd) Reserve(context.Context, postrider.Target) error { return nil }
func (c *crowd) Began(string)                                    {}
func (*crowd) Answered(string, bool) string                      { return "" }
func (c *crowd) Done(string)                                     {}

// Next implements [activities.Feed].
func (c *crowd) Next(context.Context) []activities.Arrival {
	arrivals := c.arrivals
	c.arrivals = nil
	return arrivals
}

// deliver runs Deliver for 512 deliveries in virtual time.
func deliver(t *testing.T, db activities.Store, poster activities.Poster) {
	t.Helper()
	in := activities.DeliverInput{WorkflowID: batchID}
	crowd := &crowd{}
	for i := range 512 {
		delivery := postrider.Delivery{ID: fmt.Sprintf("dlv_%d", i), WorkflowID: in.WorkflowID}
		crowd.arrivals = append(crowd.arrivals, activities.Arrival{
			DeliveryID: delivery.ID, Target: &postrider.Target{SigningMethod: signing.None, Delivery: delivery},
		})
	}
	acts := activities.New(activities.Config{
		Store: db, Poster: poster, Metrics: activities.NewMetrics(prometheus.NewRegistry()), Logger: slog.New(slog.DiscardHandler),
		Now: time.Now, Random: func() float64 { return 0.5 }, Process: crowd,
	})
	reports, err := acts.Deliver(t.Context(), in)
	require.NoError(t, err)
	require.Len(t, reports, 512)
}

// Guards against attempts that begin so late in a batch that their timeouts end after the
// activity's or after their leases.
func TestAttemptsOfABatchBeginSoon(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		poster := &hanging{}
		asked := time.Now()
		deliver(t, takesAll{}, poster)
		require.Len(t, poster.began, 512)
		require.LessOrEqual(t, poster.began[511].Sub(asked), time.Second)
		require.Positive(t, poster.began[511].Sub(asked), "they waited for tokens at first")
	})
}

// ledger is a poster whose receivers answer at once, and a store that records no attempt before
// all were answered.
type ledger struct {
	activities.Store
	posted sync.WaitGroup
}

func (l *ledger) Record(context.Context, []postrider.Outcome) error {
	l.posted.Wait()
	return nil
}

// Post implements [activities.Poster].
func (l *ledger) Post(context.Context, egress.Request) (postrider.Attempt, time.Duration, error) {
	l.posted.Done()
	return postrider.Attempt{StartedAt: time.Now(), Result: postrider.ResultSuccess}, 0, nil
}

// Guards against attempts that wait for the records of others.
func TestRecordsDelayNoAttempt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := &ledger{}
		l.posted.Add(512)
		asked := time.Now()
		deliver(t, l, l)
		require.Zero(t, time.Since(asked))
	})
}

// chain is a process in which each attempt passes its permit on to the next delivery, and a
// store that records the outcomes.
type chain struct {
	crowd
	activities.Store

	mu       sync.Mutex
	answered []string
	outcomes []postrider.Outcome
}

// Feed implements [activities.Process].
func (c *chain) Feed(string) activities.Feed { return &c.crowd }

// Answered implements [activities.Process].
func (c *chain) Answered(id string, _ bool) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answered = append(c.answered, id)
	return "after " + id
}

// Record implements [activities.Store].
func (c *chain) Record(_ context.Context, outcomes []postrider.Outcome) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.outcomes = append(c.outcomes, outcomes...)
	return nil
}

// Post implements [activities.Poster].
func (*chain) Post(context.Context, egress.Request) (postrider.Attempt, time.Duration, error) {
	return postrider.Attempt{StartedAt: time.Now(), Result: postrider.ResultSuccess}, 0, nil
}

// Guards max_in_flight: the record that ends an attempt's permit must name the successor, which
// has begun by then. An attempt that makes no request passes its permit on as well.
func TestRecordNamesTheSuccessor(t *testing.T) {
	t.Parallel()
	c := &chain{}
	for id, state := range map[string]postrider.DeliveryState{"dlv_1": postrider.StateDelivering, "dlv_2": postrider.StateCancelled} {
		c.arrivals = append(c.arrivals, activities.Arrival{DeliveryID: id, Target: &postrider.Target{
			SigningMethod: signing.None, Delivery: postrider.Delivery{ID: id, WorkflowID: batchID, State: state},
		}})
	}
	acts := activities.New(activities.Config{
		Store: c, Poster: c, Process: c, Metrics: activities.NewMetrics(prometheus.NewRegistry()),
		Logger: slog.New(slog.DiscardHandler), Now: time.Now, Random: func() float64 { return 0.5 },
	})
	_, err := acts.Deliver(t.Context(), activities.DeliverInput{WorkflowID: batchID})
	require.NoError(t, err)
	require.ElementsMatch(t, []string{"dlv_1", "dlv_2"}, c.answered, "each once")
	require.Len(t, c.outcomes, 1)
	require.Equal(t, "dlv_1", c.outcomes[0].DeliveryID)
	require.Equal(t, "after dlv_1", c.outcomes[0].Successor)
}
