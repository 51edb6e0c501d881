package worker_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
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

// Guards against workflows that carry others' deliveries, and against ids by which a
// second start could not be told from the first.
func TestDispatcherGivesEachItsOwnWorkflow(t *testing.T) {
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

func TestDispatcherKeepsItsLimit(t *testing.T) {
	t.Parallel()
	b := setup(t, 2, worker.BatchingNever)
	b.prove(b.webhook, 3)
	ids := b.publish(5)
	b.run()
	b.awaitAttempts(2)
	b.dispatcher.Done("dlv_of_another_process")
	for n := 3; n <= 5; n++ {
		// A place is freed, and exactly one more start follows: the order of starts is
		// the order of acceptance, so the next one tells that none came between.
		b.dispatcher.Done(b.temporal.attempted()[n-3])
		b.awaitAttempts(n)
	}
	require.ElementsMatch(t, ids, b.temporal.attempted())
}

func TestDispatcherTakesAStartedWorkflowForHandedOver(t *testing.T) {
	t.Parallel()
	b := setup(t, 100, worker.BatchingNever)
	b.temporal.fail = func(context.Context, int) error { return workflows.ErrAlreadyStarted }
	first := b.publish(1)
	b.run()
	eventually(t, func() bool { return b.temporal.startCount() == 1 })
	b.publish(1) // a claim that would find the first, had it been given back
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

// Guards against waiting for a lease after a stop: what was not handed over is given back
// at once, whether its start was refused, went on or had not begun.
func TestDispatcherGivesBackWhatItCouldNotHandOver(t *testing.T) {
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

// Guards against places held until their leases end where Temporal gives workflows to
// other workers than those that started them.
func TestDispatcherFreesWhatAnotherWorkerAttempted(t *testing.T) {
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
	// One was attempted elsewhere, the others are being attempted there.
	require.NoError(t, b.db.Record(t.Context(), []postrider.Outcome{retrying(ids[0], b.webhook.ID)}))
	started(4)
	// A look later the second has been attempted, too; nobody else's place was freed.
	require.NoError(t, b.db.Record(t.Context(), []postrider.Outcome{retrying(ids[1], b.webhook.ID)}))
	started(5)
	var known []string
	for _, c := range b.temporal.started() {
		known = append(known, c.ids()...)
	}
	require.ElementsMatch(t, ids[:5], known)
}

func TestBacklogMetrics(t *testing.T) {
	t.Parallel()
	b := setup(t, 10, worker.BatchingNever)
	now := time.Now().Add(time.Minute)
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(worker.NewBacklog(b.db, func() time.Time { return now }, slog.New(slog.DiscardHandler)))
	count, err := testutil.GatherAndCount(registry)
	require.NoError(t, err)
	require.Equal(t, 2, count)

	b.publish(3)
	families, err := registry.Gather()
	require.NoError(t, err)
	values := map[string]float64{}
	for _, family := range families {
		values[family.GetName()] = family.GetMetric()[0].GetGauge().GetValue()
	}
	require.InDelta(t, 3, values["postrider_backlog_pending"], 0)
	require.InDelta(t, 60, values["postrider_backlog_oldest_age_seconds"], 30)
}
