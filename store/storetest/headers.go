//nolint:thelper // these are the tests, not helpers of one
package storetest

import (
	"crypto/rand"
	"testing"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
	"postrider.dev/postrider/store"
)

func headerTests() map[string]func(*testing.T, *Bundle) {
	return map[string]func(*testing.T, *Bundle){
		"custom headers are not in the table":                   headersEncrypted,
		"plain headers are read and encrypted by a change":      headersPlain,
		"an upgrade keeps plain headers":                        headersUpgraded,
		"re-encryption encrypts plain headers":                  headersReencryption,
		"headers without their key fail their targets only":     headersWithoutKey,
		"headers of another webhook do not decrypt":             headersMoved,
		"a secret of another workspace signs and shows nothing": secretOfAnotherWorkspace,
	}
}

const headerValue = "token of the header"

func withHeaders(w *postrider.Webhook) {
	w.Headers = map[string]string{"X-Token": headerValue, "X-Other": "2"}
}

// storedHeaders returns the columns of a webhook's headers as text.
func storedHeaders(t *testing.T, b *Bundle, id string) (headers, keyID, ciphertext string) {
	t.Helper()
	row := b.Raw(t).QueryRowContext(t.Context(),
		"SELECT headers, COALESCE(headers_key_id, ''), headers_ciphertext FROM webhooks WHERE id = $1", id)
	var sealed []byte
	require.NoError(t, row.Scan(&headers, &keyID, &sealed))
	return headers, keyID, string(sealed)
}

// leavePlain stores a webhook's headers as versions before their encryption did.
func leavePlain(t *testing.T, b *Bundle, id string) {
	t.Helper()
	_, err := b.Raw(t).ExecContext(t.Context(),
		`UPDATE webhooks SET headers = '{"X-Token":"`+headerValue+`"}', headers_key_id = NULL, headers_ciphertext = NULL WHERE id = $1`, id)
	require.NoError(t, err)
}

func headersEncrypted(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t, withHeaders)
	require.Equal(t, map[string]string{"X-Token": headerValue, "X-Other": "2"}, w.Headers)
	headers, keyID, ciphertext := storedHeaders(t, b, w.ID)
	require.JSONEq(t, `["X-Other","X-Token"]`, headers)
	require.NotEmpty(t, keyID)
	require.NotEmpty(t, ciphertext)
	require.NotContains(t, ciphertext, headerValue)
	list, err := b.Webhooks(t.Context(), b.Workspace, postrider.WebhookFilter{}, postrider.Page{})
	require.NoError(t, err)
	require.Equal(t, w.Headers, list.Items[0].Headers)

	_, err = b.UpdateWebhook(t.Context(), b.Workspace, w.ID, func(e *postrider.WebhookEdit) error {
		e.Webhook.Headers = map[string]string{}
		return nil
	})
	require.NoError(t, err)
	headers, keyID, ciphertext = storedHeaders(t, b, w.ID)
	require.Equal(t, "{}", headers)
	require.Empty(t, keyID)
	require.Empty(t, ciphertext)
}

func headersPlain(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t, withHeaders)
	leavePlain(t, b, w.ID)
	want := map[string]string{"X-Token": headerValue}
	targets, err := b.Targets(t.Context(), b.PublishTo(t, w.ID, 1))
	require.NoError(t, err)
	require.NoError(t, targets[0].Failure)
	require.Equal(t, want, targets[0].Headers)
	updated, err := b.UpdateWebhook(t.Context(), b.Workspace, w.ID, func(*postrider.WebhookEdit) error { return nil })
	require.NoError(t, err)
	require.Equal(t, want, updated.Headers)
	headers, _, ciphertext := storedHeaders(t, b, w.ID)
	require.JSONEq(t, `["X-Token"]`, headers)
	require.NotEmpty(t, ciphertext)
	read, err := b.Webhook(t.Context(), b.Workspace, w.ID)
	require.NoError(t, err)
	require.Equal(t, want, read.Headers)
}

// headersUpgraded goes back to the version before the migration of headers, and up again.
func headersUpgraded(t *testing.T, b *Bundle) {
	const before = 8
	w := b.NewWebhook(t, withHeaders)
	for version := int64(before + 1); version > before; {
		var err error
		version, err = b.Unmigrate(t.Context())
		require.NoError(t, err)
	}
	raw := b.Raw(t)
	var left string
	require.NoError(t, raw.GetContext(t.Context(), &left, "SELECT headers FROM webhooks"))
	require.Equal(t, "{}", left, "as the version before can read it")
	_, err := raw.ExecContext(t.Context(), `UPDATE webhooks SET headers = '{"X-Token":"`+headerValue+`"}'`)
	require.NoError(t, err)
	require.NoError(t, b.Migrate(t.Context()))
	read, err := b.Webhook(t.Context(), b.Workspace, w.ID)
	require.NoError(t, err)
	require.Equal(t, map[string]string{"X-Token": headerValue}, read.Headers)
}

func headersReencryption(t *testing.T, b *Bundle) {
	plain := b.NewWebhook(t, withHeaders)
	leavePlain(t, b, plain.ID)
	older := b.NewWebhook(t, withHeaders)
	b.NewWebhook(t)
	newer, err := store.NewEncryptionKey(rand.Reader)
	require.NoError(t, err)
	both := b.Open(t, newer+","+b.Key)
	n, err := both.Reencrypt(t.Context(), func(int) {})
	require.NoError(t, err)
	require.Equal(t, 3+2, n, "three secrets, and headers of two")
	n, err = both.Reencrypt(t.Context(), func(int) {})
	require.NoError(t, err)
	require.Zero(t, n)
	alone := b.Open(t, newer)
	require.NoError(t, alone.CheckKeys(t.Context()))
	for id, want := range map[string]map[string]string{plain.ID: {"X-Token": headerValue}, older.ID: older.Headers} {
		read, err := alone.Webhook(t.Context(), b.Workspace, id)
		require.NoError(t, err)
		require.Equal(t, want, read.Headers)
	}
}

// Guards against headers of one webhook that hold up what is read together with it.
func headersWithoutKey(t *testing.T, b *Bundle) {
	good, foreign := b.NewWebhook(t, withHeaders), b.NewWebhook(t)
	newer, err := store.NewEncryptionKey(rand.Reader)
	require.NoError(t, err)
	_, err = b.Open(t, newer+","+b.Key).UpdateWebhook(t.Context(), b.Workspace, foreign.ID, func(e *postrider.WebhookEdit) error {
		withHeaders(e.Webhook)
		return nil
	})
	require.NoError(t, err)
	require.ErrorContains(t, b.CheckKeys(t.Context()), "encryption key")
	targets, err := b.Targets(t.Context(), []string{b.PublishTo(t, foreign.ID, 1)[0], b.PublishTo(t, good.ID, 1)[0]})
	require.NoError(t, err)
	require.ErrorContains(t, targets[0].Failure, "webhook "+foreign.ID+": a secret cannot be decrypted")
	require.NoError(t, targets[1].Failure)
	require.Equal(t, good.Headers, targets[1].Headers)

	list, err := b.Webhooks(t.Context(), b.Workspace, postrider.WebhookFilter{}, postrider.Page{})
	require.NoError(t, err)
	require.Equal(t, map[string]string{"X-Token": postrider.MaskedHeader, "X-Other": postrider.MaskedHeader}, list.Items[0].Headers)
	require.Equal(t, good.Headers, list.Items[1].Headers)
	_, err = b.UpdateWebhook(t.Context(), b.Workspace, foreign.ID, func(*postrider.WebhookEdit) error { return nil })
	require.ErrorContains(t, err, "cannot be decrypted", "the mask must not be stored")
	_, err = b.Reencrypt(t.Context(), func(int) {})
	require.ErrorContains(t, err, "headers of "+foreign.ID)
}

func headersMoved(t *testing.T, b *Bundle) {
	one, two := b.NewWebhook(t, withHeaders), b.NewWebhook(t, withHeaders)
	_, err := b.Raw(t).ExecContext(t.Context(), `UPDATE webhooks
		SET headers_ciphertext = (SELECT headers_ciphertext FROM webhooks WHERE id = $1) WHERE id = $2`, one.ID, two.ID)
	require.NoError(t, err)
	targets, err := b.Targets(t.Context(), b.PublishTo(t, two.ID, 1))
	require.NoError(t, err)
	require.ErrorContains(t, targets[0].Failure, "cannot be decrypted")
}

// Guards against a webhook that comes to name a secret of another workspace.
func secretOfAnotherWorkspace(t *testing.T, b *Bundle) {
	ctx := t.Context()
	other := b.NewWorkspace(t)
	theirs := b.NewWebhook(t, func(w *postrider.Webhook) { w.WorkspaceID = other })
	ours := b.NewWebhook(t)
	_, err := b.Raw(t).ExecContext(ctx, "UPDATE webhooks SET secret_id = $1 WHERE id = $2", *theirs.SecretID, ours.ID)
	require.NoError(t, err)

	targets, err := b.Targets(ctx, b.PublishTo(t, ours.ID, 1))
	require.NoError(t, err)
	require.ErrorContains(t, targets[0].Failure, "webhook "+ours.ID)
	require.Empty(t, targets[0].Secrets)
	_, err = b.Secret(ctx, b.Workspace, ours.ID)
	requireCode(t, postrider.CodeNotFound, err)
	_, err = b.RotateSecret(ctx, b.Workspace, ours.ID, postrider.Rotation{Value: "ours"})
	require.ErrorContains(t, err, "not in its workspace")
	_, err = b.UpdateWebhook(ctx, b.Workspace, ours.ID, func(e *postrider.WebhookEdit) error {
		require.Empty(t, e.Secret)
		e.NewSecret = "ours"
		return nil
	})
	require.ErrorContains(t, err, "not in its workspace")
	secret, err := b.Secret(ctx, other, theirs.ID)
	require.NoError(t, err)
	require.Equal(t, firstSecret, secret.Value)
}
