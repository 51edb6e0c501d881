//nolint:thelper // these are the tests, not helpers of one
package storetest

import (
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
)

func expiryTests() map[string]func(*testing.T, *Bundle) {
	return map[string]func(*testing.T, *Bundle){
		"what expires fails wherever it waits":           expireWaiting,
		"an attempt that is under way is not cut off":    expireUnderWay,
		"a carrier fails what expired":                   expireByCarrier,
		"what is delivered in time does not expire":      expireDelivered,
		"the last attempt in time says that it expired":  expireByRecord,
		"what expires fails in steps":                    expireSteps,
		"a fan-out's deliveries expire":                  expireFanOut,
		"a delivery that is put off expires later":       expireLater,
		"what does not expire has no row of its own":     expireNever,
		"what is scheduled is kept after it was due":     retainScheduled,
		"what expires is failed once by many processes":  expireTogether,
		"what expired is not resumed with its webhook":   expireParkedAgain,
		"an expired delivery is not claimed a long time": expireLostLease,
	}
}

// perishable publishes n events to the webhook that expire after so long.
func (b *Bundle) perishable(t *testing.T, webhookID string, n int, after time.Duration) []string {
	t.Helper()
	p := b.Publication()
	for range n {
		e := b.NewEventTo(webhookID)
		e.ExpiresAt = ref(postrider.Timestamp(b.Clock.Now().Add(after)))
		p.Events = append(p.Events, e)
	}
	receipts, err := b.Publish(t.Context(), p)
	require.NoError(t, err)
	ids := make([]string, n)
	for i, r := range receipts {
		ids[i] = r.DeliveryIDs[0]
	}
	return ids
}

// ExpireAll fails all that has expired.
func (b *Bundle) ExpireAll(tb testing.TB) {
	tb.Helper()
	all(tb, b.Expire)
}

// countExpired returns how many deliveries the store reports as expired from now on.
func (b *Bundle) countExpired() *int {
	counted := new(int)
	b.OnExpired = func(deliveries int) { *counted += deliveries }
	return counted
}

func (b *Bundle) requireExpired(t *testing.T, id string, attempts int) {
	t.Helper()
	d := b.read(t, id)
	require.Equal(t, postrider.StateFailed, d.State)
	require.True(t, d.HasExpired())
	require.Equal(t, attempts, d.AttemptCount)
	require.Nil(t, d.NextAttemptAt)
	require.Equal(t, ref(postrider.Timestamp(b.Clock.Now())), d.FinishedAt)
	require.Zero(t, b.count(t.Context(), t, "SELECT COUNT(*) FROM outbox WHERE delivery_id = '"+id+"'"))
}

func expireWaiting(t *testing.T, b *Bundle) {
	w, idle := b.NewWebhook(t), b.NewWebhook(t)
	counted := b.countExpired()
	retried := b.perishable(t, w.ID, 1, time.Hour)[0]
	claimed, err := b.Claim(t.Context(), batch("one"))
	require.NoError(t, err)
	require.Len(t, claimed, 1)
	require.Equal(t, ref(postrider.Timestamp(Start().Add(time.Hour))), claimed[0].ExpiresAt)
	require.NoError(t, b.Record(t.Context(), []postrider.Outcome{b.leaving(t, retried, 1, 30*time.Minute)}))
	require.Len(t, b.handovers(t, 10), 1)

	ready := b.perishable(t, w.ID, 1, time.Hour)[0]
	scheduled := b.NewEventTo(w.ID)
	scheduled.ExpiresAt, scheduled.DeliverAt = ref(postrider.Timestamp(Start().Add(time.Hour))), ref(Start().Add(59*time.Minute))
	receipts, err := b.Publish(t.Context(), b.Publication(scheduled))
	require.NoError(t, err)
	parked := b.perishable(t, idle.ID, 1, time.Hour)[0]
	b.pause(t, idle.ID)
	kept := b.PublishTo(t, w.ID, 1)[0]

	b.Clock.Advance(time.Hour - time.Microsecond)
	b.ExpireAll(t)
	require.Zero(t, *counted)
	b.Clock.Advance(time.Microsecond)
	b.ExpireAll(t)
	b.requireExpired(t, retried, 1)
	for _, id := range []string{ready, parked, receipts[0].DeliveryIDs[0]} {
		b.requireExpired(t, id, 0)
	}
	require.Equal(t, 4, *counted)
	require.Equal(t, postrider.StatePending, b.State(t, kept))
	require.Zero(t, b.count(t.Context(), t, "SELECT COUNT(*) FROM expiries"))
	stats, err := b.Webhook(t.Context(), b.Workspace, w.ID)
	require.NoError(t, err)
	require.Equal(t, []int64{3, 3}, []int64{stats.Stats.TotalDeliveries, stats.Stats.FailedDeliveries})
	require.Equal(t, ref(postrider.Expired), stats.Stats.LastError)
	require.Equal(t, map[string][]string{w.ID: {kept}}, b.Claimed(t, 10), "nothing else is attempted")
	require.Empty(t, b.handovers(t, 10))
}

func expireUnderWay(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t)
	ids := b.perishable(t, w.ID, 2, time.Second)
	require.Len(t, b.Claimed(t, 10)[w.ID], 2)
	b.Clock.Advance(2 * time.Second)
	b.ExpireAll(t)
	for _, id := range ids {
		require.Equal(t, postrider.StateDelivering, b.State(t, id))
	}
	require.NoError(t, b.Record(t.Context(), []postrider.Outcome{b.Outcome(t, ids[0], 1, postrider.StateSucceeded)}))
	require.Equal(t, postrider.StateSucceeded, b.State(t, ids[0]))
	require.NoError(t, b.Record(t.Context(), []postrider.Outcome{b.Outcome(t, ids[1], 1, postrider.StateRetrying)}))
	b.ExpireAll(t)
	require.Equal(t, postrider.StateRetrying, b.State(t, ids[1]), "it is looked at once a second")
	b.Clock.Advance(time.Second)
	b.ExpireAll(t)
	b.requireExpired(t, ids[1], 1)
}

func expireLostLease(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t)
	id := b.perishable(t, w.ID, 1, time.Second)[0]
	require.Len(t, b.Claimed(t, 10)[w.ID], 1)
	b.Clock.Advance(2 * time.Second)
	b.ExpireAll(t)
	require.NoError(t, b.ReleaseOrphans(t.Context()))
	b.Clock.Advance(time.Second)
	b.ExpireAll(t)
	b.requireExpired(t, id, 0)
}

func expireByCarrier(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t)
	counted := b.countExpired()
	ids := b.perishable(t, w.ID, 2, time.Second)
	require.Len(t, b.Claimed(t, 10)[w.ID], 2)
	own := postrider.DeliveryWorkflowID(ids[0])
	failed, err := b.FailExpired(t.Context(), own, ids[0], b.Clock.Now())
	require.NoError(t, err)
	require.False(t, failed, "it is not over yet")
	b.Clock.Advance(time.Second)
	failed, err = b.FailExpired(t.Context(), "delivery/other", ids[0], b.Clock.Now())
	require.NoError(t, err)
	require.False(t, failed, "another carries it")
	require.Equal(t, 2, b.count(t.Context(), t, "SELECT COUNT(*) FROM expiries"))
	failed, err = b.FailExpired(t.Context(), own, ids[0], b.Clock.Now())
	require.NoError(t, err)
	require.True(t, failed)
	b.requireExpired(t, ids[0], 0)
	failed, err = b.FailExpired(t.Context(), own, ids[0], b.Clock.Now())
	require.NoError(t, err)
	require.False(t, failed, "it has failed before")
	require.Equal(t, 1, *counted)
	requireCode(t, postrider.CodeConflict, b.Record(t.Context(), []postrider.Outcome{b.Outcome(t, ids[0], 1, postrider.StateSucceeded)}))
	require.Equal(t, 1, b.count(t.Context(), t, "SELECT COUNT(*) FROM expiries"))
}

func expireDelivered(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t)
	id := b.perishable(t, w.ID, 1, time.Hour)[0]
	b.Claimed(t, 10)
	require.NoError(t, b.Record(t.Context(), []postrider.Outcome{b.Outcome(t, id, 1, postrider.StateSucceeded)}))
	require.Zero(t, b.count(t.Context(), t, "SELECT COUNT(*) FROM expiries"))
	b.Clock.Advance(2 * time.Hour)
	b.ExpireAll(t)
	require.Equal(t, postrider.StateSucceeded, b.State(t, id))
}

func expireByRecord(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t)
	id := b.perishable(t, w.ID, 1, time.Hour)[0]
	b.Claimed(t, 10)
	o := b.Outcome(t, id, 1, postrider.StateFailed)
	o.Expired = true
	require.NoError(t, b.Record(t.Context(), []postrider.Outcome{o}))
	d := b.read(t, id)
	require.True(t, d.HasExpired())
	require.Equal(t, 1, d.AttemptCount)
	stats, err := b.Webhook(t.Context(), b.Workspace, w.ID)
	require.NoError(t, err)
	require.Equal(t, o.Attempt.Error, stats.Stats.LastError, "the attempt's own")
	require.EqualValues(t, 1, stats.Stats.FailedDeliveries)
}

func expireSteps(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t)
	b.perishable(t, w.ID, 450, time.Second)
	b.Clock.Advance(time.Second)
	more, err := b.Expire(t.Context())
	require.NoError(t, err)
	require.True(t, more)
	some := b.inState(t, w.ID, postrider.StateFailed)
	require.Positive(t, some)
	require.Less(t, some, 450)
	b.ExpireAll(t)
	require.Equal(t, 450, b.inState(t, w.ID, postrider.StateFailed))
}

func expireTogether(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t)
	b.perishable(t, w.ID, 100, time.Second)
	b.Clock.Advance(time.Second)
	other := b.Open(t, b.Key)
	done := make(chan error)
	go func() {
		_, err := other.Expire(t.Context())
		done <- err
	}()
	_, err := b.Expire(t.Context())
	require.NoError(t, err)
	require.NoError(t, <-done)
	stats, err := b.Webhook(t.Context(), b.Workspace, w.ID)
	require.NoError(t, err)
	require.EqualValues(t, 100, stats.Stats.FailedDeliveries)
}

func expireFanOut(t *testing.T, b *Bundle) {
	b.webhooksFor(t, b.Workspace, 30)
	p := b.eventsOf(b.Workspace, 60)
	p.Events[0].ExpiresAt = ref(postrider.Timestamp(Start().Add(time.Second)))
	_, err := b.Publish(t.Context(), p)
	require.NoError(t, err)
	b.Clock.Advance(time.Second) // before they are made
	b.FanOutAll(t)
	b.ExpireAll(t)
	require.Equal(t, 30, b.count(t.Context(), t, "SELECT COUNT(*) FROM deliveries WHERE state = 'failed'"))
	require.Equal(t, 59*30, b.count(t.Context(), t, "SELECT COUNT(*) FROM outbox"))
}

func expireLater(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t)
	ids := b.perishable(t, w.ID, 2, time.Second)
	later := b.Clock.Now().Add(time.Minute).Format(storedTime)
	_, err := b.Raw(t).ExecContext(t.Context(), "UPDATE deliveries SET expires_at = $1 WHERE id = $2", later, ids[0])
	require.NoError(t, err)
	_, err = b.Raw(t).ExecContext(t.Context(), "UPDATE deliveries SET expires_at = NULL WHERE id = $1", ids[1])
	require.NoError(t, err)
	b.Clock.Advance(time.Second)
	b.ExpireAll(t)
	require.Equal(t, postrider.StatePending, b.State(t, ids[0]))
	b.Clock.Advance(time.Minute)
	b.ExpireAll(t)
	b.requireExpired(t, ids[0], 0)
	require.Equal(t, postrider.StatePending, b.State(t, ids[1]))
	require.Zero(t, b.count(t.Context(), t, "SELECT COUNT(*) FROM expiries"))
}

func expireNever(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t)
	id := b.PublishTo(t, w.ID, 1)[0]
	require.Nil(t, b.read(t, id).ExpiresAt)
	require.Zero(t, b.count(t.Context(), t, "SELECT COUNT(*) FROM expiries"))
	more, err := b.Expire(t.Context())
	require.NoError(t, err)
	require.False(t, more)
}

func expireParkedAgain(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t)
	b.pause(t, w.ID)
	id := b.perishable(t, w.ID, 1, time.Second)[0]
	b.Clock.Advance(time.Second)
	b.ExpireAll(t)
	b.requireExpired(t, id, 0)
	b.resume(t, w.ID)
	b.SweepAll(t)
	require.Empty(t, b.Claimed(t, 10))
}

// Guards what is scheduled for long after it was accepted: it is kept until it is past its
// retention, counted from when it was due.
func retainScheduled(t *testing.T, b *Bundle) {
	const ahead, retention = 80, 30 // days
	w := b.NewWebhook(t)
	e := b.NewEventTo(w.ID)
	e.DeliverAt = ref(Start().Add(ahead * day))
	receipts, err := b.Publish(t.Context(), b.Publication(e))
	require.NoError(t, err)
	id := receipts[0].DeliveryIDs[0]
	at := func(days int) {
		b.Clock.Advance(Start().Add(time.Duration(days) * day).Sub(b.Clock.Now()))
		require.NoError(t, b.EnsurePartitions(t.Context(), b.Clock.Now()))
		b.retain(t, b.Clock.Now().Add(-retention*day))
	}
	at(ahead - 1)
	require.Empty(t, b.Claimed(t, 10))
	at(ahead)
	require.Equal(t, []string{id}, b.Claimed(t, 10)[w.ID])
	targets, err := b.Targets(t.Context(), []string{id})
	require.NoError(t, err)
	require.Equal(t, e.Body, targets[0].Body)
	require.NoError(t, b.Record(t.Context(), []postrider.Outcome{b.Outcome(t, id, 1, postrider.StateSucceeded)}))
	for _, days := range []int{0, 1, retention - 1} {
		at(ahead + days)
		require.Equal(t, postrider.StateSucceeded, b.State(t, id), strconv.Itoa(days))
		_, err = b.Event(t.Context(), b.Workspace, e.ID)
		require.NoError(t, err)
	}
	at(ahead + retention + 2)
	_, err = b.Delivery(t.Context(), b.Workspace, id)
	requireCode(t, postrider.CodeNotFound, err)
	_, err = b.Event(t.Context(), b.Workspace, e.ID)
	requireCode(t, postrider.CodeNotFound, err)
}
