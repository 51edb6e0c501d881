//nolint:thelper // these are the tests, not helpers of one
package storetest

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
)

func retentionTests() map[string]func(*testing.T, *Bundle) {
	return map[string]func(*testing.T, *Bundle){
		"what is past its retention goes":         retainOld,
		"what is not finished stays":              retainUnfinished,
		"the event of what is sent again stays":   retainReplayed,
		"old idempotency keys go":                 retainKeys,
		"a retention is told how far it has come": retainProgress,
	}
}

const day = 24 * time.Hour

// finish publishes n events to the webhook and records that they were delivered.
func finish(t *testing.T, b *Bundle, webhookID string, n int) []string {
	t.Helper()
	deliveries := b.PublishTo(t, webhookID, n)
	for done := 0; done < n; {
		var outcomes []postrider.Outcome
		for _, id := range b.Claimed(t, n)[webhookID] {
			outcomes = append(outcomes, b.Outcome(t, id, 1, postrider.StateSucceeded))
		}
		require.NotEmpty(t, outcomes)
		require.NoError(t, b.Record(t.Context(), outcomes))
		done += len(outcomes)
	}
	return deliveries
}

func (b *Bundle) retain(t *testing.T, before time.Time) postrider.Removed {
	t.Helper()
	removed, err := b.Retain(t.Context(), before, func(postrider.Removed) {})
	require.NoError(t, err)
	return removed
}

// left returns how many rows the tables hold that grow.
func (b *Bundle) left(t *testing.T) (events, deliveries, attempts int) {
	t.Helper()
	ctx := t.Context()
	return b.count(ctx, t, "SELECT COUNT(*) FROM events"), b.count(ctx, t, "SELECT COUNT(*) FROM deliveries"),
		b.count(ctx, t, "SELECT COUNT(*) FROM attempts")
}

func retainOld(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t, func(w *postrider.Webhook) { w.MaxInFlight = 1000 })
	old := finish(t, b, w.ID, 3)
	b.Clock.Advance(day)
	require.NoError(t, b.EnsurePartitions(t.Context(), b.Clock.Now()))
	fresh := finish(t, b, w.ID, 2)

	b.retain(t, Start())
	events, deliveries, attempts := b.left(t) // the day itself is kept
	require.Equal(t, []int{5, 5, 5}, []int{events, deliveries, attempts})

	require.NotZero(t, b.retain(t, Start().Add(day)))
	events, deliveries, attempts = b.left(t)
	require.Equal(t, []int{2, 2, 2}, []int{events, deliveries, attempts})
	_, err := b.Delivery(t.Context(), b.Workspace, old[0])
	requireCode(t, postrider.CodeNotFound, err)
	_, err = b.Delivery(t.Context(), b.Workspace, fresh[0])
	require.NoError(t, err)
	again := b.retain(t, Start().Add(day))
	require.Empty(t, again.Days)
	require.Zero(t, again.Deliveries)

	stored, err := b.Webhook(t.Context(), b.Workspace, w.ID)
	require.NoError(t, err)
	require.EqualValues(t, 5, stored.Stats.TotalDeliveries, "statistics outlive what they count")
}

func retainUnfinished(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t)
	done := finish(t, b, b.NewWebhook(t).ID, 1)
	waiting := b.PublishTo(t, w.ID, 1)
	b.Clock.Advance(60 * day)
	require.NoError(t, b.EnsurePartitions(t.Context(), b.Clock.Now()))
	b.retain(t, b.Clock.Now().Add(-30*day))
	require.Equal(t, postrider.StatePending, b.State(t, waiting[0]))
	require.Equal(t, waiting, b.Claimed(t, 10)[w.ID])
	targets, err := b.Targets(t.Context(), waiting)
	require.NoError(t, err)
	require.False(t, targets[0].EventExpired, "its event stays with it")

	require.NoError(t, b.Record(t.Context(), []postrider.Outcome{b.Outcome(t, waiting[0], 1, postrider.StateSucceeded)}))
	b.retain(t, b.Clock.Now().Add(-30*day))
	for _, id := range append(waiting, done...) {
		_, err := b.Delivery(t.Context(), b.Workspace, id)
		requireCode(t, postrider.CodeNotFound, err)
	}
}

// retainReplayed guards the event of a delivery that was sent again long after it: it is kept until
// that has ended, however it waits.
func retainReplayed(t *testing.T, b *Bundle) {
	ctx, w := t.Context(), b.NewWebhook(t)
	old := finish(t, b, w.ID, 1)[0]
	done := finish(t, b, b.NewWebhook(t).ID, 1)[0]
	body := func(id string) []byte {
		targets, err := b.Targets(ctx, []string{id})
		require.NoError(t, err)
		return targets[0].Body
	}
	want := body(old)
	pass := func(days time.Duration) {
		b.Clock.Advance(days * day)
		require.NoError(t, b.EnsurePartitions(t.Context(), b.Clock.Now()))
		b.retain(t, b.Clock.Now().Add(-30*day))
	}
	pass(29)
	finish(t, b, b.NewWebhook(t).ID, 1) // of another day's event
	again := b.done(t, postrider.ActionRetry, old).ID
	pass(5)
	require.Equal(t, want, body(again), "while it is ready")
	b.done(t, postrider.ActionPause, again)
	pass(1)
	require.Equal(t, want, body(again), "while it is parked")
	b.done(t, postrider.ActionResume, again)
	require.Contains(t, b.Claimed(t, 10)[w.ID], again)
	require.NoError(t, b.Record(ctx, []postrider.Outcome{b.Outcome(t, again, 1, postrider.StateSucceeded)}))
	pass(1)
	for _, id := range []string{old, done} {
		_, err := b.Delivery(ctx, b.Workspace, id)
		requireCode(t, postrider.CodeNotFound, err)
	}
	require.Equal(t, postrider.StateSucceeded, b.State(t, again))
	pass(40)
	_, err := b.Delivery(ctx, b.Workspace, again)
	requireCode(t, postrider.CodeNotFound, err)
	require.Zero(t, b.count(ctx, t, "SELECT COUNT(*) FROM events"))
}

func retainKeys(t *testing.T, b *Bundle) {
	b.NewWebhook(t)
	p := b.Publication(b.NewEvent("call.ended"))
	p.IdempotencyKey = "key"
	first, err := b.Publish(t.Context(), p)
	require.NoError(t, err)
	b.Clock.Advance(2 * day)
	require.EqualValues(t, 1, b.retain(t, b.Clock.Now()).IdempotencyKeys)
	p.Events = []postrider.PublishedEvent{b.NewEvent("call.ended")}
	second, err := b.Publish(t.Context(), p)
	require.NoError(t, err)
	require.NotEqual(t, first[0].ID, second[0].ID)
}

func retainProgress(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t, func(w *postrider.Webhook) { w.MaxInFlight = 1000 })
	finish(t, b, w.ID, 1200)
	b.Clock.Advance(3 * day)
	told := 0
	removed, err := b.Retain(t.Context(), b.Clock.Now(), func(postrider.Removed) { told++ })
	require.NoError(t, err)
	require.Positive(t, told)
	require.True(t, len(removed.Days) > 0 || removed.Deliveries == 1200 && removed.Events == 1200, "%+v", removed)
}
