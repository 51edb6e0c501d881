//nolint:thelper // these are the tests, not helpers of one
package storetest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
)

func auditTests() map[string]func(*testing.T, *Bundle) {
	return map[string]func(*testing.T, *Bundle){
		"every change by a caller is in the audit log":        auditChanges,
		"a change that cannot be audited is not made":         auditWithTheChange,
		"the audit log is listed by page and filter":          auditList,
		"what is past its retention leaves the audit log":     auditRetention,
		"a test that shares its transaction has its own line": auditTest,
	}
}

// log returns the newest entries of the workspace.
func (b *Bundle) log(t *testing.T, f postrider.AuditFilter, limit int) []postrider.AuditEntry {
	t.Helper()
	list, err := b.Audit(t.Context(), b.Workspace, f, postrider.Page{Limit: limit})
	require.NoError(t, err)
	return list.Items
}

// change is a method of the store that changes something for a caller.
type change struct {
	action postrider.AuditAction
	make   func(ctx context.Context) error
}

// changes returns each such method, to be called in this order.
func changes(b *Bundle, webhookID, keyID, newWorkspaceID string) []change {
	key := postrider.APIKey{
		ID: keyID, WorkspaceID: b.Workspace, Name: "key", Hash: "hash", Scopes: postrider.Scopes(), CreatedAt: b.Clock.Now(),
	}
	w := b.Settings()
	w.ID, w.Ordering = webhookID, postrider.OrderingFIFO
	event := b.NewEventTo(webhookID)
	test := b.Publication(event, b.NewEventTo(webhookID))
	var tested, next postrider.Receipt
	var job postrider.Replay
	of := func(receipt *postrider.Receipt, kind postrider.ActionKind) change {
		return change{kind.Audited(), func(ctx context.Context) error {
			retries := 7
			results, err := b.Act(ctx, postrider.ActionRequest{
				WorkspaceID: b.Workspace, Kind: kind, DeliveryIDs: receipt.DeliveryIDs, Edit: postrider.TermsEdit{MaxRetries: &retries},
			})
			if err == nil {
				err = results[0].Err
			}
			return err
		}}
	}
	act := func(kind postrider.ActionKind) change { return of(&tested, kind) }
	test.Audit = &postrider.AuditEntry{WorkspaceID: b.Workspace, Action: postrider.ActionTestWebhook, ResourceID: webhookID}
	return []change{
		{postrider.ActionCreateWebhook, func(ctx context.Context) error { return second(b.CreateWebhook(ctx, w, "a secret")) }},
		{postrider.ActionUpdateWebhook, func(ctx context.Context) error {
			return second(b.UpdateWebhook(ctx, b.Workspace, webhookID, func(e *postrider.WebhookEdit) error {
				e.Webhook.MaxRetries++
				return nil
			}))
		}},
		{postrider.ActionPauseWebhook, func(ctx context.Context) error { return second(b.PauseWebhook(ctx, b.Workspace, webhookID)) }},
		{postrider.ActionResumeWebhook, func(ctx context.Context) error { return second(b.ResumeWebhook(ctx, b.Workspace, webhookID)) }},
		{postrider.ActionTestWebhook, func(ctx context.Context) error {
			receipts, err := b.Publish(ctx, test)
			if err == nil {
				tested, next = receipts[0], receipts[1]
			}
			return err
		}},
		act(postrider.ActionRetry), act(postrider.ActionEdit), act(postrider.ActionPause), act(postrider.ActionResume),
		act(postrider.ActionCancel), of(&next, postrider.ActionSkip),
		{postrider.ActionCancelEvent, func(ctx context.Context) error { return second(b.CancelEvent(ctx, b.Workspace, event.ID)) }},
		{postrider.ActionRevealSecret, func(ctx context.Context) error { return second(b.Secret(ctx, b.Workspace, webhookID)) }},
		{postrider.ActionRotateSecret, func(ctx context.Context) error {
			return second(b.RotateSecret(ctx, b.Workspace, webhookID, postrider.Rotation{Value: "another", Grace: time.Hour}))
		}},
		{postrider.ActionCreateReplay, func(ctx context.Context) (err error) {
			job, err = b.CreateReplay(ctx, postrider.ReplaySpec{
				WorkspaceID: b.Workspace, WebhookID: webhookID, Since: b.Clock.Now().Add(-time.Hour), Until: b.Clock.Now(),
				States: []postrider.ReplayOf{postrider.ReplayOfFailed}, Rate: 1,
			})
			return err
		}},
		{postrider.ActionPauseReplay, func(ctx context.Context) error { return second(b.PauseReplay(ctx, b.Workspace, job.ID)) }},
		{postrider.ActionResumeReplay, func(ctx context.Context) error { return second(b.ResumeReplay(ctx, b.Workspace, job.ID)) }},
		{postrider.ActionCancelReplay, func(ctx context.Context) error { return second(b.CancelReplay(ctx, b.Workspace, job.ID)) }},
		{postrider.ActionCreateEventType, func(ctx context.Context) error {
			return second(b.CreateEventType(ctx, postrider.EventType{
				WorkspaceID: b.Workspace, Type: "call.ended", EventTypeSettings: postrider.EventTypeSettings{Enforcement: postrider.EnforceOff},
			}))
		}},
		{postrider.ActionUpdateEventType, func(ctx context.Context) error {
			return second(b.UpdateEventType(ctx, b.Workspace, "call.ended", func(e *postrider.EventType) error {
				e.Deprecated = true
				return nil
			}))
		}},
		{postrider.ActionDeleteEventType, func(ctx context.Context) error { return b.DeleteEventType(ctx, b.Workspace, "call.ended") }},
		{postrider.ActionDeleteWebhook, func(ctx context.Context) error { return b.DeleteWebhook(ctx, b.Workspace, webhookID) }},
		{postrider.ActionCreateAPIKey, func(ctx context.Context) error { return b.CreateAPIKey(ctx, key) }},
		{postrider.ActionRevokeAPIKey, func(ctx context.Context) error { return b.RevokeAPIKey(ctx, keyID) }},
		{postrider.ActionCreateWorkspace, func(ctx context.Context) error {
			return b.CreateWorkspace(ctx, postrider.Workspace{ID: newWorkspaceID, Name: "new", CreatedAt: b.Clock.Now()})
		}},
	}
}

func second[T any](_ T, err error) error { return err }

func auditChanges(t *testing.T, b *Bundle) {
	caller := postrider.Caller{Actor: "key_caller", Route: "POST /somewhere", RequestID: "req_1"}
	ctx := postrider.WithCaller(t.Context(), caller)
	made := changes(b, b.IDs.New(postrider.PrefixWebhook), b.IDs.New(postrider.PrefixAPIKey), b.IDs.New(postrider.PrefixWorkspace))
	require.Len(t, made, len(postrider.AuditActions()), "every action is tried")
	for _, c := range made {
		b.Clock.Advance(time.Second)
		require.NoError(t, c.make(ctx), c.action)
		if c.action == postrider.ActionCreateWorkspace {
			break // it is in the new workspace's log
		}
		latest := b.log(t, postrider.AuditFilter{}, 1)[0]
		require.Equal(t, c.action, latest.Action)
		require.Equal(t, caller, latest.Caller)
		require.Equal(t, postrider.Timestamp(b.Clock.Now()), latest.At)
		require.NotEmpty(t, latest.ResourceID)
	}
	require.Len(t, b.log(t, postrider.AuditFilter{Actor: caller.Actor}, 100), len(made)-1, "one line each")
	require.Equal(t, []postrider.FieldChange{{Field: "max_retries", Old: []byte("3"), New: []byte("4")}},
		b.log(t, postrider.AuditFilter{Action: postrider.ActionUpdateWebhook}, 1)[0].Changes)
	require.Equal(t, len(made), b.count(t.Context(), t, "SELECT COUNT(*) FROM audit WHERE actor = 'key_caller'"))
	require.Zero(t, b.count(t.Context(), t, "SELECT COUNT(*) FROM audit WHERE changes LIKE '%a secret%' OR changes LIKE '%another%'"))
}

// Guards the transaction: without its entry a change must not be made.
func auditWithTheChange(t *testing.T, b *Bundle) {
	raw := b.Raw(t)
	exec := func(query string) {
		_, err := raw.ExecContext(t.Context(), query)
		require.NoError(t, err)
	}
	tables := []string{"webhooks", "secrets", "secret_versions", "api_keys", "workspaces", "events", "deliveries"}
	rows := func() (all []string) {
		for _, table := range tables {
			var count int
			require.NoError(t, raw.GetContext(t.Context(), &count, "SELECT COUNT(*) FROM "+table))
			all = append(all, fmt.Sprint(table, " ", count))
		}
		return all
	}
	made := changes(b, b.IDs.New(postrider.PrefixWebhook), b.IDs.New(postrider.PrefixAPIKey), b.IDs.New(postrider.PrefixWorkspace))
	for _, c := range made {
		before := rows()
		exec("ALTER TABLE audit RENAME TO away")
		require.Error(t, c.make(t.Context()), c.action)
		exec("ALTER TABLE away RENAME TO audit")
		require.Equal(t, before, rows(), c.action)
		require.NoError(t, c.make(t.Context()), "%s can be done, so it was not done before", c.action)
	}
	require.Equal(t, 1, b.count(t.Context(), t, "SELECT COUNT(*) FROM audit WHERE changes LIKE '%revoked_at%'"))
	require.Equal(t, 1, b.count(t.Context(), t, "SELECT COUNT(*) FROM audit WHERE changes LIKE '%paused%' AND action = 'webhook.pause'"))
}

func auditList(t *testing.T, b *Bundle) {
	one := postrider.WithCaller(t.Context(), postrider.Caller{Actor: "key_1"})
	two := postrider.WithCaller(t.Context(), postrider.Caller{Actor: "key_2"})
	w := b.NewWebhook(t)
	for i := range 5 {
		b.Clock.Advance(time.Minute)
		ctx := one
		if i%2 == 1 {
			ctx = two
		}
		require.NoError(t, second(b.PauseWebhook(ctx, b.Workspace, w.ID)))
		require.NoError(t, second(b.ResumeWebhook(ctx, b.Workspace, w.ID)))
	}
	var paged []postrider.AuditEntry
	p := postrider.Page{Limit: 3}
	for {
		list, err := b.Audit(t.Context(), b.Workspace, postrider.AuditFilter{ResourceID: w.ID}, p)
		require.NoError(t, err)
		paged = append(paged, list.Items...)
		if p.After = list.Next; p.After == "" {
			break
		}
	}
	require.Equal(t, b.log(t, postrider.AuditFilter{ResourceID: w.ID}, 100), paged)
	require.Len(t, paged, 11)
	require.Equal(t, postrider.ActionCreateWebhook, paged[10].Action)
	require.Equal(t, postrider.ActorSystem, paged[10].Actor)
	require.Len(t, b.log(t, postrider.AuditFilter{Actor: "key_2"}, 100), 4)
	require.Len(t, b.log(t, postrider.AuditFilter{Actor: "key_2", ResourceID: w.ID, Action: postrider.ActionPauseWebhook}, 100), 2)
	period := postrider.AuditFilter{ResourceID: w.ID, Since: Start().Add(2 * time.Minute), Until: Start().Add(4 * time.Minute)}
	require.Len(t, b.log(t, period, 100), 4)
	other, err := b.Audit(t.Context(), b.NewWorkspace(t), postrider.AuditFilter{ResourceID: w.ID}, postrider.Page{})
	require.NoError(t, err)
	require.Empty(t, other.Items)
}

func auditRetention(t *testing.T, b *Bundle) {
	const many = 1100 // more than two steps
	for range many {
		b.NewWorkspace(t)
	}
	b.Clock.Advance(day)
	kept := b.NewWebhook(t)
	var told []int64
	require.NoError(t, b.RetainAudit(t.Context(), Start().Add(day/2), func(removed int64) { told = append(told, removed) }))
	require.Equal(t, []int64{500, 1000, many + 1}, told)
	require.Equal(t, 1, b.count(t.Context(), t, "SELECT COUNT(*) FROM audit"))
	require.Equal(t, kept.ID, b.log(t, postrider.AuditFilter{}, 1)[0].ResourceID)
	require.NoError(t, b.RetainAudit(t.Context(), Start().Add(day/2), func(int64) { require.Fail(t, "nothing is left to remove") }))
}

// Guards the callers of a shared transaction against being taken for each other.
func auditTest(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t)
	const callers = 20
	done := make(chan error, callers)
	for i := range callers {
		go func() {
			p := b.Publication(b.NewEventTo(w.ID))
			p.Audit = &postrider.AuditEntry{WorkspaceID: b.Workspace, Action: postrider.ActionTestWebhook, ResourceID: w.ID}
			done <- second(b.Publish(postrider.WithCaller(t.Context(), postrider.Caller{Actor: fmt.Sprint("key_", i)}), p))
		}()
	}
	for range callers {
		require.NoError(t, <-done)
	}
	for i := range callers {
		require.Len(t, b.log(t, postrider.AuditFilter{Actor: fmt.Sprint("key_", i)}, 10), 1)
	}
}
