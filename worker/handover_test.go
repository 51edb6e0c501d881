package worker_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
	"postrider.dev/postrider/worker"
)

// fail returns n deliveries of a webhook whose first attempts failed in a batch.
func (b *bench) fail(w postrider.Webhook, n int) []string {
	b.t.Helper()
	ids := b.publishTo(w, n)
	batch := postrider.BatchWorkflowID("earlier_" + w.ID)
	claimed, err := b.db.Claim(b.t.Context(), postrider.ClaimRequest{Limit: n, Lease: time.Minute, WorkflowID: batch})
	require.NoError(b.t, err)
	require.Len(b.t, claimed, n)
	var outcomes []postrider.Outcome
	for _, id := range ids {
		outcome := retrying(id, w.ID)
		outcome.WorkflowID, outcome.Leaves = batch, true
		outcomes = append(outcomes, outcome)
	}
	require.NoError(b.t, b.db.Record(b.t.Context(), outcomes))
	return ids
}

func membersOf(h postrider.Handover) []string {
	var ids []string
	for _, d := range h.Deliveries {
		ids = append(ids, d.ID)
	}
	return ids
}

func TestRetriesOfAWebhookShareAWorkflow(t *testing.T) {
	t.Parallel()
	b := setup(t, 10, worker.BatchingAuto)
	failed := map[string][]string{}
	for _, w := range []postrider.Webhook{b.webhook, b.subscribe()} {
		failed[w.ID] = b.fail(w, 3)
	}
	b.run()
	eventually(t, func() bool { return len(b.temporal.handedOver()) >= 2 })
	made := b.temporal.handedOver()
	require.Len(t, made, 2)
	for _, h := range made {
		require.True(t, postrider.CancelledWith(h.WorkflowID))
		require.ElementsMatch(t, failed[h.Deliveries[0].WebhookID], membersOf(h))
		for _, d := range h.Deliveries {
			require.Len(t, h.Attempts[d.ID], 1)
			require.Equal(t, h.WorkflowID, d.WorkflowID)
		}
	}
	require.Zero(t, b.pending())
	require.Zero(t, b.temporal.startCount(), "their first attempts were made")
}

func TestRetriesHaveTheirOwnWorkflowsWithoutBatching(t *testing.T) {
	t.Parallel()
	b := setup(t, 10, worker.BatchingNever)
	ids := b.fail(b.webhook, 3)
	b.run()
	eventually(t, func() bool { return len(b.temporal.handedOver()) >= 3 })
	var carried []string
	for _, h := range b.temporal.handedOver() {
		require.Len(t, h.Deliveries, 1)
		carried = append(carried, membersOf(h)...)
	}
	require.ElementsMatch(t, ids, carried)
}

func TestRetriesAreReleasedWhenTheirStartFails(t *testing.T) {
	t.Parallel()
	b := setup(t, 10, worker.BatchingAuto)
	refused := false
	b.temporal.retries = func(context.Context, postrider.Handover) error {
		if !refused {
			refused = true
			return errRefused
		}
		return nil
	}
	ids := b.fail(b.webhook, 2)
	b.run()
	eventually(t, func() bool { return len(b.temporal.handedOver()) == 2 })
	made := b.temporal.handedOver()
	require.ElementsMatch(t, ids, membersOf(made[0]))
	require.ElementsMatch(t, ids, membersOf(made[1]))
	require.NotEqual(t, made[0].WorkflowID, made[1].WorkflowID)
}

// Guards against first attempts that wait for starts of retries, and against a stop after
// which such retries wait for their leases.
func TestFirstAttemptsDoNotWaitForRetries(t *testing.T) {
	t.Parallel()
	b := setup(t, 100, worker.BatchingAlways)
	b.answering()
	b.temporal.retries = func(ctx context.Context, _ postrider.Handover) error {
		<-ctx.Done()
		return ctx.Err()
	}
	for _, w := range []postrider.Webhook{b.webhook, b.subscribe(), b.subscribe()} {
		b.fail(w, 2)
	}
	stop := b.run()
	eventually(t, func() bool { return len(b.temporal.handedOver()) == 2 }, "two starts at once")
	b.publish(7)
	b.awaitAttempts(7)
	require.Len(t, b.temporal.handedOver(), 2)
	stop()
	require.EqualValues(t, 6, b.pending())
}

func TestCancelledDeliveryCancelsItsWorkflow(t *testing.T) {
	t.Parallel()
	b := setup(t, 10, worker.BatchingNever)
	b.temporal.cancel = func(_ context.Context, before int) error {
		if before == 0 {
			return errRefused
		}
		return nil
	}
	id := b.publish(1)[0]
	claimed, err := b.db.Claim(t.Context(), postrider.ClaimRequest{Limit: 10, Lease: time.Minute})
	require.NoError(t, err)
	require.Len(t, claimed, 1)
	require.NoError(t, b.db.Record(t.Context(), []postrider.Outcome{retrying(id, b.webhook.ID)}))
	require.NoError(t, b.db.DeleteWebhook(t.Context(), "ws_1", b.webhook.ID))
	b.run()
	eventually(t, func() bool { return len(b.temporal.cancellations()) == 2 }, "a failed cancellation is tried again")
	own := postrider.DeliveryWorkflowID(id)
	require.Equal(t, []string{own, own}, b.temporal.cancellations())
	require.Zero(t, b.temporal.startCount())
	eventually(t, func() bool {
		_, waiting, err := b.db.NextDue(t.Context())
		return err == nil && !waiting
	}, "a cancellation that succeeded is not repeated")
}
