//nolint:thelper // these are the tests, not helpers of one
package storetest

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"postrider"
)

func capacityTests() map[string]func(*testing.T, *Bundle) {
	return map[string]func(*testing.T, *Bundle){
		"a claim is no more than the claimer can begin":   capacityKnown,
		"receivers nobody knows get so many each":         capacityUnknown,
		"receivers that are not proven share":             capacityUnproven,
		"slow receivers get a workflow of their own kind": capacitySlow,
	}
}

// underCapacity claims a batch under a capacity and returns what was claimed by webhook.
func (b *Bundle) underCapacity(t *testing.T, capacity postrider.Capacity) map[string][]postrider.Dispatch {
	t.Helper()
	request := batch("one")
	request.Limit, request.Capacity = 100, &capacity
	claimed, err := b.Claim(t.Context(), request)
	require.NoError(t, err)
	of := map[string][]postrider.Dispatch{}
	for _, d := range claimed {
		of[d.WebhookID] = append(of[d.WebhookID], d)
	}
	return of
}

// ready makes webhooks with so many deliveries each and returns their ids in order.
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
