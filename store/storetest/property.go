//nolint:thelper // these are the tests, not helpers of one
package storetest

import (
	"cmp"
	"context"
	"encoding/json"
	"maps"
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

// maxGames is how often the model is played: some seconds of a database.
const maxGames = 25

// neverLost plays dispatchers, workflows, operators, retention and restarts at random. At any time
// every outbox row must be in one of the states of outbox.go, and every delivery must have come to
// its state by a way that docs/states.md draws. In the end every accepted delivery must be finished,
// parked, or claimable, for a first attempt or for a retry, once leases have run out and all carriers
// are lost, and what failed must have been told once.
func neverLost(t *testing.T, b *Bundle) {
	raw, games := b.Raw(t), 0
	rapid.Check(t, func(r *rapid.T) {
		if games++; games > maxGames {
			return
		}
		b.Workspace = b.NewWorkspace(t) // without the webhooks of the machine before
		m := &machine{t: t, Bundle: b, raw: raw, seen: map[string]seen{}}
		for range 3 {
			m.subscribe()
		}
		m.watcher(t, func(w *postrider.Webhook) { w.Status, w.ParkSeconds = postrider.WebhookPaused, 0 })
		r.Repeat(map[string]func(*rapid.T){
			"publish": m.publish, "publish in order": m.publishInOrder, "change the order": m.reorder,
			"claim": m.claim, "release": m.release, "record": m.record, "hand over": m.handOver, "leave": m.leave,
			"keep": m.keep, "act": m.act, "acquire": m.acquire, "cancel": m.cancel, "call off": m.callOff, "park": m.park,
			"publish to all": m.publishToAll, "fan out": m.fanOut, "sweep": m.sweep,
			"pause or resume": m.toggle, "delete": m.remove, "rotate": m.rotate,
			"expire": m.expire, "restart": m.restart, "time passes": m.pass,
			"publish what expires": m.publishPerishable, "expire events": m.expireEvents, "call off an event": m.callOffEvent,
			"tell": m.tell,
			"":     m.check,
		})
		m.settle()
	})
}

// seen is a delivery as the machine saw it.
type seen struct {
	State    postrider.DeliveryState
	Attempts int
}

type machine struct {
	*Bundle
	t        *testing.T
	raw      *sqlx.DB
	webhooks []string
	deleted  []string
	leased   []string
	large    bool            // a publication was so large that it is fanned out
	seen     map[string]seen // each delivery as it was after the last step
}

// subscribe makes another webhook. What is parked for it soon expires.
func (m *machine) subscribe() {
	made := len(m.webhooks) + len(m.deleted)
	w := m.NewWebhook(m.t, func(w *postrider.Webhook) {
		w.Events, w.MaxInFlight, w.ParkSeconds = []string{"*"}, 4, 60
		w.Ordering = postrider.Orderings()[made%3]
		w.OnExhausted = []postrider.OnExhausted{postrider.ExhaustedBlock, postrider.ExhaustedSkip}[made/3%2]
	})
	m.webhooks = append(m.webhooks, w.ID)
}

// check guards the table of states in outbox.go, that every delivery has its row, and the states of
// deliveries.
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
		FROM deliveries d LEFT JOIN outbox o ON o.delivery_id = d.id AND o.kind <> 'cancel'
		WHERE (d.finished_at IS NULL AND d.state <> 'parked') <> (o.delivery_id IS NOT NULL)
			OR d.state = 'retrying' AND o.kind <> 'retry' OR d.state IN ('pending', 'delivering') AND o.kind <> 'start'`))
	require.Zero(m.t, strange)
	require.NoError(m.t, m.raw.GetContext(m.t.Context(), &strange, `SELECT COUNT(*) FROM deliveries d WHERE finished_at IS NULL
		AND (expires_at IS NOT NULL) <> EXISTS (SELECT 1 FROM expiries e WHERE e.delivery_id = d.id)`))
	require.Zero(m.t, strange)
	require.NoError(m.t, m.raw.GetContext(m.t.Context(), &strange, `SELECT COUNT(*) FROM deliveries d JOIN outbox o ON o.delivery_id = d.id
		WHERE d.held_at IS NOT NULL AND o.kind <> 'cancel' AND o.hold_until IS NOT NULL AND NOT o.leased AND o.workflow_id = ''`))
	require.Zero(m.t, strange, "what is paused waits for no time")
	m.checkLanes()
	for _, webhook := range slices.Concat(m.webhooks, m.deleted) {
		m.checkDeliveries(webhook)
	}
}

// checkLanes guards order: what is in a lane has a place, the first has its turn, and no other can be
// attempted.
func (m *machine) checkLanes() {
	for what, query := range map[string]string{
		"has no place": `SELECT COUNT(*) FROM deliveries d WHERE lane IS NOT NULL AND finished_at IS NULL
			AND NOT EXISTS (SELECT 1 FROM lane_places p WHERE p.delivery_id = d.id AND p.lane = d.lane)`,
		"has a place and has ended": `SELECT COUNT(*) FROM lane_places p JOIN deliveries d ON d.id = p.delivery_id JOIN lanes l ON l.id = p.lane
			WHERE d.finished_at IS NOT NULL AND NOT (l.blocked AND l.head = d.id)`,
		"is not the first": `SELECT COUNT(*) FROM lanes l WHERE COALESCE(head, '') <>
			COALESCE((SELECT p.delivery_id FROM lane_places p WHERE p.lane = l.id ORDER BY p.position LIMIT 1), '')`,
		"has no lane":      "SELECT COUNT(*) FROM lane_places p WHERE NOT EXISTS (SELECT 1 FROM lanes l WHERE l.id = p.lane)",
		"is an empty lane": "SELECT COUNT(*) FROM lanes WHERE head IS NULL AND wire_until IS NULL",
		"is out of its row": `SELECT COUNT(*) FROM outbox o JOIN lane_places p ON p.delivery_id = o.delivery_id JOIN lanes l ON l.id = p.lane
			WHERE l.head <> o.delivery_id AND (o.leased OR COALESCE(CAST(o.hold_until AS text), '') NOT LIKE '9999%')`,
		"waits for nobody": `SELECT COUNT(*) FROM outbox o JOIN lanes l ON l.head = o.delivery_id
			WHERE COALESCE(CAST(o.hold_until AS text), '') LIKE '9999%'`,
	} {
		var strange int
		require.NoError(m.t, m.raw.GetContext(m.t.Context(), &strange, query))
		require.Zero(m.t, strange, "it "+what)
	}
}

// publishInOrder publishes events with keys.
func (m *machine) publishInOrder(r *rapid.T) {
	w := rapid.SampledFrom(m.webhooks).Draw(r, "webhook")
	p := m.Publication()
	for range rapid.IntRange(1, 4).Draw(r, "events") {
		e := m.NewEventTo(w)
		e.OrderingKey = ref(rapid.SampledFrom([]string{"a", "b"}).Draw(r, "key"))
		if rapid.IntRange(0, 4).Draw(r, "scheduled") == 0 {
			e.DeliverAt = ref(m.Clock.Now().Add(time.Minute))
		}
		p.Events = append(p.Events, e)
	}
	_, err := m.Publish(m.t.Context(), p)
	require.NoError(m.t, err)
}

// reorder changes how a webhook wants its deliveries.
func (m *machine) reorder(r *rapid.T) {
	id := rapid.SampledFrom(m.webhooks).Draw(r, "webhook")
	_, err := m.UpdateWebhook(m.t.Context(), m.Workspace, id, func(e *postrider.WebhookEdit) error {
		e.Webhook.Ordering = rapid.SampledFrom(postrider.Orderings()).Draw(r, "ordering")
		return nil
	})
	require.NoError(m.t, err)
}

func (m *machine) checkDeliveries(webhook string) {
	var rows []struct {
		ID       string
		Finished bool
		seen
	}
	require.NoError(m.t, m.raw.SelectContext(m.t.Context(), &rows, `SELECT d.id, d.state, d.attempt_count AS attempts,
		d.finished_at IS NOT NULL AS finished FROM deliveries d WHERE d.webhook_id = $1`, webhook))
	for _, row := range rows {
		before, known := m.seen[row.ID]
		if known && before == row.seen {
			continue
		}
		if !known {
			before = seen{State: row.State}
		}
		require.Equal(m.t, row.State.Finished(), row.Finished, row.ID)
		require.Contains(m.t, follow(before.State), row.State, "%s was %s", row.ID, before.State)
		require.GreaterOrEqual(m.t, row.Attempts, before.Attempts, row.ID)
		if row.State == postrider.StatePending || row.State == postrider.StateRetrying {
			require.Equal(m.t, row.State == postrider.StateRetrying, row.Attempts > 0, row.ID)
		}
		m.seen[row.ID] = row.seen
	}
}

// follow returns the states in which a delivery can be after one step.
func follow(state postrider.DeliveryState) []postrider.DeliveryState {
	switch {
	case state.Finished():
		return []postrider.DeliveryState{state}
	case state == postrider.StateRetrying: // it was attempted, and is never pending again
		return slices.DeleteFunc(postrider.DeliveryStates(), func(s postrider.DeliveryState) bool {
			return s == postrider.StatePending || s == postrider.StateDelivering
		})
	default:
		return postrider.DeliveryStates()
	}
}

// tell makes a step that publishes operational events.
func (m *machine) tell(*rapid.T) {
	_, err := m.PublishOperational(m.t.Context())
	require.NoError(m.t, err)
}

// checkTold guards that a delivery cannot fail without an operational event, in whatever way.
func (m *machine) checkTold() {
	m.tellAll(m.t)
	var failed, told []string
	require.NoError(m.t, m.raw.SelectContext(m.t.Context(), &failed,
		"SELECT id FROM deliveries WHERE workspace_id = $1 AND state = 'failed'", m.Workspace))
	var bodies [][]byte
	require.NoError(m.t, m.raw.SelectContext(m.t.Context(), &bodies,
		"SELECT body FROM events WHERE workspace_id = $1 AND type = $2", m.Workspace, postrider.EventDeliveryFailed))
	for _, body := range bodies {
		var event toldEvent[postrider.FailedDelivery]
		require.NoError(m.t, json.Unmarshal(body, &event))
		told = append(told, event.Data.DeliveryID)
	}
	require.ElementsMatch(m.t, failed, told)
}

func (m *machine) publishPerishable(r *rapid.T) {
	w := rapid.SampledFrom(m.webhooks).Draw(r, "webhook")
	seconds := rapid.IntRange(1, 200).Draw(r, "seconds")
	m.perishable(m.t, w, rapid.IntRange(1, 3).Draw(r, "events"), time.Duration(seconds)*time.Second)
}

func (m *machine) expireEvents(r *rapid.T) {
	if rapid.Bool().Draw(r, "by its carrier") {
		id := m.some(r)[0]
		_, err := m.FailExpired(m.t.Context(), m.carrier(id), id, m.Clock.Now())
		require.NoError(m.t, err)
		return
	}
	_, err := m.Expire(m.t.Context())
	require.NoError(m.t, err)
}

func (m *machine) callOffEvent(r *rapid.T) {
	id := m.some(r)[0]
	m.cancelEvent(m.t, m.read(m.t, id).EventID)
	require.True(m.t, m.State(m.t, id).Finished())
}

func (m *machine) publish(r *rapid.T) {
	w := rapid.SampledFrom(m.webhooks).Draw(r, "webhook")
	m.PublishTo(m.t, w, rapid.IntRange(1, 6).Draw(r, "events"))
}

// publishToAll publishes events for all webhooks, sometimes so many that their deliveries are made
// in steps.
func (m *machine) publishToAll(r *rapid.T) {
	p := m.Publication()
	events := rapid.IntRange(1, 3).Draw(r, "events")
	if !m.large && rapid.IntRange(0, 39).Draw(r, "large") == 39 {
		events, m.large = postrider.MaxBatch, true
		for range 4 - len(m.webhooks) {
			m.subscribe()
		}
	}
	for range events {
		p.Events = append(p.Events, m.NewEvent("all.of.them"))
	}
	_, err := m.Publish(m.t.Context(), p)
	require.NoError(m.t, err)
}

func (m *machine) fanOut(*rapid.T) {
	_, err := m.FanOut(m.t.Context())
	require.NoError(m.t, err)
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
		if state == postrider.StateFailed && rapid.Bool().Draw(r, "gone") {
			o.DisableWebhook = "the receiver answered 410"
		}
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
	if len(m.seen) == 0 {
		r.Skip("nothing was published")
	}
	ids := rapid.SliceOfNDistinct(rapid.SampledFrom(slices.Sorted(maps.Keys(m.seen))), 1, 3, rapid.ID).Draw(r, "acted on")
	edit := postrider.TermsEdit{MaxRetries: ref(rapid.IntRange(0, 3).Draw(r, "max_retries"))}
	if seconds := rapid.IntRange(-1, 60).Draw(r, "expires in"); seconds > 0 {
		edit.ExpiresAt = ref(m.Clock.Now().Add(time.Duration(seconds) * time.Second))
	} else if seconds == 0 {
		edit.ExpiresAt = &time.Time{}
	}
	request := postrider.ActionRequest{Kind: rapid.SampledFrom(postrider.ActionKinds()).Draw(r, "action"), DeliveryIDs: ids, Edit: edit}
	for _, result := range m.actAs(m.t, request) {
		if postrider.CodeOf(result.Err) != postrider.CodeConflict {
			require.NoError(m.t, result.Err)
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
	edit := func(ctx context.Context, workspaceID, id string) (postrider.Webhook, error) {
		return m.UpdateWebhook(ctx, workspaceID, id, func(e *postrider.WebhookEdit) error {
			if e.Webhook.Status == postrider.WebhookActive {
				e.Webhook.Status = postrider.WebhookPaused
			} else {
				e.Webhook.Status = postrider.WebhookActive
			}
			return nil
		})
	}
	set := rapid.SampledFrom([]func(context.Context, string, string) (postrider.Webhook, error){m.PauseWebhook, m.ResumeWebhook, edit})
	_, err := set.Draw(r, "how")(m.t.Context(), m.Workspace, webhook)
	require.NoError(m.t, err)
}

// remove deletes a webhook, and makes another one in its place.
func (m *machine) remove(r *rapid.T) {
	i := rapid.IntRange(0, len(m.webhooks)-1).Draw(r, "webhook")
	require.NoError(m.t, m.DeleteWebhook(m.t.Context(), m.Workspace, m.webhooks[i]))
	m.deleted = append(m.deleted, m.webhooks[i])
	m.webhooks = slices.Delete(m.webhooks, i, i+1)
	m.subscribe()
}

// callOff cancels the workflows of deleted webhooks.
func (m *machine) callOff(r *rapid.T) {
	called, err := m.ClaimCancellations(m.t.Context(), rapid.IntRange(1, 10).Draw(r, "limit"), lease)
	require.NoError(m.t, err)
	for _, c := range called {
		require.NoError(m.t, m.Cancelled(m.t.Context(), []string{c.DeliveryID}))
	}
}

func (m *machine) rotate(r *rapid.T) {
	span := func(name string) time.Duration {
		return time.Duration(rapid.IntRange(0, 60).Draw(r, name)) * time.Second
	}
	rotation := postrider.Rotation{Value: "rotated", EffectiveAt: m.Clock.Now().Add(span("ahead")), Grace: span("grace")}
	_, err := m.RotateSecret(m.t.Context(), m.Workspace, rapid.SampledFrom(m.webhooks).Draw(r, "webhook"), rotation)
	require.NoError(m.t, err)
}

// expire fails what was parked for too long.
func (m *machine) expire(r *rapid.T) {
	if rapid.IntRange(0, 3).Draw(r, "hour") > 0 {
		r.Skip("it looks at every idle webhook of all machines")
	}
	_, err := m.Retain(m.t.Context(), Start().Add(-day), func(postrider.Removed) {})
	require.NoError(m.t, err)
}

// restart gives back what the process before had leased, as a process does that has the database to itself.
func (m *machine) restart(*rapid.T) {
	require.NoError(m.t, m.ReleaseOrphans(m.t.Context()))
}

func (m *machine) pass(r *rapid.T) {
	m.Clock.Advance(time.Duration(rapid.IntRange(1, 60).Draw(r, "seconds")) * time.Second)
}

// settle lets all carriers be lost, and the next attempt of each delivery succeed.
func (m *machine) settle() {
	for again := true; again; {
		m.Clock.Advance(time.Minute + postrider.CarrierGrace + lease)
		m.FanOutAll(m.t)
		m.SweepAll(m.t)
		n := m.succeed() + m.unblock()
		called, err := m.ClaimCancellations(m.t.Context(), 1000, lease)
		require.NoError(m.t, err)
		for _, c := range called {
			require.NoError(m.t, m.Cancelled(m.t.Context(), []string{c.DeliveryID}))
		}
		m.SweepAll(m.t) // the claim may have ended leases of deliveries whose webhook is paused
		var sweeps int
		require.NoError(m.t, m.raw.GetContext(m.t.Context(), &sweeps, "SELECT COUNT(*) FROM sweeps"))
		again = n+len(called)+sweeps > 0
	}
	m.check(nil)
	for id, d := range m.seen {
		require.True(m.t, d.State.Finished() || d.State == postrider.StateParked, "%s is lost: %s", id, d.State)
	}
	require.Zero(m.t, m.count(m.t.Context(), m.t, "SELECT COUNT(*) FROM outbox"))
	m.checkTold()
}

// unblock skips what failed and blocks others, or is paused before others, and returns how many there
// were.
func (m *machine) unblock() int {
	var heads []string
	require.NoError(m.t, m.raw.SelectContext(m.t.Context(), &heads, `SELECT l.head FROM lanes l JOIN deliveries d ON d.id = l.head
		WHERE d.workspace_id = $1 AND (l.blocked OR d.state = 'parked')
			AND EXISTS (SELECT 1 FROM lane_places p WHERE p.lane = l.id AND p.delivery_id <> l.head)`, m.Workspace))
	for _, id := range heads {
		m.done(m.t, postrider.ActionSkip, id)
	}
	return len(heads)
}

// succeed lets the next attempt of all that can be claimed succeed, and returns how many there were.
func (m *machine) succeed() int {
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
		outcomes[i] = postrider.Outcome{
			DeliveryID: d.ID, WorkspaceID: d.WorkspaceID, WebhookID: d.WebhookID, State: postrider.StateSucceeded, WorkflowID: d.WorkflowID,
			Attempt: postrider.Attempt{Number: d.AttemptCount + 1, StartedAt: m.Clock.Now(), Result: postrider.ResultSuccess},
		}
	}
	require.NoError(m.t, m.Record(m.t.Context(), outcomes), "none was finished")
	return len(got)
}
