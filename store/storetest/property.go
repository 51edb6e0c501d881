//nolint:thelper // these are the tests, not helpers of one
package storetest

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"postrider"
)

func propertyTests() map[string]func(*testing.T, *Bundle) {
	return map[string]func(*testing.T, *Bundle){
		"whatever happens no delivery is lost": neverLost,
	}
}

// neverLost plays dispatchers, workflows and operators at random. In the end every
// accepted delivery must be finished, parked, claimable once leases have run out,
// or with the workflow that it was handed to.
func neverLost(t *testing.T, b *Bundle) {
	rapid.Check(t, func(r *rapid.T) {
		m := &machine{t: t, Bundle: b, withWorkflow: map[string]bool{}}
		for range 3 {
			m.webhooks = append(m.webhooks, b.NewWebhook(t, func(w *postrider.Webhook) { w.MaxInFlight = 4 }).ID)
		}
		r.Repeat(map[string]func(*rapid.T){
			"publish": m.publish, "claim": m.claim, "release": m.release, "record": m.record, "hand over": m.handOver,
			"cancel": m.cancel, "pause or resume": m.toggle, "time passes": m.pass,
		})
		m.settle()
	})
}

type machine struct {
	*Bundle
	t            *testing.T
	webhooks     []string
	accepted     []string
	leased       []string
	withWorkflow map[string]bool
}

func (m *machine) publish(r *rapid.T) {
	w := rapid.SampledFrom(m.webhooks).Draw(r, "webhook")
	m.accepted = append(m.accepted, m.PublishTo(m.t, w, rapid.IntRange(1, 6).Draw(r, "events"))...)
}

func (m *machine) claim(r *rapid.T) {
	for _, of := range m.Claimed(m.t, rapid.IntRange(1, 10).Draw(r, "limit")) {
		m.leased = append(m.leased, of...)
	}
}

// some draws deliveries that were leased at some time, perhaps no longer are.
func (m *machine) some(r *rapid.T) []string {
	if len(m.leased) == 0 {
		r.Skip("nothing was leased")
	}
	return rapid.SliceOfNDistinct(rapid.SampledFrom(m.leased), 1, 3, rapid.ID).Draw(r, "deliveries")
}

func (m *machine) release(r *rapid.T) {
	require.NoError(m.t, m.Release(m.t.Context(), m.some(r)))
}

func (m *machine) handOver(r *rapid.T) {
	some := m.some(r)
	require.NoError(m.t, m.HandedOver(m.t.Context(), some))
	for _, id := range some {
		m.withWorkflow[id] = true
	}
}

func (m *machine) record(r *rapid.T) {
	var outcomes []postrider.Outcome
	for _, id := range m.some(r) {
		d, err := m.Delivery(m.t.Context(), m.Workspace, id)
		require.NoError(m.t, err)
		state := rapid.SampledFrom([]postrider.DeliveryState{postrider.StateSucceeded, postrider.StateRetrying, postrider.StateFailed}).Draw(r, "state")
		outcomes = append(outcomes, m.Outcome(m.t, id, d.AttemptCount+rapid.IntRange(0, 1).Draw(r, "again")+1, state))
		m.withWorkflow[id] = true
	}
	if err := m.Record(m.t.Context(), outcomes); postrider.CodeOf(err) != postrider.CodeConflict { // some are finished
		require.NoError(m.t, err)
	}
}

func (m *machine) cancel(r *rapid.T) {
	require.NoError(m.t, m.CancelDelivery(m.t.Context(), m.some(r)[0]))
}

func (m *machine) toggle(r *rapid.T) {
	_, err := m.UpdateWebhook(m.t.Context(), m.Workspace, rapid.SampledFrom(m.webhooks).Draw(r, "webhook"), func(e *postrider.WebhookEdit) error {
		if e.Webhook.Status == postrider.WebhookActive {
			e.Webhook.Status = postrider.WebhookPaused
		} else {
			e.Webhook.Status = postrider.WebhookActive
		}
		return nil
	})
	require.NoError(m.t, err)
}

func (m *machine) pass(r *rapid.T) {
	m.Clock.Advance(time.Duration(rapid.IntRange(1, 60).Draw(r, "seconds")) * time.Second)
}

func (m *machine) settle() {
	claimable := map[string]bool{}
	for {
		m.Clock.Advance(lease)
		before := len(claimable)
		for _, of := range m.Claimed(m.t, 1000) {
			for _, id := range of {
				require.False(m.t, slices.Contains([]postrider.DeliveryState{postrider.StateSucceeded, postrider.StateFailed}, m.State(m.t, id)))
				claimable[id] = true
			}
			// Its first attempt ends, which makes room for the next ones.
			require.NoError(m.t, m.HandedOver(m.t.Context(), of))
		}
		if len(claimable) == before {
			break
		}
	}
	for _, id := range m.accepted {
		state := m.State(m.t, id)
		require.True(m.t, state.Finished() || state == postrider.StateParked || claimable[id] || m.withWorkflow[id], "%s is lost: %s", id, state)
	}
}
