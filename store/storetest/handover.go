//nolint:thelper // these are the tests, not helpers of one
package storetest

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
)

func handoverTests() map[string]func(*testing.T, *Bundle) {
	return map[string]func(*testing.T, *Bundle){
		"a delivery keeps its retry schedule":               handoverBySchedule,
		"what failed alike is carried together":             handoverGroups,
		"a carrier has so many members at most":             handoverSize,
		"deliveries are handed over alone when that's said": handoverAlone,
		"a hand-over brings what the carrier needs":         handoverContent,
		"a carrier that is lost is replaced":                handoverLost,
		"a hand-over that failed is made again":             handoverReleased,
		"only who carries a retry leaves it":                handoverLeave,
		"a retry that is kept waiting keeps its carrier":    handoverKeep,
		"workspaces share what is handed over":              handoverFair,
		"concurrent hand-overs never share a delivery":      handoverConcurrent,
		"a finished delivery is not handed over":            handoverFinished,
		"a carrier's deliveries are found":                  handoverCarried,
	}
}

// handovers hands over deliveries, up to the limit.
func (b *Bundle) handovers(t *testing.T, limit int) []postrider.Handover {
	t.Helper()
	made, err := b.ClaimRetries(t.Context(), postrider.HandoverRequest{Limit: limit, Lease: lease})
	require.NoError(t, err)
	return made
}

// members returns the deliveries of each carrier.
func members(made []postrider.Handover) [][]string {
	carried := make([][]string, len(made))
	for i, h := range made {
		for _, d := range h.Deliveries {
			carried[i] = append(carried[i], d.ID)
		}
	}
	return carried
}

// left publishes n events to the webhook, whose first attempts fail in a batch that they
// leave. The next ones are to be made after so long.
func left(t *testing.T, b *Bundle, webhookID string, n int, after time.Duration) []string {
	t.Helper()
	published := b.PublishTo(t, webhookID, n)
	for done := 0; done < n; {
		claimed, err := b.Claim(t.Context(), batch("one"))
		require.NoError(t, err)
		require.NotEmpty(t, claimed)
		done += len(claimed)
		outcomes := make([]postrider.Outcome, len(claimed))
		for i, d := range claimed {
			require.Equal(t, webhookID, d.WebhookID)
			outcomes[i] = b.leaving(t, d.ID, 1, after)
		}
		require.NoError(t, b.Record(t.Context(), outcomes))
	}
	return published
}

// leaving is the outcome of a failed attempt whose delivery leaves its workflow.
func (b *Bundle) leaving(t *testing.T, id string, number int, after time.Duration) postrider.Outcome {
	t.Helper()
	o := b.Outcome(t, id, number, postrider.StateRetrying)
	o.NextAttempt, o.Leaves = ref(postrider.Timestamp(b.Clock.Now().Add(after))), true
	return o
}

func handoverGroups(t *testing.T, b *Bundle) {
	ctx := t.Context()
	w, other := b.NewWebhook(t), b.NewWebhook(t)
	alike := left(t, b, w.ID, 3, time.Second)
	alike = append(alike, left(t, b, w.ID, 1, 3*time.Second)...) // two seconds later
	later := left(t, b, w.ID, 2, 3*time.Second+time.Microsecond)
	others := left(t, b, other.ID, 2, time.Second)
	// A policy of its own.
	_, err := b.UpdateWebhook(ctx, b.Workspace, w.ID, func(e *postrider.WebhookEdit) error {
		e.Webhook.BackoffMS++
		return nil
	})
	require.NoError(t, err)
	patient := left(t, b, w.ID, 1, time.Second)
	// Another number of attempts.
	_, err = b.UpdateWebhook(ctx, b.Workspace, w.ID, func(e *postrider.WebhookEdit) error {
		e.Webhook.BackoffMS--
		return nil
	})
	require.NoError(t, err)
	tried := b.PublishTo(t, w.ID, 1)
	require.Equal(t, tried, b.Claimed(t, 10)[w.ID])
	require.NoError(t, b.Record(ctx, []postrider.Outcome{b.Outcome(t, tried[0], 1, postrider.StateRetrying)}))
	require.NoError(t, b.Record(ctx, []postrider.Outcome{b.leaving(t, tried[0], 2, time.Second)}))

	made := b.handovers(t, 100)
	want := [][]string{alike, later, patient, tried, others}
	got := members(made)
	for _, ids := range got {
		slices.Sort(ids)
	}
	require.ElementsMatch(t, want, got)
	carriers := map[string]bool{}
	for _, h := range made {
		require.True(t, strings.HasPrefix(h.WorkflowID, "retry/"), h.WorkflowID)
		carriers[h.WorkflowID] = true
		for _, d := range h.Deliveries {
			require.Equal(t, h.WorkflowID, d.WorkflowID)
			require.Equal(t, h.WorkflowID, b.read(t, d.ID).WorkflowID)
		}
	}
	require.Len(t, carriers, len(made))
	require.Empty(t, b.handovers(t, 100))
	require.Empty(t, b.Claimed(t, 100))
}

func handoverSize(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t, func(w *postrider.Webhook) { w.MaxInFlight = postrider.MaxMaxInFlight })
	all := left(t, b, w.ID, postrider.MaxRetryMembers+2, time.Second)
	require.Len(t, b.handovers(t, 1), 1, "no more than asked for")
	made := members(b.handovers(t, 1000))
	require.Len(t, made, 2)
	require.Len(t, made[0], postrider.MaxRetryMembers)
	require.Len(t, made[1], 1)
	require.Subset(t, all, slices.Concat(made...))
	none, err := b.ClaimRetries(t.Context(), postrider.HandoverRequest{Limit: 0, Lease: lease})
	require.NoError(t, err)
	require.Empty(t, none)
}

func handoverAlone(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t)
	all := left(t, b, w.ID, 3, time.Second)
	made, err := b.ClaimRetries(t.Context(), postrider.HandoverRequest{Limit: 10, Lease: lease, Alone: true})
	require.NoError(t, err)
	require.ElementsMatch(t, [][]string{all[:1], all[1:2], all[2:]}, members(made))
}

func handoverContent(t *testing.T, b *Bundle) {
	ctx := t.Context()
	w := b.NewWebhook(t)
	id := b.PublishTo(t, w.ID, 1)[0]
	_, err := b.Claim(ctx, batch("one"))
	require.NoError(t, err)
	first := b.leaving(t, id, 1, time.Minute)
	first.Attempt.ResponseExcerpt = ref("not for Temporal")
	require.NoError(t, b.Record(ctx, []postrider.Outcome{first}))
	made := b.handovers(t, 10)
	require.Len(t, made, 1)
	require.Equal(t, []postrider.Delivery{b.read(t, id)}, made[0].Deliveries)
	d := made[0].Deliveries[0]
	require.Equal(t, postrider.StateRetrying, d.State)
	require.Equal(t, 1, d.AttemptCount)
	require.Equal(t, first.NextAttempt, d.NextAttemptAt)
	require.Equal(t, map[string][]postrider.Attempt{id: {first.Attempt.WithoutBody()}}, made[0].Attempts)
	of, err := b.AttemptsOf(ctx, []string{"dlv_unknown", id, id})
	require.NoError(t, err)
	require.Equal(t, made[0].Attempts, of)

	// The next attempt is the carrier's, and stays with it.
	require.NoError(t, b.Record(ctx, []postrider.Outcome{b.Outcome(t, id, 2, postrider.StateRetrying)}))
	require.Equal(t, d.WorkflowID, b.read(t, id).WorkflowID)
	require.Empty(t, b.handovers(t, 10))
}

// A workflow that never began, or that Temporal lost, keeps no delivery from going on:
// another carries it when its attempt is late by a while.
func handoverLost(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t)
	wait := time.Hour
	id := left(t, b, w.ID, 1, wait)[0]
	first := b.handovers(t, 10)
	require.Len(t, first, 1)
	due, found, err := b.NextDue(t.Context())
	require.NoError(t, err)
	require.True(t, found)
	require.Equal(t, Start().Add(wait+postrider.CarrierGrace+lease), due)
	b.Clock.Advance(wait + postrider.CarrierGrace + lease - time.Microsecond)
	require.Empty(t, b.handovers(t, 10))
	b.Clock.Advance(time.Microsecond)
	second := b.handovers(t, 10)
	require.Equal(t, members(first), members(second))
	require.NotEqual(t, first[0].WorkflowID, second[0].WorkflowID)
	require.Equal(t, second[0].WorkflowID, b.read(t, id).WorkflowID)

	// It is late already: the grace begins now.
	b.Clock.Advance(postrider.CarrierGrace + lease - time.Microsecond)
	require.Empty(t, b.handovers(t, 10))
	require.True(t, b.permitted(t, second[0].Deliveries[0]))

	// The carrier of a retry that was recorded is lost when that is late.
	require.NoError(t, b.Record(t.Context(), []postrider.Outcome{b.Outcome(t, id, 2, postrider.StateRetrying)}))
	b.Clock.Advance(time.Second + postrider.CarrierGrace - time.Microsecond)
	require.Empty(t, b.handovers(t, 10))
	b.Clock.Advance(time.Microsecond)
	third := b.handovers(t, 10)
	require.Equal(t, members(first), members(third))
	require.Equal(t, 2, third[0].Deliveries[0].AttemptCount)
}

func handoverReleased(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t)
	ids := left(t, b, w.ID, 2, time.Second)
	first := b.handovers(t, 10)
	drain(b.Wake())
	require.NoError(t, b.Release(t.Context(), ids[:1]))
	require.True(t, woken(b.Wake()))
	require.Equal(t, postrider.StateRetrying, b.State(t, ids[0]))
	second := b.handovers(t, 10)
	require.Equal(t, [][]string{ids[:1]}, members(second))
	require.NotEqual(t, first[0].WorkflowID, second[0].WorkflowID)
	require.Equal(t, first[0].WorkflowID, b.read(t, ids[1]).WorkflowID)
}

func handoverLeave(t *testing.T, b *Bundle) {
	ctx := t.Context()
	w := b.NewWebhook(t)
	late := retrying(t, b, w.ID, 3)
	drain(b.WakeRetries())
	require.NoError(t, b.Leave(ctx, "retry/another", []string{late[0].ID, late[1].ID}))
	require.NoError(t, b.Leave(ctx, late[0].WorkflowID, []string{late[1].ID, "dlv_unknown"}))
	require.Empty(t, b.handovers(t, 10))
	require.True(t, b.permitted(t, late[0]))
	require.NoError(t, b.Leave(ctx, late[0].WorkflowID, []string{late[0].ID}))
	require.Empty(t, b.handovers(t, 10), "an attempt is under way")
	drain(b.WakeRetries())
	require.NoError(t, b.Leave(ctx, late[1].WorkflowID, []string{late[1].ID}))
	require.True(t, woken(b.WakeRetries()))
	require.Equal(t, [][]string{{late[1].ID}}, members(b.handovers(t, 10)))

	// What waits for its first attempt, or makes it, is no retry.
	fresh := b.PublishTo(t, w.ID, 2)
	claimed, err := b.Claim(ctx, postrider.ClaimRequest{Limit: 1, Lease: lease, WorkflowID: "batch/one"})
	require.NoError(t, err)
	require.Len(t, claimed, 1)
	require.NoError(t, b.Leave(ctx, "batch/one", fresh))
	require.NoError(t, b.Leave(ctx, "", fresh))
	require.Equal(t, fresh[:1], b.leased(t, fresh))
	require.Empty(t, b.handovers(t, 10))
	drain(b.WakeRetries())
	require.NoError(t, b.Leave(ctx, "batch/one", nil))
	require.False(t, woken(b.WakeRetries()))
	require.NoError(t, b.Record(ctx, []postrider.Outcome{b.leaving(t, fresh[0], 1, time.Second)}))
	require.True(t, woken(b.WakeRetries()))
}

func handoverKeep(t *testing.T, b *Bundle) {
	ctx := t.Context()
	w := b.NewWebhook(t)
	late := retrying(t, b, w.ID, 2)
	until := Start().Add(time.Hour)
	require.NoError(t, b.Keep(ctx, late[0].WorkflowID, []string{late[0].ID, late[1].ID}, until))
	b.Clock.Advance(time.Second + postrider.CarrierGrace)
	require.Equal(t, [][]string{{late[1].ID}}, members(b.handovers(t, 10)), "another carried it")
	b.Clock.Advance(time.Hour - time.Second - time.Microsecond)
	require.NotContains(t, slices.Concat(members(b.handovers(t, 10))...), late[0].ID)
	require.True(t, b.permitted(t, late[0]))
	require.NoError(t, b.Keep(ctx, late[0].WorkflowID, []string{late[0].ID}, until.Add(time.Hour)), "an attempt is under way")
	b.Clock.Advance(hold)
	require.Contains(t, slices.Concat(members(b.handovers(t, 10))...), late[0].ID)
	require.NoError(t, b.Keep(ctx, late[0].WorkflowID, nil, until))
}

// A workspace with many webhooks that fail has no more carried than one with few.
func handoverFair(t *testing.T, b *Bundle) {
	for range 20 {
		left(t, b, b.NewWebhook(t).ID, 5, time.Second)
	}
	home := b.Workspace
	b.Workspace = b.NewWorkspace(t)
	small := b.NewWebhook(t).ID
	left(t, b, small, 20, time.Second)
	b.Workspace = home
	for range 4 {
		byWorkspace := map[string]int{}
		for _, h := range b.handovers(t, 10) {
			for _, d := range h.Deliveries {
				byWorkspace[d.WorkspaceID]++
				require.Equal(t, d.WorkspaceID != home, d.WebhookID == small)
			}
		}
		require.Len(t, byWorkspace, 2)
		require.Equal(t, 5, byWorkspace[home])
	}
	rest := 0
	for _, ids := range members(b.handovers(t, 1000)) {
		rest += len(ids)
	}
	require.Equal(t, 80, rest)
}

func handoverConcurrent(t *testing.T, b *Bundle) {
	const total, perWebhook = 200, 50
	var all []string
	for range total / perWebhook {
		w := b.NewWebhook(t, func(w *postrider.Webhook) { w.MaxInFlight = perWebhook })
		all = append(all, left(t, b, w.ID, perWebhook, time.Second)...)
	}
	other := b.Open(t, b.Key)
	var mu sync.Mutex
	var got []string
	var errs []error
	var dispatchers sync.WaitGroup
	for i := range 4 {
		claim := b.ClaimRetries
		if i%2 == 1 {
			claim = other.ClaimRetries
		}
		dispatchers.Go(func() {
			for range total { // what another has locked is passed over: there may be nothing at times
				made, err := claim(t.Context(), postrider.HandoverRequest{Limit: 17, Lease: lease})
				mu.Lock()
				got, errs = append(got, slices.Concat(members(made)...)...), append(errs, err)
				enough := len(got) >= total || err != nil
				mu.Unlock()
				if enough {
					return
				}
			}
		})
	}
	dispatchers.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
	require.ElementsMatch(t, all, got)
}

func handoverFinished(t *testing.T, b *Bundle) {
	ctx := t.Context()
	w := b.NewWebhook(t)
	ids := left(t, b, w.ID, 3, time.Second)
	require.NoError(t, b.CancelDelivery(ctx, "", ids[0]))
	// Nothing but a hand that writes in the tables leaves such a row.
	_, err := b.Raw(t).ExecContext(ctx, "UPDATE deliveries SET state = 'failed', finished_at = created_at WHERE id = '"+ids[1]+"'")
	require.NoError(t, err)
	require.Equal(t, [][]string{ids[2:]}, members(b.handovers(t, 10)))
	require.Equal(t, 1, b.count(ctx, t, "SELECT COUNT(*) FROM outbox"))
	// An attempt of the batch that was late ends it.
	require.NoError(t, b.Record(ctx, []postrider.Outcome{b.Outcome(t, ids[2], 2, postrider.StateSucceeded)}))
	require.Zero(t, b.count(ctx, t, "SELECT COUNT(*) FROM outbox"))
}

func handoverCarried(t *testing.T, b *Bundle) {
	ctx := t.Context()
	w := b.NewWebhook(t)
	ids := b.PublishTo(t, w.ID, 5)
	for _, by := range []struct {
		name string
		n    int
	}{{"one", 4}, {"two", 1}} {
		claimed, err := b.Claim(ctx, postrider.ClaimRequest{Limit: by.n, Lease: lease, WorkflowID: "batch/" + by.name})
		require.NoError(t, err)
		require.Len(t, claimed, by.n)
	}
	carried := func(workflowID string) []string {
		found, err := b.Carried(ctx, workflowID)
		require.NoError(t, err)
		return found
	}
	require.Equal(t, ids[:4], carried("batch/one"))
	require.Equal(t, ids[4:], carried("batch/two"))
	require.Empty(t, carried("batch/three"))
	require.Empty(t, carried(""))
	require.NoError(t, b.Record(ctx, []postrider.Outcome{
		b.Outcome(t, ids[0], 1, postrider.StateSucceeded), b.Outcome(t, ids[1], 1, postrider.StateRetrying),
	}))
	require.NoError(t, b.Release(ctx, ids[2:3]))
	require.Equal(t, ids[3:4], carried("batch/one"), "the first attempts that are to be made")
}

// Guards the schedule on its way from the webhook to the carrier, which has one policy for all its deliveries.
func handoverBySchedule(t *testing.T, b *Bundle) {
	scheduled := postrider.Policy{TimeoutMS: 5000, RetrySchedule: postrider.RetryScheduleOf(1000, 86400000)}.Scheduled()
	w := b.NewWebhook(t, func(w *postrider.Webhook) { w.Policy = scheduled })
	first := left(t, b, w.ID, 2, time.Second)
	set := func(policy postrider.Policy) {
		_, err := b.UpdateWebhook(t.Context(), b.Workspace, w.ID, func(e *postrider.WebhookEdit) error {
			e.Webhook.Policy = policy
			return nil
		})
		require.NoError(t, err)
	}
	changed := scheduled
	changed.RetrySchedule = postrider.RetryScheduleOf(1000, 2000) // nothing else differs: the generation must be another
	set(changed)
	second := left(t, b, w.ID, 1, time.Second)
	made := b.handovers(t, 100)
	require.ElementsMatch(t, [][]string{first, second}, members(made))
	for _, h := range made {
		for _, d := range h.Deliveries {
			require.Equal(t, map[bool]postrider.Policy{true: scheduled, false: changed}[slices.Contains(first, d.ID)], d.Policy)
		}
	}
}
