//nolint:thelper // these are the tests, not helpers of one
package storetest

import (
	"crypto/rand"
	"testing"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
	"postrider.dev/postrider/store"
)

func eventHeaderTests() map[string]func(*testing.T, *Bundle) {
	return map[string]func(*testing.T, *Bundle){
		"an event's headers are not in the table":               eventHeadersEncrypted,
		"re-encryption encrypts events' headers":                eventHeadersReencryption,
		"events' headers without their key fail their own":      eventHeadersWithoutKey,
		"an event goes to its webhook alone":                    publishToOne,
		"events of a large publication go to their own webhook": publishToOneOfMany,
		"an upgrade keeps events":                               eventsUpgraded,
	}
}

// withOwnHeaders returns an event to the webhook that has headers.
func (b *Bundle) withOwnHeaders(webhookID string) postrider.PublishedEvent {
	e := b.NewEventTo(webhookID)
	e.Headers = map[string]string{"X-Token": headerValue, "X-Other": "3"}
	return e
}

func eventHeadersEncrypted(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t, withHeaders)
	e := b.withOwnHeaders(w.ID)
	plain := b.NewEventTo(w.ID)
	receipts, err := b.Publish(t.Context(), b.Publication(e, plain))
	require.NoError(t, err)
	var headers, keyID string
	var ciphertext []byte
	require.NoError(t, b.Raw(t).QueryRowContext(t.Context(),
		"SELECT headers, headers_key_id, headers_ciphertext FROM events WHERE key = $1", e.Key).Scan(&headers, &keyID, &ciphertext))
	require.JSONEq(t, `["X-Other","X-Token"]`, headers)
	require.NotEmpty(t, keyID)
	require.NotContains(t, string(ciphertext), headerValue)

	targets, err := b.Targets(t.Context(), []string{receipts[0].DeliveryIDs[0], receipts[1].DeliveryIDs[0]})
	require.NoError(t, err)
	require.Equal(t, e.Headers, targets[0].EventHeaders)
	require.Equal(t, w.Headers, targets[0].Headers)
	require.Nil(t, targets[1].EventHeaders)
	read, err := b.Event(t.Context(), b.Workspace, e.ID)
	require.NoError(t, err)
	require.Equal(t, e.Headers, read.Headers)
	require.Equal(t, &w.ID, read.WebhookID)
	list, err := b.Events(t.Context(), b.Workspace, postrider.EventFilter{}, postrider.Page{})
	require.NoError(t, err)
	require.Len(t, list.Items, 2)
	require.Nil(t, list.Items[1].Headers, "a list decrypts none")
	require.Equal(t, 1, b.count(t.Context(), t, "SELECT COUNT(*) FROM events WHERE headers IS NULL AND headers_key_id IS NULL"))
}

func eventHeadersReencryption(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t)
	p := b.Publication()
	for range 3 {
		p.Events = append(p.Events, b.withOwnHeaders(w.ID))
	}
	_, err := b.Publish(t.Context(), p)
	require.NoError(t, err)
	newer, err := store.NewEncryptionKey(rand.Reader)
	require.NoError(t, err)
	both := b.Open(t, newer+","+b.Key)
	_, err = both.Publish(t.Context(), b.Publication(b.withOwnHeaders(w.ID)))
	require.NoError(t, err)
	require.ErrorContains(t, b.Open(t, newer).CheckKeys(t.Context()), "encryption key")
	require.ErrorContains(t, b.CheckKeys(t.Context()), "encryption key", "the newer one")
	n, err := both.Reencrypt(t.Context(), func(int) {})
	require.NoError(t, err)
	require.Equal(t, 1+3, n, "a secret, and headers of three")
	n, err = both.Reencrypt(t.Context(), func(int) {})
	require.NoError(t, err)
	require.Zero(t, n)
	alone := b.Open(t, newer)
	require.NoError(t, alone.CheckKeys(t.Context()))
	read, err := alone.Event(t.Context(), b.Workspace, p.Events[0].ID)
	require.NoError(t, err)
	require.Equal(t, p.Events[0].Headers, read.Headers)
}

func eventHeadersWithoutKey(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t)
	newer, err := store.NewEncryptionKey(rand.Reader)
	require.NoError(t, err)
	foreign, plain := b.withOwnHeaders(w.ID), b.NewEventTo(w.ID)
	receipts, err := b.Open(t, newer+","+b.Key).Publish(t.Context(), b.Publication(foreign, plain))
	require.NoError(t, err)
	targets, err := b.Targets(t.Context(), []string{receipts[0].DeliveryIDs[0], receipts[1].DeliveryIDs[0]})
	require.NoError(t, err)
	require.ErrorContains(t, targets[0].Failure, "event "+foreign.Key+": a secret cannot be decrypted")
	require.Nil(t, targets[0].EventHeaders)
	require.NoError(t, targets[1].Failure)
	read, err := b.Event(t.Context(), b.Workspace, foreign.ID)
	require.NoError(t, err)
	require.Equal(t, map[string]string{"X-Token": postrider.MaskedHeader, "X-Other": postrider.MaskedHeader}, read.Headers)
	_, err = b.Reencrypt(t.Context(), func(int) {})
	require.ErrorContains(t, err, "headers of "+foreign.Key)
}

func publishToOne(t *testing.T, b *Bundle) {
	ctx := t.Context()
	w := b.NewWebhook(t, func(w *postrider.Webhook) { w.Events = []string{"other"} })
	b.NewWebhook(t)
	persona := b.NewWebhook(t, func(w *postrider.Webhook) { w.ScopeType, w.PersonaID = postrider.ScopePersona, ref("p1") })
	paused := b.NewWebhook(t)
	b.pause(t, paused.ID)
	theirs := b.NewWebhook(t, func(to *postrider.Webhook) { to.WorkspaceID = b.NewWorkspace(t) })
	deleted := b.NewWebhook(t)
	require.NoError(t, b.DeleteWebhook(ctx, b.Workspace, deleted.ID))

	p := b.Publication(
		b.NewEventTo(w.ID), b.NewEvent("call.ended"), b.NewEventTo(paused.ID), b.NewEventTo(persona.ID), b.NewEventTo(persona.ID),
	)
	p.Events[4].PersonaID = ref("p1")
	receipts, err := b.Publish(ctx, p)
	require.NoError(t, err)
	for i, want := range []postrider.Receipt{
		{Deliveries: 1}, {Deliveries: 2, Parked: 1}, {Deliveries: 1, Parked: 1}, {Deliveries: 1}, {Deliveries: 1},
	} {
		require.Equal(t, []int{want.Deliveries, want.Parked}, []int{receipts[i].Deliveries, receipts[i].Parked}, i)
	}
	require.Equal(t, w.ID, b.read(t, receipts[0].DeliveryIDs[0]).WebhookID)

	for id, message := range map[string]string{
		"wh_unknown": "a webhook of the workspace", theirs.ID: "a webhook of the workspace", deleted.ID: "a webhook of the workspace",
		persona.ID: "another persona",
	} {
		wrong := b.NewEventTo(id)
		wrong.PersonaID = ref("p2")
		_, err := b.Publish(ctx, b.Publication(b.NewEvent("call.ended"), wrong))
		requireCode(t, postrider.CodeInvalid, err)
		var broken *postrider.EventError
		require.ErrorAs(t, err, &broken)
		require.Equal(t, 1, broken.Index)
		require.ErrorContains(t, err, "webhook_id must be")
		require.ErrorContains(t, err, message)
	}
	require.Equal(t, 5, b.count(ctx, t, "SELECT COUNT(*) FROM events"), "what is refused leaves nothing")

	// What was accepted is answered alike when its webhook is gone.
	again := b.given("order-1", "call.ended")
	again.WebhookID = &w.ID
	_, err = b.Publish(ctx, b.Publication(again))
	require.NoError(t, err)
	require.NoError(t, b.DeleteWebhook(ctx, b.Workspace, w.ID))
	receipts, err = b.Publish(ctx, b.Publication(again))
	require.NoError(t, err)
	require.True(t, receipts[0].Duplicate)
}

func publishToOneOfMany(t *testing.T, b *Bundle) {
	webhooks := b.webhooksFor(t, b.Workspace, 30)
	p := b.eventsOf(b.Workspace, 60)
	for i := range p.Events {
		if i%10 == 0 {
			p.Events[i].WebhookID = &webhooks[i/10]
		}
	}
	_, err := b.Publish(t.Context(), p)
	require.NoError(t, err)
	b.FanOutAll(t)
	require.Equal(t, 54*30+6, b.count(t.Context(), t, "SELECT COUNT(*) FROM deliveries"))
	require.Equal(t, 55, b.inState(t, webhooks[0], postrider.StatePending))
	require.Equal(t, 54, b.inState(t, webhooks[29], postrider.StatePending))
}

// eventsUpgraded goes back to the version before events had options, and up again.
func eventsUpgraded(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t)
	plain, given := b.NewEvent("call.ended"), b.withOwnHeaders(w.ID)
	receipts, err := b.Publish(t.Context(), b.Publication(plain, given))
	require.NoError(t, err)
	for version := int64(15); version >= 15; {
		version, err = b.Unmigrate(t.Context())
		require.NoError(t, err)
	}
	require.NoError(t, b.Migrate(t.Context()))
	for _, r := range receipts {
		read, err := b.Event(t.Context(), b.Workspace, r.ID)
		require.NoError(t, err)
		require.Empty(t, read.Headers)
		require.Nil(t, read.ExpiresAt)
		require.Equal(t, postrider.StatePending, b.State(t, r.DeliveryIDs[0]))
	}
}
