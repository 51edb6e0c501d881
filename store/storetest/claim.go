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

func claimTests() map[string]func(*testing.T, *Bundle) {
	return map[string]func(*testing.T, *Bundle){
		"a claim leases what is due":                       claimLease,
		"a claim names the workflow that is to carry":      claimBatch,
		"what may have had its own workflow gets another":  claimOwn,
		"what a batch did not end is handed over":          claimAttempted,
		"a lease that ran out is claimed again":            claimExpiry,
		"released deliveries are ready again":              claimRelease,
		"what a dead process leased is ready again":        claimOrphans,
		"a delivery is in the outbox until it is finished": claimUntilEnd,
		"a delivery waits for its time":                    claimDeliverAt,
		"concurrent claims never share a delivery":         claimConcurrent,
		"the backlog counts what is due and not carried":   claimBacklog,
		"a webhook that was paused has the rest parked":    claimPaused,
	}
}

func claimLease(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t)
	deliveries := b.PublishTo(t, w.ID, 3)
	claimed, err := b.Claim(t.Context(), postrider.ClaimRequest{Limit: 2, Lease: lease})
	require.NoError(t, err)
	require.Len(t, claimed, 2)
	require.Equal(t, []string{deliveries[0], deliveries[1]}, []string{claimed[0].ID, claimed[1].ID}, "in the order of acceptance")
	d := b.read(t, deliveries[0])
	require.Equal(t, postrider.StateDelivering, d.State)
	require.Equal(t, "delivery/"+deliveries[0], d.WorkflowID)
	require.Equal(t, "call.ended", d.EventType)
	require.Equal(t, w.Policy, d.Policy)
	require.Equal(t, Start(), d.DueAt)
	require.Equal(t, postrider.Dispatch{Delivery: d, URL: w.URL}, claimed[0])
	require.True(t, claimed[0].Alone())

	targets, err := b.TargetsOf(t.Context(), []postrider.Delivery{claimed[1].Delivery, claimed[0].Delivery})
	require.NoError(t, err)
	require.Equal(t, claimed[1].Delivery, targets[0].Delivery)
	require.Equal(t, claimed[0].Delivery, targets[1].Delivery)
	again, err := b.Targets(t.Context(), []string{deliveries[1], "dlv_unknown", deliveries[0]})
	require.NoError(t, err)
	require.Equal(t, targets, again, "in the order asked, without who is unknown")

	require.Equal(t, map[string][]string{w.ID: {deliveries[2]}}, b.Claimed(t, 10))
	require.Empty(t, b.Claimed(t, 10))
	none, err := b.Claim(t.Context(), postrider.ClaimRequest{Limit: 0, Lease: lease})
	require.NoError(t, err)
	require.Empty(t, none)
}

// batch is a claim for one workflow.
func batch(id string) postrider.ClaimRequest {
	return postrider.ClaimRequest{Limit: 10, Lease: lease, WorkflowID: "batch/" + id, SlowWorkflowID: "batch/slow"}
}

func claimBatch(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t)
	for n, request := range []postrider.ClaimRequest{{Limit: 10, Lease: lease}, batch("one"), batch("two")} {
		ids := b.PublishTo(t, w.ID, n+1)
		claimed, err := b.Claim(t.Context(), request)
		require.NoError(t, err)
		require.Len(t, claimed, n+1)
		for i, d := range claimed {
			require.Equal(t, ids[i], d.ID, "in the order of acceptance")
			require.Equal(t, request.WorkflowID == "", d.Alone())
			if request.WorkflowID != "" {
				require.Equal(t, request.WorkflowID, d.WorkflowID)
			}
			require.Equal(t, d.Delivery, b.read(t, d.ID))
		}
	}
}

// The workflow that had a delivery may have been started, and have ended without a trace
// here when the database lost a moment. Its id starts no workflow any more.
func claimOwn(t *testing.T, b *Bundle) {
	ctx := t.Context()
	w := b.NewWebhook(t)
	ids := b.PublishTo(t, w.ID, 2)
	seen := map[string]bool{}
	alone := func() {
		claimed, err := b.Claim(ctx, postrider.ClaimRequest{Limit: 10, Lease: lease})
		require.NoError(t, err)
		require.Len(t, claimed, 2)
		for _, d := range claimed {
			require.False(t, seen[d.WorkflowID], d.WorkflowID)
			seen[d.WorkflowID] = true
			require.Equal(t, d.WorkflowID, b.read(t, d.ID).WorkflowID) //nolint:contextcheck // the test has its own
			require.True(t, strings.HasPrefix(d.WorkflowID, "delivery/"+d.ID))
			require.Equal(t, d.WorkflowID == "delivery/"+d.ID, d.Alone())
			require.False(t, postrider.FirstAttemptsOnly(d.WorkflowID))
			require.True(t, postrider.CancelledWith(d.WorkflowID))
		}
	}
	for range 3 { // one is given back, the other's time runs out
		alone()
		require.NoError(t, b.Release(ctx, ids[:1]))
		b.Clock.Advance(lease)
	}
	for _, name := range []string{"one", "two"} {
		claimed, err := b.Claim(ctx, batch(name))
		require.NoError(t, err)
		require.Len(t, claimed, 2)
		require.Equal(t, "batch/"+name, claimed[0].WorkflowID)
		require.Equal(t, "batch/"+name, claimed[1].WorkflowID)
		require.NoError(t, b.Release(ctx, ids))
	}
	alone()
	require.Len(t, seen, 8)
}

func claimAttempted(t *testing.T, b *Bundle) {
	ctx := t.Context()
	busy := b.NewWebhook(t, func(w *postrider.Webhook) { w.MaxInFlight = 4 })
	ids := b.PublishTo(t, busy.ID, 8)
	claimed, err := b.Claim(ctx, batch("one"))
	require.NoError(t, err)
	require.Len(t, claimed, 4)
	require.NoError(t, b.Record(ctx, []postrider.Outcome{
		b.Outcome(t, ids[0], 1, postrider.StateSucceeded), b.leaving(t, ids[1], 1, time.Second), b.Outcome(t, ids[2], 1, postrider.StateFailed),
	}))
	require.Equal(t, "batch/one", b.read(t, ids[1]).WorkflowID, "who made the latest attempt")
	claimed, err = b.Claim(ctx, batch("two"))
	require.NoError(t, err)
	require.Len(t, claimed, 3, "what failed holds no permit of its webhook's")
	require.Equal(t, ids[4], claimed[0].ID)

	made := b.handovers(t, 10)
	require.Equal(t, [][]string{ids[1:2]}, members(made))
	d := b.read(t, ids[1])
	require.Equal(t, postrider.StateRetrying, d.State)
	require.Equal(t, made[0].WorkflowID, d.WorkflowID)
	require.False(t, b.permitted(t, d), "the webhook has all its permits taken")
	require.NoError(t, b.Record(ctx, []postrider.Outcome{b.Outcome(t, ids[4], 1, postrider.StateSucceeded)}))
	require.True(t, b.permitted(t, d))

	// A dispatcher that died after it took them leaves them to the next.
	require.NoError(t, b.Record(ctx, []postrider.Outcome{b.leaving(t, ids[3], 1, time.Second)}))
	for range 2 {
		require.Contains(t, slices.Concat(members(b.handovers(t, 10))...), ids[3])
		b.Clock.Advance(time.Second + postrider.CarrierGrace + lease)
	}
	// Deleting the webhook leaves nothing to hand over but the cancellations.
	require.NoError(t, b.DeleteWebhook(ctx, b.Workspace, busy.ID))
	require.Zero(t, b.count(ctx, t, "SELECT COUNT(*) FROM outbox WHERE kind <> 'cancel'"))
	require.Empty(t, b.handovers(t, 10))
}

func claimExpiry(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t)
	deliveries := b.PublishTo(t, w.ID, 2)
	require.Len(t, b.Claimed(t, 10)[w.ID], 2)
	due, found, err := b.NextDue(t.Context())
	require.NoError(t, err)
	require.True(t, found)
	require.Equal(t, Start().Add(lease), due)
	b.Clock.Advance(lease - time.Microsecond)
	require.Empty(t, b.Claimed(t, 10))
	b.Clock.Advance(time.Microsecond)
	require.ElementsMatch(t, deliveries, b.Claimed(t, 10)[w.ID])
}

func claimRelease(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t)
	deliveries := b.PublishTo(t, w.ID, 2)
	require.NoError(t, b.Release(t.Context(), deliveries)) // not leased: nothing happens
	require.Len(t, b.Claimed(t, 10)[w.ID], 2)
	require.NoError(t, b.Release(t.Context(), deliveries[:1]))
	require.Equal(t, postrider.StatePending, b.State(t, deliveries[0]))
	require.Equal(t, deliveries[:1], b.Claimed(t, 10)[w.ID])
	require.NoError(t, b.Release(t.Context(), nil))
	// The first attempt was recorded: it is not made again.
	require.NoError(t, b.Record(t.Context(), []postrider.Outcome{b.Outcome(t, deliveries[1], 1, postrider.StateRetrying)}))
	require.NoError(t, b.Release(t.Context(), deliveries[1:]))
	require.Equal(t, postrider.StateRetrying, b.State(t, deliveries[1]))
	require.Empty(t, b.Claimed(t, 10))
	require.NoError(t, b.Record(t.Context(), []postrider.Outcome{b.Outcome(t, deliveries[1], 2, postrider.StateSucceeded)}))
	require.NoError(t, b.Release(t.Context(), deliveries[1:]))
	require.Empty(t, b.Claimed(t, 10))
	require.Empty(t, b.handovers(t, 10))
}

// The attempts that it made are made again; what waited in its workflows goes on there.
func claimOrphans(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t)
	late := retrying(t, b, w.ID, 2)
	deliveries := b.PublishTo(t, w.ID, 1)
	require.Equal(t, deliveries, b.Claimed(t, 10)[w.ID])
	require.True(t, b.permitted(t, late[0]))
	require.NoError(t, b.Keep(t.Context(), late[1].WorkflowID, []string{late[1].ID}, Start().Add(time.Hour)))
	require.NoError(t, b.ReleaseOrphans(t.Context()))
	require.Equal(t, deliveries, b.Claimed(t, 10)[w.ID])
	require.Equal(t, [][]string{{late[0].ID}}, members(b.handovers(t, 10)))
	require.True(t, b.permitted(t, late[1]), "its workflow has it")
}

func claimUntilEnd(t *testing.T, b *Bundle) {
	ctx := t.Context()
	w := b.NewWebhook(t)
	deliveries := b.PublishTo(t, w.ID, 1)
	require.Empty(t, b.leased(t, deliveries))
	require.Len(t, b.Claimed(t, 10)[w.ID], 1)
	require.Equal(t, deliveries, b.leased(t, deliveries))
	require.Equal(t, postrider.StateDelivering, b.State(t, deliveries[0]))
	require.NoError(t, b.Record(ctx, []postrider.Outcome{b.Outcome(t, deliveries[0], 1, postrider.StateRetrying)}))
	require.Empty(t, b.leased(t, deliveries), "the first attempt was made")
	due, found, err := b.NextDue(ctx)
	require.NoError(t, err)
	require.True(t, found)
	require.Equal(t, Start().Add(time.Second+postrider.CarrierGrace), due, "then its carrier is lost")
	b.Clock.Advance(time.Second + postrider.CarrierGrace - time.Microsecond)
	require.Empty(t, b.Claimed(t, 10))
	require.Empty(t, b.handovers(t, 10))
	require.Equal(t, 1, b.count(ctx, t, "SELECT COUNT(*) FROM outbox"))
	require.NoError(t, b.Record(ctx, []postrider.Outcome{b.Outcome(t, deliveries[0], 2, postrider.StateSucceeded)}))
	require.Zero(t, b.count(ctx, t, "SELECT COUNT(*) FROM outbox"))
	b.Clock.Advance(postrider.CarrierGrace)
	require.Empty(t, b.Claimed(t, 10))
	require.Empty(t, b.handovers(t, 10))
	_, found, err = b.NextDue(ctx)
	require.NoError(t, err)
	require.False(t, found)
}

func (b *Bundle) leased(t *testing.T, deliveryIDs []string) []string {
	t.Helper()
	leased, err := b.Leased(t.Context(), deliveryIDs)
	require.NoError(t, err)
	return leased
}

func claimDeliverAt(t *testing.T, b *Bundle) {
	b.NewWebhook(t)
	e := b.NewEvent("a")
	e.DeliverAt = ref(Start().Add(time.Hour))
	past := b.NewEvent("b")
	past.DeliverAt = ref(Start().Add(-time.Hour))
	_, err := b.Publish(t.Context(), b.Publication(e, past))
	require.NoError(t, err)
	claimed, err := b.Claim(t.Context(), postrider.ClaimRequest{Limit: 10, Lease: lease})
	require.NoError(t, err)
	require.Len(t, claimed, 1)
	require.Equal(t, "b", claimed[0].EventType)
	require.NoError(t, b.Record(t.Context(), []postrider.Outcome{b.Outcome(t, claimed[0].ID, 1, postrider.StateSucceeded)}))
	due, found, err := b.NextDue(t.Context())
	require.NoError(t, err)
	require.True(t, found)
	require.Equal(t, Start().Add(time.Hour), due)
	b.Clock.Advance(time.Hour)
	claimed, err = b.Claim(t.Context(), postrider.ClaimRequest{Limit: 10, Lease: lease})
	require.NoError(t, err)
	require.Len(t, claimed, 1)
	require.Equal(t, "a", claimed[0].EventType)
	require.Equal(t, Start().Add(time.Hour), claimed[0].DueAt)
}

func claimConcurrent(t *testing.T, b *Bundle) {
	const total, perWebhook = 600, 150
	var all []string
	for range total / perWebhook {
		w := b.NewWebhook(t, func(w *postrider.Webhook) { w.MaxInFlight = postrider.MaxMaxInFlight })
		all = append(all, b.PublishTo(t, w.ID, perWebhook)...)
	}
	other := b.Open(t, b.Key)
	var mu sync.Mutex
	var got []string
	var dispatchers sync.WaitGroup
	for i := range 4 {
		claim := b.Claim
		if i%2 == 1 {
			claim = other.Claim
		}
		dispatchers.Go(func() {
			for {
				claimed, err := claim(t.Context(), postrider.ClaimRequest{Limit: 17, Lease: lease})
				if err != nil || len(claimed) == 0 {
					return
				}
				mu.Lock()
				for _, d := range claimed {
					got = append(got, d.ID)
				}
				mu.Unlock()
			}
		})
	}
	dispatchers.Wait()
	require.ElementsMatch(t, all, got)
}

func claimBacklog(t *testing.T, b *Bundle) {
	backlog, err := b.Backlog(t.Context())
	require.NoError(t, err)
	require.Equal(t, postrider.Backlog{}, backlog)
	w := b.NewWebhook(t, func(w *postrider.Webhook) { w.MaxInFlight = 2 })
	b.PublishTo(t, w.ID, 1)
	b.Clock.Advance(time.Minute)
	b.PublishTo(t, w.ID, 2)
	later := b.NewEvent("a")
	later.DeliverAt = ref(b.Clock.Now().Add(time.Hour))
	_, err = b.Publish(t.Context(), b.Publication(later))
	require.NoError(t, err)
	backlog, err = b.Backlog(t.Context())
	require.NoError(t, err)
	require.Equal(t, postrider.Backlog{Pending: 3, OldestAt: ref(Start())}, backlog)
	require.Len(t, b.Claimed(t, 1), 1)
	backlog, err = b.Backlog(t.Context())
	require.NoError(t, err)
	require.Equal(t, postrider.Backlog{Pending: 2, OldestAt: ref(Start().Add(time.Minute))}, backlog)

	// What a webhook's own limits hold back is not counted.
	require.Len(t, b.Claimed(t, 10), 1)
	slow := b.NewWebhook(t, func(w *postrider.Webhook) { w.RateLimit = ref(1) })
	b.PublishTo(t, slow.ID, 3)
	require.Len(t, b.Claimed(t, 10), 1)
	backlog, err = b.Backlog(t.Context())
	require.NoError(t, err)
	require.Equal(t, postrider.Backlog{}, backlog)
	require.NoError(t, b.DeleteWebhook(t.Context(), b.Workspace, slow.ID))
	b.SweepAll(t)
	b.Clock.Advance(time.Hour)
	backlog, err = b.Backlog(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 4, backlog.Pending)
	for len(b.Claimed(t, 10)) > 0 { // as much as may be at once
	}

	// A retry counts while no workflow carries it.
	late := left(t, b, b.NewWebhook(t).ID, 1, time.Minute)
	before, err := b.Backlog(t.Context())
	require.NoError(t, err)
	require.Len(t, b.handovers(t, 1), 1)
	after, err := b.Backlog(t.Context())
	require.NoError(t, err)
	require.Equal(t, before.Pending-1, after.Pending)
	b.Clock.Advance(time.Minute + postrider.CarrierGrace + lease)
	require.Equal(t, [][]string{late}, members(b.handovers(t, 10)))

	// Requests to cancel a workflow are not.
	require.NoError(t, b.DeleteWebhook(t.Context(), b.Workspace, w.ID))
	require.NotZero(t, b.count(t.Context(), t, "SELECT COUNT(*) FROM outbox WHERE kind = 'cancel'"))
	backlog, err = b.Backlog(t.Context())
	require.NoError(t, err)
	require.Zero(t, backlog)
}

func claimPaused(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t)
	deliveries := b.PublishTo(t, w.ID, 3)
	claimed, err := b.Claim(t.Context(), postrider.ClaimRequest{Limit: 1, Lease: lease})
	require.NoError(t, err)
	require.Len(t, claimed, 1)
	set := func(status postrider.WebhookStatus) {
		_, err := b.UpdateWebhook(t.Context(), b.Workspace, w.ID, func(e *postrider.WebhookEdit) error {
			e.Webhook.Status = status
			return nil
		})
		require.NoError(t, err)
	}
	set(postrider.WebhookPaused)
	require.Equal(t, postrider.StateDelivering, b.State(t, deliveries[0])) // leased: its dispatcher is at it
	require.Equal(t, postrider.StateParked, b.State(t, deliveries[1]))
	require.NoError(t, b.Release(t.Context(), deliveries[:1]))
	require.Empty(t, b.Claimed(t, 10))
	b.SweepAll(t)
	require.Equal(t, postrider.StateParked, b.State(t, deliveries[0]))
	_, found, err := b.NextDue(t.Context())
	require.NoError(t, err)
	require.False(t, found)
	set(postrider.WebhookActive)
	require.Equal(t, deliveries, b.Claimed(t, 10)[w.ID])
}
