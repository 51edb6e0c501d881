package worker_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
	"postrider.dev/postrider/worker"
	"postrider.dev/postrider/workflows"
)

func TestDispatcherHandsEverythingOverOnce(t *testing.T) {
	t.Parallel()
	for _, batching := range []worker.Batching{worker.BatchingNever, worker.BatchingAlways, worker.BatchingAuto} {
		t.Run(string(batching), func(t *testing.T) {
			t.Parallel()
			b := setup(t, 100, batching)
			b.answering()
			before := b.publish(7)
			stop := b.run()
			after := b.publish(7)
			b.awaitAttempts(14)
			stop()
			require.ElementsMatch(t, append(before, after...), b.temporal.attempted())
			require.Zero(t, b.pending())
			b.requireNotLeased(append(before, after...))
		})
	}
}

// Guards against workflows that carry a second delivery, and against workflow ids that do not
// reveal a second start.
func TestDispatcherGivesEachDeliveryItsOwnWorkflow(t *testing.T) {
	t.Parallel()
	b := setup(t, 100, worker.BatchingNever)
	b.answering()
	ids := b.publish(5)
	b.run()
	b.awaitAttempts(5)
	var workflowIDs, wanted []string
	for _, c := range b.temporal.started() {
		require.Equal(t, c.ids(), c.arrived)
		workflowIDs = append(workflowIDs, c.workflowID)
	}
	for _, id := range ids {
		wanted = append(wanted, postrider.DeliveryWorkflowID(id))
	}
	require.ElementsMatch(t, wanted, workflowIDs)
}

func TestDispatcherKeepsToInFlight(t *testing.T) {
	t.Parallel()
	b := setup(t, 2, worker.BatchingNever)
	b.prove(b.webhook, 3)
	ids := b.publish(5)
	b.run()
	b.awaitAttempts(2)
	b.dispatcher.Done("dlv_of_another_process")
	for n := 3; n <= 5; n++ {
		// One more start follows each freed slot. Starts keep the order of acceptance, so a
		// second one would show in the next step.
		b.dispatcher.Done(b.temporal.attempted()[n-3])
		b.awaitAttempts(n)
	}
	require.ElementsMatch(t, ids, b.temporal.attempted())
}

func TestStartedWorkflowKeepsItsDelivery(t *testing.T) {
	t.Parallel()
	b := setup(t, 100, worker.BatchingNever)
	b.temporal.fail = func(context.Context, int) error { return workflows.ErrAlreadyStarted }
	first := b.publish(1)
	b.run()
	eventually(t, func() bool { return b.temporal.startCount() == 1 })
	b.publish(1) // its claim would return the first delivery, had that been released
	eventually(t, func() bool { return b.temporal.startCount() == 2 && b.pending() == 0 })
	leased, err := b.db.Leased(t.Context(), first)
	require.NoError(t, err)
	require.Equal(t, first, leased)
}

func TestDispatcherTriesAgainWhileTemporalIsAway(t *testing.T) {
	t.Parallel()
	b := setup(t, 100, worker.BatchingNever)
	b.answering()
	b.temporal.fail = func(_ context.Context, start int) error {
		if start < 2 {
			return errRefused
		}
		return nil
	}
	id := b.publish(1)[0]
	b.run()
	b.awaitAttempts(1)
	require.Equal(t, 3, b.temporal.startCount())
	require.Equal(t, []string{id}, b.temporal.attempted())
	require.Equal(t, b.temporal.started()[0].workflowID, b.delivery(id).WorkflowID)
}

// Guards against deliveries that wait for their leases after a stop, whether their start was
// refused, was in progress or had not begun.
func TestStopReleasesDeliveriesWithoutAWorkflow(t *testing.T) {
	t.Parallel()
	for name, batching := range map[string]worker.Batching{"own": worker.BatchingNever, "batch": worker.BatchingAlways} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, 100, batching)
			b.prove(b.webhook, 30)
			b.temporal.fail = func(ctx context.Context, start int) error {
				if start > 0 {
					<-ctx.Done()
				}
				return errRefused
			}
			ids := b.publish(20)
			stop := b.run()
			eventually(t, func() bool { return b.temporal.startCount() > 1 })
			stop()
			require.EqualValues(t, len(ids), b.pending())
			b.requireNotLeased(ids)
			require.Empty(t, b.temporal.attempted())
		})
	}
}

// Guards against slots that stay taken until their leases expire when Temporal gives the
// workflows to another worker.
func TestDispatcherFreesSlotsOfRemoteAttempts(t *testing.T) {
	t.Parallel()
	b := setup(t, 3, worker.BatchingNever)
	b.temporal.attach = func(string) bool { return false }
	b.prove(b.webhook, 3)
	ids := b.publish(6)
	b.run()
	started := func(n int) {
		eventually(t, func() bool {
			b.advance(10 * time.Millisecond)
			return b.temporal.startCount() >= n
		})
		require.Equal(t, n, b.temporal.startCount())
	}
	started(3)
	// Another worker has made the first attempt, and is making the others.
	require.NoError(t, b.db.Record(t.Context(), []postrider.Outcome{retrying(ids[0], b.webhook.ID)}))
	started(4)
	// One check later it has made the second attempt, too. No other slot was freed.
	require.NoError(t, b.db.Record(t.Context(), []postrider.Outcome{retrying(ids[1], b.webhook.ID)}))
	started(5)
	var known []string
	for _, c := range b.temporal.started() {
		known = append(known, c.ids()...)
	}
	require.ElementsMatch(t, ids[:5], known)
}
