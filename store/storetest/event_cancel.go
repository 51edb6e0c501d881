//nolint:thelper // these are the tests, not helpers of one
package storetest

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
)

func eventCancelTests() map[string]func(*testing.T, *Bundle) {
	return map[string]func(*testing.T, *Bundle){
		"an event is called off wherever it waits":         cancelEvent,
		"a fan-out makes nothing of what was called off":   cancelFanOut,
		"many deliveries of an event are called off":       cancelMany,
		"an event is called off by its publisher's id":     cancelByOwnID,
		"others of a carrier go on without one of it":      cancelOneOfMany,
		"an event of many in a fan-out is taken out of it": cancelOneOfFanOut,
	}
}

func (b *Bundle) cancelEvent(t *testing.T, id string) int {
	t.Helper()
	n, err := b.CancelEvent(t.Context(), b.Workspace, id)
	require.NoError(t, err)
	return n
}

func cancelEvent(t *testing.T, b *Bundle) {
	ctx := t.Context()
	inFlight, own, ready, paused, done := b.NewWebhook(t), b.NewWebhook(t), b.NewWebhook(t), b.NewWebhook(t), b.NewWebhook(t)
	b.pause(t, paused.ID)
	receipts, err := b.Publish(ctx, b.Publication(b.NewEvent("call.ended")))
	require.NoError(t, err)
	require.Equal(t, 5, receipts[0].Deliveries)
	other := b.PublishTo(t, ready.ID, 1)[0]
	byWebhook := map[string]string{}
	for _, id := range receipts[0].DeliveryIDs {
		byWebhook[b.read(t, id).WebhookID] = id
	}
	claimed := b.Claimed(t, 10)
	require.Len(t, claimed, 4)
	require.NoError(t, b.Record(ctx, []postrider.Outcome{
		b.Outcome(t, byWebhook[own.ID], 1, postrider.StateRetrying), b.Outcome(t, byWebhook[done.ID], 1, postrider.StateSucceeded),
	}))
	require.NoError(t, b.Release(ctx, []string{byWebhook[ready.ID], other}))

	counted := b.countCancelled()
	require.Equal(t, 4, b.cancelEvent(t, receipts[0].ID))
	require.Equal(t, 4, *counted)
	require.Zero(t, b.cancelEvent(t, receipts[0].ID), "it may be repeated")
	for _, w := range []postrider.Webhook{inFlight, own, ready, paused} {
		require.Equal(t, postrider.StateCancelled, b.State(t, byWebhook[w.ID]))
	}
	require.Equal(t, postrider.StateSucceeded, b.State(t, byWebhook[done.ID]))
	require.Equal(t, []postrider.Cancellation{{DeliveryID: byWebhook[own.ID], WorkflowID: "delivery/" + byWebhook[own.ID]}},
		b.cancellations(t, 10), "what is under way ends as it ends")
	require.Equal(t, map[string][]string{ready.ID: {other}}, b.Claimed(t, 10), "other events go on")

	// The request that was under way is kept.
	late := b.Outcome(t, byWebhook[inFlight.ID], 1, postrider.StateSucceeded)
	requireCode(t, postrider.CodeConflict, b.Record(ctx, []postrider.Outcome{late}))
	attempts, err := b.Attempts(ctx, byWebhook[inFlight.ID])
	require.NoError(t, err)
	require.Len(t, attempts, 1)
	b.resume(t, paused.ID)
	b.SweepAll(t)
	require.Empty(t, b.Claimed(t, 10))

	_, err = b.CancelEvent(ctx, b.Workspace, "evt_unknown")
	requireCode(t, postrider.CodeNotFound, err)
	_, err = b.CancelEvent(ctx, b.NewWorkspace(t), receipts[0].ID)
	requireCode(t, postrider.CodeNotFound, err)
}

func cancelByOwnID(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t)
	e := b.given("order-1", "call.ended")
	e.DeliverAt = ref(Start().Add(time.Hour))
	e.ExpiresAt = ref(Start().Add(2 * time.Hour))
	_, err := b.Publish(t.Context(), b.Publication(e))
	require.NoError(t, err)
	require.Equal(t, 1, b.cancelEvent(t, "order-1"))
	require.Zero(t, b.count(t.Context(), t, "SELECT COUNT(*) FROM outbox"))
	require.Zero(t, b.count(t.Context(), t, "SELECT COUNT(*) FROM expiries"))
	b.Clock.Advance(3 * time.Hour)
	b.ExpireAll(t)
	require.Equal(t, 1, b.inState(t, w.ID, postrider.StateCancelled))
	_, err = b.Event(t.Context(), b.Workspace, "order-1")
	require.NoError(t, err, "it stays as history")
}

func cancelOneOfMany(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t)
	ids := left(t, b, w.ID, 3, time.Minute)
	carried := b.handovers(t, 10)
	require.Len(t, carried, 1)
	require.Equal(t, 1, b.cancelEvent(t, b.read(t, ids[1]).EventID))
	require.Empty(t, b.cancellations(t, 10), "their carrier carries the others")
	require.Equal(t, postrider.StateCancelled, b.State(t, ids[1]))
	b.Clock.Advance(time.Minute)
	for _, id := range []string{ids[0], ids[2]} {
		require.True(t, b.permitted(t, b.read(t, id)))
	}
	d := b.read(t, ids[1])
	d.WorkflowID = carried[0].WorkflowID
	permit, err := b.AcquirePermit(t.Context(), asking(d))
	require.NoError(t, err)
	require.True(t, permit.Elsewhere)
}

func cancelMany(t *testing.T, b *Bundle) {
	webhooks := b.webhooksFor(t, b.Workspace, 3)
	p := b.eventsOf(b.Workspace, 1)
	receipts, err := b.Publish(t.Context(), p)
	require.NoError(t, err)
	// As many as several steps take, without as many webhooks.
	_, err = b.Raw(t).ExecContext(t.Context(), `WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 600)
		INSERT INTO deliveries (id, workspace_id, webhook_id, event_id, event_key, event_type, state, timeout_ms, max_retries, backoff_ms,
			attempt_count, created_at, due_at, workflow_id)
		SELECT d.id || '_' || n.i, d.workspace_id, d.webhook_id, d.event_id, d.event_key, d.event_type, 'parked', d.timeout_ms, d.max_retries,
			d.backoff_ms, 0, d.created_at, d.due_at, '' FROM deliveries d, n`)
	require.NoError(t, err)
	require.Equal(t, 1803, b.cancelEvent(t, receipts[0].ID))
	require.Equal(t, 601, b.inState(t, webhooks[0], postrider.StateCancelled))
	require.Zero(t, b.cancelEvent(t, receipts[0].ID))
}

func cancelFanOut(t *testing.T, b *Bundle) {
	b.webhooksFor(t, b.Workspace, 30)
	p := b.eventsOf(b.Workspace, 60)
	_, err := b.Publish(t.Context(), p)
	require.NoError(t, err)
	_, err = b.FanOut(t.Context())
	require.NoError(t, err)
	made := b.count(t.Context(), t, "SELECT COUNT(*) FROM deliveries")
	require.Less(t, made, 1800)
	total := 0
	for _, e := range p.Events {
		total += b.cancelEvent(t, e.ID)
		require.Zero(t, b.cancelEvent(t, e.ID))
	}
	require.Equal(t, 1800, total)
	b.FanOutAll(t)
	require.Equal(t, made, b.count(t.Context(), t, "SELECT COUNT(*) FROM deliveries WHERE state = 'cancelled'"))
	require.Equal(t, made, b.count(t.Context(), t, "SELECT COUNT(*) FROM deliveries"))
	require.Zero(t, b.count(t.Context(), t, "SELECT COUNT(*) FROM fanouts"))
	require.Zero(t, b.count(t.Context(), t, "SELECT COUNT(*) FROM outbox"))
}

// Guards the numbering of a fan-out's deliveries: whichever event is taken out, at whatever
// time, the others get each of theirs once.
func cancelOneOfFanOut(t *testing.T, b *Bundle) {
	ctx := t.Context()
	webhooks := b.webhooksFor(t, b.Workspace, 30)
	var gone []string
	p := b.eventsOf(b.Workspace, 60)
	_, err := b.Publish(ctx, p)
	require.NoError(t, err)
	for _, at := range []int{0, 16, 59, 30} { // done, under way (500 of a step are 16 events and a part), to come
		if at == 16 {
			_, err := b.FanOut(ctx)
			require.NoError(t, err)
		}
		require.Equal(t, 30, b.cancelEvent(t, p.Events[at].ID))
		gone = append(gone, p.Events[at].Key)
	}
	b.FanOutAll(t)
	for _, e := range p.Events {
		var open int
		require.NoError(t, b.Raw(t).GetContext(ctx, &open,
			"SELECT COUNT(DISTINCT webhook_id) FROM deliveries WHERE event_key = $1 AND state = 'pending'", e.Key))
		want := len(webhooks)
		if slices.Contains(gone, e.Key) {
			want = 0
		}
		require.Equal(t, want, open)
	}
	require.Equal(t, 56*30, b.count(ctx, t, "SELECT COUNT(*) FROM deliveries WHERE state = 'pending'"))
}
