//nolint:thelper // these are the tests, not helpers of one
package storetest

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
)

func failingTests() map[string]func(*testing.T, *Bundle) {
	return map[string]func(*testing.T, *Bundle){
		"attempts that fail are counted until one succeeds":  healthCounts,
		"what is not the receiver's failure does not count":  healthUnblamed,
		"attempts of one record count in their order":        healthOrder,
		"a webhook that fails for too long is disabled":      failingDisabled,
		"a webhook that recovers is not disabled":            failingRecovers,
		"a webhook that is never disabled by failures stays": failingNever,
	}
}

func healthCounts(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t)
	require.Equal(t, postrider.WebhookHealth{State: postrider.HealthOK}, b.health(t, w.ID))
	b.PublishTo(t, w.ID, 4)
	since := postrider.Timestamp(b.Clock.Now().Add(12 * time.Millisecond)) // the end of the attempt
	for n := 1; n <= 2; n++ {
		require.Len(t, b.ends(t, w.ID, 1, postrider.StateRetrying), 1)
		require.Equal(t, postrider.WebhookHealth{State: postrider.HealthFailing, FailingSince: &since, ConsecutiveFailures: n}, b.health(t, w.ID))
		b.Clock.Advance(time.Minute)
	}
	listed, err := b.Webhooks(t.Context(), b.Workspace, postrider.WebhookFilter{}, postrider.Page{})
	require.NoError(t, err)
	require.Equal(t, 2, listed.Items[0].Health.ConsecutiveFailures)
	b.ends(t, w.ID, 1, postrider.StateSucceeded)
	require.Equal(t, postrider.WebhookHealth{State: postrider.HealthOK}, b.health(t, w.ID))
}

func healthUnblamed(t *testing.T, b *Bundle) {
	w := b.guarded(t)
	for _, change := range []func(*postrider.Outcome){
		func(o *postrider.Outcome) { o.Unblamed = true },
		func(o *postrider.Outcome) { o.Attempt.Result = postrider.ResultTransform },
		func(o *postrider.Outcome) { o.Attempt.Result = postrider.ResultCancelled },
		func(o *postrider.Outcome) { o.Attempt.StatusCode = ref(410) },
	} {
		id := b.PublishTo(t, w.ID, 1)[0]
		b.Claimed(t, 1)
		outcome := b.Outcome(t, id, 1, postrider.StateFailed)
		change(&outcome)
		require.NoError(t, b.Record(t.Context(), []postrider.Outcome{outcome}))
		require.Equal(t, postrider.WebhookHealth{State: postrider.HealthOK}, b.health(t, w.ID))
	}
}

func healthOrder(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t)
	b.PublishTo(t, w.ID, 3)
	var outcomes []postrider.Outcome
	for i, id := range b.Claimed(t, 3)[w.ID] {
		state := postrider.StateFailed
		if i == 2 {
			state = postrider.StateSucceeded
		}
		outcomes = append(outcomes, b.Outcome(t, id, 1, state))
	}
	outcomes[1].Attempt.StartedAt = b.Clock.Now().Add(time.Second) // it ends after the success
	require.NoError(t, b.Record(t.Context(), outcomes))
	require.Equal(t, 1, b.health(t, w.ID).ConsecutiveFailures)
}

// told reports whether it was told that the webhook fails.
func (b *Bundle) told(t *testing.T) bool {
	t.Helper()
	return b.count(t.Context(), t, "SELECT COUNT(*) FROM webhook_stats WHERE failing_told") > 0
}

// disabling creates a webhook that is disabled after so many seconds of nothing but failures.
func (b *Bundle) disabling(t *testing.T, seconds int) postrider.Webhook {
	t.Helper()
	return b.NewWebhook(t, func(w *postrider.Webhook) { w.DisableAfterSeconds = seconds })
}

func failingDisabled(t *testing.T, b *Bundle) {
	w := b.disabling(t, 1000)
	waiting := b.PublishTo(t, w.ID, 5)
	b.ends(t, w.ID, 1, postrider.StateFailed)
	b.Clock.Advance(100*time.Second - time.Millisecond)
	b.ends(t, w.ID, 1, postrider.StateFailed)
	require.False(t, b.told(t))
	b.Clock.Advance(time.Second)
	b.ends(t, w.ID, 1, postrider.StateFailed)
	require.True(t, b.told(t), "after a tenth of it")
	b.Clock.Advance(900 * time.Second)
	b.ends(t, w.ID, 1, postrider.StateFailed)
	disabled, err := b.Webhook(t.Context(), b.Workspace, w.ID)
	require.NoError(t, err)
	require.Equal(t, postrider.WebhookDisabled, disabled.Status)
	require.Equal(t, ref(postrider.DisabledFailing), disabled.DisabledReason)
	require.NotNil(t, disabled.InactiveSince)
	b.SweepAll(t)
	require.Equal(t, postrider.StateParked, b.State(t, waiting[4]))

	b.resume(t, w.ID)
	require.Equal(t, postrider.WebhookHealth{State: postrider.HealthOK}, b.health(t, w.ID), "it has all the time again")
	require.Equal(t, waiting[4:], b.ends(t, w.ID, 10, postrider.StateSucceeded))
	require.False(t, b.told(t), "it has recovered")
}

func failingRecovers(t *testing.T, b *Bundle) {
	w := b.disabling(t, 1000)
	b.PublishTo(t, w.ID, 4)
	for range 2 {
		b.ends(t, w.ID, 1, postrider.StateFailed)
		b.Clock.Advance(600 * time.Second)
		b.ends(t, w.ID, 1, postrider.StateSucceeded)
		b.Clock.Advance(600 * time.Second)
	}
	require.Equal(t, postrider.WebhookHealth{State: postrider.HealthOK}, b.health(t, w.ID))
	require.False(t, b.told(t), "it never failed twice")
}

func failingNever(t *testing.T, b *Bundle) {
	w := b.disabling(t, 0)
	b.PublishTo(t, w.ID, 2)
	b.ends(t, w.ID, 1, postrider.StateFailed)
	b.Clock.Advance(365 * 24 * time.Hour)
	b.ends(t, w.ID, 1, postrider.StateFailed)
	require.Equal(t, postrider.HealthFailing, b.health(t, w.ID).State)
	require.False(t, b.told(t))
}
