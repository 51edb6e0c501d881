//nolint:thelper // these are the tests, not helpers of one
package storetest

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"postrider.dev/postrider"
)

// fairShare publishes and claims at random, for workspaces with few webhooks and with many. A claim
// leaves nothing that it has room for. Each workspace that waits gets its share of it at least, and
// where there is less than one for each, none has a second turn before all have had their first.
func fairShare(t *testing.T, b *Bundle) {
	tenants := make([]*tenant, 5)
	for i, webhooks := range []int{1, 2, 1, 40, 3} {
		tenants[i] = &tenant{passed: map[*tenant]int{}}
		tenants[i].id = b.elsewhere(t, func() {
			for range webhooks {
				w := b.NewWebhook(t, func(w *postrider.Webhook) { w.MaxInFlight = postrider.MaxMaxInFlight })
				tenants[i].webhooks = append(tenants[i].webhooks, w.ID)
			}
		})
	}
	rapid.Check(t, func(r *rapid.T) {
		for range rapid.IntRange(1, 8).Draw(r, "steps") {
			for range rapid.IntRange(0, 2).Draw(r, "publications") {
				rapid.SampledFrom(tenants).Draw(r, "workspace").publish(t, b, r)
			}
			limit := rapid.IntRange(1, 12).Draw(r, "limit")
			requireShares(t, tenants, claimAndFinish(t, b, limit), limit)
		}
		for len(claimAndFinish(t, b, 1000)) > 0 { // nothing is left for the next
			continue
		}
		for _, w := range tenants {
			w.waiting, w.passed = 0, map[*tenant]int{}
		}
	})
}

// tenant is a workspace of fairShare's.
type tenant struct {
	id       string
	webhooks []string
	waiting  int
	passed   map[*tenant]int // the turns of others since it had one, or since it has waited
}

func (w *tenant) publish(t *testing.T, b *Bundle, r *rapid.T) {
	t.Helper()
	home := b.Workspace
	defer func() { b.Workspace = home }()
	b.Workspace = w.id
	for range rapid.IntRange(1, 3).Draw(r, "webhooks") {
		w.waiting += len(b.PublishTo(t, rapid.SampledFrom(w.webhooks).Draw(r, "webhook"), rapid.IntRange(1, 15).Draw(r, "events")))
	}
}

// claimAndFinish claims deliveries and finishes them. It returns how many it claimed, by workspace.
func claimAndFinish(t *testing.T, b *Bundle, limit int) map[string]int {
	t.Helper()
	claimed, err := b.Claim(t.Context(), postrider.ClaimRequest{Limit: limit, Lease: lease})
	require.NoError(t, err)
	got := map[string]int{}
	outcomes := make([]postrider.Outcome, len(claimed))
	for i, d := range claimed {
		got[d.WorkspaceID]++
		outcomes[i] = postrider.Outcome{
			DeliveryID: d.ID, WorkspaceID: d.WorkspaceID, WebhookID: d.WebhookID, State: postrider.StateSucceeded, WorkflowID: d.WorkflowID,
			Attempt: postrider.Attempt{Number: 1, StartedAt: b.Clock.Now(), Result: postrider.ResultSuccess},
		}
	}
	require.NoError(t, b.Record(t.Context(), outcomes))
	return got
}

// requireShares checks what a claim gave, and notes it.
func requireShares(t *testing.T, tenants []*tenant, got map[string]int, limit int) {
	t.Helper()
	waiting, wanting, total := 0, 0, 0
	for _, w := range tenants {
		waiting, total = waiting+w.waiting, total+got[w.id]
		if w.waiting > 0 {
			wanting++
		}
	}
	require.Equal(t, min(limit, waiting), total, "all that there is room for")
	for _, w := range tenants {
		if w.waiting > 0 {
			require.GreaterOrEqual(t, got[w.id], min(w.waiting, limit/wanting), "its share")
		}
		w.waiting -= got[w.id]
		if got[w.id] > 0 || w.waiting == 0 {
			w.passed = map[*tenant]int{}
		}
		for _, other := range tenants {
			if got[w.id] == 0 && w.waiting > 0 && got[other.id] > 0 {
				w.passed[other]++
				require.LessOrEqual(t, w.passed[other], 1, "%s had a second turn before %s had one", other.id, w.id)
			}
		}
	}
}
