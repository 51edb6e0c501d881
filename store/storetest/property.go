//nolint:thelper // these are the tests, not helpers of one
package storetest

import (
	"cmp"
	"slices"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"postrider.dev/postrider"
)

func propertyTests() map[string]func(*testing.T, *Bundle) {
	return map[string]func(*testing.T, *Bundle){
		"whatever happens no delivery is lost": neverLost,
	}
}

// neverLost plays dispatchers, workflows and operators at random. At any time every outbox row
// must be in one of the states of outbox.go. In the end every accepted delivery must be
// finished, parked, or claimable, for a first attempt or for a retry, once leases have run out
// and all carriers are lost.
func neverLost(t *testing.T, b *Bundle) {
	raw := b.Raw(t)
	rapid.Check(t, func(r *rapid.T) {
		m := &machine{t: t, Bundle: b, raw: raw}
		for range 3 {
			m.webhooks = append(m.webhooks, b.NewWebhook(t, func(w *postrider.Webhook) { w.MaxInFlight = 4 }).ID)
		}
		r.Repeat(map[string]func(*rapid.T){
			"publish": m.publish, "claim": m.claim, "release": m.release, "record": m.record, "hand over": m.handOver, "leave": m.leave,
			"keep": m.keep, "act": m.act, "acquire": m.acquire, "cancel": m.cancel, "pause or resume": m.toggle,
			"sweep": m.sweep, "park": m.park, "time passes": m.pass,
			"": m.check,
		})
		m.settle()
	})
}

type machine struct {
	*Bundle
	t        *testing.T
	raw      *sqlx.DB
	webhooks []string
	accepted []string
	leased   []string
}

// check guards the table of states in outbox.go, and that every delivery has its row.
func (m *machine) check(*rapid.T) {
	var strange int
	require.NoError(m.t, m.raw.GetContext(m.t.Context(), &strange, `SELECT COUNT(*) FROM outbox WHERE NOT (
		kind = 'start' AND hold_until IS NULL AND NOT leased
		OR kind = 'start' AND hold_until IS NOT NULL AND leased = (workflow_id <> '')
		OR kind = 'retry' AND hold_until IS NULL AND NOT leased AND workflow_id = ''
		OR kind = 'retry' AND hold_until IS NOT NULL AND workflow_id <> ''
		OR kind = 'cancel' AND (hold_until IS NOT NULL) = leased AND workflow_id <> '')
		OR ahead AND NOT (kind = 'start' AND leased)`))
	require.Zero(m.t, strange)
	require.NoError(m.t, m.raw.GetContext(m.t.Context(), &strange, `SELECT COUNT(*)
		FROM deliveries d LEFT JOIN outbox o ON o.delivery_id = d.id
		WHERE (d.finished_at IS NULL AND d.state <> 'parked') <> (o.delivery_id IS NOT NULL)
			OR d.state = 'retrying' AND o.kind <> 'retry' OR d.state IN ('pending', 'delivering') AND o.kind <> 'start'`))
	require.Zero(m.t, strange)
	require.NoError(m.t, m.raw.GetContext(m.t.Context(), &strange, `SELECT COUNT(*) FROM deliveries d JOIN outbox o ON o.delivery_id = d.id
		WHERE d.held_at IS NOT NULL AND o.kind <> 'cancel' AND o.hold_until IS NOT NULL AND NOT o.leased AND o.workflow_id = ''`))
	require.Zero(m.t, strange, "what is paused waits for no time")
}

func (m *machine) publish(r *rapid.T) {
	w := rapid.SampledFrom(m.webhooks).Draw(r, "webhook")
	m.accepted = append(m.accepted, m.PublishTo(m.t, w, rapid.IntRange(1, 6).Draw(r, "events"))...)
}

func (m *machine) claim(r *rapid.T) {
	request := postrider.ClaimRequest{Limit: rapid.IntRange(1, 10).Draw(r, "limit"), Lease: lease}
	request.WorkflowID = rapid.SampledFrom([]string{"", "batch/one", "batch/two"}).Draw(r, "workflow")
	if request.WorkflowID != "" {
		capacity := ahead(m.webhooks[0], rapid.IntRange(0, 2).Draw(r, "under way"), 0)
		capacity.Unknown, capacity.Unproven = 10, 10
		request.Capacity = &capacity
	}
	claimed, err := m.Claim(m.t.Context(), request)
	require.NoError(m.t, err)
	for _, d := range claimed {
		m.leased = append(m.leased, d.ID)
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
	_, err := m.ClaimRetries(m.t.Context(), postrider.HandoverRequest{
		Limit: rapid.IntRange(1, 10).Draw(r, "limit"), Lease: lease, Alone: rapid.Bool().Draw(r, "alone"),
	})
	require.NoError(m.t, err)
}

// carrier is the workflow that carries a delivery, or carried it last.
func (m *machine) carrier(id string) string {
	return cmp.Or(m.read(m.t, id).WorkflowID, postrider.DeliveryWorkflowID(id))
}

func (m *machine) leave(r *rapid.T) {
	id := m.some(r)[0]
	require.NoError(m.t, m.Leave(m.t.Context(), m.carrier(id), []string{id}))
}

func (m *machine) keep(r *rapid.T) {
	id := m.some(r)[0]
	require.NoError(m.t, m.Keep(m.t.Context(), m.carrier(id), []string{id}, m.Clock.Now().Add(time.Minute)))
}

func (m *machine) acquire(r *rapid.T) {
	d := m.read(m.t, m.some(r)[0])
	d.WorkflowID = m.carrier(d.ID)
	_, err := m.AcquirePermit(m.t.Context(), asking(d))
	require.NoError(m.t, err)
	if rapid.Bool().Draw(r, "released") {
		require.NoError(m.t, m.ReleasePermit(m.t.Context(), d.ID))
	}
}

func (m *machine) record(r *rapid.T) {
	var outcomes []postrider.Outcome
	for _, id := range m.some(r) {
		d := m.read(m.t, id)
		states := []postrider.DeliveryState{postrider.StateSucceeded, postrider.StateRetrying, postrider.StateFailed}
		state := rapid.SampledFrom(states).Draw(r, "state")
		o := m.Outcome(m.t, id, d.AttemptCount+rapid.IntRange(0, 1).Draw(r, "again")+1, state)
		if rapid.Bool().Draw(r, "by its policy") {
			o.Policy = postrider.Policy{TimeoutMS: d.Policy.TimeoutMS, MaxRetries: 1, BackoffMS: d.Policy.BackoffMS}
		}
		o.WorkflowID, o.Leaves = m.carrier(id), state == postrider.StateRetrying && rapid.Bool().Draw(r, "leaves")
		if rapid.Bool().Draw(r, "hands on") {
			o.Successor = rapid.SampledFrom(m.leased).Draw(r, "successor")
		}
		outcomes = append(outcomes, o)
	}
	if err := m.Record(m.t.Context(), outcomes); postrider.CodeOf(err) != postrider.CodeConflict { // some are finished
		require.NoError(m.t, err)
	}
}

func (m *machine) cancel(r *rapid.T) {
	id := m.some(r)[0]
	require.NoError(m.t, m.CancelDelivery(m.t.Context(), m.carrier(id), id))
}

// act lets an operator act on deliveries, also on some that a claim has not found yet.
func (m *machine) act(r *rapid.T) {
	if len(m.accepted) == 0 {
		r.Skip("nothing was published")
	}
	ids := rapid.SliceOfNDistinct(rapid.SampledFrom(m.accepted), 1, 3, rapid.ID).Draw(r, "acted on")
	edit := postrider.PolicyEdit{MaxRetries: ref(rapid.IntRange(0, 3).Draw(r, "max_retries"))}
	request := postrider.ActionRequest{Kind: rapid.SampledFrom(postrider.ActionKinds()).Draw(r, "action"), DeliveryIDs: ids, Edit: edit}
	for _, result := range m.actAs(m.t, request) {
		if postrider.CodeOf(result.Err) != postrider.CodeConflict {
			require.NoError(m.t, result.Err)
		}
		if result.Delivery.ID != result.DeliveryID && !slices.Contains(m.accepted, result.Delivery.ID) {
			m.accepted = append(m.accepted, result.Delivery.ID)
		}
	}
}

func (m *machine) sweep(*rapid.T) {
	_, err := m.Sweep(m.t.Context())
	require.NoError(m.t, err)
}

func (m *machine) park(r *rapid.T) {
	d := m.read(m.t, m.some(r)[0])
	require.NoError(m.t, m.Park(m.t.Context(), m.carrier(d.ID), d))
}

func (m *machine) toggle(r *rapid.T) {
	webhook := rapid.SampledFrom(m.webhooks).Draw(r, "webhook")
	_, err := m.UpdateWebhook(m.t.Context(), m.Workspace, webhook, func(e *postrider.WebhookEdit) error {
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

// settle lets all carriers be lost, and the next attempt of each delivery succeed.
func (m *machine) settle() {
	for again := true; again; {
		m.Clock.Advance(time.Minute + postrider.CarrierGrace + lease)
		m.SweepAll(m.t)
		var got []postrider.Delivery
		claimed, err := m.Claim(m.t.Context(), postrider.ClaimRequest{Limit: 1000, Lease: lease})
		require.NoError(m.t, err)
		for _, d := range claimed {
			got = append(got, d.Delivery)
		}
		made, err := m.ClaimRetries(m.t.Context(), postrider.HandoverRequest{Limit: 1000, Lease: lease})
		require.NoError(m.t, err)
		for _, h := range made {
			got = append(got, h.Deliveries...)
		}
		outcomes := make([]postrider.Outcome, len(got))
		for i, d := range got {
			outcomes[i] = m.Outcome(m.t, d.ID, d.AttemptCount+1, postrider.StateSucceeded)
		}
		require.NoError(m.t, m.Record(m.t.Context(), outcomes), "none was finished")
		m.SweepAll(m.t) // the claim may have ended leases of deliveries whose webhook is paused
		again = len(got)+m.count(m.t.Context(), m.t, "SELECT COUNT(*) FROM sweeps") > 0
	}
	for _, id := range m.accepted {
		state := m.State(m.t, id)
		require.True(m.t, state.Finished() || state == postrider.StateParked, "%s is lost: %s", id, state)
	}
	var rows int
	require.NoError(m.t, m.raw.GetContext(m.t.Context(), &rows, "SELECT COUNT(*) FROM outbox"))
	require.Zero(m.t, rows)
}
