//nolint:thelper // these are the tests, not helpers of one
package storetest

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
)

func breakerTests() map[string]func(*testing.T, *Bundle) {
	return map[string]func(*testing.T, *Bundle){
		"a circuit opens, and closes by a probe and a ramp": breakerCycle,
		"an attempt from before does not move a circuit":    breakerLate,
		"what is retried waits behind a circuit":            breakerRetries,
		"a ramp that fails narrows and opens again":         breakerFallsBack,
		"a webhook without a breaker goes on":               breakerOptedOut,
		"a resumed webhook begins with a probe":             resumeProbes,
		"retries come first behind a gate":                  resumeRetriesFirst,
		"who acts on a circuit has a probe made now":        breakerProbedSoon,
		"what waits behind a circuit is no backlog":         breakerBacklog,
		"what waits behind a circuit expires":               breakerExpires,
	}
}

// ungate lets a webhook send as much as it allows.
func (b *Bundle) ungate(t *testing.T, webhookID string) {
	t.Helper()
	_, err := b.Raw(t).ExecContext(t.Context(), "DELETE FROM webhook_gates WHERE webhook_id = $1", webhookID)
	require.NoError(t, err)
}

// guarded creates a webhook with a breaker.
func (b *Bundle) guarded(t *testing.T, edits ...func(*postrider.Webhook)) postrider.Webhook {
	t.Helper()
	return b.NewWebhook(t, append(edits, func(w *postrider.Webhook) { w.CircuitBreaker = true })...)
}

// ends claims as many deliveries as may begin, up to the limit, and records that they ended so. It
// returns them.
func (b *Bundle) ends(t *testing.T, webhookID string, limit int, state postrider.DeliveryState) []string {
	t.Helper()
	claimed := b.Claimed(t, limit)[webhookID]
	for _, id := range claimed {
		require.NoError(t, b.Record(t.Context(), []postrider.Outcome{b.Outcome(t, id, 1, state)}))
	}
	return claimed
}

// trip opens the webhook's circuit by first attempts that fail for good.
func (b *Bundle) trip(t *testing.T, webhookID string) {
	t.Helper()
	breaker := postrider.DefaultBreaker()
	b.PublishTo(t, webhookID, breaker.After)
	for range breaker.After - 1 {
		require.Len(t, b.ends(t, webhookID, 1, postrider.StateFailed), 1)
	}
	require.Equal(t, postrider.HealthFailing, b.health(t, webhookID).State, "long enough is missing, and one attempt")
	b.Clock.Advance(breaker.Failing + time.Second) // from the end of the first failure
	require.Len(t, b.ends(t, webhookID, 1, postrider.StateFailed), 1)
	require.Equal(t, postrider.HealthOpen, b.health(t, webhookID).State)
}

func (b *Bundle) health(t *testing.T, webhookID string) postrider.WebhookHealth {
	t.Helper()
	w, err := b.Webhook(t.Context(), b.Workspace, webhookID)
	require.NoError(t, err)
	return w.Health
}

// untilProbe moves the clock to the time of the next probe.
func (b *Bundle) untilProbe(t *testing.T, webhookID string) (waited time.Duration) {
	t.Helper()
	until := b.health(t, webhookID).OpenUntil
	require.NotNil(t, until)
	waited = until.Sub(b.Clock.Now())
	b.Clock.Advance(waited)
	return waited
}

func breakerCycle(t *testing.T, b *Bundle) {
	w, other := b.guarded(t, func(w *postrider.Webhook) { w.MaxInFlight = 5 }), b.guarded(t)
	b.trip(t, w.ID)
	waiting := b.PublishTo(t, w.ID, 60)
	fresh := b.PublishTo(t, other.ID, 1)
	require.Equal(t, map[string][]string{other.ID: fresh}, b.Claimed(t, 100), "others go on")
	require.Equal(t, 5*time.Second, b.untilProbe(t, w.ID))
	require.Equal(t, waiting[:1], b.Claimed(t, 100)[w.ID])
	require.Empty(t, b.Claimed(t, 100), "one probe at a time")
	require.NoError(t, b.Record(t.Context(), []postrider.Outcome{b.Outcome(t, waiting[0], 1, postrider.StateFailed)}))
	for _, wait := range []time.Duration{10, 20, 40, 80, 160, 300, 300} {
		require.Equal(t, wait*time.Second, b.untilProbe(t, w.ID))
		require.Len(t, b.ends(t, w.ID, 100, postrider.StateFailed), 1)
	}
	b.untilProbe(t, w.ID)
	require.Equal(t, postrider.StatePending, b.State(t, waiting[50]), "it has used up nothing")

	another := b.Open(t, b.Key) // the ramp is that of all processes
	require.Len(t, b.ends(t, w.ID, 100, postrider.StateSucceeded), 1)
	require.Equal(t, postrider.WebhookHealth{State: postrider.HealthOK}, b.health(t, w.ID))
	for _, allowed := range []int{1, 2, 4} {
		require.Len(t, b.ends(t, w.ID, 100, postrider.StateSucceeded), allowed, "it has not lasted yet")
		b.Clock.Advance(time.Second)
		claimed, err := another.Claim(t.Context(), postrider.ClaimRequest{Limit: 100, Lease: lease})
		require.NoError(t, err)
		require.Len(t, claimed, allowed)
		require.Empty(t, b.Claimed(t, 100))
		for _, d := range claimed {
			require.NoError(t, another.Record(t.Context(), []postrider.Outcome{b.Outcome(t, d.ID, 1, postrider.StateSucceeded)}))
		}
	}
	require.Zero(t, b.count(t.Context(), t, "SELECT COUNT(*) FROM webhook_gates"))
	require.Len(t, b.Claimed(t, 100)[w.ID], 5)
}

func breakerLate(t *testing.T, b *Bundle) {
	w := b.guarded(t)
	late := b.PublishTo(t, w.ID, 2)
	require.Len(t, b.Claimed(t, 2)[w.ID], 2)
	b.trip(t, w.ID)
	before := b.health(t, w.ID)
	require.NoError(t, b.Record(t.Context(), []postrider.Outcome{b.Outcome(t, late[0], 1, postrider.StateFailed)}))
	require.Equal(t, before.OpenUntil, b.health(t, w.ID).OpenUntil)
	b.PublishTo(t, w.ID, 2)
	b.untilProbe(t, w.ID)
	require.Empty(t, b.Claimed(t, 10), "an attempt is under way")
	require.NoError(t, b.Record(t.Context(), []postrider.Outcome{b.Outcome(t, late[1], 1, postrider.StateSucceeded)}))
	require.Len(t, b.Claimed(t, 10)[w.ID], 1, "it has shown that the receiver is back")
}

func breakerRetries(t *testing.T, b *Bundle) {
	w := b.guarded(t)
	carried := retrying(t, b, w.ID, 3)
	ready := left(t, b, w.ID, 2, time.Second)
	later := left(t, b, w.ID, 1, time.Hour)[0]
	b.trip(t, w.ID)
	for _, d := range carried {
		permit, err := b.AcquirePermit(t.Context(), asking(d))
		require.NoError(t, err)
		require.Equal(t, postrider.Permit{Elsewhere: true}, permit, "its workflow need not wait for it")
		require.Equal(t, postrider.StateRetrying, b.State(t, d.ID))
	}
	require.Empty(t, b.handovers(t, 10), "nothing that waits costs a workflow")
	b.untilProbe(t, w.ID)
	b.PublishTo(t, w.ID, 1)
	require.Empty(t, b.Claimed(t, 10), "it leaves the probe to what was accepted before")
	made := b.handovers(t, 10)
	require.Equal(t, [][]string{{carried[0].ID}}, members(made), "the oldest")
	require.Empty(t, b.handovers(t, 10))
	require.True(t, b.permitted(t, made[0].Deliveries[0]))
	require.NoError(t, b.Record(t.Context(), []postrider.Outcome{b.Outcome(t, carried[0].ID, 2, postrider.StateSucceeded)}))
	for _, id := range []string{carried[1].ID, carried[2].ID, ready[0], ready[1]} {
		require.Equal(t, [][]string{{id}}, members(b.handovers(t, 10)), "in the order of acceptance")
		require.NoError(t, b.Record(t.Context(), []postrider.Outcome{b.Outcome(t, id, 2, postrider.StateSucceeded)}))
	}
	require.Empty(t, b.handovers(t, 10), "the last is not due")
	require.Len(t, b.ends(t, w.ID, 10, postrider.StateSucceeded), 1)
	b.ungate(t, w.ID)
	require.Equal(t, [][]string{{later}}, members(b.handovers(t, 10)))
}

func breakerFallsBack(t *testing.T, b *Bundle) {
	w := b.guarded(t)
	b.trip(t, w.ID)
	b.PublishTo(t, w.ID, 100)
	b.untilProbe(t, w.ID)
	require.Len(t, b.ends(t, w.ID, 100, postrider.StateSucceeded), 1)
	for _, allowed := range []int{1, 2, 4} {
		b.Clock.Advance(time.Second)
		require.Len(t, b.ends(t, w.ID, 100, postrider.StateSucceeded), allowed)
	}
	for _, allowed := range []int{8, 4, 2, 1} { // the first of each decides, the others come too early
		b.Clock.Advance(time.Second)
		require.Len(t, b.ends(t, w.ID, 100, postrider.StateFailed), allowed)
	}
	require.Equal(t, postrider.HealthOpen, b.health(t, w.ID).State)
	require.Equal(t, 10*time.Second, b.untilProbe(t, w.ID), "it goes on with longer waits")
}

func breakerOptedOut(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t)
	b.PublishTo(t, w.ID, 100)
	for range 3 {
		require.Len(t, b.ends(t, w.ID, 20, postrider.StateFailed), 20)
		b.Clock.Advance(time.Minute)
	}
	require.Equal(t, postrider.HealthFailing, b.health(t, w.ID).State)
	b.pause(t, w.ID)
	b.resume(t, w.ID)
	for _, allowed := range []int{1, 1, 2, 4, 8, 16} { // its own ramp goes on however attempts end
		require.Len(t, b.ends(t, w.ID, allowed, postrider.StateFailed), allowed)
		b.Clock.Advance(time.Second)
	}
	require.Equal(t, postrider.HealthFailing, b.health(t, w.ID).State)
}

func resumeProbes(t *testing.T, b *Bundle) {
	w := b.guarded(t)
	waiting := b.PublishTo(t, w.ID, 10)
	b.pause(t, w.ID)
	waiting = append(waiting, b.PublishTo(t, w.ID, 10)...)
	b.resume(t, w.ID)
	require.Equal(t, postrider.HealthOK, b.health(t, w.ID).State, "nothing has failed")
	require.Equal(t, waiting[:1], b.Claimed(t, 100)[w.ID])
	require.Empty(t, b.Claimed(t, 100))
	require.NoError(t, b.Record(t.Context(), []postrider.Outcome{b.Outcome(t, waiting[0], 1, postrider.StateFailed)}))
	require.Equal(t, postrider.HealthOpen, b.health(t, w.ID).State, "one failure is enough for a probe")
	require.Equal(t, 5*time.Second, b.untilProbe(t, w.ID))
	for begun := 1; begun < len(waiting); {
		claimed := b.ends(t, w.ID, 100, postrider.StateSucceeded)
		require.Equal(t, waiting[begun:begun+len(claimed)], claimed, "in the order of acceptance")
		require.NotEmpty(t, claimed)
		begun += len(claimed)
		b.Clock.Advance(time.Second)
	}
}

func resumeRetriesFirst(t *testing.T, b *Bundle) {
	w := b.guarded(t)
	old := left(t, b, w.ID, 3, time.Minute)
	b.pause(t, w.ID)
	fresh := b.PublishTo(t, w.ID, 3)
	b.resume(t, w.ID)
	for _, id := range old {
		require.Empty(t, b.Claimed(t, 100))
		require.Equal(t, [][]string{{id}}, members(b.handovers(t, 10)))
		require.NoError(t, b.Record(t.Context(), []postrider.Outcome{b.Outcome(t, id, 2, postrider.StateSucceeded)}))
	}
	require.Equal(t, fresh[:1], b.Claimed(t, 100)[w.ID])
}

func breakerProbedSoon(t *testing.T, b *Bundle) {
	w := b.guarded(t)
	b.trip(t, w.ID)
	waiting := b.PublishTo(t, w.ID, 2)
	require.Empty(t, b.Claimed(t, 10))
	_, err := b.UpdateWebhook(t.Context(), b.Workspace, w.ID, func(edit *postrider.WebhookEdit) error {
		edit.Webhook.URL = "https://receiver.example/moved"
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, waiting[:1], b.ends(t, w.ID, 10, postrider.StateFailed), "the change may have mended it")
	require.Empty(t, b.Claimed(t, 10))
	b.done(t, postrider.ActionRetry, waiting[1])
	require.Equal(t, waiting[1:], b.ends(t, w.ID, 10, postrider.StateSucceeded))
	require.Equal(t, postrider.HealthOK, b.health(t, w.ID).State)
}

func breakerBacklog(t *testing.T, b *Bundle) {
	w, other := b.guarded(t), b.guarded(t)
	b.trip(t, w.ID)
	b.PublishTo(t, w.ID, 3)
	b.PublishTo(t, other.ID, 2)
	backlog, err := b.Backlog(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 2, backlog.Pending)
	require.EqualValues(t, 1, backlog.Open)
}

func breakerExpires(t *testing.T, b *Bundle) {
	w := b.guarded(t)
	b.trip(t, w.ID)
	event := b.NewEventTo(w.ID)
	event.ExpiresAt = ref(b.Clock.Now().Add(time.Second))
	receipts, err := b.Publish(t.Context(), b.Publication(event))
	require.NoError(t, err)
	b.Clock.Advance(time.Second)
	all(t, b.Expire)
	require.Equal(t, postrider.StateFailed, b.State(t, receipts[0].DeliveryIDs[0]))
}
