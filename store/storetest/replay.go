//nolint:thelper // these are the tests, not helpers of one
package storetest

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
)

func replayTests() map[string]func(*testing.T, *Bundle) {
	return map[string]func(*testing.T, *Bundle){
		"a replay sends what failed once":                   replayFailed,
		"a replay keeps its rate and its window":            replayPace,
		"steps at once make nothing twice":                  replayAtOnce,
		"a replay sends what is missing":                    replayMissing,
		"a replay of all states and of what is missing":     replayEverything,
		"a replay leaves out what was sent again":           replayRepeated,
		"a replay leaves out what expired or is called off": replayWorthless,
		"a paused replay makes nothing and needs nobody":    replayPaused,
		"a cancelled replay cancels what it made":           replayCancelled,
		"a replay waits for its webhook":                    replayOfPausedWebhook,
		"a replay fails with its webhook":                   replayOfDeletedWebhook,
		"a webhook has one replay, a workspace a few":       replayLimits,
		"a replay is started until it makes steps":          replayStarts,
		"a fan-out's deliveries are not missing":            replayDuringFanOut,
		"old replays are removed":                           replayRetention,
		"a replay goes by event types":                      replayEventTypes,
		"a replay of what blocks an order takes its place":  replayBlocking,
		"a replay is not held up by one key":                replayBehind,
		"a replay leaves room in a fifo webhook's order":    replayFIFO,
	}
}

// ago is a job of the webhook over everything so far.
func (b *Bundle) replaySpec(w postrider.Webhook, states ...postrider.ReplayOf) postrider.ReplaySpec {
	b.Clock.Advance(time.Second)
	return postrider.ReplaySpec{
		WorkspaceID: b.Workspace, WebhookID: w.ID, Since: Start().Add(-time.Hour), Until: b.Clock.Now(), States: states, Rate: 10000,
	}
}

func (b *Bundle) createReplay(t *testing.T, spec postrider.ReplaySpec) postrider.Replay {
	t.Helper()
	job, err := b.CreateReplay(t.Context(), spec)
	require.NoError(t, err)
	require.Equal(t, postrider.ReplayRunning, job.State)
	return job
}

func (b *Bundle) step(t *testing.T, id string) postrider.ReplayStep {
	t.Helper()
	step, err := b.StepReplay(t.Context(), id)
	require.NoError(t, err)
	return step
}

func (b *Bundle) replay(t *testing.T, id string) postrider.Replay {
	t.Helper()
	job, err := b.Replay(t.Context(), b.Workspace, id)
	require.NoError(t, err)
	return job
}

// ended makes deliveries of the webhook end in the state.
func (b *Bundle) ended(t *testing.T, deliveryIDs []string, state postrider.DeliveryState) {
	t.Helper()
	outcomes := make([]postrider.Outcome, len(deliveryIDs))
	for i, id := range deliveryIDs {
		outcomes[i] = b.Outcome(t, id, 1, state)
	}
	require.NoError(t, b.Record(t.Context(), outcomes))
}

// deliver makes steps of a job and lets what it made succeed, until it is over. It returns what was sent.
func (b *Bundle) deliver(t *testing.T, id string) []postrider.Delivery {
	t.Helper()
	var sent []postrider.Delivery
	for range 1000 {
		step := b.step(t, id)
		b.Clock.Advance(time.Second)
		claimed, err := b.Claim(t.Context(), postrider.ClaimRequest{Limit: 500, Lease: lease})
		require.NoError(t, err)
		ids := make([]string, len(claimed))
		for i, d := range claimed {
			ids[i] = d.ID
			sent = append(sent, b.read(t, d.ID))
		}
		b.ended(t, ids, postrider.StateSucceeded)
		if step.Over {
			return sent
		}
	}
	t.Fatal("the replay does not end")
	return nil
}

func repeated(sent []postrider.Delivery) []string {
	var of []string
	for _, d := range sent {
		if d.ReplayOf != nil {
			of = append(of, *d.ReplayOf)
		}
	}
	return of
}

func replayFailed(t *testing.T, b *Bundle) {
	w, other := b.NewWebhook(t), b.NewWebhook(t)
	failed := b.PublishTo(t, w.ID, 1200)
	b.ended(t, failed, postrider.StateFailed)
	b.ended(t, b.PublishTo(t, w.ID, 5), postrider.StateSucceeded)
	b.ended(t, b.PublishTo(t, other.ID, 5), postrider.StateFailed)
	spec := b.replaySpec(w, postrider.ReplayOfFailed)
	matched, err := b.CountReplay(t.Context(), spec)
	require.NoError(t, err)
	require.Equal(t, 1200, matched)
	job := b.createReplay(t, spec)
	require.Equal(t, 1200, *job.Matched)
	require.Zero(t, job.Sent)
	require.NotNil(t, job.ETA)
	require.Equal(t, "replay/"+job.ID, job.WorkflowID())

	sent := b.deliver(t, job.ID)
	require.Equal(t, failed, repeated(sent), "each once, in their order")
	require.Equal(t, b.read(t, failed[0]).EventID, sent[0].EventID)
	done := b.replay(t, job.ID)
	require.Equal(t, postrider.ReplayFinished, done.State)
	require.Equal(t, []int{1200, 1200, 1200, 0}, []int{*done.Matched, done.Sent, done.Succeeded, done.Failed})
	require.NotNil(t, done.FinishedAt)
	require.Nil(t, done.ETA)
	require.Zero(t, b.count(t.Context(), t, "SELECT COUNT(*) FROM replay_deliveries"))
	require.Equal(t, postrider.StateFailed, b.State(t, failed[0]), "the old ones stay what they are")
}

func replayPace(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t, func(w *postrider.Webhook) { w.MaxInFlight = 20 })
	b.ended(t, b.PublishTo(t, w.ID, 60), postrider.StateFailed)
	spec := b.replaySpec(w, postrider.ReplayOfFailed)
	spec.Rate = 20
	job := b.createReplay(t, spec)
	require.Equal(t, 1, b.step(t, job.ID).Sent, "none is saved up before the beginning")
	require.False(t, b.step(t, job.ID).Moved)
	b.Clock.Advance(50 * time.Millisecond)
	require.Equal(t, 2, b.step(t, job.ID).Sent)
	for range 100 {
		b.Clock.Advance(100 * time.Millisecond)
		b.step(t, job.ID)
	}
	require.Equal(t, 10, b.replay(t, job.ID).Sent, "half of max_in_flight waits")
	require.Equal(t, map[string][]string{w.ID: b.outboxOf(t, w.ID)}, b.Claimed(t, 100))

	// Those that are to be retried let others go, up to a bound.
	for _, id := range b.outboxOf(t, w.ID) {
		require.NoError(t, b.Record(t.Context(), []postrider.Outcome{b.Outcome(t, id, 1, postrider.StateRetrying)}))
	}
	b.Clock.Advance(time.Second)
	require.Positive(t, b.step(t, job.ID).Sent-10)

	slow := b.NewWebhook(t, func(w *postrider.Webhook) { w.RateLimit = ref(1) })
	b.ended(t, b.PublishTo(t, slow.ID, 10), postrider.StateFailed)
	job = b.createReplay(t, b.replaySpec(slow, postrider.ReplayOfFailed))
	for range 10 {
		b.Clock.Advance(100 * time.Millisecond)
		b.step(t, job.ID)
	}
	require.Equal(t, 1, b.replay(t, job.ID).Sent)
}

// outboxOf returns the deliveries of a webhook that are in the outbox.
func (b *Bundle) outboxOf(t *testing.T, webhookID string) []string {
	t.Helper()
	var ids []string
	db := b.openRaw(t)
	defer db.Close()
	const query = "SELECT delivery_id FROM outbox WHERE webhook_id = $1 ORDER BY delivery_id"
	require.NoError(t, db.SelectContext(t.Context(), &ids, query, webhookID))
	return ids
}

// Guards what a crash of a worker leads to: its activity is made again while it goes on, and by other processes.
func replayAtOnce(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t, func(w *postrider.Webhook) { w.MaxInFlight = 1000 })
	failed := b.PublishTo(t, w.ID, 300)
	b.ended(t, failed, postrider.StateFailed)
	job := b.createReplay(t, b.replaySpec(w, postrider.ReplayOfFailed))
	other := b.Open(t, b.Key)
	for range 20 {
		var steps sync.WaitGroup
		for _, s := range []interface {
			StepReplay(ctx context.Context, id string) (postrider.ReplayStep, error)
		}{b.Store, other, b.Store} {
			steps.Go(func() {
				if _, err := s.StepReplay(t.Context(), job.ID); err != nil {
					t.Errorf("step: %v", err)
				}
			})
		}
		steps.Wait()
		b.Clock.Advance(7 * time.Millisecond)
	}
	sent := b.deliver(t, job.ID)
	require.ElementsMatch(t, failed, repeated(sent))
	require.Equal(t, 300, b.replay(t, job.ID).Succeeded)
}

func replayMissing(t *testing.T, b *Bundle) {
	old := b.NewWebhook(t)
	publish := func(eventType string, edits ...func(*postrider.PublishedEvent)) string {
		e := b.NewEvent(eventType)
		for _, edit := range edits {
			edit(&e)
		}
		e.Body = []byte(`{"id":"` + e.ID + `","type":"` + eventType + `","timestamp":"2026-03-14T09:26:53Z","persona_id":null,"data":{"n":` +
			map[bool]string{true: "1", false: "2"}[strings.HasSuffix(eventType, "one")] + `}}`)
		_, err := b.Publish(t.Context(), b.Publication(e))
		require.NoError(t, err)
		return e.ID
	}
	first := publish("call.one")
	publish("call.two")
	publish("other.one")
	publish("call.one", func(e *postrider.PublishedEvent) { e.WebhookID = &old.ID })
	persona := publish("call.one", func(e *postrider.PublishedEvent) { e.PersonaID = ref("p1") })
	w := b.NewWebhook(t, func(w *postrider.Webhook) {
		w.Events, w.Filter = []string{"call.*"}, ref("event.data.n == 1")
	})
	had := publish("call.one")
	require.NotEmpty(t, had)
	personal := b.NewWebhook(t, func(w *postrider.Webhook) { w.ScopeType, w.PersonaID = postrider.ScopePersona, ref("p1") })
	b.ended(t, b.allPending(t), postrider.StateSucceeded)

	job := b.createReplay(t, b.replaySpec(w, postrider.ReplayOfMissing))
	require.Equal(t, 2, *job.Matched)
	sent := b.deliver(t, job.ID)
	require.Equal(t, []string{first, persona}, []string{sent[0].EventID, sent[1].EventID})
	require.Empty(t, repeated(sent), "they repeat nothing")
	matched, err := b.CountReplay(t.Context(), b.replaySpec(w, postrider.ReplayOfMissing))
	require.NoError(t, err)
	require.Zero(t, matched)

	job = b.createReplay(t, b.replaySpec(personal, postrider.ReplayOfMissing))
	require.Equal(t, 1, *job.Matched)
	require.Equal(t, persona, b.deliver(t, job.ID)[0].EventID)
}

// allPending returns the deliveries that wait for their first attempt.
func (b *Bundle) allPending(t *testing.T) []string {
	t.Helper()
	var ids []string
	require.NoError(t, b.Raw(t).SelectContext(t.Context(), &ids, "SELECT id FROM deliveries WHERE state = 'pending' ORDER BY id"))
	return ids
}

func replayEverything(t *testing.T, b *Bundle) {
	old := b.NewWebhook(t)
	for range 250 { // more than a page of events
		_, err := b.Publish(t.Context(), b.Publication(b.NewEvent("call.ended")))
		require.NoError(t, err)
	}
	w := b.NewWebhook(t)
	failed, succeeded, cancelled := b.PublishTo(t, w.ID, 3), b.PublishTo(t, w.ID, 3), b.PublishTo(t, w.ID, 2)
	b.ended(t, failed, postrider.StateFailed)
	b.ended(t, succeeded, postrider.StateSucceeded)
	for _, id := range cancelled {
		b.act(t, postrider.ActionCancel, id)
	}
	b.ended(t, b.outboxOf(t, old.ID), postrider.StateSucceeded)
	job := b.createReplay(t, b.replaySpec(w, postrider.ReplayOfs()...))
	require.Equal(t, 258, *job.Matched)
	sent := b.deliver(t, job.ID)
	require.Len(t, sent, 258)
	require.Equal(t, slices.Concat(failed, succeeded, cancelled), repeated(sent))
}

func replayRepeated(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t)
	failed := b.PublishTo(t, w.ID, 4)
	b.ended(t, failed, postrider.StateFailed)
	spec := b.replaySpec(w, postrider.ReplayOfFailed)
	again := func(id string) string { return b.act(t, postrider.ActionRetry, id).Delivery.ID }
	b.ended(t, []string{again(failed[0])}, postrider.StateSucceeded)
	again(failed[1]) // under way
	failedAgain := again(failed[2])
	b.ended(t, []string{failedAgain}, postrider.StateFailed)
	matched, err := b.CountReplay(t.Context(), spec)
	require.NoError(t, err)
	require.Equal(t, 2, matched, "the third, whose repetition is after the period, and the fourth")
	matched, err = b.CountReplay(t.Context(), b.replaySpec(w, postrider.ReplayOfFailed))
	require.NoError(t, err)
	require.Equal(t, 2, matched, "the third by its repetition, not by both")
}

func replayWorthless(t *testing.T, b *Bundle) {
	b.NewWebhook(t)
	expiring, later, off, kept := b.NewEvent("call.ended"), b.NewEvent("call.ended"), b.NewEvent("call.ended"), b.NewEvent("call.ended")
	expiring.ExpiresAt = ref(Start().Add(time.Minute))
	later.DeliverAt = ref(Start().Add(time.Hour))
	kept.ExpiresAt = ref(Start().Add(time.Hour))
	_, err := b.Publish(t.Context(), b.Publication(expiring, later, off, kept))
	require.NoError(t, err)
	b.cancelEvent(t, off.ID)
	w := b.NewWebhook(t)
	b.Clock.Advance(2 * time.Minute)
	job := b.createReplay(t, b.replaySpec(w, postrider.ReplayOfMissing))
	require.Equal(t, 1, *job.Matched)
	b.step(t, job.ID)
	made := b.outboxOf(t, w.ID)
	require.Len(t, made, 1)
	require.Equal(t, kept.ExpiresAt, b.read(t, made[0]).ExpiresAt)
	b.Clock.Advance(time.Hour)
	b.ExpireAll(t)
	require.True(t, b.step(t, job.ID).Over)
	require.Equal(t, 1, b.replay(t, job.ID).Failed)
}

func replayPaused(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t)
	b.ended(t, b.PublishTo(t, w.ID, 40), postrider.StateFailed)
	job := b.createReplay(t, b.replaySpec(w, postrider.ReplayOfFailed))
	b.step(t, job.ID)
	b.Clock.Advance(time.Second)
	sent := b.step(t, job.ID).Sent
	require.Positive(t, sent)
	for range 2 {
		paused, err := b.PauseReplay(t.Context(), b.Workspace, job.ID)
		require.NoError(t, err)
		require.Equal(t, postrider.ReplayPaused, paused.State)
	}
	b.Clock.Advance(time.Hour)
	require.True(t, b.step(t, job.ID).Over, "its workflow ends")
	require.Equal(t, sent, b.replay(t, job.ID).Sent)
	due, err := b.ClaimReplays(t.Context(), 10, time.Second)
	require.NoError(t, err)
	require.Empty(t, due)
	// What it made goes on, and is counted though nobody makes steps.
	b.ended(t, b.outboxOf(t, w.ID), postrider.StateSucceeded)
	require.Equal(t, sent, b.replay(t, job.ID).Succeeded)

	resumed, err := b.ResumeReplay(t.Context(), b.Workspace, job.ID)
	require.NoError(t, err)
	require.Equal(t, postrider.ReplayRunning, resumed.State)
	due, err = b.ClaimReplays(t.Context(), 10, time.Second)
	require.NoError(t, err)
	require.Equal(t, []postrider.DueReplay{{ID: job.ID, WorkspaceID: b.Workspace, WebhookID: w.ID}}, due)
	require.Len(t, b.deliver(t, job.ID), 40-sent)
	done := b.replay(t, job.ID)
	require.Equal(t, []int{40, 40}, []int{done.Sent, done.Succeeded})
	for _, change := range []func() error{
		func() error { _, err := b.PauseReplay(t.Context(), b.Workspace, job.ID); return err },
		func() error { _, err := b.ResumeReplay(t.Context(), b.Workspace, job.ID); return err },
		func() error { _, err := b.CancelReplay(t.Context(), b.Workspace, job.ID); return err },
	} {
		requireCode(t, postrider.CodeConflict, change())
		require.ErrorContains(t, change(), "the replay is finished")
	}
	_, err = b.PauseReplay(t.Context(), b.NewWorkspace(t), job.ID)
	requireCode(t, postrider.CodeNotFound, err)
}

func replayCancelled(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t)
	b.ended(t, b.PublishTo(t, w.ID, 40), postrider.StateFailed)
	job := b.createReplay(t, b.replaySpec(w, postrider.ReplayOfFailed))
	b.Clock.Advance(time.Second)
	sent := b.step(t, job.ID).Sent
	made := b.outboxOf(t, w.ID)
	require.Len(t, made, sent)
	b.ended(t, made[:1], postrider.StateSucceeded)
	for range 2 {
		cancelled, err := b.CancelReplay(t.Context(), b.Workspace, job.ID)
		require.NoError(t, err)
		require.Equal(t, postrider.ReplayCancelled, cancelled.State)
		require.Equal(t, []int{sent, 1, sent - 1}, []int{cancelled.Sent, cancelled.Succeeded, cancelled.Failed})
		require.NotNil(t, cancelled.FinishedAt)
	}
	require.Empty(t, b.outboxOf(t, w.ID))
	require.Equal(t, postrider.StateCancelled, b.State(t, made[1]))
	require.True(t, b.step(t, job.ID).Over)
	require.Zero(t, b.count(t.Context(), t, "SELECT COUNT(*) FROM replay_deliveries"))
	due, err := b.ClaimReplays(t.Context(), 10, time.Second)
	require.NoError(t, err)
	require.Empty(t, due)
	requireCode(t, postrider.CodeConflict, func() error { _, err := b.ResumeReplay(t.Context(), b.Workspace, job.ID); return err }())
	require.NoError(t, b.CancelAnyReplay(t.Context(), job.ID))
	require.NoError(t, b.CancelAnyReplay(t.Context(), "rpl_unknown"))
}

func replayOfPausedWebhook(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t)
	failed := b.PublishTo(t, w.ID, 40)
	b.ended(t, failed, postrider.StateFailed)
	b.pause(t, w.ID)
	job := b.createReplay(t, b.replaySpec(w, postrider.ReplayOfFailed))
	for range 10 {
		b.Clock.Advance(time.Second)
		b.step(t, job.ID)
	}
	require.Equal(t, 16, b.inState(t, w.ID, postrider.StateParked), "no more than its window")
	require.False(t, b.step(t, job.ID).Over)
	b.resume(t, w.ID)
	b.SweepAll(t)
	require.Equal(t, failed, repeated(b.deliver(t, job.ID)))
}

func replayOfDeletedWebhook(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t)
	b.ended(t, b.PublishTo(t, w.ID, 40), postrider.StateFailed)
	job := b.createReplay(t, b.replaySpec(w, postrider.ReplayOfFailed))
	b.Clock.Advance(time.Second)
	sent := b.step(t, job.ID).Sent
	require.NoError(t, b.DeleteWebhook(t.Context(), b.Workspace, w.ID))
	b.SweepAll(t)
	b.Clock.Advance(time.Second)
	require.False(t, b.step(t, job.ID).Over)
	require.True(t, b.step(t, job.ID).Over)
	failed := b.replay(t, job.ID)
	require.Equal(t, postrider.ReplayFailed, failed.State)
	require.Equal(t, []int{sent, 0, sent}, []int{failed.Sent, failed.Succeeded, failed.Failed})
	_, err := b.CreateReplay(t.Context(), b.replaySpec(w, postrider.ReplayOfFailed))
	requireCode(t, postrider.CodeNotFound, err)
	_, err = b.CountReplay(t.Context(), b.replaySpec(w, postrider.ReplayOfFailed))
	requireCode(t, postrider.CodeNotFound, err)
}

func replayLimits(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t)
	job := b.createReplay(t, b.replaySpec(w, postrider.ReplayOfFailed))
	_, err := b.CreateReplay(t.Context(), b.replaySpec(w, postrider.ReplayOfFailed))
	requireCode(t, postrider.CodeConflict, err)
	require.ErrorContains(t, err, job.ID)
	for range postrider.MaxReplays - 1 {
		b.createReplay(t, b.replaySpec(b.NewWebhook(t), postrider.ReplayOfFailed))
	}
	other := b.NewWebhook(t)
	_, err = b.CreateReplay(t.Context(), b.replaySpec(other, postrider.ReplayOfFailed))
	requireCode(t, postrider.CodeConflict, err)
	require.ErrorContains(t, err, "the workspace has 10 replays")
	require.True(t, b.step(t, job.ID).Over, "it has nothing to send")
	b.createReplay(t, b.replaySpec(other, postrider.ReplayOfFailed))

	list, err := b.Replays(t.Context(), b.Workspace, postrider.ReplayFilter{}, postrider.Page{Limit: 4})
	require.NoError(t, err)
	require.Len(t, list.Items, 4)
	require.Equal(t, other.ID, list.Items[0].WebhookID)
	require.NotEmpty(t, list.Next)
	list, err = b.Replays(t.Context(), b.Workspace, postrider.ReplayFilter{State: postrider.ReplayFinished}, postrider.Page{})
	require.NoError(t, err)
	require.Len(t, list.Items, 1)
	list, err = b.Replays(t.Context(), b.Workspace, postrider.ReplayFilter{WebhookID: other.ID}, postrider.Page{})
	require.NoError(t, err)
	require.Len(t, list.Items, 1)
	list, err = b.Replays(t.Context(), b.NewWorkspace(t), postrider.ReplayFilter{}, postrider.Page{})
	require.NoError(t, err)
	require.Empty(t, list.Items)
}

func replayStarts(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t)
	b.ended(t, b.PublishTo(t, w.ID, 40), postrider.StateFailed)
	job := b.createReplay(t, b.replaySpec(w, postrider.ReplayOfFailed))
	claim := func() []string {
		due, err := b.ClaimReplays(t.Context(), 10, 3*time.Second)
		require.NoError(t, err)
		var ids []string
		for _, job := range due {
			ids = append(ids, job.ID)
		}
		return ids
	}
	require.Equal(t, []string{job.ID}, claim())
	require.Empty(t, claim(), "its start is under way")
	b.Clock.Advance(4 * time.Second)
	require.Equal(t, []string{job.ID}, claim(), "it was not started")
	b.step(t, job.ID)
	b.Clock.Advance(time.Minute)
	require.Empty(t, claim(), "it makes steps")
	b.Clock.Advance(2 * time.Minute)
	require.Equal(t, []string{job.ID}, claim(), "its workflow is lost")
	_, err := b.StepReplay(t.Context(), "rpl_unknown")
	requireCode(t, postrider.CodeNotFound, err)
}

func replayDuringFanOut(t *testing.T, b *Bundle) {
	webhooks := b.webhooksFor(t, b.Workspace, 30)
	p := b.eventsOf(b.Workspace, 60)
	_, err := b.Publish(t.Context(), p)
	require.NoError(t, err)
	_, err = b.FanOut(t.Context()) // some of them
	require.NoError(t, err)
	for _, id := range webhooks {
		matched, err := b.CountReplay(t.Context(), b.replaySpec(postrider.Webhook{ID: id}, postrider.ReplayOfMissing))
		require.NoError(t, err)
		require.Zero(t, matched)
	}
	b.FanOutAll(t)
	matched, err := b.CountReplay(t.Context(), b.replaySpec(b.NewWebhook(t), postrider.ReplayOfMissing))
	require.NoError(t, err)
	require.Equal(t, 60, matched)
}

func replayRetention(t *testing.T, b *Bundle) {
	job := b.createReplay(t, b.replaySpec(b.NewWebhook(t), postrider.ReplayOfFailed))
	open := b.createReplay(t, b.replaySpec(b.NewWebhook(t), postrider.ReplayOfFailed))
	require.True(t, b.step(t, job.ID).Over)
	b.Clock.Advance(48 * time.Hour)
	var removed int64
	require.NoError(t, b.RetainReplays(t.Context(), b.Clock.Now().Add(-72*time.Hour), func(n int64) { removed = n }))
	require.Zero(t, removed)
	require.NoError(t, b.RetainReplays(t.Context(), b.Clock.Now().Add(-24*time.Hour), func(n int64) { removed = n }))
	require.EqualValues(t, 1, removed)
	_, err := b.Replay(t.Context(), b.Workspace, job.ID)
	requireCode(t, postrider.CodeNotFound, err)
	require.Equal(t, postrider.ReplayRunning, b.replay(t, open.ID).State)
}

func replayEventTypes(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t)
	var events []postrider.PublishedEvent
	for _, eventType := range []string{"a", "b", "a.b", "a"} {
		events = append(events, b.NewEvent(eventType))
	}
	_, err := b.Publish(t.Context(), b.Publication(events...))
	require.NoError(t, err)
	b.ended(t, b.outboxOf(t, w.ID), postrider.StateFailed)
	for _, what := range []postrider.ReplayOf{postrider.ReplayOfFailed, postrider.ReplayOfMissing} {
		spec := b.replaySpec(w, what)
		if what == postrider.ReplayOfMissing {
			spec = b.replaySpec(b.NewWebhook(t), what)
		}
		spec.EventTypes = []string{"a", "b"}
		matched, err := b.CountReplay(t.Context(), spec)
		require.NoError(t, err)
		require.Equal(t, 3, matched, what)
	}
}

// Guards against a job that waits for what waits for itself.
func replayBlocking(t *testing.T, b *Bundle) {
	w := b.ordered(t, postrider.OrderingKey, blocking)
	ids := b.inOrder(t, w.ID, "a", "a", "b", "b", "c")
	b.ended(t, []string{ids[0], ids[2]}, postrider.StateFailed)
	spec := b.replaySpec(w, postrider.ReplayOfFailed)
	again := b.done(t, postrider.ActionRetry, ids[2]).ID
	b.ended(t, []string{again}, postrider.StateFailed) // after the period of the job, and it blocks now
	b.drain(t, w)
	job := b.createReplay(t, spec)
	for range 10 {
		b.Clock.Advance(time.Second)
		b.step(t, job.ID)
	}
	sent := b.claimed(t, w)
	require.Len(t, sent, 2)
	require.Equal(t, sent[0], b.read(t, ids[1]).BlockedBy)
	require.Equal(t, sent[1], b.read(t, ids[3]).BlockedBy)
	b.end(t, sent[0], postrider.StateSucceeded)
	b.end(t, sent[1], postrider.StateFailed)
	require.Equal(t, []string{ids[1]}, b.drain(t, w), "b is blocked by the new one")
	require.Equal(t, postrider.ReplayFinished, b.step(t, job.ID).State)
	require.Equal(t, sent[1], b.read(t, ids[3]).BlockedBy)
}

func replayBehind(t *testing.T, b *Bundle) {
	w := b.ordered(t, postrider.OrderingKey, func(w *postrider.Webhook) { w.MaxInFlight = 20 })
	ids := b.inOrder(t, w.ID, append(slices.Repeat([]string{"a"}, 50), "b", "c")...)
	b.ended(t, ids, postrider.StateFailed)
	head := b.inOrder(t, w.ID, "a")
	b.end(t, b.claimed(t, w)[0], postrider.StateRetrying)
	job := b.createReplay(t, b.replaySpec(w, postrider.ReplayOfFailed))
	for range 20 {
		b.Clock.Advance(100 * time.Millisecond)
		b.step(t, job.ID)
	}
	require.Equal(t, 52, b.replay(t, job.ID).Sent)
	require.Len(t, b.drain(t, w), 2, "b and c")
	b.end(t, head[0], postrider.StateSucceeded)
	require.Len(t, b.drain(t, w), 50)
	require.Equal(t, postrider.ReplayFinished, b.step(t, job.ID).State)
}

// Guards what is published meanwhile, which comes behind all that the job has made.
func replayFIFO(t *testing.T, b *Bundle) {
	w := b.ordered(t, postrider.OrderingFIFO, func(w *postrider.Webhook) { w.MaxInFlight = 20 })
	failed := b.PublishTo(t, w.ID, 50)
	b.ended(t, failed, postrider.StateFailed)
	job := b.createReplay(t, b.replaySpec(w, postrider.ReplayOfFailed))
	for range 20 {
		b.Clock.Advance(100 * time.Millisecond)
		b.step(t, job.ID)
	}
	live := b.PublishTo(t, w.ID, 1)
	made := b.drain(t, w)
	require.Len(t, made, 11, "as many as may wait, and the live one")
	require.Equal(t, live[0], made[10])
	require.Len(t, b.deliver(t, job.ID), 40)
}
