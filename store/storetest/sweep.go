//nolint:thelper // these are the tests, not helpers of one
package storetest

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
)

func sweepTests() map[string]func(*testing.T, *Bundle) {
	return map[string]func(*testing.T, *Bundle){
		"a backlog is parked and resumed in steps":      sweepBacklog,
		"a deleted webhook's backlog is cancelled":      sweepDeleted,
		"what is retried is parked and goes on":         sweepRetried,
		"attempts under way are waited for":             sweepUnderWay,
		"an attempt parks its delivery":                 parkByAttempt,
		"what is parked by a late attempt is not stuck": parkLate,
		"a retry of an inactive webhook gets no permit": permitInactive,
		"a pause leaves a disabled webhook disabled":    pauseDisabled,
		"webhooks are swept in turns":                   sweepTurns,
		"what is parked for too long fails":             failParked,
		"what is parked is kept as long as it is to be": keepParked,
		"a retry that was resumed as new goes on":       resumedByAnEarlierVersion,
		"a sweep that fails holds up no other":          sweepFails,
		"what has failed is not resumed":                resumeFailed,
		"what is not due is not parked for too long":    keepScheduled,
		"a status is changed in the own workspace only": pauseForeign,
	}
}

// backlog is more than a step of a sweep takes.
const backlog = 450

func (b *Bundle) pause(t *testing.T, webhookID string) {
	t.Helper()
	w, err := b.PauseWebhook(t.Context(), b.Workspace, webhookID)
	require.NoError(t, err)
	require.Equal(t, postrider.WebhookPaused, w.Status)
	require.NotNil(t, w.InactiveSince)
}

func (b *Bundle) resume(t *testing.T, webhookID string) {
	t.Helper()
	w, err := b.ResumeWebhook(t.Context(), b.Workspace, webhookID)
	require.NoError(t, err)
	require.Equal(t, postrider.WebhookActive, w.Status)
	require.Nil(t, w.InactiveSince)
}

// inState counts the webhook's deliveries in a state.
func (b *Bundle) inState(t *testing.T, webhookID string, state postrider.DeliveryState) int {
	t.Helper()
	var n int
	require.NoError(t, b.Raw(t).GetContext(t.Context(), &n,
		"SELECT COUNT(*) FROM deliveries WHERE webhook_id = $1 AND state = $2", webhookID, state))
	return n
}

func sweepBacklog(t *testing.T, b *Bundle) {
	w, other := b.NewWebhook(t, func(w *postrider.Webhook) { w.MaxInFlight = 1000 }), b.NewWebhook(t)
	waiting := b.PublishTo(t, w.ID, backlog)
	others := b.PublishTo(t, other.ID, 1)
	b.pause(t, w.ID)
	some := b.inState(t, w.ID, postrider.StateParked)
	require.Positive(t, some, "the first step comes before the answer")
	require.Less(t, some, backlog, "it is not all in one transaction")
	require.Equal(t, map[string][]string{other.ID: others}, b.Claimed(t, backlog), "what is not parked yet is not claimed")
	b.SweepAll(t)
	require.Equal(t, backlog, b.inState(t, w.ID, postrider.StateParked))
	require.Zero(t, b.count(t.Context(), t, "SELECT COUNT(*) FROM sweeps"))

	b.resume(t, w.ID)
	b.ungate(t, w.ID)
	require.Equal(t, waiting[:some], b.Claimed(t, some)[w.ID], "the oldest come first")
	b.pause(t, w.ID) // before all have followed
	b.resume(t, w.ID)
	b.ungate(t, w.ID)
	b.SweepAll(t)
	require.Equal(t, waiting[some:], b.Claimed(t, backlog)[w.ID])
	require.Zero(t, b.count(t.Context(), t, "SELECT COUNT(*) FROM sweeps"))
}

func sweepDeleted(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t, func(w *postrider.Webhook) { w.MaxInFlight = 1000 })
	b.PublishTo(t, w.ID, backlog)
	require.NoError(t, b.DeleteWebhook(t.Context(), b.Workspace, w.ID))
	some := b.inState(t, w.ID, postrider.StateCancelled)
	require.Positive(t, some)
	require.Less(t, some, backlog)
	require.Empty(t, b.Claimed(t, backlog), "what is not cancelled yet is not claimed")
	b.SweepAll(t)
	require.Equal(t, backlog, b.inState(t, w.ID, postrider.StateCancelled))
	require.Zero(t, b.count(t.Context(), t, "SELECT COUNT(*) FROM outbox"))
	require.Zero(t, b.count(t.Context(), t, "SELECT COUNT(*) FROM sweeps"))
}

func sweepRetried(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t)
	ids := left(t, b, w.ID, 3, time.Minute)
	carried := b.handovers(t, 10)
	require.Len(t, carried, 1)
	b.pause(t, w.ID)
	for _, id := range ids {
		d, err := b.Delivery(t.Context(), b.Workspace, id)
		require.NoError(t, err)
		require.Equal(t, postrider.StateParked, d.State)
		require.Equal(t, 1, d.AttemptCount)
		require.Empty(t, d.WorkflowID, "its carrier finds that it left")
		require.Nil(t, d.NextAttemptAt)
	}
	b.Clock.Advance(time.Hour)
	require.Empty(t, b.handovers(t, 10))
	b.resume(t, w.ID)
	b.ungate(t, w.ID)
	again := b.handovers(t, 10)
	require.Equal(t, [][]string{ids}, members(again), "they go on together")
	require.NotEqual(t, carried[0].WorkflowID, again[0].WorkflowID)
	require.Len(t, again[0].Attempts[ids[0]], 1)
	require.Equal(t, postrider.StateRetrying, b.State(t, ids[0]))
	require.Empty(t, b.Claimed(t, 10), "none begins anew")
}

func sweepUnderWay(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t)
	ids := b.PublishTo(t, w.ID, 1)
	b.Claimed(t, 1)
	b.pause(t, w.ID)
	b.SweepAll(t)
	require.Equal(t, postrider.StateDelivering, b.State(t, ids[0]))
	require.NoError(t, b.Record(t.Context(), []postrider.Outcome{b.Outcome(t, ids[0], 1, postrider.StateRetrying)}))
	require.Equal(t, postrider.StateRetrying, b.State(t, ids[0]))
	b.Clock.Advance(time.Second)
	b.SweepAll(t)
	require.Equal(t, postrider.StateParked, b.State(t, ids[0]))
}

func parkByAttempt(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t)
	ids := b.PublishTo(t, w.ID, 1)
	b.Claimed(t, 1)
	b.pause(t, w.ID)
	d := b.read(t, ids[0])
	require.NoError(t, b.Park(t.Context(), "another", d))
	require.Equal(t, postrider.StateDelivering, b.State(t, ids[0]))
	require.NoError(t, b.Park(t.Context(), d.WorkflowID, d))
	require.Equal(t, postrider.StateParked, b.State(t, ids[0]))
	require.Zero(t, b.count(t.Context(), t, "SELECT COUNT(*) FROM outbox"))
}

func parkLate(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t)
	ids := b.PublishTo(t, w.ID, 1)
	b.Claimed(t, 1)
	d := b.read(t, ids[0])
	b.pause(t, w.ID) // the attempt reads this
	b.resume(t, w.ID)
	b.SweepAll(t)
	require.NoError(t, b.Park(t.Context(), d.WorkflowID, d))
	b.SweepAll(t)
	require.Equal(t, ids, b.Claimed(t, 1)[w.ID])
	require.NotEqual(t, d.WorkflowID, b.read(t, ids[0]).WorkflowID, "its own has ended, and would not be started again")
}

func resumedByAnEarlierVersion(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t)
	ids := left(t, b, w.ID, 1, time.Minute)
	b.pause(t, w.ID)
	b.resume(t, w.ID)
	_, err := b.Raw(t).ExecContext(t.Context(), "UPDATE deliveries SET state = 'pending'")
	require.NoError(t, err)
	_, err = b.Raw(t).ExecContext(t.Context(), "UPDATE outbox SET kind = 'start'")
	require.NoError(t, err)
	require.Empty(t, b.Claimed(t, 1), "it had its first attempt")
	require.Equal(t, [][]string{ids}, members(b.handovers(t, 10)))
	require.Equal(t, postrider.StateRetrying, b.State(t, ids[0]))
}

func sweepFails(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t)
	b.PublishTo(t, w.ID, backlog)
	b.pause(t, w.ID)
	_, err := b.Raw(t).ExecContext(t.Context(), "INSERT INTO sweeps (webhook_id, due_at) SELECT 'a_unknown', created_at FROM webhooks")
	require.NoError(t, err)
	b.Clock.Advance(time.Second)
	_, err = b.Sweep(t.Context())
	require.ErrorContains(t, err, "a_unknown")
	b.SweepAll(t)
	require.Equal(t, backlog, b.inState(t, w.ID, postrider.StateParked))
}

// resumeFailed guards a delivery that has failed while it was about to be resumed.
func resumeFailed(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t)
	ids := b.PublishTo(t, w.ID, 1)
	b.pause(t, w.ID)
	b.Clock.Advance(8 * day)
	require.EqualValues(t, 1, b.retain(t, b.Clock.Now().Add(-30*day)).Parked)
	b.resume(t, w.ID)
	require.Equal(t, postrider.StateFailed, b.State(t, ids[0]))
	require.Zero(t, b.count(t.Context(), t, "SELECT COUNT(*) FROM outbox"))
}

func keepScheduled(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t)
	later := b.NewEvent("a")
	later.DeliverAt = ref(Start().Add(30 * day))
	receipts, err := b.Publish(t.Context(), b.Publication(later))
	require.NoError(t, err)
	b.pause(t, w.ID)
	b.Clock.Advance(20 * day)
	require.Zero(t, b.retain(t, b.Clock.Now().Add(-30*day)).Parked, "it is not due")
	require.Equal(t, postrider.StateParked, b.State(t, receipts[0].DeliveryIDs[0]))
}

func permitInactive(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t)
	ids := left(t, b, w.ID, 1, time.Minute)
	b.pause(t, w.ID)
	// A late record brings the retry back.
	late := b.Outcome(t, ids[0], 2, postrider.StateRetrying)
	late.WorkflowID = "delivery/late"
	require.NoError(t, b.Record(t.Context(), []postrider.Outcome{late}))
	permit, err := b.AcquirePermit(t.Context(), asking(b.read(t, ids[0])))
	require.NoError(t, err)
	require.Equal(t, postrider.Permit{Elsewhere: true}, permit)
	b.SweepAll(t)
	require.Equal(t, postrider.StateParked, b.State(t, ids[0]))
}

func pauseDisabled(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t, func(w *postrider.Webhook) {
		w.Status, w.DisabledReason = postrider.WebhookDisabled, ref(postrider.DisabledGone)
	})
	got, err := b.PauseWebhook(t.Context(), b.Workspace, w.ID)
	require.NoError(t, err)
	require.Equal(t, postrider.WebhookDisabled, got.Status)
	require.Equal(t, ref(postrider.DisabledGone), got.DisabledReason)
	b.resume(t, w.ID)
	b.resume(t, w.ID)
	b.pause(t, w.ID)
	b.pause(t, w.ID)
}

func sweepTurns(t *testing.T, b *Bundle) {
	big, small := b.NewWebhook(t), b.NewWebhook(t)
	b.PublishTo(t, big.ID, 3*backlog)
	b.PublishTo(t, small.ID, backlog)
	b.pause(t, big.ID)
	b.pause(t, small.ID)
	for range 4 {
		b.Clock.Advance(time.Millisecond)
		_, err := b.Sweep(t.Context())
		require.NoError(t, err)
	}
	require.Equal(t, backlog, b.inState(t, small.ID, postrider.StateParked))
	require.Less(t, b.inState(t, big.ID, postrider.StateParked), 3*backlog)
}

func failParked(t *testing.T, b *Bundle) {
	ctx := t.Context()
	w := b.NewWebhook(t, func(w *postrider.Webhook) { w.ParkSeconds = 3600 })
	old := b.PublishTo(t, w.ID, 2)
	b.pause(t, w.ID)
	b.Clock.Advance(time.Hour - time.Minute)
	fresh := b.PublishTo(t, w.ID, 1)
	require.Zero(t, b.retain(t, b.Clock.Now().Add(-30*day)).Parked)
	b.Clock.Advance(2 * time.Minute)
	require.EqualValues(t, 2, b.retain(t, b.Clock.Now().Add(-30*day)).Parked)
	d, err := b.Delivery(ctx, b.Workspace, old[0])
	require.NoError(t, err)
	require.Equal(t, postrider.StateFailed, d.State)
	require.Equal(t, ref("parked for too long"), d.LastError)
	require.NotNil(t, d.FinishedAt)
	require.Equal(t, postrider.StateParked, b.State(t, fresh[0]))
	read, err := b.Webhook(ctx, b.Workspace, w.ID)
	require.NoError(t, err)
	require.EqualValues(t, 2, read.Stats.TotalDeliveries)
	require.EqualValues(t, 2, read.Stats.FailedDeliveries)
	require.Equal(t, ref("parked for too long"), read.Stats.LastError)
}

func keepParked(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t, func(w *postrider.Webhook) { w.ParkSeconds = 0 })
	ids := b.PublishTo(t, w.ID, 1)
	b.Clock.Advance(20 * day)
	b.pause(t, w.ID) // its time begins now, not when it was accepted
	b.Clock.Advance(20 * day)
	require.Zero(t, b.retain(t, b.Clock.Now().Add(-30*day)).Parked)
	require.Equal(t, postrider.StateParked, b.State(t, ids[0]))
	b.Clock.Advance(11 * day)
	require.EqualValues(t, 1, b.retain(t, b.Clock.Now().Add(-30*day)).Parked)
}

func pauseForeign(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t)
	foreign := b.NewWorkspace(t)
	_, err := b.PauseWebhook(t.Context(), foreign, w.ID)
	requireCode(t, postrider.CodeNotFound, err)
	_, err = b.ResumeWebhook(t.Context(), foreign, w.ID)
	requireCode(t, postrider.CodeNotFound, err)
	read, err := b.Webhook(t.Context(), b.Workspace, w.ID)
	require.NoError(t, err)
	require.Equal(t, postrider.WebhookActive, read.Status)
}
