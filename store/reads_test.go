package store_test

import (
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
	"postrider.dev/postrider/store/storetest"
)

// Numbers of [TestReadsWhatItNeeds]. Dead entries of earlier lives are read too until
// PostgreSQL clears them away, some thousands; a statement that reads the crowd does so in
// every life.
const (
	crowd = 20_000 // deliveries of others
	lives = 4
)

// TestReadsWhatItNeeds guards against plans that read past what belongs to others. Each
// statement is planned once, for any parameters and for tables as they are then, and again
// only after PostgreSQL has looked at them. A whole life of webhooks beside one that has a
// crowd of deliveries must read next to nothing of that. PostgreSQL counts.
func TestReadsWhatItNeeds(t *testing.T) {
	t.Parallel()
	for name, prepare := range map[string]func(*testing.T, *life){
		"planned while nothing waited": func(t *testing.T, l *life) {
			t.Helper()
			l.plan(t)
			l.PublishTo(t, l.crowded.ID, crowd)
		},
		"planned when a crowd had gone": func(t *testing.T, l *life) {
			t.Helper()
			l.finish(t, l.PublishTo(t, l.crowded.ID, crowd)[:crowd-10])
			l.exec(t, "VACUUM ANALYZE")
			l.plan(t)
			l.PublishTo(t, l.crowded.ID, crowd)
		},
		"planned for tables that were nearly empty": func(t *testing.T, l *life) {
			t.Helper()
			l.plan(t)
			l.exec(t, "VACUUM ANALYZE outbox") // days are not looked at before they have grown, see EnsurePartitions
			l.plan(t)
			l.PublishTo(t, l.crowded.ID, crowd)
		},
		"planned for a share of the crowd": func(t *testing.T, l *life) {
			t.Helper()
			l.finish(t, l.PublishTo(t, l.crowded.ID, 2*crowd)[crowd:])
			l.exec(t, "VACUUM ANALYZE")
		},
		"planned beside crowds with an order": func(t *testing.T, l *life) {
			t.Helper()
			l.plan(t)
			l.order(t, crowd)
		},
		"planned before a crowd failed": func(t *testing.T, l *life) {
			t.Helper()
			l.plan(t)
			l.PublishTo(t, l.crowded.ID, crowd)
			l.exec(t, `UPDATE outbox SET kind = 'retry', hold_until = CASE WHEN delivery_id LIKE '%0' THEN NULL ELSE due_at + interval '1 year' END,
				workflow_id = CASE WHEN delivery_id LIKE '%0' THEN '' ELSE 'retry/crowd' END WHERE webhook_id = $1 AND NOT leased`, l.crowded.ID)
			l.exec(t, "VACUUM (INDEX_CLEANUP ON) outbox") // of what the update left behind
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLife(t)
			prepare(t, l)
			l.exec(t, "SELECT pg_stat_force_next_flush()") // what this session has read is counted before
			before := readsOf(t, l.raw)
			for range lives {
				l.live(t)
			}
			settle(t, l.raw)
			after := readsOf(t, l.raw)
			for _, index := range []string{"outbox_ready", "outbox_held", "outbox_leased", "outbox_handover", "outbox_retrying", "outbox_cancel"} {
				require.Greater(t, after[index], before[index], "%s is used", index)
			}
			for name := range after {
				require.Less(t, after[name]-before[name], crowd, name)
			}
		})
	}
}

// readsOf returns how many entries and rows were read of each index, and by each scan, of
// the tables that grow.
func readsOf(t *testing.T, raw *sqlx.DB) map[string]int {
	t.Helper()
	var reads []struct {
		Name string
		Read int
	}
	const grow = " WHERE relname ~ '^(outbox|lane|events_|deliveries_|attempts_)'"
	const indexes = "SELECT indexrelname AS name, idx_tup_read AS read FROM pg_stat_user_indexes" + grow
	const scans = "SELECT 'all of ' || relname, seq_tup_read FROM pg_stat_user_tables" + grow
	require.NoError(t, raw.SelectContext(t.Context(), &reads, indexes+" UNION ALL "+scans))
	byName := map[string]int{}
	for _, r := range reads {
		byName[r.Name] = r.Read
	}
	return byName
}

// life does everything that the store can with one webhook's deliveries, beside another
// webhook that has a crowd of them.
type life struct {
	*storetest.Bundle
	raw     *sqlx.DB
	crowded postrider.Webhook
}

func newLife(t *testing.T) *life {
	t.Helper()
	l := &life{Bundle: storetest.NewBundle(t, postgres.NewDatabase(t))}
	l.raw, l.crowded = l.Raw(t), l.NewWebhook(t)
	l.raw.SetMaxOpenConns(1)
	// PostgreSQL looks at tables when the test says so.
	for _, table := range read(t, l.Bundle, "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace") {
		l.exec(t, "ALTER TABLE "+table+" SET (autovacuum_enabled = false)")
	}
	return l
}

func (l *life) exec(t *testing.T, query string, args ...any) {
	t.Helper()
	_, err := l.raw.ExecContext(t.Context(), query, args...)
	require.NoError(t, err)
}

// plan lets each statement be planned.
func (l *life) plan(t *testing.T) {
	t.Helper()
	for range 3 {
		l.live(t)
	}
}

// finish makes deliveries of the crowd, in the order of their ids, things of the past.
func (l *life) finish(t *testing.T, deliveryIDs []string) {
	t.Helper()
	first, last := deliveryIDs[0], deliveryIDs[len(deliveryIDs)-1]
	l.exec(t, `UPDATE deliveries SET state = CASE WHEN id LIKE '%0' THEN 'failed' WHEN id LIKE '%1' THEN 'parked' ELSE 'succeeded' END,
		finished_at = CASE WHEN id LIKE '%1' THEN NULL ELSE due_at END WHERE id BETWEEN $1 AND $2`, first, last)
	l.exec(t, "DELETE FROM outbox WHERE delivery_id BETWEEN $1 AND $2", first, last)
}

func (l *life) live(t *testing.T) {
	t.Helper()
	w := l.NewWebhook(t)
	published := l.PublishTo(t, w.ID, 12)
	claimed := l.claim(t, w.ID, 8)
	l.dispatch(t, claimed)
	l.retry(t, claimed[2])
	l.handOver(t, w.ID, claimed[5])
	l.list(t, w, claimed[2])

	l.search(t, w)
	l.act(t, published[9:], claimed[1])
	l.replay(t, w)

	// Some are leased, and come back when their time is over.
	require.Len(t, l.claim(t, w.ID, 1), 1)
	l.Clock.Advance(time.Hour)
	require.Len(t, l.claim(t, w.ID, 1), 1)

	_, err := l.PauseWebhook(t.Context(), l.Workspace, w.ID)
	require.NoError(t, err)
	require.Equal(t, postrider.StateParked, l.State(t, published[11]))
	l.SweepAll(t)
	_, err = l.ResumeWebhook(t.Context(), l.Workspace, w.ID)
	require.NoError(t, err)
	require.Equal(t, postrider.StatePending, l.State(t, published[11]))
	l.SweepAll(t)
	_, err = l.ClaimRetries(t.Context(), postrider.HandoverRequest{Limit: 100, Lease: time.Minute})
	require.NoError(t, err)
	require.NoError(t, l.DeleteWebhook(t.Context(), l.Workspace, w.ID))
	require.Equal(t, postrider.StateCancelled, l.State(t, published[11]))
	l.SweepAll(t)
	cancelled, err := l.ClaimCancellations(t.Context(), 100, time.Minute)
	require.NoError(t, err)
	require.NotEmpty(t, cancelled)
	for _, c := range cancelled {
		require.NoError(t, l.Cancelled(t.Context(), []string{c.DeliveryID}))
	}
	l.unusual(t)
	l.ordered(t)
}

// order makes a crowd that is made one at a time, and a crowd of such crowds.
func (l *life) order(t *testing.T, n int) {
	t.Helper()
	fifo := l.NewWebhook(t, func(w *postrider.Webhook) { w.Ordering = postrider.OrderingFIFO })
	l.PublishTo(t, fifo.ID, n)
	keys := l.NewWebhook(t, func(w *postrider.Webhook) { // a pause later would be read for, and counted late
		w.Ordering, w.Status = postrider.OrderingKey, postrider.WebhookPaused
	})
	for range n / postrider.MaxBatch {
		p := l.Publication()
		for range postrider.MaxBatch {
			e := l.NewEventTo(keys.ID)
			e.OrderingKey = &e.Key
			p.Events = append(p.Events, e)
		}
		_, err := l.Publish(t.Context(), p)
		require.NoError(t, err)
	}
}

// ordered makes deliveries one at a time.
func (l *life) ordered(t *testing.T) {
	t.Helper()
	w := l.NewWebhook(t, func(w *postrider.Webhook) {
		w.Ordering, w.OnExhausted = postrider.OrderingFIFO, postrider.ExhaustedBlock
	})
	ids := l.PublishTo(t, w.ID, 6)
	act := func(kind postrider.ActionKind, id string) {
		_, err := l.Act(t.Context(), postrider.ActionRequest{WorkspaceID: l.Workspace, Actor: "key_1", Kind: kind, DeliveryIDs: []string{id}})
		require.NoError(t, err)
	}
	for _, state := range []postrider.DeliveryState{postrider.StateSucceeded, postrider.StateFailed} {
		require.NoError(t, l.Record(t.Context(), []postrider.Outcome{l.Outcome(t, ids[0], 1, state)}))
		ids = ids[1:]
	}
	blocking, err := l.Blockers(t.Context(), w.ID)
	require.NoError(t, err)
	require.Len(t, blocking, 1)
	act(postrider.ActionRetry, blocking[0].DeliveryID)
	blocked, err := l.Delivery(t.Context(), l.Workspace, ids[0])
	require.NoError(t, err)
	for _, id := range append([]string{blocked.BlockedBy}, ids[:2]...) {
		act(postrider.ActionSkip, id)
	}
	_, err = l.MendLanes(t.Context())
	require.NoError(t, err)
	_, err = l.PauseWebhook(t.Context(), l.Workspace, w.ID)
	require.NoError(t, err)
	l.SweepAll(t)
	_, err = l.ResumeWebhook(t.Context(), l.Workspace, w.ID)
	require.NoError(t, err)
	l.SweepAll(t)
	_, err = l.UpdateWebhook(t.Context(), l.Workspace, w.ID, func(e *postrider.WebhookEdit) error {
		e.Webhook.Ordering = postrider.OrderingKey
		return nil
	})
	require.NoError(t, err)
	p := l.Publication(l.NewEventTo(w.ID), l.NewEventTo(w.ID))
	p.Events[0].OrderingKey, p.Events[1].OrderingKey = &p.Events[0].Key, &p.Events[0].Key
	receipts, err := l.Publish(t.Context(), p)
	require.NoError(t, err)
	require.NoError(t, l.Record(t.Context(), []postrider.Outcome{l.Outcome(t, receipts[0].DeliveryIDs[0], 1, postrider.StateFailed)}))
	l.Clock.Advance(time.Second)
	l.replay(t, w) // of what blocks
	require.NoError(t, l.Record(t.Context(), []postrider.Outcome{l.Outcome(t, receipts[1].DeliveryIDs[0], 1, postrider.StateFailed)}))
	require.NoError(t, l.DeleteWebhook(t.Context(), l.Workspace, w.ID))
	l.SweepAll(t)
}

// unusual does what few events ask for.
func (l *life) unusual(t *testing.T) {
	t.Helper()
	w := l.NewWebhook(t)
	expires := l.Clock.Now().Add(time.Second)
	p := l.Publication(l.NewEventTo(w.ID), l.NewEventTo(w.ID), l.NewEventTo(w.ID))
	p.Events[0].ExpiresAt, p.Events[1].Headers = &expires, map[string]string{"X-Own": "1"}
	receipts, err := l.Publish(t.Context(), p)
	require.NoError(t, err)
	l.NewWebhook(t, func(w *postrider.Webhook) { w.Events, w.Status = []string{"postrider.*"}, postrider.WebhookPaused })
	l.Clock.Advance(time.Second)
	l.ExpireAll(t)
	_, err = l.PublishOperational(t.Context())
	require.NoError(t, err)
	require.Equal(t, postrider.StateFailed, l.State(t, receipts[0].DeliveryIDs[0]))
	for _, r := range receipts[1:] {
		_, err = l.Targets(t.Context(), r.DeliveryIDs)
		require.NoError(t, err)
		n, err := l.CancelEvent(t.Context(), l.Workspace, r.ID)
		require.NoError(t, err)
		require.Equal(t, 1, n)
	}
	_, err = l.FailExpired(t.Context(), "delivery/other", receipts[0].DeliveryIDs[0], l.Clock.Now())
	require.NoError(t, err)
	require.NoError(t, l.CheckKeys(t.Context()))
	_, err = l.Reencrypt(t.Context(), func(int) {})
	require.NoError(t, err)
}

// claim claims n of the webhook's deliveries, beside some of the crowd's. It records the first
// of each, and gives back the others of the crowd's.
func (l *life) claim(t *testing.T, webhookID string, n int) []string {
	t.Helper()
	claimed, err := l.Claim(t.Context(), postrider.ClaimRequest{Limit: 3 * n, Lease: time.Minute, Capacity: &postrider.Capacity{
		Receivers: map[string]postrider.ReceiverCapacity{webhookID: {Room: n}}, Unknown: 2, Unproven: 1000,
	}})
	require.NoError(t, err)
	var own, others []string
	var outcomes []postrider.Outcome
	for _, d := range claimed {
		ids := &own
		if d.WebhookID != webhookID {
			ids = &others
		}
		*ids = append(*ids, d.ID)
		if len(*ids) == 1 { // the crowd's, which is old, beside the latest
			outcomes = append(outcomes, l.Outcome(t, d.ID, 1, postrider.StateRetrying))
		}
	}
	require.NoError(t, l.Record(t.Context(), outcomes))
	require.NoError(t, l.Release(t.Context(), others))
	return own
}

// dispatch does the work of a dispatcher with eight of a webhook's deliveries.
func (l *life) dispatch(t *testing.T, claimed []string) {
	t.Helper()
	require.Len(t, claimed, 8)
	_, err := l.Leased(t.Context(), claimed)
	require.NoError(t, err)
	_, err = l.Carried(t.Context(), "delivery/"+claimed[1])
	require.NoError(t, err)
	_, err = l.Targets(t.Context(), claimed)
	require.NoError(t, err)
	_, _, err = l.NextDue(t.Context())
	require.NoError(t, err)
	left := l.Outcome(t, claimed[5], 1, postrider.StateRetrying)
	left.Leaves = true
	require.NoError(t, l.Record(t.Context(), []postrider.Outcome{
		l.Outcome(t, claimed[1], 1, postrider.StateSucceeded),
		l.Outcome(t, claimed[2], 1, postrider.StateRetrying),
		l.Outcome(t, claimed[3], 1, postrider.StateFailed),
		left,
	}))
	require.NoError(t, l.Release(t.Context(), claimed[4:5])) // the next has its first attempt under way
	require.NoError(t, l.CancelDelivery(t.Context(), postrider.DeliveryWorkflowID(claimed[7]), claimed[7]))
}

// retry makes a delivery's second attempt.
func (l *life) retry(t *testing.T, deliveryID string) {
	t.Helper()
	d, err := l.Delivery(t.Context(), l.Workspace, deliveryID)
	require.NoError(t, err)
	require.NoError(t, l.Keep(t.Context(), d.WorkflowID, []string{d.ID}, l.Clock.Now().Add(time.Minute)))
	request := postrider.PermitRequest{DeliveryID: d.ID, WebhookID: d.WebhookID, WorkflowID: d.WorkflowID, Hold: time.Minute}
	for range 2 {
		permit, err := l.AcquirePermit(t.Context(), request)
		require.NoError(t, err)
		require.True(t, permit.Granted)
		require.NoError(t, l.ReleasePermit(t.Context(), deliveryID))
	}
	_, err = l.AcquirePermit(t.Context(), request)
	require.NoError(t, err)
	require.NoError(t, l.Record(t.Context(), []postrider.Outcome{l.Outcome(t, deliveryID, 2, postrider.StateRetrying)}))
}

// handOver gives a retry of the webhook's to a carrier, and to another, beside some of the
// crowd's.
func (l *life) handOver(t *testing.T, webhookID, deliveryID string) {
	t.Helper()
	for range 2 {
		made, err := l.ClaimRetries(t.Context(), postrider.HandoverRequest{Limit: 8, Lease: time.Minute})
		require.NoError(t, err)
		var others []string
		for _, h := range made {
			for _, d := range h.Deliveries {
				if d.WebhookID == webhookID {
					require.Equal(t, deliveryID, d.ID)
					require.NoError(t, l.Leave(t.Context(), h.WorkflowID, []string{d.ID}))
					_, err = l.AttemptsOf(t.Context(), []string{d.ID})
					require.NoError(t, err)
				} else {
					others = append(others, d.ID)
				}
			}
		}
		require.NoError(t, l.Release(t.Context(), others))
	}
}

// list reads what people and programs read of a webhook and one of its deliveries.
func (l *life) list(t *testing.T, w postrider.Webhook, deliveryID string) {
	t.Helper()
	d, err := l.Delivery(t.Context(), l.Workspace, deliveryID)
	require.NoError(t, err)
	attempts, err := l.Attempts(t.Context(), deliveryID)
	require.NoError(t, err)
	require.Len(t, attempts, 2)
	_, err = l.Event(t.Context(), l.Workspace, d.EventID)
	require.NoError(t, err)
	_, err = l.Events(t.Context(), l.Workspace, postrider.EventFilter{}, postrider.Page{Limit: 5})
	require.NoError(t, err)
	for _, f := range []postrider.AuditFilter{{}, {ResourceID: w.ID}, {Actor: postrider.ActorSystem, Action: postrider.ActionCreateWebhook}} {
		entries, err := l.Audit(t.Context(), l.Workspace, f, postrider.Page{Limit: 1})
		require.NoError(t, err)
		require.NotEmpty(t, entries.Items)
	}
	for _, id := range []string{"", w.ID} {
		until := postrider.FloorTo(l.Clock.Now(), time.Hour).Add(time.Hour)
		query := postrider.StatsQuery{Since: until.Add(-time.Hour), Until: until, Step: time.Hour, WebhookID: id}
		_, err := l.Stats(t.Context(), l.Workspace, query)
		require.NoError(t, err)
	}
	for _, f := range []postrider.DeliveryFilter{
		{WebhookID: w.ID},
		{WebhookID: w.ID, EventType: d.EventType, Since: l.Clock.Now().Add(-time.Minute), Until: l.Clock.Now().Add(time.Minute)},
		{WebhookID: w.ID, State: postrider.StateFailed},
		{WebhookID: w.ID, State: postrider.StateRetrying},
		{WebhookID: w.ID, State: postrider.StateSucceeded},
		{WebhookID: w.ID, State: postrider.StatePending},
		{WebhookID: w.ID, State: postrider.StateDelivering},
		{WebhookID: w.ID, State: postrider.StateCancelled},
		{EventID: d.EventID},
		{WebhookID: w.ID, EventID: d.EventID},
	} {
		page, err := l.Deliveries(t.Context(), l.Workspace, f, postrider.Page{Limit: 1})
		require.NoError(t, err)
		require.NotEmpty(t, page.Items)
		_, err = l.Deliveries(t.Context(), l.Workspace, f, postrider.Page{After: page.Items[0].ID})
		require.NoError(t, err)
	}
}

// search lists deliveries of the whole workspace, most of which are the crowd's.
func (l *life) search(t *testing.T, w postrider.Webhook) {
	t.Helper()
	const failed, retrying, succeeded = postrider.StateFailed, postrider.StateRetrying, postrider.StateSucceeded
	for _, f := range []postrider.DeliverySearch{
		{Since: l.Clock.Now().Add(-time.Minute)}, // all of the workspace would be the crowd itself
		{States: []postrider.DeliveryState{failed}},
		{States: []postrider.DeliveryState{failed, retrying}, Since: l.Clock.Now().Add(-time.Minute)},
		{States: []postrider.DeliveryState{failed, retrying}, WebhookID: w.ID},
		{WebhookID: w.ID, Result: postrider.ResultServerError},
		{WebhookID: w.ID, States: []postrider.DeliveryState{succeeded}, EventType: "call.ended"},
	} {
		page, err := l.SearchDeliveries(t.Context(), l.Workspace, f, postrider.Page{Limit: 1})
		require.NoError(t, err)
		require.NotEmpty(t, page.Items)
		_, err = l.SearchDeliveries(t.Context(), l.Workspace, f, postrider.Page{Limit: 1, After: page.Items[0].ID})
		require.NoError(t, err)
	}
}

// act lets an operator act on deliveries that wait, and on one that is finished.
func (l *life) act(t *testing.T, waiting []string, finished string) {
	t.Helper()
	for _, kind := range []postrider.ActionKind{postrider.ActionRetry, postrider.ActionPause, postrider.ActionResume} {
		results, err := l.Act(t.Context(), postrider.ActionRequest{WorkspaceID: l.Workspace, Actor: "key_1", Kind: kind, DeliveryIDs: waiting})
		require.NoError(t, err)
		for _, r := range results {
			require.NoError(t, r.Err)
		}
	}
	again, err := l.Act(t.Context(), postrider.ActionRequest{
		WorkspaceID: l.Workspace, Actor: "key_1", Kind: postrider.ActionRetry, DeliveryIDs: []string{finished},
	})
	require.NoError(t, err)
	_, err = l.Act(t.Context(), postrider.ActionRequest{
		WorkspaceID: l.Workspace, Actor: "key_1", Kind: postrider.ActionCancel, DeliveryIDs: []string{again[0].Delivery.ID},
	})
	require.NoError(t, err)
	actions, err := l.Actions(t.Context(), waiting[0])
	require.NoError(t, err)
	require.Len(t, actions, 3)
	_, err = l.ClaimNotices(t.Context(), 10, time.Minute)
	require.NoError(t, err)
}

// replay counts and replays what a webhook had in the last minute, most of which is others'.
func (l *life) replay(t *testing.T, w postrider.Webhook) {
	t.Helper()
	for _, states := range [][]postrider.ReplayOf{{postrider.ReplayOfFailed, postrider.ReplayOfCancelled}, postrider.ReplayOfs()} {
		spec := postrider.ReplaySpec{
			WorkspaceID: l.Workspace, WebhookID: w.ID, Since: l.Clock.Now().Add(-time.Minute), Until: l.Clock.Now(), States: states,
			EventTypes: []string{}, Rate: 10,
		}
		_, err := l.CountReplay(t.Context(), spec)
		require.NoError(t, err)
		job, err := l.CreateReplay(t.Context(), spec)
		require.NoError(t, err)
		_, err = l.ClaimReplays(t.Context(), 10, time.Minute)
		require.NoError(t, err)
		for range 3 {
			_, err = l.StepReplay(t.Context(), job.ID)
			require.NoError(t, err)
		}
		jobs, err := l.Replays(t.Context(), l.Workspace, postrider.ReplayFilter{WebhookID: w.ID}, postrider.Page{Limit: 2})
		require.NoError(t, err)
		require.NotEmpty(t, jobs.Items)
		if _, err = l.CancelReplay(t.Context(), l.Workspace, job.ID); postrider.CodeOf(err) != postrider.CodeConflict { // it has finished
			require.NoError(t, err)
		}
	}
}
