//nolint:thelper // these are the tests, not helpers of one
package storetest

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
)

func capacityTests() map[string]func(*testing.T, *Bundle) {
	return map[string]func(*testing.T, *Bundle){
		"a claim is no more than the claimer can begin":   capacityKnown,
		"receivers nobody knows get so many each":         capacityUnknown,
		"receivers that are not proven share":             capacityUnproven,
		"slow receivers get a workflow of their own kind": capacitySlow,
		"what is claimed ahead gets permits of others":    capacityAhead,
		"nobody claims ahead of retries or a rate":        capacityNotAhead,
	}
}

// underCapacity claims a batch under a capacity and returns what was claimed by webhook.
func (b *Bundle) underCapacity(t *testing.T, capacity postrider.Capacity) map[string][]postrider.Dispatch {
	t.Helper()
	request := batch("one")
	request.Limit, request.Capacity = 100, &capacity
	claimed, err := b.Claim(t.Context(), request)
	require.NoError(t, err)
	byWebhook := map[string][]postrider.Dispatch{}
	for _, d := range claimed {
		byWebhook[d.WebhookID] = append(byWebhook[d.WebhookID], d)
	}
	return byWebhook
}

// ready makes webhooks with the given number of deliveries each and returns their ids in order.
func (b *Bundle) ready(t *testing.T, webhooks, each int) []string {
	t.Helper()
	ids := make([]string, webhooks)
	for i := range ids {
		ids[i] = b.NewWebhook(t, func(w *postrider.Webhook) { w.MaxInFlight = 10 }).ID
		b.PublishTo(t, ids[i], each)
	}
	require.True(t, slices.IsSorted(ids))
	return ids
}

func capacityKnown(t *testing.T, b *Bundle) {
	ids := b.ready(t, 3, 20)
	capacity := postrider.Capacity{Receivers: map[string]postrider.ReceiverCapacity{ids[0]: {Room: 2}, ids[1]: {Room: 0}, ids[2]: {Room: 50}}}
	claimed := b.underCapacity(t, capacity)
	require.Len(t, claimed[ids[0]], 2)
	require.Empty(t, claimed[ids[1]])
	require.Len(t, claimed[ids[2]], 10, "no more than max_in_flight either")
	capacity.Receivers[ids[0]] = postrider.ReceiverCapacity{Room: -1}
	require.Empty(t, b.underCapacity(t, capacity))
	require.Empty(t, b.underCapacity(t, postrider.Capacity{}))
	require.Len(t, b.Claimed(t, 100)[ids[1]], 10, "without a capacity there is no such limit")
}

func capacityUnknown(t *testing.T, b *Bundle) {
	ids := b.ready(t, 3, 20)
	claimed := b.underCapacity(t, postrider.Capacity{Unknown: 4, Unproven: 1000})
	for _, id := range ids {
		require.Len(t, claimed[id], 4)
	}
}

// A great many unproven receivers must not take all that a process can begin: each gets
// half of what is left for them.
func capacityUnproven(t *testing.T, b *Bundle) {
	ids := b.ready(t, 4, 20)
	claimed := b.underCapacity(t, postrider.Capacity{
		Receivers: map[string]postrider.ReceiverCapacity{ids[0]: {Room: 5}, ids[2]: {Room: 9, Unproven: true}}, Unknown: 4, Unproven: 11,
	})
	require.Len(t, claimed[ids[0]], 5, "a proven one is not among them")
	require.Len(t, claimed[ids[1]], 4, "of eleven")
	require.Len(t, claimed[ids[2]], 4, "of seven")
	require.Len(t, claimed[ids[3]], 2, "of three")
}

func capacitySlow(t *testing.T, b *Bundle) {
	ids := b.ready(t, 2, 3)
	capacity := postrider.Capacity{
		Receivers: map[string]postrider.ReceiverCapacity{ids[0]: {Room: 2, Unproven: true, Slow: true}, ids[1]: {Room: 2}}, Unproven: 100,
	}
	claimed := b.underCapacity(t, capacity)
	for at, want := range map[int]string{0: "batch/slow", 1: "batch/one"} {
		require.Len(t, claimed[ids[at]], 2)
		for _, d := range claimed[ids[at]] {
			require.Equal(t, want, d.WorkflowID)
			require.Equal(t, at == 0, d.Slow)
			require.Equal(t, want, b.read(t, d.ID).WorkflowID)
			require.NotEmpty(t, d.URL)
		}
	}
	// Without a workflow for many, each has its own anyway.
	alone, err := b.Claim(t.Context(), postrider.ClaimRequest{Limit: 10, Lease: lease, Capacity: &capacity})
	require.NoError(t, err)
	require.Len(t, alone, 2)
	for _, d := range alone {
		require.True(t, d.Alone())
		require.Equal(t, d.WebhookID == ids[0], d.Slow)
	}
}

// ahead is the capacity of a process that claims ahead for a webhook.
func ahead(webhookID string, underWay, waiting int) postrider.Capacity {
	return postrider.Capacity{Receivers: map[string]postrider.ReceiverCapacity{
		webhookID: {Room: 10, Ahead: 2, UnderWay: underWay, Waiting: waiting},
	}}
}

// claimAhead claims and returns which begin at once, and which were claimed ahead.
func (b *Bundle) claimAhead(t *testing.T, webhookID string, capacity postrider.Capacity) (begin, wait []string) {
	t.Helper()
	for _, d := range b.underCapacity(t, capacity)[webhookID] {
		if d.Ahead {
			wait = append(wait, d.ID)
		} else {
			begin = append(begin, d.ID)
		}
	}
	return begin, wait
}

func capacityAhead(t *testing.T, b *Bundle) {
	ctx := t.Context()
	w := b.NewWebhook(t, func(w *postrider.Webhook) { w.MaxInFlight = 3 })
	ids := b.PublishTo(t, w.ID, 20)
	begin, wait := b.claimAhead(t, w.ID, ahead(w.ID, 0, 0))
	require.Equal(t, ids[:3], begin)
	require.Equal(t, ids[3:9], wait, "two for each that begins")
	begin, wait = b.claimAhead(t, w.ID, ahead(w.ID, 3, 5))
	require.Empty(t, begin)
	require.Equal(t, ids[9:10], wait)
	begin, wait = b.claimAhead(t, w.ID, ahead(w.ID, 0, 0))
	require.Empty(t, append(begin, wait...), "another process has no attempt under way that could pass its permit on")

	succeeded := func(id, successor string) postrider.Outcome {
		o := b.Outcome(t, id, 1, postrider.StateSucceeded)
		o.Successor = successor
		return o
	}
	require.NoError(t, b.Record(ctx, []postrider.Outcome{succeeded(ids[0], ids[3])}))
	require.Empty(t, b.Claimed(t, 10), "the permit is its successor's")
	// A successor may be recorded before the attempt whose permit it took over, and pass it on.
	require.NoError(t, b.Record(ctx, []postrider.Outcome{succeeded(ids[4], ids[5])}))
	require.NoError(t, b.Record(ctx, []postrider.Outcome{succeeded(ids[1], ids[4])}))
	require.Empty(t, b.Claimed(t, 10))
	// A record that is a repetition passes the permit on all the same.
	require.NoError(t, b.Record(ctx, []postrider.Outcome{succeeded(ids[2], "")}))
	require.Equal(t, postrider.CodeConflict, postrider.CodeOf(b.Record(ctx, []postrider.Outcome{succeeded(ids[2], ids[6])})))
	require.Empty(t, b.Claimed(t, 10))
	require.NoError(t, b.Record(ctx, []postrider.Outcome{b.Outcome(t, ids[5], 1, postrider.StateRetrying), succeeded(ids[6], "")}))
	require.Equal(t, ids[10:12], b.Claimed(t, 10)[w.ID])

	carried, err := b.Carried(ctx, "batch/one")
	require.NoError(t, err)
	require.Equal(t, ids[3:4], carried, "the others have no permit")
	require.NoError(t, b.Release(ctx, ids[7:10]))
	require.NoError(t, b.Record(ctx, []postrider.Outcome{succeeded(ids[3], "")}))
	require.Equal(t, ids[7:8], b.Claimed(t, 10)[w.ID])
	b.Clock.Advance(2 * lease)
	require.Equal(t, ids[7:9], b.Claimed(t, 10)[w.ID], "rows that were claimed ahead are ready again; one permit is kept for the retry")
}

func capacityNotAhead(t *testing.T, b *Bundle) {
	limited := b.NewWebhook(t, func(w *postrider.Webhook) { w.RateLimit = ref(2) })
	b.PublishTo(t, limited.ID, 10)
	_, wait := b.claimAhead(t, limited.ID, ahead(limited.ID, 5, 0))
	require.Empty(t, wait)

	retried := b.NewWebhook(t, func(w *postrider.Webhook) { w.MaxInFlight = 4 })
	retrying(t, b, retried.ID, 1)
	b.Clock.Advance(time.Minute)
	ids := b.PublishTo(t, retried.ID, 10)
	begin, wait := b.claimAhead(t, retried.ID, ahead(retried.ID, 2, 0))
	require.Equal(t, ids[:3], begin, "one permit is kept for the retry")
	require.Empty(t, wait)
}
