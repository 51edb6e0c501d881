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

func actTests() map[string]func(*testing.T, *Bundle) {
	return map[string]func(*testing.T, *Bundle){
		"an action does in each state what it says":               actStates,
		"many retries at once are one attempt":                    actRetryOnce,
		"a retry waits for no carrier that is lost":               actRetryLost,
		"a pause holds while an attempt is under way":             actPauseUnderWay,
		"a pause outlives an attempt that is lost":                actPauseLost,
		"a paused delivery does not follow its webhook":           actPauseWebhook,
		"what is paused for too long fails":                       actPauseTooLong,
		"an attempt under way is judged by the new policy":        actEditUnderWay,
		"a policy whose retries are used up ends the delivery":    actEditUsedUp,
		"a delivery expires when an operator says":                actEditExpiry,
		"an attempt under way is judged by the new expiry":        actEditExpiryUnderWay,
		"a retry of a finished delivery is a new one":             actReplay,
		"an action on many deliveries says what each came to":     actMany,
		"workflows are told of actions until they have heard":     actNotices,
		"actions are kept as long as their deliveries":            actRetention,
		"an action on another workspace's delivery finds nothing": actForeign,
	}
}

const actor = "key_operator"

// act makes an action on a delivery and returns what it came to.
func (b *Bundle) act(t *testing.T, kind postrider.ActionKind, id string) postrider.ActionResult {
	t.Helper()
	return b.actAs(t, postrider.ActionRequest{Kind: kind, DeliveryIDs: []string{id}})[0]
}

func (b *Bundle) actAs(t *testing.T, request postrider.ActionRequest) []postrider.ActionResult {
	t.Helper()
	request.WorkspaceID, request.Actor = b.Workspace, actor
	results, err := b.Act(t.Context(), request)
	require.NoError(t, err)
	return results
}

// done makes an action that is not refused, and returns the delivery after it.
func (b *Bundle) done(t *testing.T, kind postrider.ActionKind, id string) postrider.Delivery {
	t.Helper()
	result := b.act(t, kind, id)
	require.NoError(t, result.Err)
	return result.Delivery
}

// editRetries changes a delivery's max_retries.
func (b *Bundle) editRetries(t *testing.T, id string, maxRetries int) postrider.ActionResult {
	t.Helper()
	return b.actAs(t, postrider.ActionRequest{
		Kind: postrider.ActionEdit, DeliveryIDs: []string{id}, Edit: postrider.TermsEdit{MaxRetries: &maxRetries},
	})[0]
}

// editExpiry changes when a delivery expires; the zero time means never.
func (b *Bundle) editExpiry(t *testing.T, id string, at time.Time) postrider.ActionResult {
	t.Helper()
	return b.actAs(t, postrider.ActionRequest{
		Kind: postrider.ActionEdit, DeliveryIDs: []string{id}, Edit: postrider.TermsEdit{ExpiresAt: &at},
	})[0]
}

func actRetryOnce(t *testing.T, b *Bundle) {
	id := carriedForAnHour(t, b, b.NewWebhook(t))
	carrier := b.read(t, id).WorkflowID
	retryAll := func(n int) {
		var calls sync.WaitGroup
		for range n {
			calls.Go(func() { b.done(t, postrider.ActionRetry, id) })
		}
		calls.Wait()
	}
	retryAll(60)
	made := b.handovers(t, 100)
	require.Equal(t, [][]string{{id}}, members(made))
	require.Equal(t, b.Clock.Now(), *made[0].Deliveries[0].NextAttemptAt)
	retryAll(20)
	require.Empty(t, b.handovers(t, 100), "its carrier is about to make the attempt")
	old := b.read(t, id)
	old.WorkflowID = carrier
	permit, err := b.AcquirePermit(t.Context(), asking(old))
	require.NoError(t, err)
	require.True(t, permit.Elsewhere, "who carried it stands back")
	require.True(t, b.permitted(t, b.read(t, id)))
	retryAll(20)
	require.Equal(t, "retrying, retry leased", b.where(t, id))
	require.NoError(t, b.Record(t.Context(), []postrider.Outcome{b.leaving(t, id, 2, time.Hour)}))
	require.Equal(t, 2, b.read(t, id).AttemptCount)
	actions, err := b.Actions(t.Context(), id)
	require.NoError(t, err)
	require.Len(t, actions, 1, "noted once")
	noted := postrider.Action{At: b.Clock.Now(), Kind: postrider.ActionRetry, Actor: actor, Detail: "attempt 2 is made now"}
	require.Equal(t, noted, actions[0])
	b.done(t, postrider.ActionRetry, id)
	actions, err = b.Actions(t.Context(), id)
	require.NoError(t, err)
	require.Len(t, actions, 2, "that is another attempt")
}

// A workflow may have been terminated: then nobody makes the attempt that is due.
func actRetryLost(t *testing.T, b *Bundle) {
	id := carriedForAnHour(t, b, b.NewWebhook(t))
	b.Clock.Advance(time.Hour + 10*time.Second)
	b.done(t, postrider.ActionRetry, id)
	require.Equal(t, "retrying, retry held", b.where(t, id))
	b.Clock.Advance(10 * time.Second)
	b.done(t, postrider.ActionRetry, id)
	require.Equal(t, "retrying, retry ready", b.where(t, id))
}

func actPauseUnderWay(t *testing.T, b *Bundle) {
	for _, prepare := range []func(*testing.T, *Bundle, postrider.Webhook) string{paused(underWay), paused(retriedNow)} {
		w := b.NewWebhook(t)
		id := prepare(t, b, w)
		failed := b.Outcome(t, id, b.read(t, id).AttemptCount+1, postrider.StateRetrying)
		requireCode(t, postrider.CodeConflict, b.Record(t.Context(), []postrider.Outcome{failed})) // its workflow hears that it left
		require.Equal(t, "parked, paused", b.where(t, id))
		d := b.read(t, id)
		require.Equal(t, failed.Attempt.Number, d.AttemptCount)
		require.Nil(t, d.NextAttemptAt)
		require.Empty(t, d.WorkflowID)
		b.Clock.Advance(2 * time.Hour)
		require.NotContains(t, b.Claimed(t, 100)[w.ID], id)
		require.NotContains(t, slices.Concat(members(b.handovers(t, 100))...), id)
		d = b.done(t, postrider.ActionResume, id)
		require.Equal(t, b.Clock.Now(), *d.NextAttemptAt)
		require.Equal(t, [][]string{{id}}, members(b.handovers(t, 100)))

		id = prepare(t, b, w)
		fine := b.Outcome(t, id, b.read(t, id).AttemptCount+1, postrider.StateSucceeded)
		require.NoError(t, b.Record(t.Context(), []postrider.Outcome{fine}))
		require.Equal(t, postrider.StateSucceeded, b.State(t, id))

		id = prepare(t, b, w)
		require.NoError(t, b.editExpiry(t, id, b.Clock.Now().Add(time.Hour)).Err)
		failed = b.Outcome(t, id, b.read(t, id).AttemptCount+1, postrider.StateRetrying)
		requireCode(t, postrider.CodeConflict, b.Record(t.Context(), []postrider.Outcome{failed}))
		require.Equal(t, "parked, paused", b.where(t, id))
		b.Clock.Advance(time.Hour)
		b.ExpireAll(t)
		b.requireExpired(t, id, failed.Attempt.Number)
	}
}

func actPauseLost(t *testing.T, b *Bundle) {
	first, second := paused(underWay)(t, b, b.NewWebhook(t)), paused(retriedNow)(t, b, b.NewWebhook(t))
	b.Clock.Advance(3 * time.Hour)
	require.Empty(t, b.Claimed(t, 100))
	require.Empty(t, b.handovers(t, 100))
	for _, id := range []string{first, second} {
		require.Equal(t, "parked, paused", b.where(t, id))
		b.done(t, postrider.ActionResume, id)
	}
	require.Equal(t, "pending, start ready", b.where(t, first))
	require.Equal(t, "retrying, retry ready", b.where(t, second))
}

func actPauseWebhook(t *testing.T, b *Bundle) {
	ctx, w := t.Context(), b.NewWebhook(t)
	id, other := carriedForAnHour(t, b, w), b.PublishTo(t, w.ID, 1)[0]
	_, err := b.PauseWebhook(ctx, b.Workspace, w.ID)
	require.NoError(t, err)
	b.SweepAll(t)
	b.done(t, postrider.ActionPause, id)
	_, err = b.ResumeWebhook(ctx, b.Workspace, w.ID)
	require.NoError(t, err)
	b.SweepAll(t)
	require.Equal(t, "parked, paused", b.where(t, id))
	require.Equal(t, "pending, start ready", b.where(t, other))

	_, err = b.PauseWebhook(ctx, b.Workspace, w.ID)
	require.NoError(t, err)
	b.SweepAll(t)
	b.done(t, postrider.ActionResume, id)
	require.Equal(t, "parked", b.where(t, id), "it waits for its webhook from now on")
	_, err = b.ResumeWebhook(ctx, b.Workspace, w.ID)
	require.NoError(t, err)
	b.SweepAll(t)
	require.Equal(t, "retrying, retry ready", b.where(t, id))

	b.done(t, postrider.ActionPause, id)
	require.NoError(t, b.DeleteWebhook(ctx, b.Workspace, w.ID))
	b.SweepAll(t)
	require.Equal(t, postrider.StateCancelled, b.State(t, id))
}

func actPauseTooLong(t *testing.T, b *Bundle) {
	short := b.NewWebhook(t, func(w *postrider.Webhook) { w.ParkSeconds = 60 })
	id, resumed, long := paused(carriedForAnHour)(t, b, short), carriedForAnHour(t, b, short), paused(carriedForAnHour)(t, b, b.NewWebhook(t))
	b.Clock.Advance(61 * time.Second)
	b.done(t, postrider.ActionPause, resumed)
	require.EqualValues(t, 1, b.retain(t, Start().Add(-day)).Parked)
	d := b.read(t, id)
	require.Equal(t, postrider.StateFailed, d.State)
	require.Equal(t, ref("parked for too long"), d.LastError)
	require.Equal(t, "parked, paused", b.where(t, resumed))
	require.Equal(t, "parked, paused", b.where(t, long))
	read, err := b.Webhook(t.Context(), b.Workspace, short.ID)
	require.NoError(t, err)
	require.EqualValues(t, 1, read.Stats.FailedDeliveries)
}

func actReplay(t *testing.T, b *Bundle) {
	ctx, w := t.Context(), b.NewWebhook(t)
	id := finish(t, b, w.ID, 1)[0]
	_, err := b.UpdateWebhook(ctx, b.Workspace, w.ID, func(e *postrider.WebhookEdit) error {
		e.Webhook.MaxRetries = 9
		return nil
	})
	require.NoError(t, err)
	again := b.done(t, postrider.ActionRetry, id)
	require.Equal(t, &id, again.ReplayOf)
	require.NotEqual(t, id, again.ID)
	require.Equal(t, 9, again.Policy.MaxRetries, "the webhook's as it is now")
	require.Equal(t, again.ID, b.done(t, postrider.ActionRetry, id).ID, "many calls are one while it is not finished")
	require.Equal(t, []string{again.ID}, b.Claimed(t, 10)[w.ID])
	targets, err := b.Targets(ctx, []string{id, again.ID})
	require.NoError(t, err)
	require.Equal(t, targets[0].Body, targets[1].Body)
	require.NoError(t, b.Record(ctx, []postrider.Outcome{b.Outcome(t, again.ID, 1, postrider.StateSucceeded)}))
	require.Equal(t, again.ID, b.done(t, postrider.ActionRetry, id).ID, "a call made together with it, and late")
	b.Clock.Advance(time.Minute)

	_, err = b.PauseWebhook(ctx, b.Workspace, w.ID)
	require.NoError(t, err)
	b.SweepAll(t)
	third := b.done(t, postrider.ActionRetry, id)
	require.NotEqual(t, again.ID, third.ID)
	require.Equal(t, postrider.StateParked, third.State)
	_, err = b.ResumeWebhook(ctx, b.Workspace, w.ID)
	require.NoError(t, err)
	b.SweepAll(t)
	require.Equal(t, []string{third.ID}, b.Claimed(t, 10)[w.ID])
	require.NoError(t, b.Record(ctx, []postrider.Outcome{b.Outcome(t, third.ID, 1, postrider.StateFailed)}))
	require.NotEqual(t, third.ID, b.done(t, postrider.ActionRetry, id).ID, "it has failed, which asks for another")
	b.Clock.Advance(time.Minute)
	fourth := b.Claimed(t, 10)[w.ID][0]
	require.NoError(t, b.Record(ctx, []postrider.Outcome{b.Outcome(t, fourth, 1, postrider.StateFailed)}))

	// An attempt that a retry asked for succeeds before all the calls have come.
	late := left(t, b, w.ID, 1, time.Hour)[0]
	b.done(t, postrider.ActionRetry, late)
	b.handovers(t, 10)
	require.NoError(t, b.Record(ctx, []postrider.Outcome{b.Outcome(t, late, 2, postrider.StateSucceeded)}))
	require.Equal(t, late, b.done(t, postrider.ActionRetry, late).ID)
	b.Clock.Advance(time.Minute)
	require.NotEqual(t, late, b.done(t, postrider.ActionRetry, late).ID, "by now it is another wish")

	_, err = b.Raw(t).ExecContext(ctx, "DELETE FROM events")
	require.NoError(t, err)
	require.ErrorContains(t, b.act(t, postrider.ActionRetry, id).Err, "past its retention")
	require.NoError(t, b.DeleteWebhook(ctx, b.Workspace, w.ID))
	require.ErrorContains(t, b.act(t, postrider.ActionRetry, id).Err, "its webhook is deleted")
}

func actMany(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t, func(w *postrider.Webhook) { w.MaxInFlight = postrider.MaxMaxInFlight })
	waiting, done := left(t, b, w.ID, 120, time.Hour), finish(t, b, w.ID, 1)[0]
	b.handovers(t, 1000)
	asked := append(slices.Clone(waiting), "dlv_unknown", done, waiting[0])
	slices.Reverse(asked)
	results := b.actAs(t, postrider.ActionRequest{Kind: postrider.ActionCancel, DeliveryIDs: asked})
	require.Len(t, results, len(asked))
	for i, result := range results {
		require.Equal(t, asked[i], result.DeliveryID)
		switch result.DeliveryID {
		case done:
			requireCode(t, postrider.CodeConflict, result.Err)
		case "dlv_unknown":
			requireCode(t, postrider.CodeNotFound, result.Err)
		default:
			require.NoError(t, result.Err)
			require.Equal(t, postrider.StateCancelled, result.Delivery.State)
		}
	}
	require.Zero(t, b.count(t.Context(), t, "SELECT COUNT(*) FROM outbox"))
	none := b.actAs(t, postrider.ActionRequest{Kind: postrider.ActionRetry})
	require.Empty(t, none)
}

func actNotices(t *testing.T, b *Bundle) {
	ctx := t.Context()
	notices := func() []postrider.Notice {
		t.Helper()
		found, err := b.ClaimNotices(ctx, 10, time.Minute)
		require.NoError(t, err)
		return found
	}
	require.Empty(t, notices())
	w := b.NewWebhook(t)
	ids := left(t, b, w.ID, 2, time.Hour)
	carrier := b.handovers(t, 10)[0].WorkflowID
	b.done(t, postrider.ActionPause, underWay(t, b, b.NewWebhook(t))) // its own workflow goes on carrying it
	require.Len(t, notices(), 1)
	b.done(t, postrider.ActionRetry, ids[0])
	b.done(t, postrider.ActionCancel, ids[1])
	b.done(t, postrider.ActionPause, ids[0]) // no workflow carries it

	told := notices()
	require.Len(t, told, 1)
	require.Equal(t, carrier, told[0].WorkflowID)
	require.Equal(t, []postrider.Acted{
		{DeliveryID: ids[0], Left: true, Action: postrider.Action{
			At: b.Clock.Now(), Kind: postrider.ActionRetry, Actor: actor, Detail: "attempt 2 is made now",
		}},
		{DeliveryID: ids[1], Left: true, Action: postrider.Action{
			At: b.Clock.Now(), Kind: postrider.ActionCancel, Actor: actor, Detail: "no more attempts are made",
		}},
	}, told[0].Acted)
	require.Empty(t, notices(), "somebody is at it")
	b.Clock.Advance(time.Minute)
	require.Len(t, notices(), 2, "and was not heard of")
	require.NoError(t, b.Noticed(ctx, told[0]))
	b.Clock.Advance(time.Minute)
	require.Len(t, notices(), 1)
}

func actRetention(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t)
	old, open := finish(t, b, w.ID, 1)[0], b.PublishTo(t, w.ID, 1)[0]
	again := b.done(t, postrider.ActionRetry, old).ID
	b.done(t, postrider.ActionCancel, again)
	b.done(t, postrider.ActionPause, open)
	b.done(t, postrider.ActionResume, open)
	actions, err := b.Actions(t.Context(), open)
	require.NoError(t, err)
	require.Equal(t, postrider.ActionPause, actions[0].Kind)
	require.Equal(t, postrider.ActionResume, actions[1].Kind)
	b.Clock.Advance(2 * day)
	require.NoError(t, b.EnsurePartitions(t.Context(), b.Clock.Now()))
	b.retain(t, b.Clock.Now())
	require.Equal(t, 2, b.count(t.Context(), t, "SELECT COUNT(*) FROM delivery_actions WHERE delivery_id = '"+open+"'"))
	b.done(t, postrider.ActionCancel, open)
	b.retain(t, b.Clock.Now())
	require.Zero(t, b.count(t.Context(), t, "SELECT COUNT(*) FROM delivery_actions"))
}

func actForeign(t *testing.T, b *Bundle) {
	id := b.PublishTo(t, b.NewWebhook(t).ID, 1)[0]
	for _, kind := range postrider.ActionKinds() {
		results, err := b.Act(t.Context(), postrider.ActionRequest{WorkspaceID: b.NewWorkspace(t), Kind: kind, DeliveryIDs: []string{id}})
		require.NoError(t, err)
		require.Equal(t, []postrider.ActionResult{{DeliveryID: id, Err: postrider.NotFound("delivery")}}, results)
	}
	require.Equal(t, "pending, start ready", b.where(t, id))
	actions, err := b.Actions(t.Context(), id)
	require.NoError(t, err)
	require.Empty(t, actions)
}
