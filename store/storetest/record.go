//nolint:thelper // these are the tests, not helpers of one
package storetest

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
)

func recordTests() map[string]func(*testing.T, *Bundle) {
	return map[string]func(*testing.T, *Bundle){
		"attempts come back as they were recorded":      recordRoundTrip,
		"a recorded attempt changes nothing again":      recordIdempotent,
		"stats count what finished":                     recordStats,
		"concurrent records add up":                     recordConcurrent,
		"a late report does not turn back a delivery":   recordLate,
		"a webhook that is gone has the rest parked":    recordGone,
		"a cancelled delivery stays cancelled":          recordCancelled,
		"text that PostgreSQL refuses is made storable": recordText,
		"recording frees room and wakes":                recordWakes,
	}
}

func recordRoundTrip(t *testing.T, b *Bundle) {
	ctx := t.Context()
	w := b.NewWebhook(t)
	id := b.PublishTo(t, w.ID, 1)[0]
	b.Claimed(t, 1)
	first := b.Outcome(t, id, 1, postrider.StateRetrying)
	first.Attempt = postrider.Attempt{
		Number: 1, StartedAt: Start().Add(123456 * time.Microsecond), DurationMS: 1500, StatusCode: ref(503), Result: postrider.ResultServerError,
		Error: ref("503 Service Unavailable"), ResponseExcerpt: ref("<h1>ü</h1>"), ResponseTruncated: true, RemoteIP: ref("192.0.2.1"),
	}
	require.NoError(t, b.Record(ctx, []postrider.Outcome{first}))
	d, err := b.Delivery(ctx, b.Workspace, id)
	require.NoError(t, err)
	require.Equal(t, postrider.StateRetrying, d.State)
	require.Equal(t, 1, d.AttemptCount)
	require.Equal(t, first.NextAttempt, d.NextAttemptAt)
	require.Equal(t, first.Attempt.Error, d.LastError)
	require.Nil(t, d.FinishedAt)
	b.Clock.Advance(2 * lease)
	require.Empty(t, b.Claimed(t, 1)) // its workflow goes on with it
	require.Empty(t, b.handovers(t, 1))

	second := b.Outcome(t, id, 2, postrider.StateSucceeded)
	second.Attempt = postrider.Attempt{
		Number: 2, StartedAt: Start().Add(time.Minute), DurationMS: 20, StatusCode: ref(204), Result: postrider.ResultSuccess,
	}
	require.NoError(t, b.Record(ctx, []postrider.Outcome{second}))
	d, err = b.Delivery(ctx, b.Workspace, id)
	require.NoError(t, err)
	require.Equal(t, postrider.StateSucceeded, d.State)
	require.Equal(t, 2, d.AttemptCount)
	require.Nil(t, d.NextAttemptAt)
	require.Equal(t, first.Attempt.Error, d.LastError)
	require.Equal(t, ref(Start().Add(time.Minute+20*time.Millisecond)), d.FinishedAt)

	attempts, err := b.Attempts(ctx, id)
	require.NoError(t, err)
	require.Equal(t, []postrider.Attempt{first.Attempt, second.Attempt}, attempts)
	attempts, err = b.Attempts(ctx, "unknown")
	require.NoError(t, err)
	require.Empty(t, attempts)
	require.NoError(t, b.Record(ctx, nil))
}

func recordIdempotent(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t)
	id := b.PublishTo(t, w.ID, 1)[0]
	b.Claimed(t, 1)
	first := b.Outcome(t, id, 1, postrider.StateFailed)
	require.NoError(t, b.Record(t.Context(), []postrider.Outcome{first, first}))
	b.Clock.Advance(time.Second)
	again := b.Outcome(t, id, 1, postrider.StateSucceeded)
	requireCode(t, postrider.CodeConflict, b.Record(t.Context(), []postrider.Outcome{again}))
	require.Equal(t, postrider.StateFailed, b.State(t, id))
	attempts, err := b.Attempts(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, []postrider.Attempt{first.Attempt}, attempts)
	read, err := b.Webhook(t.Context(), b.Workspace, w.ID)
	require.NoError(t, err)
	require.EqualValues(t, 1, read.Stats.TotalDeliveries)
}

func recordStats(t *testing.T, b *Bundle) {
	ctx := t.Context()
	w := b.NewWebhook(t)
	ids := b.PublishTo(t, w.ID, 4)
	b.Claimed(t, 4)
	require.NoError(t, b.Record(ctx, []postrider.Outcome{
		b.Outcome(t, ids[0], 1, postrider.StateRetrying), b.Outcome(t, ids[1], 1, postrider.StateFailed),
	}))
	at := Start().Add(12 * time.Millisecond)
	counted := func(total, failed int64, lastError string) {
		read, err := b.Webhook(ctx, b.Workspace, w.ID)
		require.NoError(t, err)
		want := postrider.WebhookStats{TotalDeliveries: total, FailedDeliveries: failed, LastDeliveryAt: &at, LastError: &lastError}
		require.Equal(t, want, read.Stats)
	}
	counted(1, 1, "attempt 1: 500 Internal Server Error")

	// An earlier end does not turn back last_delivery_at, a success keeps last_error.
	b.Clock.Advance(-time.Minute)
	require.NoError(t, b.Record(ctx, []postrider.Outcome{b.Outcome(t, ids[2], 1, postrider.StateSucceeded)}))
	counted(2, 1, "attempt 1: 500 Internal Server Error")
	b.Clock.Advance(2 * time.Minute)
	cancelled := b.Outcome(t, ids[3], 1, postrider.StateCancelled)
	cancelled.Attempt.Error = nil
	require.NoError(t, b.Record(ctx, []postrider.Outcome{b.Outcome(t, ids[0], 2, postrider.StateFailed), cancelled}))
	at = Start().Add(time.Minute + 12*time.Millisecond)
	counted(3, 2, "attempt 2: 500 Internal Server Error")
}

func recordConcurrent(t *testing.T, b *Bundle) {
	one, two := b.NewWebhook(t), b.NewWebhook(t)
	ones, twos := b.PublishTo(t, one.ID, 30), b.PublishTo(t, two.ID, 30)
	b.Claimed(t, 100)
	other := b.Open(t, b.Key)
	var calls sync.WaitGroup
	errs := make([]error, 30)
	for i := range errs {
		outcomes := []postrider.Outcome{b.Outcome(t, ones[i], 1, postrider.StateSucceeded), b.Outcome(t, twos[29-i], 1, postrider.StateSucceeded)}
		record := b.Record
		if i%2 == 1 { // in the other order, from another process
			outcomes[0], outcomes[1] = outcomes[1], outcomes[0]
			record = other.Record
		}
		calls.Go(func() { errs[i] = record(t.Context(), outcomes) })
	}
	calls.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
	for _, w := range []string{one.ID, two.ID} {
		read, err := b.Webhook(t.Context(), b.Workspace, w)
		require.NoError(t, err)
		require.EqualValues(t, 30, read.Stats.TotalDeliveries)
	}
}

func recordLate(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t)
	id := b.PublishTo(t, w.ID, 1)[0]
	b.Claimed(t, 1)
	first, second := b.Outcome(t, id, 1, postrider.StateRetrying), b.Outcome(t, id, 2, postrider.StateRetrying)
	second.NextAttempt = ref(Start().Add(time.Hour))
	require.NoError(t, b.Record(t.Context(), []postrider.Outcome{second}))
	require.NoError(t, b.Record(t.Context(), []postrider.Outcome{first}))
	d, err := b.Delivery(t.Context(), b.Workspace, id)
	require.NoError(t, err)
	require.Equal(t, 2, d.AttemptCount)
	require.Equal(t, second.NextAttempt, d.NextAttemptAt)
	due, _, err := b.NextDue(t.Context())
	require.NoError(t, err)
	require.Equal(t, second.NextAttempt.Add(postrider.CarrierGrace), due)
	attempts, err := b.Attempts(t.Context(), id)
	require.NoError(t, err)
	require.Len(t, attempts, 2)
}

func recordGone(t *testing.T, b *Bundle) {
	ctx := t.Context()
	w := b.NewWebhook(t, func(w *postrider.Webhook) { w.MaxInFlight = 2 })
	ids := b.PublishTo(t, w.ID, 4)
	later := b.NewEvent("a")
	later.DeliverAt = ref(Start().Add(time.Hour))
	receipts, err := b.Publish(ctx, b.Publication(later))
	require.NoError(t, err)
	require.Equal(t, ids[:2], b.Claimed(t, 10)[w.ID])
	gone := b.Outcome(t, ids[0], 1, postrider.StateFailed)
	gone.DisableWebhook = postrider.DisabledGone
	require.NoError(t, b.Record(ctx, []postrider.Outcome{gone}))

	read, err := b.Webhook(ctx, b.Workspace, w.ID)
	require.NoError(t, err)
	require.Equal(t, postrider.WebhookDisabled, read.Status)
	require.Equal(t, ref(postrider.DisabledGone), read.DisabledReason)
	require.Equal(t, postrider.StateFailed, b.State(t, ids[0]))
	b.SweepAll(t)
	require.Equal(t, postrider.StateDelivering, b.State(t, ids[1])) // leased: the attempt finds out
	for _, id := range []string{ids[2], ids[3], receipts[0].DeliveryIDs[0]} {
		require.Equal(t, postrider.StateParked, b.State(t, id))
	}
	require.Empty(t, b.Claimed(t, 10))
	targets, err := b.Targets(ctx, ids[1:2])
	require.NoError(t, err)
	require.Equal(t, postrider.WebhookDisabled, targets[0].WebhookStatus)
	more := b.PublishTo(t, w.ID, 1)
	require.Equal(t, postrider.StateParked, b.State(t, more[0]))

	// Active again, everything goes on in its time.
	_, err = b.UpdateWebhook(ctx, b.Workspace, w.ID, func(e *postrider.WebhookEdit) error {
		e.Webhook.Status, e.Webhook.DisabledReason, e.Webhook.MaxInFlight = postrider.WebhookActive, nil, 10
		return nil
	})
	require.NoError(t, err)
	require.ElementsMatch(t, []string{ids[2], ids[3], more[0]}, b.Claimed(t, 10)[w.ID])
	b.Clock.Advance(time.Hour)
	require.Contains(t, b.Claimed(t, 10)[w.ID], receipts[0].DeliveryIDs[0])
}

func recordCancelled(t *testing.T, b *Bundle) {
	ctx := t.Context()
	w := b.NewWebhook(t)
	id := b.PublishTo(t, w.ID, 1)[0]
	b.Claimed(t, 1)
	counted := b.countCancelled()
	carrier := b.read(t, id).WorkflowID
	require.NoError(t, b.CancelDelivery(ctx, "retry/another", id))
	require.Equal(t, postrider.StateDelivering, b.State(t, id), "a workflow that does not carry it cancels nothing")
	require.NoError(t, b.CancelDelivery(ctx, carrier, id))
	b.Clock.Advance(time.Second)
	require.NoError(t, b.CancelDelivery(ctx, carrier, id))
	require.Equal(t, 1, *counted)
	requireCode(t, postrider.CodeConflict, b.Record(ctx, []postrider.Outcome{b.Outcome(t, id, 1, postrider.StateSucceeded)}))
	d, err := b.Delivery(ctx, b.Workspace, id)
	require.NoError(t, err)
	require.Equal(t, postrider.StateCancelled, d.State)
	require.Equal(t, ref(Start()), d.FinishedAt)
	require.Equal(t, 1, d.AttemptCount)
	attempts, err := b.Attempts(ctx, id)
	require.NoError(t, err)
	require.Len(t, attempts, 1)
	read, err := b.Webhook(ctx, b.Workspace, w.ID)
	require.NoError(t, err)
	require.Zero(t, read.Stats.TotalDeliveries)
	requireCode(t, postrider.CodeNotFound, b.CancelDelivery(ctx, carrier, "dlv_unknown"))
}

// countCancelled returns how many deliveries the store reports as cancelled from now on.
func (b *Bundle) countCancelled() *int {
	counted := new(int)
	b.OnCancelled = func(deliveries int) { *counted += deliveries }
	return counted
}

func recordText(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t)
	id := b.PublishTo(t, w.ID, 1)[0]
	b.Claimed(t, 1)
	o := b.Outcome(t, id, 1, postrider.StateFailed)
	o.Attempt.Error, o.Attempt.ResponseExcerpt = ref("a\x00b"), ref("\xff\x00ok")
	require.NoError(t, b.Record(t.Context(), []postrider.Outcome{o}))
	attempts, err := b.Attempts(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, ref("a\uFFFDb"), attempts[0].Error)
	require.Equal(t, ref("\uFFFD\uFFFDok"), attempts[0].ResponseExcerpt)
}

func recordWakes(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t, func(w *postrider.Webhook) { w.MaxInFlight = 1 })
	ids := b.PublishTo(t, w.ID, 2)
	require.True(t, woken(b.Wake()))
	b.Claimed(t, 2)
	require.NoError(t, b.Record(t.Context(), []postrider.Outcome{b.Outcome(t, ids[0], 1, postrider.StateSucceeded)}))
	require.True(t, woken(b.Wake()))
	b.Claimed(t, 2)
	require.NoError(t, b.Record(t.Context(), []postrider.Outcome{b.Outcome(t, ids[1], 1, postrider.StateSucceeded)}))
	require.False(t, woken(b.Wake())) // nothing waits
	require.False(t, woken(b.WakeRetries()))
}

func lifecycleTests() map[string]func(*testing.T, *Bundle) {
	return map[string]func(*testing.T, *Bundle){
		"deleting a webhook cancels what is unfinished": deleteCancels,
		"cancellations come out beside the rest":        deleteQuota,
	}
}

func deleteCancels(t *testing.T, b *Bundle) {
	ctx := t.Context()
	w := b.NewWebhook(t, func(w *postrider.Webhook) { w.MaxInFlight = 9 })
	// Carried with another, of which one has ended since.
	together := left(t, b, w.ID, 3, time.Second)
	carrier := b.handovers(t, 10)
	require.Len(t, carrier, 1)
	require.NoError(t, b.Record(ctx, []postrider.Outcome{b.Outcome(t, together[2], 2, postrider.StateFailed)}))
	waiting := left(t, b, w.ID, 1, time.Second) // for a carrier
	batched := b.PublishTo(t, w.ID, 1)
	_, err := b.Claim(ctx, batch("two"))
	require.NoError(t, err)
	ids := b.PublishTo(t, w.ID, 5)
	claimed, err := b.Claim(ctx, postrider.ClaimRequest{Limit: 4, Lease: lease})
	require.NoError(t, err)
	require.Len(t, claimed, 4)
	done, late, leased, released := ids[0], ids[1], ids[2], ids[3]
	require.NoError(t, b.Record(ctx, []postrider.Outcome{
		b.Outcome(t, done, 1, postrider.StateSucceeded), b.Outcome(t, late, 1, postrider.StateRetrying),
	}))
	require.NoError(t, b.Release(ctx, []string{released}))
	b.Clock.Advance(time.Second)
	counted := b.countCancelled()
	require.NoError(t, b.DeleteWebhook(ctx, b.Workspace, w.ID))

	require.Equal(t, postrider.StateSucceeded, b.State(t, done))
	require.Equal(t, postrider.StateFailed, b.State(t, together[2]))
	unfinished := slices.Concat(together[:2], waiting, batched, ids[1:])
	require.Equal(t, len(unfinished), *counted)
	for _, id := range unfinished {
		d := b.read(t, id)
		require.Equal(t, postrider.StateCancelled, d.State)
		require.Equal(t, ref(Start().Add(time.Second)), d.FinishedAt)
		require.Nil(t, d.NextAttemptAt)
	}
	require.Empty(t, b.Claimed(t, 10))
	require.Empty(t, b.handovers(t, 10))
	cancelled := map[string]string{} // deliveries by workflow
	for _, c := range b.cancellations(t, 10) {
		require.NotContains(t, cancelled, c.WorkflowID, "one for each carrier")
		cancelled[c.WorkflowID] = c.DeliveryID
	}
	require.Contains(t, together[:2], cancelled[carrier[0].WorkflowID])
	require.Equal(t, map[string]string{
		carrier[0].WorkflowID: cancelled[carrier[0].WorkflowID], "delivery/" + late: late,
		"delivery/" + leased: leased, "delivery/" + released: released,
	}, cancelled, "all that carry, or may, and carry nothing else")

	// They are claimed as the rest is: for a time, and until it was done.
	require.Empty(t, b.cancellations(t, 10))
	require.NoError(t, b.Cancelled(ctx, []string{released, "dlv_unknown"}))
	require.NoError(t, b.Release(ctx, []string{late}))
	require.Equal(t, []postrider.Cancellation{{DeliveryID: late, WorkflowID: "delivery/" + late}}, b.cancellations(t, 10))
	require.NoError(t, b.Cancelled(ctx, []string{late, cancelled[carrier[0].WorkflowID]}))
	b.Clock.Advance(lease - time.Microsecond)
	require.Empty(t, b.cancellations(t, 10))
	b.Clock.Advance(time.Microsecond)
	require.Equal(t, []postrider.Cancellation{{DeliveryID: leased, WorkflowID: "delivery/" + leased}}, b.cancellations(t, 10))

	// An attempt that was under way is kept, and the cancellation still asked for.
	requireCode(t, postrider.CodeConflict, b.Record(ctx, []postrider.Outcome{b.Outcome(t, leased, 9, postrider.StateSucceeded)}))
	requireCode(t, postrider.CodeConflict, b.Record(ctx, []postrider.Outcome{b.Outcome(t, leased, 10, postrider.StateRetrying)}))
	require.NoError(t, b.Leave(ctx, "delivery/"+leased, []string{leased}))
	require.NoError(t, b.Keep(ctx, "delivery/"+leased, []string{leased}, b.Clock.Now()))
	require.Equal(t, 1, b.count(ctx, t, "SELECT COUNT(*) FROM outbox"))
	require.NoError(t, b.CancelDelivery(ctx, "delivery/"+leased, leased))
	require.Zero(t, b.count(ctx, t, "SELECT COUNT(*) FROM outbox"))
	targets, err := b.Targets(ctx, []string{leased, done})
	require.NoError(t, err)
	require.Equal(t, postrider.StateCancelled, targets[0].Delivery.State)
	require.Equal(t, postrider.StateSucceeded, targets[1].Delivery.State)
	filter := postrider.DeliveryFilter{WebhookID: w.ID, State: postrider.StateCancelled}
	history, err := b.Deliveries(ctx, b.Workspace, filter, postrider.Page{})
	require.NoError(t, err)
	require.Len(t, history.Items, len(unfinished))
}

// cancellations claims workflows that are to be cancelled, up to the limit.
func (b *Bundle) cancellations(t *testing.T, limit int) []postrider.Cancellation {
	t.Helper()
	claimed, err := b.ClaimCancellations(t.Context(), limit, lease)
	require.NoError(t, err)
	require.LessOrEqual(t, len(claimed), limit)
	return claimed
}

// Deleting a webhook with many deliveries under way must leave claims their whole limit, and
// cancellations are claimed in parts.
func deleteQuota(t *testing.T, b *Bundle) {
	doomed := b.NewWebhook(t)
	b.PublishTo(t, doomed.ID, 20)
	require.Len(t, b.Claimed(t, 20)[doomed.ID], 20)
	require.NoError(t, b.DeleteWebhook(t.Context(), b.Workspace, doomed.ID))
	w := b.NewWebhook(t)
	b.PublishTo(t, w.ID, 20)
	require.Len(t, b.Claimed(t, 10)[w.ID], 10)
	require.Len(t, b.cancellations(t, 5), 5)
	require.Len(t, b.Claimed(t, 10)[w.ID], 10)
	require.Len(t, b.cancellations(t, 100), 15)
	require.Empty(t, b.cancellations(t, 100))
	b.Clock.Advance(lease)
	require.Len(t, b.cancellations(t, 100), 20)
}
