//nolint:thelper // these are the tests, not helpers of one
package storetest

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
)

// judged is an outcome as the activity makes it, by the terms that the delivery has now.
func (b *Bundle) judged(t *testing.T, id string, number int) postrider.Outcome {
	t.Helper()
	d := b.read(t, id)
	o := b.Outcome(t, id, number, postrider.StateFailed)
	o.Policy, o.ExpiresAt = d.Policy, d.ExpiresAt
	return o.Judged(d.Policy.Judge(o.Attempt, 0, 0.5))
}

func actEditUnderWay(t *testing.T, b *Bundle) {
	ctx := t.Context()
	w := b.NewWebhook(t, func(w *postrider.Webhook) { w.MaxRetries = 0 })
	id := underWay(t, b, w)
	last := b.judged(t, id, 1)
	require.Equal(t, postrider.StateFailed, last.State)
	require.NoError(t, b.editRetries(t, id, 2).Err)
	requireCode(t, postrider.CodeConflict, b.Record(ctx, []postrider.Outcome{last}))
	require.Equal(t, "retrying, retry ready", b.where(t, id), "it leaves the workflow with the old policy")
	require.Equal(t, last.FinishedAt().Add(time.Second), *b.read(t, id).NextAttemptAt)

	made := b.handovers(t, 10)
	require.Equal(t, 2, made[0].Deliveries[0].Policy.MaxRetries)
	require.True(t, b.permitted(t, b.read(t, id)))
	more := b.judged(t, id, 2)
	require.Equal(t, postrider.StateRetrying, more.State)
	require.NoError(t, b.editRetries(t, id, 1).Err)
	requireCode(t, postrider.CodeConflict, b.Record(ctx, []postrider.Outcome{more}))
	require.Equal(t, postrider.StateFailed, b.State(t, id))
	require.Equal(t, "failed", b.where(t, id))
	read, err := b.Webhook(ctx, b.Workspace, w.ID)
	require.NoError(t, err)
	require.EqualValues(t, 1, read.Stats.FailedDeliveries)

	// A success is one under any policy.
	id = underWay(t, b, w)
	fine := b.Outcome(t, id, 1, postrider.StateSucceeded)
	fine.Policy = b.read(t, id).Policy
	require.NoError(t, b.editRetries(t, id, 5).Err)
	require.NoError(t, b.Record(ctx, []postrider.Outcome{fine}))
	require.Equal(t, postrider.StateSucceeded, b.State(t, id))
}

func actEditUsedUp(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t)
	for _, prepare := range []func(*testing.T, *Bundle, postrider.Webhook) string{carriedForAnHour, paused(carriedForAnHour)} {
		id := prepare(t, b, w)
		d := b.editRetries(t, id, 0).Delivery
		require.Equal(t, postrider.StateFailed, d.State)
		require.Contains(t, *d.LastError, "max_retries was changed to 0 after 1 attempts; the latest failed: ")
		require.Equal(t, b.Clock.Now(), *d.FinishedAt)
		require.Nil(t, d.NextAttemptAt)
	}
	waiting := b.PublishTo(t, w.ID, 1)[0]
	require.Equal(t, postrider.StatePending, b.editRetries(t, waiting, 0).Delivery.State, "its first attempt is no retry")
	actions, err := b.Actions(t.Context(), waiting)
	require.NoError(t, err)
	require.Equal(t, "max_retries from 3 to 0", actions[0].Detail)
	require.NoError(t, b.editRetries(t, waiting, 0).Err)
	actions, err = b.Actions(t.Context(), waiting)
	require.NoError(t, err)
	require.Len(t, actions, 1, "nothing changed")
	read, err := b.Webhook(t.Context(), b.Workspace, w.ID)
	require.NoError(t, err)
	require.EqualValues(t, 2, read.Stats.FailedDeliveries)
}

// actEditExpiry guards the expiry of deliveries in each state, and that none leaves its carrier for it.
func actEditExpiry(t *testing.T, b *Bundle) {
	for name, prepare := range states() {
		id, cleanUp := b.prepared(t, prepare)
		expiries := func() int {
			return b.count(t.Context(), t, "SELECT COUNT(*) FROM expiries WHERE delivery_id = '"+id+"'")
		}
		later := postrider.Timestamp(b.Clock.Now().Add(30 * time.Minute))
		result := b.editExpiry(t, id, later)
		if b.State(t, id).Finished() {
			requireCode(t, postrider.CodeConflict, result.Err)
			require.Zero(t, expiries())
			cleanUp()
			continue
		}
		require.NoError(t, result.Err, name)
		require.Equal(t, &later, result.Delivery.ExpiresAt, name)
		require.Equal(t, 1, expiries(), name)
		require.Nil(t, b.editExpiry(t, id, time.Time{}).Delivery.ExpiresAt, name)
		require.Zero(t, expiries(), name)
		sooner := later.Add(-time.Minute)
		require.NoError(t, b.editExpiry(t, id, later).Err)
		require.NoError(t, b.editExpiry(t, id, sooner).Err)
		require.Equal(t, name, b.where(t, id))
		details := b.requireDetails(t, id, 4)
		require.Equal(t, "expires_at from null to "+later.Format(time.RFC3339Nano), details[0])
		require.Equal(t, "expires_at from "+later.Format(time.RFC3339Nano)+" to null", details[1])

		b.Clock.Advance(30*time.Minute - time.Minute)
		b.ExpireAll(t)
		if result.Delivery.State == postrider.StateDelivering || strings.Contains(name, "leased") {
			require.Equal(t, name, b.where(t, id), "its attempt is under way")
		} else {
			b.requireExpired(t, id, result.Delivery.AttemptCount)
		}
		cleanUp()
	}
	b.requireAuditedExpiry(t)
}

// requireDetails returns the details of a delivery's last n actions.
func (b *Bundle) requireDetails(t *testing.T, id string, n int) []string {
	t.Helper()
	actions, err := b.Actions(t.Context(), id)
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(actions), n)
	details := make([]string, n)
	for i, action := range actions[len(actions)-n:] {
		details[i] = action.Detail
	}
	return details
}

func (b *Bundle) requireAuditedExpiry(t *testing.T) {
	t.Helper()
	id, at := b.PublishTo(t, b.NewWebhook(t).ID, 1)[0], postrider.Timestamp(b.Clock.Now().Add(time.Hour))
	require.NoError(t, b.editExpiry(t, id, at).Err)
	text, err := json.Marshal(at)
	require.NoError(t, err)
	entries := b.log(t, postrider.AuditFilter{ResourceID: id}, 1)
	require.Equal(t, []postrider.FieldChange{{Field: "expires_at", Old: json.RawMessage("null"), New: text}}, entries[0].Changes)
}

func actEditExpiryUnderWay(t *testing.T, b *Bundle) {
	ctx, w := t.Context(), b.NewWebhook(t)
	id := underWay(t, b, w)
	again := b.judged(t, id, 1)
	require.Equal(t, postrider.StateRetrying, again.State)
	require.NoError(t, b.editExpiry(t, id, *again.NextAttempt).Err)
	requireCode(t, postrider.CodeConflict, b.Record(ctx, []postrider.Outcome{again}))
	require.Equal(t, "failed", b.where(t, id), "its retry would come too late")
	require.True(t, b.read(t, id).HasExpired())
	require.Zero(t, b.count(ctx, t, "SELECT COUNT(*) FROM expiries"))

	id = b.perishable(t, w.ID, 1, time.Millisecond)[0]
	require.Contains(t, b.Claimed(t, 100)[w.ID], id)
	last := b.judged(t, id, 1)
	require.True(t, last.Expired)
	require.NoError(t, b.editExpiry(t, id, time.Time{}).Err)
	requireCode(t, postrider.CodeConflict, b.Record(ctx, []postrider.Outcome{last}))
	require.Equal(t, "retrying, retry ready", b.where(t, id), "it leaves the workflow that believes it has failed")

	id = underWay(t, b, w)
	fine := b.judged(t, id, 1)
	fine.State, fine.NextAttempt, fine.Attempt = postrider.StateSucceeded, nil, b.Outcome(t, id, 1, postrider.StateSucceeded).Attempt
	require.NoError(t, b.editExpiry(t, id, b.Clock.Now().Add(time.Microsecond)).Err)
	b.Clock.Advance(time.Second)
	require.NoError(t, b.Record(ctx, []postrider.Outcome{fine}), "a request that began in time counts")
	require.Equal(t, postrider.StateSucceeded, b.State(t, id))
	require.Zero(t, b.count(ctx, t, "SELECT COUNT(*) FROM expiries"))
}
