package worker

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
	"postrider.dev/postrider/activities"
)

// clock is a clock that a test moves. One goroutine uses it.
type clock struct{ at time.Time }

func newClock() *clock { return &clock{at: time.Date(2026, 3, 14, 9, 26, 53, 0, time.UTC)} }

func (c *clock) now() time.Time           { return c.at }
func (c *clock) advance(by time.Duration) { c.at = c.at.Add(by) }

// opened returns an open batch whose activity runs here and has taken size deliveries.
func opened(t *testing.T, s *batches, size int) *batch {
	t.Helper()
	b := newBatch(postrider.BatchWorkflowID("1"), s.now())
	require.False(t, s.assign(b, size))
	b.arrive(make([]activities.Arrival, size))
	d := &Dispatcher{batches: s}
	require.Equal(t, activities.Feed(b), d.Feed(b.workflowID))
	require.Len(t, b.Next(t.Context()), size)
	return b
}

func newTestBatches() (*batches, *clock) {
	c := newClock()
	return newBatches(newInflight(1000, 0, c.now), c.now), c
}

// Guards against deliveries that are claimed for a batch which ends meanwhile: they would
// wait for their leases to expire.
func TestBatchDoesNotEndDuringAClaim(t *testing.T) {
	t.Parallel()
	s, c := newTestBatches()
	b := opened(t, s, 5)
	require.Same(t, b, s.current(t.Context()))
	c.advance(openLonger)
	arrivals, wait := b.next()
	require.Empty(t, arrivals)
	require.Positive(t, wait, "it waits for the claim")
	require.True(t, s.assign(b, 1))
	b.letGo()
	_, wait = b.next()
	require.Positive(t, wait, "and for the claimed delivery")
	b.arrive([]activities.Arrival{{DeliveryID: "dlv_1"}})
	require.Len(t, b.Next(t.Context()), 1)
	require.Empty(t, b.Next(t.Context()))
}

func TestBatchThatHasEndedAcceptsNoClaims(t *testing.T) {
	t.Parallel()
	s, c := newTestBatches()
	b := opened(t, s, 2)
	c.advance(openFor)
	require.Empty(t, b.Next(t.Context()))
	c.advance(-time.Millisecond) // the claim read the clock a moment earlier
	require.Nil(t, s.current(t.Context()))
}

func TestBatchCarriesUpToItsMaximum(t *testing.T) {
	t.Parallel()
	s, _ := newTestBatches()
	b := opened(t, s, maxBatch-1)
	require.Same(t, b, s.current(t.Context()))
	require.Equal(t, 1, b.capacity())
	require.True(t, s.assign(b, 1))
	b.letGo()
	require.Nil(t, s.current(t.Context()))
	b.arrive(make([]activities.Arrival, 1))
	require.Len(t, b.Next(t.Context()), 1)
	require.Empty(t, b.Next(t.Context()))
}

// Guards against deliveries that join a batch whose activity was cut off.
func TestBatchWithoutItsActivityAcceptsNoClaims(t *testing.T) {
	t.Parallel()
	s, _ := newTestBatches()
	b := opened(t, s, 5)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.Empty(t, b.Next(ctx))
	require.Nil(t, s.current(t.Context()))
}

func TestNextBatchTakesOver(t *testing.T) {
	t.Parallel()
	s, c := newTestBatches()
	b := opened(t, s, minForNext)
	require.False(t, s.needsNext())
	c.advance(nextAfter)
	require.True(t, s.needsNext())
	next := newBatch(postrider.BatchWorkflowID("2"), c.now())
	s.setUpcoming(next)
	require.False(t, s.needsNext(), "one at a time")
	c.advance(openFor) // the next one is late
	require.Same(t, b, s.current(t.Context()))
	b.letGo()
	require.NotNil(t, (&Dispatcher{batches: s}).Feed(next.workflowID))
	require.Same(t, next, s.current(t.Context()))
	require.Empty(t, b.Next(t.Context()))
	c.advance(openFor - time.Millisecond) // its time begins when it takes over
	next.letGo()
	require.Same(t, next, s.current(t.Context()))
}

func TestBatchIsFilledBeforeTheNextTakesOver(t *testing.T) {
	t.Parallel()
	s, c := newTestBatches()
	b := opened(t, s, maxBatch-minCapacity)
	require.True(t, s.needsNext())
	next := newBatch(postrider.BatchWorkflowID("2"), c.now())
	s.setUpcoming(next)
	require.NotNil(t, (&Dispatcher{batches: s}).Feed(next.workflowID))
	require.Same(t, b, s.current(t.Context()))
	s.assign(b, 1)
	b.letGo()
	require.Same(t, next, s.current(t.Context()))
}

func TestNextBatchThatCouldNotBeStartedIsForgotten(t *testing.T) {
	t.Parallel()
	s, c := newTestBatches()
	b := opened(t, s, minForNext)
	c.advance(nextAfter)
	next := newBatch(postrider.BatchWorkflowID("2"), c.now())
	s.setUpcoming(next)
	s.startFailed(next)
	require.Empty(t, s.feeds)
	require.Same(t, b, s.current(t.Context()))
	require.True(t, s.needsNext(), "another one is opened")
	require.True(t, s.now().After(s.remoteUntil), "a failed start is no sign of another worker")
}

// Guards against targets that stay in memory for attempts which other workers made.
func TestFeedsOfOtherWorkersAreForgotten(t *testing.T) {
	t.Parallel()
	s, c := newTestBatches()
	b := newBatch(postrider.BatchWorkflowID("1"), c.now())
	b.seal()
	require.False(t, s.assign(b, 1))
	c.advance(Lease)
	s.forgetFeeds()
	require.Len(t, s.feeds, 1)
	c.advance(time.Second)
	s.forgetFeeds()
	require.Empty(t, s.feeds)
}

// Guards against the conclusion that another worker has the workflow, after which no batch
// stays open for a minute, where there are other reasons for a late activity.
func TestLateActivityIsASignOfAnotherWorker(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		late, running, attached, sign bool
	}{
		"Temporal has not started the workflow": {late: true},
		"the activity began a moment later":     {late: true, running: true, attached: true},
		"the process stops":                     {running: true},
		"another worker has the workflow":       {late: true, running: true, sign: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, clock := newTestBatches()
			b := newBatch(postrider.BatchWorkflowID("1"), clock.now())
			require.False(t, s.assign(b, 1))
			if c.running {
				s.setRunning(b)
			}
			if c.attached {
				require.Same(t, b, s.takeFeed(b.workflowID))
			}
			s.abandon(b, c.late)
			require.Equal(t, c.sign, clock.now().Before(s.remoteUntil))
			require.False(t, b.hold(), "no claim joins it")
			require.Nil(t, s.current(t.Context()))
		})
	}
}

// Guards against a process that opens batches which other workers run: each would wait for its
// activity in vain.
func TestNoBatchStaysOpenWhileAnotherWorkerHasThem(t *testing.T) {
	t.Parallel()
	s, c := newTestBatches()
	s.remoteUntil = c.now().Add(remoteFor)
	b := newBatch(postrider.BatchWorkflowID("1"), c.now())
	require.False(t, s.assign(b, 1))
	require.Nil(t, s.current(t.Context()))
	require.False(t, b.hold())
	require.False(t, s.needsNext())

	c.advance(remoteFor + time.Second)
	require.Same(t, s.open, opened(t, s, 1))
}

// Guards against a batch that a claim still waits for when its workflow could not be started.
func TestClaimDoesNotWaitForABatchThatFailedToStart(t *testing.T) {
	t.Parallel()
	s, c := newTestBatches()
	b := newBatch(postrider.BatchWorkflowID("1"), c.now())
	require.False(t, s.assign(b, 1))
	found := make(chan *batch)
	go func() { found <- s.current(t.Context()) }()
	s.startFailed(b)
	require.Nil(t, <-found)
	require.Nil(t, s.takeFeed(b.workflowID))
	require.False(t, b.running)
}

// A shutdown does not wait for a batch's activity.
func TestClaimStopsWaitingForABatchWhenTheProcessStops(t *testing.T) {
	t.Parallel()
	s, c := newTestBatches()
	b := newBatch(postrider.BatchWorkflowID("1"), c.now())
	require.False(t, s.assign(b, 1))
	s.setRunning(b)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.Nil(t, s.current(ctx))
	require.Zero(t, s.remoteUntil, "it says nothing about another worker")
}

// Guards the end of a process: the activities of both batches end, also that of a batch whose
// start was in progress.
func TestCloseEndsTheOpenAndTheUpcomingBatch(t *testing.T) {
	t.Parallel()
	s, c := newTestBatches()
	b := opened(t, s, minForNext)
	c.advance(nextAfter)
	upcoming := newBatch(postrider.BatchWorkflowID("2"), c.now())
	s.setUpcoming(upcoming)
	starting := make(chan struct{})
	s.starts.Go(func() { <-starting })
	closed := make(chan struct{})
	go func() {
		s.close()
		close(closed)
	}()
	require.False(t, received(closed), "a start is in progress")
	close(starting)
	<-closed
	require.Empty(t, b.Next(t.Context()))
	require.Same(t, upcoming, s.takeFeed(upcoming.workflowID))
	require.Empty(t, upcoming.Next(t.Context()))
}
