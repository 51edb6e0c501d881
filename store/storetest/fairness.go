//nolint:thelper // these are the tests, not helpers of one
package storetest

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
)

func fairnessTests() map[string]func(*testing.T, *Bundle) {
	return map[string]func(*testing.T, *Bundle){
		"a huge backlog starves nobody":                    fairBacklog,
		"webhooks take turns over several claims":          fairTurns,
		"blocked webhooks do not hide the others":          fairBlocked,
		"no more than max_in_flight are leased":            fairInFlight,
		"max_in_flight holds across processes":             fairInFlightProcesses,
		"no more than rate_limit go":                       fairRate,
		"rate_limit holds while claims come all the time":  fairRateBusy,
		"workspaces share however many webhooks they have": fairWorkspaces,
		"workspaces take turns over several claims":        fairWorkspaceTurns,
		"blocked workspaces do not hide the others":        fairBlockedWorkspaces,
		"first attempts of others go on beside retries":    fairRetries,
		"a rate outlives a clock that is ahead":            fairRateClockAhead,
		"whatever others have each workspace has its turn": fairShare,
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
	require.NoError(t, b.CancelDelivery(t.Context(), b.read(t, deliveries[0]).WorkflowID, deliveries[0]))
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

// Guards against one claim by a clock that is hours ahead, which held a webhook up for as long.
func fairRateClockAhead(t *testing.T, b *Bundle) {
	const ahead = 6 * time.Hour
	w := b.NewWebhook(t, func(w *postrider.Webhook) { w.RateLimit = ref(2) })
	b.PublishTo(t, w.ID, 10)
	b.Clock.Advance(ahead)
	require.Len(t, b.Claimed(t, 10)[w.ID], 1)
	b.Clock.Advance(-ahead)
	require.Len(t, b.Claimed(t, 10)[w.ID], 1, "at once, by a clock that is right")
	require.Empty(t, b.Claimed(t, 10), "and the limit holds")
	b.Clock.Advance(500 * time.Millisecond)
	require.Len(t, b.Claimed(t, 10)[w.ID], 1)
}

// elsewhere makes a workspace and does something in it.
func (b *Bundle) elsewhere(t *testing.T, do func()) string {
	t.Helper()
	home := b.Workspace
	defer func() { b.Workspace = home }()
	b.Workspace = b.NewWorkspace(t)
	do()
	return b.Workspace
}

func fairWorkspaces(t *testing.T, b *Bundle) {
	crowd := b.elsewhere(t, func() {
		for range 200 {
			b.PublishTo(t, b.NewWebhook(t).ID, 2)
		}
	})
	var webhookID string
	small := b.elsewhere(t, func() {
		webhookID = b.NewWebhook(t, func(w *postrider.Webhook) { w.MaxInFlight = 100 }).ID
		b.PublishTo(t, webhookID, 40)
	})
	served := map[string]int{}
	for range 6 {
		claimed, err := b.Claim(t.Context(), postrider.ClaimRequest{Limit: 10, Lease: lease})
		require.NoError(t, err)
		byWorkspace := map[string]int{}
		for _, d := range claimed {
			byWorkspace[d.WorkspaceID]++
			served[d.WebhookID]++
		}
		require.Equal(t, map[string]int{crowd: 5, small: 5}, byWorkspace)
	}
	require.Len(t, served, 31, "webhooks of the crowd take turns")
	require.Equal(t, 30, served[webhookID])
	// What the one leaves, the other gets.
	claimed := b.Claimed(t, 100)
	require.Len(t, claimed[webhookID], 10)
	total := 0
	for _, ids := range claimed {
		total += len(ids)
	}
	require.Equal(t, 100, total)
}

func fairWorkspaceTurns(t *testing.T, b *Bundle) {
	for range 5 {
		b.elsewhere(t, func() { b.PublishTo(t, b.NewWebhook(t).ID, 10) })
	}
	got := map[string]int{}
	for range 10 {
		claimed, err := b.Claim(t.Context(), postrider.ClaimRequest{Limit: 2, Lease: lease})
		require.NoError(t, err)
		require.Len(t, claimed, 2)
		for _, d := range claimed {
			got[d.WorkspaceID]++
		}
	}
	require.Len(t, got, 5)
	for _, n := range got {
		require.Equal(t, 4, n)
	}
}

func fairBlockedWorkspaces(t *testing.T, b *Bundle) {
	for range 70 { // more than are looked at together
		b.elsewhere(t, func() { b.PublishTo(t, b.NewWebhook(t, func(w *postrider.Webhook) { w.MaxInFlight = 1 }).ID, 2) })
	}
	first := b.Claimed(t, 100)
	for more := b.Claimed(t, 100); len(more) > 0; more = b.Claimed(t, 100) {
		for id, ids := range more {
			first[id] = append(first[id], ids...)
		}
	}
	require.Len(t, first, 70)
	var id string
	b.elsewhere(t, func() {
		id = b.NewWebhook(t).ID
		b.PublishTo(t, id, 3)
	})
	for range 3 {
		require.Len(t, b.Claimed(t, 1)[id], 1)
	}
	require.Empty(t, b.Claimed(t, 1))
}

// Retries that are due keep up to half of their own webhook's permits, and no other's.
func fairRetries(t *testing.T, b *Bundle) {
	five := func(w *postrider.Webhook) { w.MaxInFlight = 5 }
	failing, other := b.NewWebhook(t, five), b.NewWebhook(t, five)
	left(t, b, failing.ID, 1, time.Second)
	late := retrying(t, b, failing.ID, 1)
	b.Clock.Advance(time.Second)
	b.PublishTo(t, failing.ID, 10)
	b.PublishTo(t, other.ID, 10)
	claimed := b.Claimed(t, 100)
	require.Len(t, claimed[failing.ID], 3, "carried or not, two are due")
	require.Len(t, claimed[other.ID], 5)
	require.True(t, b.permitted(t, late[0]))
	require.Empty(t, b.Claimed(t, 100))
}
