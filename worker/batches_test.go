package worker_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
	"postrider.dev/postrider/worker"
)

func TestDispatcherBatchesAtHighRates(t *testing.T) {
	t.Parallel()
	b := setup(t, 100, worker.BatchingAuto)
	b.answering()
	b.run()
	for n := range 3 {
		b.publish(1)
		b.awaitAttempts(n + 1)
		b.advance(10 * time.Second)
	}
	require.Len(t, b.temporal.started(), 3, "each delivery has its own workflow")

	b.publish(3)
	b.awaitAttempts(6)
	own := len(b.temporal.started())
	many := b.publish(7)
	b.awaitAttempts(13)
	all := b.temporal.started()
	require.Len(t, all, own+1, "one workflow carries all")
	for _, c := range all[:own] {
		require.True(t, strings.HasPrefix(c.workflowID, "delivery/"), c.workflowID)
	}
	require.True(t, postrider.FirstAttemptsOnly(all[own].workflowID))
	require.Equal(t, many, all[own].arrived)
	require.Equal(t, all[own].workflowID, b.delivery(many[0]).WorkflowID)

	b.advance(20 * time.Second)
	b.publish(1)
	b.awaitAttempts(14)
	all = b.temporal.started()
	require.True(t, strings.HasPrefix(all[len(all)-1].workflowID, "delivery/"), "the rate is low again")
}

func TestLaterClaimsJoinTheOpenBatch(t *testing.T) {
	t.Parallel()
	b := setup(t, 100, worker.BatchingAlways)
	b.answering()
	b.run()
	var ids []string
	for range 4 {
		ids = append(ids, b.publish(3)...)
		b.awaitAttempts(len(ids))
		b.advance(100 * time.Millisecond)
	}
	all := b.temporal.started()
	require.Len(t, all, 1)
	require.Equal(t, ids, all[0].arrived)
	require.False(t, all[0].ended)
	require.NotEmpty(t, all[0].known)
}

// Guards against a gap between batches, in which deliveries wait for a workflow.
func TestDispatcherOpensTheNextBatchInTime(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		first  int           // deliveries
		after  time.Duration // when the next is opened
		second int           // deliveries that nearly fill the first batch
		end    time.Duration // or the time after which the first batch is too old
	}{
		"old":  {first: 3, after: 700 * time.Millisecond, second: 1, end: 300 * time.Millisecond},
		"full": {first: 128, second: 320},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, 200, worker.BatchingAlways)
			b.prove(b.webhook, 150)
			b.answering()
			b.run()
			ids := b.publish(c.first)
			b.awaitAttempts(len(ids))
			b.advance(c.after)
			ids = append(ids, b.publish(1)...)
			eventually(t, func() bool {
				all := b.temporal.started()
				return len(all) == 2 && all[1].attached
			})
			require.Empty(t, b.temporal.started()[1].known, "it was opened before a claim")
			ids = append(ids, b.publish(c.second)...)
			b.awaitAttempts(len(ids))
			// The targets of two claims are read concurrently and arrive in any order.
			require.ElementsMatch(t, ids, b.temporal.started()[0].arrived, "the first is filled")
			b.advance(c.end)
			last := b.publish(1)
			b.awaitAttempts(len(ids) + 1)
			require.Equal(t, last, b.temporal.started()[1].arrived)
			eventually(t, func() bool { return b.temporal.started()[0].ended })
			require.Len(t, b.temporal.started(), 2)
		})
	}
}

func TestBatchEndsByItsAge(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		size int
		age  time.Duration
	}{
		"few":  {size: 2, age: time.Second},
		"many": {size: 5, age: 3 * time.Second}, // it stays open for the next batch
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, 100, worker.BatchingAlways)
			b.answering()
			b.prove(b.webhook, 2)
			b.run()
			b.publish(c.size)
			b.awaitAttempts(c.size)
			b.advance(c.age)
			eventually(t, func() bool { return b.temporal.started()[0].ended })
			require.Len(t, b.temporal.started()[0].arrived, c.size)
		})
	}
}

func TestEachDeliveryOfABatchFreesItsOwnSlot(t *testing.T) {
	t.Parallel()
	b := setup(t, 3, worker.BatchingAlways)
	b.prove(b.webhook, 3)
	ids := b.publish(5)
	b.run()
	b.awaitAttempts(3)
	b.dispatcher.Done(ids[1])
	b.awaitAttempts(4)
	b.dispatcher.Done(ids[1]) // again
	b.dispatcher.Done(ids[3])
	b.awaitAttempts(5)
	require.Equal(t, ids, b.temporal.attempted())
}

func TestBatchIsReleasedWhenItsStartFails(t *testing.T) {
	t.Parallel()
	b := setup(t, 100, worker.BatchingAlways)
	b.answering()
	b.temporal.fail = func(_ context.Context, start int) error {
		if start == 0 {
			return errRefused
		}
		return nil
	}
	ids := b.publish(4)
	b.run()
	b.awaitAttempts(4)
	require.ElementsMatch(t, ids, b.temporal.attempted())
	require.Equal(t, ids, b.temporal.started()[0].ids(), "the second start")
}

// Guards against deliveries that wait for a next batch whose workflow was never started.
func TestDispatcherGoesOnWithoutTheNextBatch(t *testing.T) {
	t.Parallel()
	b := setup(t, 100, worker.BatchingAlways)
	b.answering()
	b.temporal.fail = func(_ context.Context, start int) error {
		if start == 1 {
			return errRefused
		}
		return nil
	}
	b.run()
	ids := b.publish(3)
	b.awaitAttempts(3)
	b.advance(700 * time.Millisecond)
	ids = append(ids, b.publish(1)...)
	eventually(t, func() bool { return b.temporal.startCount() >= 2 })
	b.advance(400 * time.Millisecond) // the first batch is too old
	ids = append(ids, b.publish(2)...)
	b.awaitAttempts(6)
	require.ElementsMatch(t, ids, b.temporal.attempted())
	eventually(t, func() bool { return b.temporal.started()[0].ended })
}

// Guards against deliveries that wait in one process while another has their workflow.
func TestBatchesThatOtherWorkersRun(t *testing.T) {
	t.Parallel()
	b := setup(t, 8, worker.BatchingAlways)
	b.prove(b.webhook, 8)
	b.temporal.attach = func(workflowID string) bool { // another worker reads its deliveries from the database
		ctx := context.WithoutCancel(t.Context())
		carried, err := b.db.Carried(ctx, workflowID)
		if err != nil {
			t.Errorf("carried: %v", err)
		}
		for _, id := range carried {
			b.succeed(workflowID, id)
		}
		return false
	}
	stop := b.run()
	var ids []string
	for range 4 { // more deliveries than slots, so slots must be freed
		ids = append(ids, b.publish(6)...)
		eventually(t, func() bool {
			b.advance(20 * time.Millisecond)
			if b.pending() > 0 {
				return false
			}
			leased, err := b.db.Leased(t.Context(), ids) // all are claimed, so the rest was attempted
			return err == nil && len(leased) == 0
		})
	}
	stop()
	b.requireNotLeased(ids)
	carried := map[string]int{}
	for _, c := range b.temporal.started() {
		require.NotEmpty(t, c.known, "no claim joins a workflow after its start")
		for _, id := range c.ids() {
			carried[id]++
		}
	}
	require.Len(t, carried, len(ids))
	for _, id := range ids {
		require.Equal(t, 1, carried[id])
		require.Equal(t, postrider.StateSucceeded, b.delivery(id).State)
	}
}

func TestBatchesStayOpenAgainAfterAMinute(t *testing.T) {
	t.Parallel()
	b := setup(t, 100, worker.BatchingAlways)
	b.answering()
	late := make(chan struct{})
	first := make(chan string, 1)
	b.temporal.attach = func(workflowID string) bool {
		select {
		case first <- workflowID:
			<-late
		default:
		}
		return true
	}
	b.run()
	b.publish(1)
	eventually(t, func() bool { return len(b.temporal.started()) == 1 })
	b.publish(2) // it waits for the batch in vain
	b.awaitAttempts(2)
	b.publish(2)
	b.awaitAttempts(4)
	eventually(t, func() bool {
		all := b.temporal.started()
		return len(all) == 3 && all[1].ended && all[2].ended
	}, "closed batches carry only the deliveries of their start")
	close(late)
	b.awaitAttempts(5)
	eventually(t, func() bool { return b.temporal.started()[0].ended }, "a late activity gets its deliveries, too")

	b.advance(61 * time.Second)
	b.publish(2)
	b.awaitAttempts(7)
	b.publish(2)
	b.awaitAttempts(9)
	require.Len(t, b.temporal.started(), 4, "later claims join it")
	require.Len(t, b.temporal.started()[3].arrived, 4)
}

func TestFeedsEndWithTheDispatcher(t *testing.T) {
	t.Parallel()
	b := setup(t, 100, worker.BatchingAlways)
	stop := b.run()
	b.publish(3)
	b.awaitAttempts(3)
	require.False(t, b.temporal.started()[0].ended)
	b.advance(700 * time.Millisecond)
	b.publish(1)
	eventually(t, func() bool { return len(b.temporal.started()) == 2 })
	stop() // waits for all activities
	for _, c := range b.temporal.started() {
		require.True(t, c.ended)
	}
}

func TestFeedIsGivenOnce(t *testing.T) {
	t.Parallel()
	b := setup(t, 100, worker.BatchingAlways)
	b.run()
	b.publish(1)
	b.awaitAttempts(1)
	require.Nil(t, b.dispatcher.Feed(b.temporal.started()[0].workflowID))
	require.Nil(t, b.dispatcher.Feed("batch/of_another_process"))
}
