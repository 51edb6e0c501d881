//nolint:thelper // these are the tests, not helpers of one
package storetest

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider"
)

func claimTests() map[string]func(*testing.T, *Bundle) {
	return map[string]func(*testing.T, *Bundle){
		"a claim leases what is due":                    claimLease,
		"a claim of enough is one workflow's":           claimBatch,
		"what had a workflow of its own stays with it":  claimOwn,
		"what a batch did not end gets its own":         claimAttempted,
		"a lease that ran out is claimed again":         claimExpiry,
		"released deliveries are ready again":           claimRelease,
		"what a dead process leased is ready again":     claimOrphans,
		"handed over deliveries leave the outbox":       claimHandedOver,
		"a delivery waits for its time":                 claimDeliverAt,
		"concurrent claims never share a delivery":      claimConcurrent,
		"the backlog counts what is due and not held":   claimBacklog,
		"a webhook that was paused has the rest parked": claimPaused,
	}
}

func claimLease(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t)
	deliveries := b.PublishTo(t, w.ID, 3)
	claimed, err := b.Claim(t.Context(), postrider.ClaimRequest{Limit: 2, Lease: lease})
	require.NoError(t, err)
	slices.SortFunc(claimed, func(x, y postrider.Dispatch) int {
		return slices.Compare([]string{x.DeliveryID}, []string{y.DeliveryID})
	})
	targets, err := b.Targets(t.Context(), deliveries[:1])
	require.NoError(t, err)
	carried := claimed[0].Target()
	require.Equal(t, &targets[0], carried)
	require.Same(t, carried, claimed[0].Target(), "it is read once")
	claimed[0].Target = nil
	require.Equal(t, postrider.Dispatch{
		DeliveryID: deliveries[0], WorkspaceID: b.Workspace, WebhookID: w.ID, EventType: "call.ended", Policy: w.Policy, AcceptedAt: Start(),
		WorkflowID: "delivery/" + deliveries[0], URL: w.URL,
	}, claimed[0])
	require.Equal(t, deliveries[1], claimed[1].DeliveryID)
	d, err := b.Delivery(t.Context(), b.Workspace, deliveries[0])
	require.NoError(t, err)
	require.Equal(t, postrider.StateDelivering, d.State)
	require.Equal(t, "delivery/"+deliveries[0], d.WorkflowID)
	require.Equal(t, map[string][]string{w.ID: {deliveries[2]}}, b.Claimed(t, 10))
	require.Empty(t, b.Claimed(t, 10))
	none, err := b.Claim(t.Context(), postrider.ClaimRequest{Limit: 0, Lease: lease})
	require.NoError(t, err)
	require.Empty(t, none)
}

// batch is a claim that makes a batch of two deliveries or more.
func batch(id string) postrider.ClaimRequest {
	return postrider.ClaimRequest{Limit: 10, Lease: lease, BatchID: "batch/" + id, BatchMin: 2}
}

func claimBatch(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t)
	for n, want := range map[int]bool{1: false, 2: true, 3: true} {
		ids := b.PublishTo(t, w.ID, n)
		claimed, err := b.Claim(t.Context(), batch("one"))
		require.NoError(t, err)
		require.Len(t, claimed, n)
		for i, d := range claimed {
			require.Equal(t, ids[i], d.DeliveryID, "in the order of acceptance")
			require.Equal(t, want, d.WorkflowID == "batch/one")
			require.Equal(t, !want, d.Alone())
			require.Equal(t, d.WorkflowID, d.Target().Delivery.WorkflowID)
			stored, err := b.Delivery(t.Context(), b.Workspace, d.DeliveryID)
			require.NoError(t, err)
			require.Equal(t, d.WorkflowID, stored.WorkflowID)
		}
	}
}

// A workflow of its own that was started before, or may have been, must not have a
// batch beside it; a batch looks whether it still carries the delivery.
func claimOwn(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t)
	ids := b.PublishTo(t, w.ID, 2)
	b.Claimed(t, 10)
	require.NoError(t, b.Release(t.Context(), ids[:1]))
	b.Clock.Advance(lease)
	claimed, err := b.Claim(t.Context(), batch("one"))
	require.NoError(t, err)
	require.Len(t, claimed, 2)
	require.True(t, claimed[0].Alone())
	require.True(t, claimed[1].Alone())

	ids = b.PublishTo(t, w.ID, 2)
	for _, name := range []string{"one", "two"} {
		claimed, err = b.Claim(t.Context(), batch(name))
		require.NoError(t, err)
		require.Len(t, claimed, 2)
		require.Equal(t, "batch/"+name, claimed[0].WorkflowID)
		require.NoError(t, b.Release(t.Context(), ids))
	}
}

// shared is the outcome of an attempt that a batch made.
func (b *Bundle) shared(t *testing.T, id string, state postrider.DeliveryState) postrider.Outcome {
	o := b.Outcome(t, id, 1, state)
	o.WorkflowID = "batch/one"
	return o
}

func claimAttempted(t *testing.T, b *Bundle) {
	ctx := t.Context()
	w := b.NewWebhook(t, func(w *postrider.Webhook) { w.MaxInFlight, w.RateLimit = 4, ref(1) })
	b.PublishTo(t, w.ID, 1)
	b.Clock.Advance(time.Second)
	b.Claimed(t, 1)
	busy := b.NewWebhook(t, func(w *postrider.Webhook) { w.MaxInFlight = 4 })
	ids := b.PublishTo(t, busy.ID, 8)
	claimed, err := b.Claim(ctx, batch("one"))
	require.NoError(t, err)
	require.Len(t, claimed, 4)
	require.NoError(t, b.Record(ctx, []postrider.Outcome{
		b.shared(t, ids[0], postrider.StateSucceeded), b.shared(t, ids[1], postrider.StateRetrying), b.shared(t, ids[2], postrider.StateFailed),
	}))
	claimed, err = b.Claim(ctx, postrider.ClaimRequest{Limit: 4, Lease: lease, BatchID: "batch/two", BatchMin: 1})
	require.NoError(t, err)
	require.Len(t, claimed, 4)
	for _, d := range claimed[:2] {
		require.True(t, d.Attempted)
		require.True(t, d.Alone())
		require.Nil(t, d.Target)
	}
	require.ElementsMatch(t, ids[1:3], []string{claimed[0].DeliveryID, claimed[1].DeliveryID})
	require.Equal(t, ids[4], claimed[2].DeliveryID)
	require.Equal(t, ids[5], claimed[3].DeliveryID)
	d, err := b.Delivery(ctx, b.Workspace, ids[1])
	require.NoError(t, err)
	require.Equal(t, "delivery/"+ids[1], d.WorkflowID)
	require.Equal(t, postrider.StateRetrying, d.State)

	// They hold no place of their webhook's: one is left beside the three leased.
	claimed, err = b.Claim(ctx, batch("three"))
	require.NoError(t, err)
	require.Len(t, claimed, 1)
	// A retry may ask for its place before the hand-over is settled, and keeps it.
	require.True(t, b.admitted(t, postrider.Delivery{ID: ids[1], WebhookID: w.ID}))
	require.NoError(t, b.HandedOver(ctx, ids[1:3]))
	require.Equal(t, 1, b.count(ctx, t, "SELECT COUNT(*) FROM outbox WHERE kind = 'retry'"))
	require.Zero(t, b.count(ctx, t, "SELECT COUNT(*) FROM outbox WHERE kind = 'own'"))

	// A dispatcher that died after claiming them leaves them to the next.
	require.NoError(t, b.Record(ctx, []postrider.Outcome{b.shared(t, ids[3], postrider.StateRetrying)}))
	for range 2 {
		claimed, err = b.Claim(ctx, postrider.ClaimRequest{Limit: 1, Lease: lease})
		require.NoError(t, err)
		require.Equal(t, ids[3], claimed[0].DeliveryID)
		require.True(t, claimed[0].Attempted)
		b.Clock.Advance(lease)
	}
	// Deleting the webhook leaves nothing to hand over but the cancellation.
	require.NoError(t, b.DeleteWebhook(ctx, b.Workspace, busy.ID))
	require.Zero(t, b.count(ctx, t, "SELECT COUNT(*) FROM outbox WHERE kind = 'own'"))
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
	d, err := b.Delivery(t.Context(), b.Workspace, deliveries[0])
	require.NoError(t, err)
	require.Equal(t, postrider.StatePending, d.State)
	require.Equal(t, deliveries[:1], b.Claimed(t, 10)[w.ID])
	require.NoError(t, b.Release(t.Context(), nil))
	// The first attempt was recorded: there is nothing to give back.
	require.NoError(t, b.Record(t.Context(), []postrider.Outcome{b.Outcome(t, deliveries[1], 1, postrider.StateRetrying)}))
	require.NoError(t, b.Release(t.Context(), deliveries[1:]))
	require.Equal(t, postrider.StateRetrying, b.State(t, deliveries[1]))
	require.Empty(t, b.Claimed(t, 10))
}

func claimOrphans(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t)
	deliveries := b.PublishTo(t, w.ID, 2)
	require.Len(t, b.Claimed(t, 10)[w.ID], 2)
	require.NoError(t, b.Record(t.Context(), []postrider.Outcome{b.Outcome(t, deliveries[0], 1, postrider.StateRetrying)}))
	retry, err := b.Delivery(t.Context(), b.Workspace, deliveries[0])
	require.NoError(t, err)
	require.True(t, b.admitted(t, retry))
	require.NoError(t, b.ReleaseOrphans(t.Context()))
	require.Equal(t, deliveries[1:], b.Claimed(t, 10)[w.ID], "the retry has its workflow")
}

func claimHandedOver(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t)
	deliveries := b.PublishTo(t, w.ID, 1)
	require.Empty(t, b.leased(t, deliveries))
	require.Len(t, b.Claimed(t, 10)[w.ID], 1)
	require.Equal(t, deliveries, b.leased(t, deliveries))
	require.NoError(t, b.HandedOver(t.Context(), deliveries))
	require.Empty(t, b.leased(t, deliveries))
	require.Equal(t, postrider.StateDelivering, b.State(t, deliveries[0]))
	b.Clock.Advance(2 * lease)
	require.Empty(t, b.Claimed(t, 10))
	_, found, err := b.NextDue(t.Context())
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
	require.NoError(t, b.HandedOver(t.Context(), []string{claimed[0].DeliveryID}))
	due, found, err := b.NextDue(t.Context())
	require.NoError(t, err)
	require.True(t, found)
	require.Equal(t, Start().Add(time.Hour), due)
	b.Clock.Advance(time.Hour)
	claimed, err = b.Claim(t.Context(), postrider.ClaimRequest{Limit: 10, Lease: lease})
	require.NoError(t, err)
	require.Len(t, claimed, 1)
	require.Equal(t, "a", claimed[0].EventType)
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
					got = append(got, d.DeliveryID)
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
	w := b.NewWebhook(t, func(w *postrider.Webhook) { w.MaxInFlight = 1 })
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
	require.Len(t, b.Claimed(t, 10), 1)
	backlog, err = b.Backlog(t.Context())
	require.NoError(t, err)
	require.Equal(t, postrider.Backlog{Pending: 2, OldestAt: ref(Start().Add(time.Minute))}, backlog)
	b.Clock.Advance(time.Hour)
	backlog, err = b.Backlog(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 4, backlog.Pending)
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
	require.Equal(t, postrider.StateParked, b.State(t, deliveries[0]))
	_, found, err := b.NextDue(t.Context())
	require.NoError(t, err)
	require.False(t, found)
	set(postrider.WebhookActive)
	require.Equal(t, deliveries, b.Claimed(t, 10)[w.ID])
}

func fairnessTests() map[string]func(*testing.T, *Bundle) {
	return map[string]func(*testing.T, *Bundle){
		"a huge backlog starves nobody":                   fairBacklog,
		"webhooks take turns over several claims":         fairTurns,
		"blocked webhooks do not hide the others":         fairBlocked,
		"no more than max_in_flight are leased":           fairInFlight,
		"max_in_flight holds across processes":            fairInFlightProcesses,
		"no more than rate_limit go":                      fairRate,
		"rate_limit holds while claims come all the time": fairRateBusy,
	}
}

func fairBacklog(t *testing.T, b *Bundle) {
	big := b.NewWebhook(t, func(w *postrider.Webhook) { w.MaxInFlight = postrider.MaxMaxInFlight })
	b.PublishTo(t, big.ID, 2000)
	var small []string
	for range 5 {
		w := b.NewWebhook(t)
		small = append(small, w.ID)
		b.PublishTo(t, w.ID, 2)
	}
	claimed := b.Claimed(t, 60)
	for _, id := range small {
		require.Len(t, claimed[id], 2)
	}
	require.Len(t, claimed[big.ID], 50) // what the others leave, it gets
}

func fairTurns(t *testing.T, b *Bundle) {
	var webhooks []string
	for range 5 {
		w := b.NewWebhook(t)
		webhooks = append(webhooks, w.ID)
		b.PublishTo(t, w.ID, 10)
	}
	got := map[string]int{}
	for range 5 {
		for id, deliveries := range b.Claimed(t, 2) {
			got[id] += len(deliveries)
		}
	}
	for _, id := range webhooks {
		require.Equal(t, 2, got[id])
	}
}

func fairBlocked(t *testing.T, b *Bundle) {
	for range 70 { // more than are looked at together
		w := b.NewWebhook(t, func(w *postrider.Webhook) { w.MaxInFlight = 1 })
		b.PublishTo(t, w.ID, 2)
	}
	require.Len(t, b.Claimed(t, 100), 70)
	w := b.NewWebhook(t)
	b.PublishTo(t, w.ID, 3)
	for range 3 {
		require.Len(t, b.Claimed(t, 1)[w.ID], 1)
	}
	require.Empty(t, b.Claimed(t, 1))
}

func fairInFlight(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t, func(w *postrider.Webhook) { w.MaxInFlight = 3 })
	deliveries := b.PublishTo(t, w.ID, 10)
	require.Equal(t, deliveries[:3], b.Claimed(t, 10)[w.ID])
	require.Empty(t, b.Claimed(t, 10))
	require.NoError(t, b.Record(t.Context(), []postrider.Outcome{b.Outcome(t, deliveries[1], 1, postrider.StateSucceeded)}))
	require.Equal(t, deliveries[3:4], b.Claimed(t, 10)[w.ID])
	require.NoError(t, b.CancelDelivery(t.Context(), deliveries[0]))
	require.Equal(t, deliveries[4:5], b.Claimed(t, 10)[w.ID])
}

func fairInFlightProcesses(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t, func(w *postrider.Webhook) { w.MaxInFlight = 7 })
	b.PublishTo(t, w.ID, 100)
	other := b.Open(t, b.Key)
	var dispatchers sync.WaitGroup
	got := make([]int, 6)
	for i := range got {
		claim := b.Claim
		if i%2 == 1 {
			claim = other.Claim
		}
		dispatchers.Go(func() {
			for range 5 {
				if claimed, err := claim(t.Context(), postrider.ClaimRequest{Limit: 3, Lease: lease}); err == nil {
					got[i] += len(claimed)
				}
			}
		})
	}
	dispatchers.Wait()
	total := 0
	for _, n := range got {
		total += n
	}
	require.Equal(t, 7, total)
}

func fairRate(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t, func(w *postrider.Webhook) { w.RateLimit = ref(2) })
	b.PublishTo(t, w.ID, 10)
	require.Len(t, b.Claimed(t, 10)[w.ID], 1)
	require.Empty(t, b.Claimed(t, 10))
	due, found, err := b.NextDue(t.Context())
	require.NoError(t, err)
	require.True(t, found)
	require.Equal(t, Start().Add(500*time.Millisecond), due)
	b.Clock.Advance(499 * time.Millisecond)
	require.Empty(t, b.Claimed(t, 10))
	b.Clock.Advance(time.Millisecond)
	require.Len(t, b.Claimed(t, 10)[w.ID], 1)
	b.Clock.Advance(10 * time.Second) // an idle webhook saves nothing up
	require.Len(t, b.Claimed(t, 10)[w.ID], 1)
}

func fairRateBusy(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t, func(w *postrider.Webhook) { w.RateLimit, w.MaxInFlight = ref(100), 1000 })
	b.PublishTo(t, w.ID, 400)
	other := b.Open(t, b.Key)
	total := 0
	for i := range 58 { // about a second, in steps that are no multiple of the interval
		total += len(b.Claimed(t, 50)[w.ID])
		claimed, err := other.Claim(t.Context(), postrider.ClaimRequest{Limit: 50, Lease: lease})
		require.NoError(t, err)
		total += len(claimed)
		b.Clock.Advance(time.Duration(15+i%6) * time.Millisecond)
	}
	require.InDelta(t, 100, total, 2, fmt.Sprint(b.Clock.Now().Sub(Start())))
}
