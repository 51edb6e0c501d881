package worker

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
	"postrider.dev/postrider/activities"
)

// clock is a time that a test moves. It is used by one goroutine.
type clock struct{ at time.Time }

func newClock() *clock { return &clock{at: time.Date(2026, 3, 14, 9, 26, 53, 0, time.UTC)} }

func (c *clock) now() time.Time           { return c.at }
func (c *clock) advance(by time.Duration) { c.at = c.at.Add(by) }

// opened returns a batch of so many deliveries that have arrived and whose activity runs.
func opened(t *testing.T, s *batches, size int) *batch {
	t.Helper()
	b := newBatch(postrider.BatchWorkflowID("1"), s.now())
	require.False(t, s.take(b, size))
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

// Guards against deliveries claimed for a batch that has ended meanwhile: they would wait
// for the end of their leases.
func TestBatchDoesNotEndWhileSomethingIsClaimedForIt(t *testing.T) {
	t.Parallel()
	s, c := newTestBatches()
	b := opened(t, s, 5)
	require.Same(t, b, s.current(t.Context()))
	c.advance(openLate)
	arrivals, wait := b.next()
	require.Empty(t, arrivals)
	require.Positive(t, wait, "it waits for what is claimed")
	require.True(t, s.take(b, 1))
	b.letGo()
	_, wait = b.next()
	require.Positive(t, wait, "and for its arrival")
	b.arrive([]activities.Arrival{{DeliveryID: "dlv_1"}})
	require.Len(t, b.Next(t.Context()), 1)
	require.Empty(t, b.Next(t.Context()))
}

func TestBatchThatEndedByItselfTakesNoMore(t *testing.T) {
	t.Parallel()
	s, c := newTestBatches()
	b := opened(t, s, 2)
	c.advance(openFor)
	require.Empty(t, b.Next(t.Context()))
	c.advance(-time.Millisecond) // it is looked at in the moment before
	require.Nil(t, s.current(t.Context()))
}

func TestBatchTakesSoMany(t *testing.T) {
	t.Parallel()
	s, _ := newTestBatches()
	b := opened(t, s, maxBatch-1)
	require.Same(t, b, s.current(t.Context()))
	require.Equal(t, 1, b.room())
	require.True(t, s.take(b, 1))
	b.letGo()
	require.Nil(t, s.current(t.Context()))
	b.arrive(make([]activities.Arrival, 1))
	require.Len(t, b.Next(t.Context()), 1)
	require.Empty(t, b.Next(t.Context()))
}

// Guards against a batch that is joined although its activity was cut off.
func TestBatchWhoseActivityEndsTakesNoMore(t *testing.T) {
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
	b := opened(t, s, worthIt)
	require.False(t, s.wanted())
	c.advance(nextFrom)
	require.True(t, s.wanted())
	next := newBatch(postrider.BatchWorkflowID("2"), c.now())
	s.opening(next)
	require.False(t, s.wanted(), "one at a time")
	c.advance(openFor) // late
	require.Same(t, b, s.current(t.Context()))
	b.letGo()
	require.NotNil(t, (&Dispatcher{batches: s}).Feed(next.workflowID))
	require.Same(t, next, s.current(t.Context()))
	require.Empty(t, b.Next(t.Context()))
	c.advance(openFor - time.Millisecond) // of a time that begins now
	next.letGo()
	require.Same(t, next, s.current(t.Context()))
}

func TestBatchIsFilledBeforeTheNext(t *testing.T) {
	t.Parallel()
	s, c := newTestBatches()
	b := opened(t, s, maxBatch-leastRoom)
	require.True(t, s.wanted())
	next := newBatch(postrider.BatchWorkflowID("2"), c.now())
	s.opening(next)
	require.NotNil(t, (&Dispatcher{batches: s}).Feed(next.workflowID))
	require.Same(t, b, s.current(t.Context()))
	s.take(b, 1)
	b.letGo()
	require.Same(t, next, s.current(t.Context()))
}

func TestNextBatchThatCouldNotBeStartedIsForgotten(t *testing.T) {
	t.Parallel()
	s, c := newTestBatches()
	b := opened(t, s, worthIt)
	c.advance(nextFrom)
	next := newBatch(postrider.BatchWorkflowID("2"), c.now())
	s.opening(next)
	s.failed(next)
	require.Empty(t, s.feeds)
	require.Same(t, b, s.current(t.Context()))
	require.True(t, s.wanted(), "another one")
	require.True(t, s.now().After(s.remote), "no sign of another worker")
}

// Guards against a process that keeps, for good, what it read for attempts that other
// workers made.
func TestFeedsOfOtherWorkersAreForgotten(t *testing.T) {
	t.Parallel()
	s, c := newTestBatches()
	b := newBatch(postrider.BatchWorkflowID("1"), c.now())
	b.only()
	require.False(t, s.take(b, 1))
	c.advance(Lease)
	s.forget()
	require.Len(t, s.feeds, 1)
	c.advance(time.Second)
	s.forget()
	require.Empty(t, s.feeds)
}
