//nolint:thelper // these are the tests, not helpers of one
package storetest

import (
	"crypto/rand"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
)

func workspaceTests() map[string]func(*testing.T, *Bundle) {
	return map[string]func(*testing.T, *Bundle){
		"the first workspace is the oldest":          firstWorkspace,
		"API keys come back by hash":                 apiKeys,
		"API keys are listed, used and revoked":      apiKeyLife,
		"workspaces are listed":                      listWorkspaces,
		"another workspace's ids are unknown":        isolation,
		"what contradicts the stored is a conflict":  contradiction,
		"migrating again changes nothing":            migrateAgain,
		"a cancelled context is not the database's":  cancelledContext,
		"a closed store says that it is unavailable": closedStore,
	}
}

func firstWorkspace(t *testing.T, b *Bundle) {
	b.Clock.Advance(time.Second)
	b.NewWorkspace(t)
	first, err := b.FirstWorkspace(t.Context())
	require.NoError(t, err)
	require.Equal(t, postrider.Workspace{ID: b.Workspace, Name: "Workspace", CreatedAt: Start()}, first)
}

func apiKeys(t *testing.T, b *Bundle) {
	key := postrider.APIKey{
		ID: b.IDs.New(postrider.PrefixAPIKey), WorkspaceID: b.Workspace, Name: "first", Hash: postrider.HashAPIKey("prk_x"),
		Scopes: []postrider.Scope{postrider.ScopeRead, postrider.ScopePublish}, CreatedAt: Start(),
		ExpiresAt: ref(Start().Add(time.Hour)), RevokedAt: ref(Start().Add(time.Minute)),
	}
	require.NoError(t, b.CreateAPIKey(t.Context(), key))
	stored, err := b.APIKeyByHash(t.Context(), key.Hash)
	require.NoError(t, err)
	require.Equal(t, key, stored)
	_, err = b.APIKeyByHash(t.Context(), "unknown")
	requireCode(t, postrider.CodeNotFound, err)
}

func contradiction(t *testing.T, b *Bundle) {
	again := postrider.Workspace{ID: b.Workspace, Name: "again", CreatedAt: Start()}
	requireCode(t, postrider.CodeConflict, b.CreateWorkspace(t.Context(), again))
	w := b.Settings()
	w.WorkspaceID = "ws_unknown"
	_, err := b.CreateWebhook(t.Context(), w, "")
	requireCode(t, postrider.CodeConflict, err)
	require.NotContains(t, err.(*postrider.Error).Message, "webhooks") //nolint:errorlint,errcheck,forcetypeassert // its code was seen
}

func apiKeyLife(t *testing.T, b *Bundle) {
	ctx := t.Context()
	var made []postrider.APIKey
	for range 3 {
		key, _, err := postrider.APIKey{WorkspaceID: b.Workspace, Name: "k", Scopes: postrider.Scopes()}.Issue(b.IDs, rand.Reader, b.Clock.Now())
		require.NoError(t, err)
		require.NoError(t, b.CreateAPIKey(ctx, key))
		made = append(made, key)
	}
	page, err := b.APIKeys(ctx, b.Workspace, postrider.Page{Limit: 2})
	require.NoError(t, err)
	require.Equal(t, []postrider.APIKey{made[2], made[1]}, page.Items)
	page, err = b.APIKeys(ctx, b.Workspace, postrider.Page{Limit: 2, After: page.Next})
	require.NoError(t, err)
	require.Equal(t, made[:1], page.Items)
	page, err = b.APIKeys(ctx, b.NewWorkspace(t), postrider.Page{})
	require.NoError(t, err)
	require.Empty(t, page.Items)

	later := Start().Add(time.Minute)
	require.NoError(t, b.UsedAPIKey(ctx, made[0].ID, later))
	require.NoError(t, b.UsedAPIKey(ctx, made[0].ID, Start()), "an earlier use changes nothing")
	b.Clock.Advance(time.Hour)
	revocations := b.Revocations()
	require.NoError(t, b.RevokeAPIKey(ctx, made[0].ID))
	require.NotEqual(t, revocations, b.Revocations())
	b.Clock.Advance(time.Hour)
	require.NoError(t, b.RevokeAPIKey(ctx, made[0].ID))
	stored, err := b.APIKeyByHash(ctx, made[0].Hash)
	require.NoError(t, err)
	require.Equal(t, later, *stored.LastUsedAt)
	require.Equal(t, Start().Add(time.Hour), *stored.RevokedAt, "the first time counts")
	requireCode(t, postrider.CodeNotFound, b.RevokeAPIKey(ctx, "key_unknown"))
}

func listWorkspaces(t *testing.T, b *Bundle) {
	second := b.NewWorkspace(t)
	page, err := b.Workspaces(t.Context(), postrider.Page{Limit: 1})
	require.NoError(t, err)
	require.Equal(t, second, page.Items[0].ID)
	page, err = b.Workspaces(t.Context(), postrider.Page{Limit: 1, After: page.Next})
	require.NoError(t, err)
	require.Equal(t, b.Workspace, page.Items[0].ID)
	require.Empty(t, page.Next)
	w, err := b.Store.Workspace(t.Context(), second)
	require.NoError(t, err)
	require.Equal(t, "Workspace", w.Name)
	_, err = b.Store.Workspace(t.Context(), "ws_unknown")
	requireCode(t, postrider.CodeNotFound, err)
}

func isolation(t *testing.T, b *Bundle) {
	ctx := t.Context()
	w := b.NewWebhook(t)
	receipts, err := b.Publish(ctx, b.Publication(b.NewEvent("call.ended")))
	require.NoError(t, err)
	other := b.NewWorkspace(t)

	_, err = b.Webhook(ctx, other, w.ID)
	requireCode(t, postrider.CodeNotFound, err)
	_, err = b.UpdateWebhook(ctx, other, w.ID, func(*postrider.WebhookEdit) error { return errors.New("called") })
	requireCode(t, postrider.CodeNotFound, err)
	requireCode(t, postrider.CodeNotFound, b.DeleteWebhook(ctx, other, w.ID))
	_, err = b.Secret(ctx, other, w.ID)
	requireCode(t, postrider.CodeNotFound, err)
	_, err = b.RotateSecret(ctx, other, w.ID, postrider.Rotation{Value: "new"})
	requireCode(t, postrider.CodeNotFound, err)
	_, err = b.Event(ctx, other, receipts[0].ID)
	requireCode(t, postrider.CodeNotFound, err)
	_, err = b.Delivery(ctx, other, receipts[0].DeliveryIDs[0])
	requireCode(t, postrider.CodeNotFound, err)
	theirs := postrider.Publication{WorkspaceID: other, Events: []postrider.PublishedEvent{b.NewEventTo(w.ID)}}
	_, err = b.Publish(ctx, theirs)
	requireCode(t, postrider.CodeInvalid, err)
	_, err = b.CancelEvent(ctx, other, receipts[0].ID)
	requireCode(t, postrider.CodeNotFound, err)

	webhooks, err := b.Webhooks(ctx, other, postrider.WebhookFilter{}, postrider.Page{})
	require.NoError(t, err)
	require.Empty(t, webhooks.Items)
	events, err := b.Events(ctx, other, postrider.EventFilter{}, postrider.Page{})
	require.NoError(t, err)
	require.Empty(t, events.Items)
	for _, filter := range []postrider.DeliveryFilter{{WebhookID: w.ID}, {EventID: receipts[0].ID}} {
		deliveries, err := b.Deliveries(ctx, other, filter, postrider.Page{})
		require.NoError(t, err)
		require.Empty(t, deliveries.Items)
	}
	receipts, err = b.Publish(ctx, postrider.Publication{WorkspaceID: other, Events: []postrider.PublishedEvent{b.NewEvent("call.ended")}})
	require.NoError(t, err)
	require.Empty(t, receipts[0].DeliveryIDs)
}

func webhookTests() map[string]func(*testing.T, *Bundle) {
	return map[string]func(*testing.T, *Bundle){
		"a webhook comes back as it was stored": webhookRoundTrip,
		"every setting of a webhook is kept":    webhookSettings,
		"the longest persona has room":          webhookLongestPersona,
		"webhooks are listed by pages":          webhookPages,
		"webhooks are filtered":                 webhookFilters,
		"a webhook is changed":                  webhookUpdate,
		"a refused change changes nothing":      webhookRefusedUpdate,
		"a deleted webhook is unknown":          webhookDelete,
	}
}

func webhookRoundTrip(t *testing.T, b *Bundle) {
	w := postrider.Webhook{
		WorkspaceID: b.Workspace, Policy: postrider.Policy{TimeoutMS: 1234, MaxRetries: 7, BackoffMS: 100},
		WebhookSettings: postrider.WebhookSettings{
			URL: "https://receiver.example/ü?x=1", Events: []string{"call.*", "a.b", "a.b"},
			Name: ref("Näme"), Description: ref(""), SigningMethod: "bearer",
			ScopeType: postrider.ScopePersona, PersonaID: ref("persona-1"),
			Headers: map[string]string{"X-One": "1", "X-Two": "<&>"}, RateLimit: ref(10), MaxInFlight: 3,
		},
	}
	created, err := b.CreateWebhook(t.Context(), w, "token")
	require.NoError(t, err)
	require.NotEmpty(t, created.ID)
	require.NotNil(t, created.SecretID)
	w.ID, w.SecretID, w.Status, w.CreatedAt, w.UpdatedAt = created.ID, created.SecretID, postrider.WebhookActive, Start(), Start()
	w.Health.State = postrider.HealthOK
	require.Equal(t, w, created)
	read, err := b.Webhook(t.Context(), b.Workspace, w.ID)
	require.NoError(t, err)
	require.Equal(t, w, read)

	bare := b.Settings()
	bare.ID = b.IDs.New(postrider.PrefixWebhook)
	created, err = b.CreateWebhook(t.Context(), bare, "")
	require.NoError(t, err)
	require.Equal(t, bare.ID, created.ID)
	require.Nil(t, created.SecretID)
	_, err = b.Secret(t.Context(), b.Workspace, bare.ID)
	requireCode(t, postrider.CodeNotFound, err)
}

// An index holds a persona's id beside a pattern, and PostgreSQL's has an end: a longer id would be a
// failure of ours. These characters do not compress.
func webhookLongestPersona(t *testing.T, b *Bundle) {
	id := make([]rune, postrider.MaxPersonaBytes/4)
	for i := range id {
		id[i] = 0x10000 + rune(i*7919%0x8000)
	}
	persona := string(id)
	require.Empty(t, postrider.CheckPersonaID(&persona))
	require.Len(t, persona, postrider.MaxPersonaBytes)
	w := b.Settings(strings.Repeat("a", postrider.MaxEventTypeLength))
	w.ID = b.IDs.New(postrider.PrefixWebhook)
	w.ScopeType, w.PersonaID = postrider.ScopePersona, &persona
	created, err := b.CreateWebhook(t.Context(), w, "")
	require.NoError(t, err)
	found, err := b.Webhooks(t.Context(), b.Workspace, postrider.WebhookFilter{PersonaID: persona}, postrider.Page{Limit: 2})
	require.NoError(t, err)
	require.Len(t, found.Items, 1)
	require.Equal(t, created.ID, found.Items[0].ID)
}

func webhookPages(t *testing.T, b *Bundle) {
	var want []string // the clock stands still: all were made at the same time
	for range 7 {
		want = append([]string{b.NewWebhook(t).ID}, want...)
	}
	var got []string
	page := postrider.Page{Limit: 3}
	for {
		list, err := b.Webhooks(t.Context(), b.Workspace, postrider.WebhookFilter{}, page)
		require.NoError(t, err)
		for _, w := range list.Items {
			got = append(got, w.ID)
		}
		if list.Next == "" {
			break
		}
		page.After = list.Next
	}
	require.Equal(t, want, got)
	exact, err := b.Webhooks(t.Context(), b.Workspace, postrider.WebhookFilter{}, postrider.Page{Limit: 7})
	require.NoError(t, err)
	require.Len(t, exact.Items, 7)
	require.Empty(t, exact.Next)
}

func webhookFilters(t *testing.T, b *Bundle) {
	all := b.NewWebhook(t)
	calls := b.NewWebhook(t, func(w *postrider.Webhook) { w.Events = []string{"call.*", "call.ended"} })
	ended := b.NewWebhook(t, func(w *postrider.Webhook) {
		w.Events, w.ScopeType, w.PersonaID, w.Status = []string{"call.ended"}, postrider.ScopePersona, ref("p1"), postrider.WebhookPaused
	})
	for name, c := range map[string]struct {
		filter postrider.WebhookFilter
		want   []string
	}{
		"type":    {postrider.WebhookFilter{Event: "call.ended"}, []string{ended.ID, calls.ID, all.ID}},
		"other":   {postrider.WebhookFilter{Event: "call.started"}, []string{calls.ID, all.ID}},
		"pattern": {postrider.WebhookFilter{Event: "call.*"}, []string{calls.ID}},
		"any":     {postrider.WebhookFilter{Event: "*"}, []string{all.ID}},
		"status":  {postrider.WebhookFilter{Status: postrider.WebhookActive}, []string{calls.ID, all.ID}},
		"persona": {postrider.WebhookFilter{PersonaID: "p1"}, []string{ended.ID}},
		"several": {postrider.WebhookFilter{PersonaID: "p1", Event: "call.ended", Status: postrider.WebhookActive}, []string{}},
	} {
		list, err := b.Webhooks(t.Context(), b.Workspace, c.filter, postrider.Page{})
		require.NoError(t, err)
		got := []string{}
		for _, w := range list.Items {
			got = append(got, w.ID)
		}
		require.Equal(t, c.want, got, name)
	}
}

func webhookUpdate(t *testing.T, b *Bundle) {
	ctx := t.Context()
	w := b.NewWebhook(t, func(w *postrider.Webhook) { w.Events = []string{"call.ended"} })
	b.Clock.Advance(time.Minute)
	updated, err := b.UpdateWebhook(ctx, b.Workspace, w.ID, func(e *postrider.WebhookEdit) error {
		require.Equal(t, "whsec_dG9wIHNlY3JldCB0b3Agc2VjcmV0IQ==", e.Secret)
		e.Webhook.ID, e.Webhook.WorkspaceID, e.Webhook.SecretID = "x", "y", nil // not for edits
		e.Webhook.Events[0] = "chat.*"
		e.Webhook.Name = ref("chats")
		e.Webhook.ScopeType, e.Webhook.PersonaID = postrider.ScopePersona, ref("p1")
		e.NewSecret = "another secret"
		return nil
	})
	require.NoError(t, err)
	want := w
	want.Events, want.Name, want.ScopeType, want.PersonaID = []string{"chat.*"}, ref("chats"), postrider.ScopePersona, ref("p1")
	want.UpdatedAt = Start().Add(time.Minute)
	want.Headers = map[string]string{}
	require.Equal(t, want, updated)
	read, err := b.Webhook(ctx, b.Workspace, w.ID)
	require.NoError(t, err)
	require.Equal(t, want, read)

	secret, err := b.Secret(ctx, b.Workspace, w.ID)
	require.NoError(t, err)
	require.Equal(t, "another secret", secret.Value)
	require.Empty(t, secret.Previous)

	old, chat := b.NewEvent("call.ended"), b.NewEvent("chat.message.sent")
	chat.PersonaID = ref("p1")
	receipts, err := b.Publish(ctx, b.Publication(old, chat))
	require.NoError(t, err)
	require.Empty(t, receipts[0].DeliveryIDs)
	require.Len(t, receipts[1].DeliveryIDs, 1)
}

func webhookRefusedUpdate(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t)
	refusal := errors.New("refused")
	_, err := b.UpdateWebhook(t.Context(), b.Workspace, w.ID, func(e *postrider.WebhookEdit) error {
		e.Webhook.URL, e.NewSecret = "https://elsewhere.example/", "x"
		return refusal
	})
	require.ErrorIs(t, err, refusal)
	read, err := b.Webhook(t.Context(), b.Workspace, w.ID)
	require.NoError(t, err)
	require.Equal(t, w.URL, read.URL)
	secret, err := b.Secret(t.Context(), b.Workspace, w.ID)
	require.NoError(t, err)
	require.NotEqual(t, "x", secret.Value)
}

func webhookDelete(t *testing.T, b *Bundle) {
	ctx := t.Context()
	w := b.NewWebhook(t)
	require.NoError(t, b.DeleteWebhook(ctx, b.Workspace, w.ID))
	requireCode(t, postrider.CodeNotFound, b.DeleteWebhook(ctx, b.Workspace, w.ID))
	_, err := b.Webhook(ctx, b.Workspace, w.ID)
	requireCode(t, postrider.CodeNotFound, err)
	list, err := b.Webhooks(ctx, b.Workspace, postrider.WebhookFilter{}, postrider.Page{})
	require.NoError(t, err)
	require.Empty(t, list.Items)
	receipts, err := b.Publish(ctx, b.Publication(b.NewEvent("call.ended")))
	require.NoError(t, err)
	require.Empty(t, receipts[0].DeliveryIDs)
}

func migrateAgain(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t)
	require.NoError(t, b.Migrate(t.Context()))
	require.NoError(t, b.Ping(t.Context()))
	_, err := b.Webhook(t.Context(), b.Workspace, w.ID)
	require.NoError(t, err)
}
