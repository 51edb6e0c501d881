//nolint:thelper // these are the tests, not helpers of one
package storetest

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
)

// where says how a delivery stands: its state as it is stored, and its row of the outbox.
func (b *Bundle) where(t *testing.T, id string) string {
	t.Helper()
	var found string
	require.NoError(t, b.Raw(t).GetContext(t.Context(), &found, `SELECT d.state || CASE WHEN d.held_at IS NULL THEN '' ELSE ', paused' END ||
		COALESCE((SELECT ', ' || o.kind || CASE WHEN o.leased THEN ' leased' WHEN o.hold_until IS NULL THEN ' ready' ELSE ' held' END
			FROM outbox o WHERE o.delivery_id = d.id AND o.kind <> 'cancel'), '') FROM deliveries d WHERE d.id = $1`, id))
	return found
}

// states bring a delivery of a new webhook into each state.
func states() map[string]func(*testing.T, *Bundle, postrider.Webhook) string {
	end := func(state postrider.DeliveryState) func(*testing.T, *Bundle, postrider.Webhook) string {
		return func(t *testing.T, b *Bundle, w postrider.Webhook) string {
			id := underWay(t, b, w)
			require.NoError(t, b.Record(t.Context(), []postrider.Outcome{b.Outcome(t, id, 1, state)}))
			return id
		}
	}
	return map[string]func(*testing.T, *Bundle, postrider.Webhook) string{
		"pending, start ready":           func(t *testing.T, b *Bundle, w postrider.Webhook) string { return b.PublishTo(t, w.ID, 1)[0] },
		"pending, start held":            scheduled,
		"pending, start leased":          underWay,
		"retrying, retry ready":          func(t *testing.T, b *Bundle, w postrider.Webhook) string { return left(t, b, w.ID, 1, time.Hour)[0] },
		"retrying, retry held":           carriedForAnHour,
		"retrying, retry leased":         retriedNow,
		"parked":                         waitingForWebhook,
		"parked, paused":                 paused(carriedForAnHour),
		"pending, paused, start leased":  paused(underWay),
		"retrying, paused, retry leased": paused(retriedNow),
		"succeeded":                      end(postrider.StateSucceeded),
		"failed":                         end(postrider.StateFailed),
		"cancelled": func(t *testing.T, b *Bundle, w postrider.Webhook) string {
			id := carriedForAnHour(t, b, w)
			b.done(t, postrider.ActionCancel, id)
			return id
		},
	}
}

// scheduled is a delivery of an event that is to be delivered in an hour.
func scheduled(t *testing.T, b *Bundle, w postrider.Webhook) string {
	event := b.NewEventTo(w.ID)
	event.DeliverAt = ref(b.Clock.Now().Add(time.Hour))
	receipts, err := b.Publish(t.Context(), b.Publication(event))
	require.NoError(t, err)
	return receipts[0].DeliveryIDs[0]
}

// underWay is a delivery whose first attempt is under way.
func underWay(t *testing.T, b *Bundle, w postrider.Webhook) string {
	id := b.PublishTo(t, w.ID, 1)[0]
	require.Contains(t, b.Claimed(t, 100)[w.ID], id)
	return id
}

// carriedForAnHour is a delivery that a workflow of retries carries for an hour.
func carriedForAnHour(t *testing.T, b *Bundle, w postrider.Webhook) string {
	id := left(t, b, w.ID, 1, time.Hour)[0]
	require.Contains(t, slices.Concat(members(b.handovers(t, 100))...), id)
	return id
}

// retriedNow is a delivery whose retry is under way.
func retriedNow(t *testing.T, b *Bundle, w postrider.Webhook) string {
	id := carriedForAnHour(t, b, w)
	require.True(t, b.permitted(t, b.read(t, id)))
	return id
}

// waitingForWebhook is a delivery that is parked for its webhook.
func waitingForWebhook(t *testing.T, b *Bundle, w postrider.Webhook) string {
	id := b.PublishTo(t, w.ID, 1)[0]
	_, err := b.PauseWebhook(t.Context(), b.Workspace, w.ID)
	require.NoError(t, err)
	b.SweepAll(t)
	return id
}

// paused pauses a delivery.
func paused(before func(*testing.T, *Bundle, postrider.Webhook) string) func(*testing.T, *Bundle, postrider.Webhook) string {
	return func(t *testing.T, b *Bundle, w postrider.Webhook) string {
		id := before(t, b, w)
		b.done(t, postrider.ActionPause, id)
		return id
	}
}

const refused = "refused"

// actStates guards what each action does in each state: how the delivery stands after it.
func actStates(t *testing.T, b *Bundle) {
	const retry, cancel, pause, resume = postrider.ActionRetry, postrider.ActionCancel, postrider.ActionPause, postrider.ActionResume
	const same = "" // nothing changes
	table := map[string]map[postrider.ActionKind]string{
		"pending, start ready":   {retry: same, cancel: "cancelled", pause: "parked, paused", resume: same},
		"pending, start held":    {retry: "pending, start ready", cancel: "cancelled", pause: "parked, paused", resume: same},
		"pending, start leased":  {retry: same, cancel: "cancelled", pause: "pending, paused, start leased", resume: same},
		"retrying, retry ready":  {retry: same, cancel: "cancelled", pause: "parked, paused", resume: same},
		"retrying, retry held":   {retry: "retrying, retry ready", cancel: "cancelled", pause: "parked, paused", resume: same},
		"retrying, retry leased": {retry: same, cancel: "cancelled", pause: "retrying, paused, retry leased", resume: same},
		"parked":                 {retry: refused, cancel: "cancelled", pause: "parked, paused", resume: refused},
		"parked, paused":         {retry: refused, cancel: "cancelled, paused", pause: same, resume: "retrying, retry ready"},
		"pending, paused, start leased": {
			retry: refused, cancel: "cancelled, paused", pause: same, resume: "pending, start leased",
		},
		"retrying, paused, retry leased": {
			retry: refused, cancel: "cancelled, paused", pause: same, resume: "retrying, retry leased",
		},
		"succeeded": {retry: same, cancel: refused, pause: refused, resume: refused},
		"failed":    {retry: same, cancel: refused, pause: refused, resume: refused},
		"cancelled": {retry: same, cancel: same, pause: refused, resume: refused},
	}
	require.Len(t, table, len(states()))
	for name, prepare := range states() {
		require.Len(t, table[name], 4, name)
		for kind, want := range table[name] {
			id, cleanUp := b.prepared(t, prepare)
			require.Equal(t, name, b.where(t, id))
			result := b.act(t, kind, id)
			about := string(kind) + " of " + name
			if want == refused {
				require.Equal(t, postrider.CodeConflict, postrider.CodeOf(result.Err), about)
				require.ErrorContains(t, result.Err, "the delivery is "+string(b.State(t, id)), about)
				want = same
			} else {
				require.NoError(t, result.Err, about)
			}
			if want == same {
				want = name
			}
			require.Equal(t, want, b.where(t, id), about)
			requireCode(t, postrider.CodeConflict, b.act(t, postrider.ActionSkip, id).Err)
			cleanUp()
		}
		id, cleanUp := b.prepared(t, prepare)
		result := b.editRetries(t, id, 7)
		if b.State(t, id).Finished() {
			requireCode(t, postrider.CodeConflict, result.Err)
			cleanUp()
			continue
		}
		require.NoError(t, result.Err)
		require.Equal(t, 7, result.Delivery.Policy.MaxRetries)
		if name == "retrying, retry held" { // its carrier goes by the policy that it had
			require.Equal(t, "retrying, retry ready", b.where(t, id))
			require.Equal(t, b.Clock.Now().Add(time.Hour), *result.Delivery.NextAttemptAt, "it keeps its time")
		} else {
			require.Equal(t, name, b.where(t, id))
		}
		cleanUp()
	}
}

// prepared brings a delivery of a new webhook into a state. cleanUp keeps it out of the next one's way.
func (b *Bundle) prepared(t *testing.T, prepare func(*testing.T, *Bundle, postrider.Webhook) string) (id string, cleanUp func()) {
	w := b.NewWebhook(t)
	return prepare(t, b, w), func() {
		require.NoError(t, b.DeleteWebhook(t.Context(), b.Workspace, w.ID))
		b.SweepAll(t)
	}
}
