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
)

// tenacious is a poster that keeps most attempts until their deadline, and a few for a
// moment. It is asked in virtual time.
type tenacious struct {
	mu    sync.Mutex
	began []time.Time
}

// Post implements [activities.Poster].
func (p *tenacious) Post(ctx context.Context, _ egress.Request) (postrider.Attempt, time.Duration, error) {
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

// takesAll is a store that records whatever it is given.
type takesAll struct{ activities.Store }

func (takesAll) Record(context.Context, []postrider.Outcome) error { return nil }

// crowd is a process that claimed many deliveries at once.
type crowd struct{ arrivals []activities.Arrival }

func (c *crowd) Feed(string) activities.Feed                     { return c }
func (c *crowd) Reserve(context.Context, postrider.Target) error { return nil }
func (c *crowd) Began(string)                                    {}
func (*crowd) Answered(string) string                            { return "" }
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
			DeliveryID: delivery.ID, Target: &postrider.Target{SigningMethod: postrider.SigningNone, Delivery: delivery},
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

// Guards against the last attempts of a batch being held back for so long that their
// timeout would end after the activity's grace, or the lease.
func TestABatchHoldsNothingBackForLong(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		poster := &tenacious{}
		asked := time.Now()
		deliver(t, takesAll{}, poster)
		require.Len(t, poster.began, 512)
		require.LessOrEqual(t, poster.began[511].Sub(asked), time.Second)
		require.Positive(t, poster.began[511].Sub(asked), "they were held back at first")
	})
}

// ledger is a store that records nothing before all have been answered, and the poster
// whose receivers answer at once.
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

// Guards against attempts being held back until others, which have their answers, are
// recorded.
func TestRecordsHoldNothingBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := &ledger{}
		l.posted.Add(512)
		asked := time.Now()
		deliver(t, l, l)
		require.Zero(t, time.Since(asked))
	})
}
