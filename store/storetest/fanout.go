//nolint:thelper // these are the tests, not helpers of one
package storetest

import (
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
)

func fanOutTests() map[string]func(*testing.T, *Bundle) {
	return map[string]func(*testing.T, *Bundle){
		"a large publication's deliveries are made in steps": fanOutLarge,
		"a fan-out follows its webhooks":                     fanOutChanged,
		"events go to their own webhooks":                    fanOutGroups,
		"workspaces fan out in turns":                        fanOutTurns,
		"a publication that is too large is refused":         fanOutTooLarge,
		"the fan-outs of a workspace are bounded":            fanOutLimited,
	}
}

// webhooksFor creates n webhooks that get every event of the workspace.
func (b *Bundle) webhooksFor(t *testing.T, workspaceID string, n int) []string {
	t.Helper()
	ids := make([]string, n)
	for i := range ids {
		ids[i] = b.NewWebhook(t, func(w *postrider.Webhook) { w.WorkspaceID = workspaceID }).ID
	}
	return ids
}

// eventsOf returns n events of the workspace.
func (b *Bundle) eventsOf(workspaceID string, n int) postrider.Publication {
	p := postrider.Publication{WorkspaceID: workspaceID}
	for range n {
		e := b.NewEvent("call.ended")
		e.WorkspaceID = workspaceID
		p.Events = append(p.Events, e)
	}
	return p
}

func fanOutLarge(t *testing.T, b *Bundle) {
	ctx := t.Context()
	webhooks := b.webhooksFor(t, b.Workspace, 30)
	paused := webhooks[0]
	b.pause(t, paused)
	p := b.eventsOf(b.Workspace, 60)
	p.IdempotencyKey = "once"
	p.Events[0].DeliverAt = ref(Start().Add(time.Hour))
	receipts, err := b.Publish(ctx, p)
	require.NoError(t, err)
	for _, r := range receipts {
		require.Equal(t, 30, r.Deliveries)
		require.Equal(t, 1, r.Parked)
		require.Empty(t, r.DeliveryIDs)
	}
	require.Zero(t, b.count(ctx, t, "SELECT COUNT(*) FROM deliveries"))

	more, err := b.FanOut(ctx)
	require.NoError(t, err)
	require.True(t, more)
	some := b.count(ctx, t, "SELECT COUNT(*) FROM deliveries")
	require.Positive(t, some)
	require.Less(t, some, 1800)
	again := b.Open(t, b.Key) // another process goes on
	for more {
		more, err = again.FanOut(ctx)
		require.NoError(t, err)
	}
	require.Equal(t, 1800, b.count(ctx, t, "SELECT COUNT(*) FROM deliveries"))
	require.Equal(t, 1800, b.count(ctx, t, "SELECT COUNT(DISTINCT event_key || webhook_id) FROM deliveries"))
	require.Equal(t, 60, b.inState(t, paused, postrider.StateParked))
	require.Equal(t, 60*29, b.count(ctx, t, "SELECT COUNT(*) FROM outbox"))
	require.Equal(t, 29, b.count(ctx, t, "SELECT COUNT(*) FROM outbox WHERE hold_until IS NOT NULL"), "one event is scheduled")
	require.Zero(t, b.count(ctx, t, "SELECT COUNT(*) FROM fanouts"))

	repeated, err := b.Publish(ctx, p)
	require.NoError(t, err)
	for i, r := range repeated {
		require.True(t, r.Duplicate)
		require.Equal(t, 30, r.Deliveries)
		require.Equal(t, receipts[i].ID, r.ID)
	}
	b.FanOutAll(t)
	require.Equal(t, 1800, b.count(ctx, t, "SELECT COUNT(*) FROM deliveries"))
}

func fanOutChanged(t *testing.T, b *Bundle) {
	ctx := t.Context()
	webhooks := b.webhooksFor(t, b.Workspace, 30)
	_, err := b.Publish(ctx, b.eventsOf(b.Workspace, 60))
	require.NoError(t, err)
	require.NoError(t, b.DeleteWebhook(ctx, b.Workspace, webhooks[0]))
	b.SweepAll(t)
	b.pause(t, webhooks[1])
	b.SweepAll(t)
	b.FanOutAll(t)
	b.SweepAll(t)
	require.Equal(t, 60, b.inState(t, webhooks[0], postrider.StateCancelled))
	require.Equal(t, 60, b.inState(t, webhooks[1], postrider.StateParked))
	b.resume(t, webhooks[1])
	require.Equal(t, 60, b.inState(t, webhooks[1], postrider.StatePending))
}

func fanOutGroups(t *testing.T, b *Bundle) {
	ctx := t.Context()
	b.webhooksFor(t, b.Workspace, 20)
	only := b.NewWebhook(t, func(w *postrider.Webhook) { w.Events = []string{"order.*"} })
	p := b.eventsOf(b.Workspace, 100)
	for i := range p.Events {
		if i%2 == 0 {
			p.Events[i].Type = "order." + strconv.Itoa(i%4)
		}
	}
	receipts, err := b.Publish(ctx, p)
	require.NoError(t, err)
	require.Equal(t, 21, receipts[0].Deliveries)
	require.Equal(t, 20, receipts[1].Deliveries)
	b.FanOutAll(t)
	require.Equal(t, 50*21+50*20, b.count(ctx, t, "SELECT COUNT(*) FROM deliveries"))
	require.Equal(t, 50, b.inState(t, only.ID, postrider.StatePending))
}

func fanOutTurns(t *testing.T, b *Bundle) {
	ctx := t.Context()
	other := b.NewWorkspace(t)
	b.webhooksFor(t, b.Workspace, 30)
	b.webhooksFor(t, other, 30)
	for range 3 {
		_, err := b.Publish(ctx, b.eventsOf(b.Workspace, 100))
		require.NoError(t, err)
	}
	_, err := b.Publish(ctx, b.eventsOf(other, 60))
	require.NoError(t, err)
	for range 8 {
		_, err := b.FanOut(ctx)
		require.NoError(t, err)
	}
	var made int
	require.NoError(t, b.Raw(t).GetContext(ctx, &made, "SELECT COUNT(*) FROM deliveries WHERE workspace_id = $1", other))
	require.Equal(t, 1800, made, "it did not wait for the other workspace's 9,000")
}

func fanOutTooLarge(t *testing.T, b *Bundle) {
	ctx := t.Context()
	ids := b.webhooksFor(t, b.Workspace, 1)
	raw := b.Raw(t)
	// Two thousand and more webhooks, without as many calls.
	_, err := raw.ExecContext(ctx, `WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2001)
		INSERT INTO webhooks (id, workspace_id, url, events, signing_method, scope_type, timeout_ms, max_retries, backoff_ms, headers,
			max_in_flight, status, created_at, updated_at, park_seconds)
		SELECT w.id || '_' || n.i, w.workspace_id, w.url, w.events, w.signing_method, w.scope_type, w.timeout_ms, w.max_retries, w.backoff_ms,
			w.headers, w.max_in_flight, w.status, w.created_at, w.updated_at, w.park_seconds FROM webhooks w, n WHERE w.id = $1`, ids[0])
	require.NoError(t, err)
	_, err = raw.ExecContext(ctx, `INSERT INTO webhook_events (workspace_id, pattern, persona_id, webhook_id)
		SELECT workspace_id, '*', '', id FROM webhooks WHERE id <> $1`, ids[0])
	require.NoError(t, err)
	_, err = b.Publish(ctx, b.eventsOf(b.Workspace, 500))
	requireCode(t, postrider.CodeInvalid, err)
	require.ErrorContains(t, err, "events would make 1001000 deliveries; a request may make at most 1000000")
	require.Zero(t, b.count(ctx, t, "SELECT COUNT(*) FROM events"))
	_, err = b.Publish(ctx, b.eventsOf(b.Workspace, 499))
	require.NoError(t, err)
}

func fanOutLimited(t *testing.T, b *Bundle) {
	ctx := t.Context()
	b.webhooksFor(t, b.Workspace, 30)
	raw := b.Raw(t)
	_, err := raw.ExecContext(ctx, `INSERT INTO fanouts (id, workspace_id, events, webhooks, total, done)
		VALUES ('fan_1', $1, '[]', '[]', 2000002, 1)`, b.Workspace)
	require.NoError(t, err)
	_, err = b.Publish(ctx, b.eventsOf(b.Workspace, 60))
	requireCode(t, postrider.CodeLimited, err)
	_, err = b.Publish(ctx, b.eventsOf(b.Workspace, 1))
	require.NoError(t, err, "what needs no fan-out is accepted")
	_, err = raw.ExecContext(ctx, "UPDATE fanouts SET done = 2")
	require.NoError(t, err)
	_, err = b.Publish(ctx, b.eventsOf(b.Workspace, 60))
	require.NoError(t, err)
}
