//nolint:thelper // these are the tests, not helpers of one
package storetest

import (
	"crypto/rand"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
	"postrider.dev/postrider/egress/tlstest"
	"postrider.dev/postrider/store"
)

func tlsTests() map[string]func(*testing.T, *Bundle) {
	return map[string]func(*testing.T, *Bundle){
		"a client key is not in the table":               clientKeyEncrypted,
		"re-encryption encrypts client keys":             clientKeyReencryption,
		"a client key that is away fails its targets":    clientKeyWithoutKey,
		"a client key of another webhook is none":        clientKeyMoved,
		"webhooks with tls keep a migration from ending": tlsUnmigrated,
	}
}

// withTLS gives a webhook a client certificate and an authority.
func withTLS(t *testing.T) func(*postrider.Webhook) {
	t.Helper()
	a := tlstest.NewAuthority(t)
	certificate, key := a.Issue("client", time.Hour)
	return func(w *postrider.Webhook) {
		w.TLS = &postrider.WebhookTLS{ClientCertificate: &certificate, ClientKey: &key, CA: &a.PEM}
	}
}

// setTLS changes a webhook's TLS material.
func setTLS(t *testing.T, s *store.Store, b *Bundle, id string, change func(*postrider.Webhook)) {
	t.Helper()
	_, err := s.UpdateWebhook(t.Context(), b.Workspace, id, func(e *postrider.WebhookEdit) error {
		change(e.Webhook)
		return nil
	})
	require.NoError(t, err)
}

func clientKeyEncrypted(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t, withTLS(t))
	read, err := b.Webhook(t.Context(), b.Workspace, w.ID)
	require.NoError(t, err)
	require.Equal(t, w.TLS, read.TLS)
	targets, err := b.Targets(t.Context(), b.PublishTo(t, w.ID, 1))
	require.NoError(t, err)
	require.Equal(t, w.TLS, targets[0].TLS)

	row := map[string]any{}
	require.NoError(t, b.Raw(t).QueryRowxContext(t.Context(), "SELECT * FROM webhooks WHERE id = $1", w.ID).MapScan(row))
	for column, value := range row {
		text, _ := value.(string)
		if raw, is := value.([]byte); is {
			text = string(raw)
		}
		require.NotContains(t, text, "PRIVATE KEY", column)
		require.NotContains(t, text, (*w.TLS.ClientKey)[40:80], column)
	}
	require.NotEmpty(t, row["tls_ciphertext"])
	require.NotEmpty(t, row["tls_key_id"])

	setTLS(t, b.Store, b, w.ID, func(w *postrider.Webhook) { w.TLS = &postrider.WebhookTLS{CA: w.TLS.CA} })
	require.Equal(t, 1, b.count(t.Context(), t,
		"SELECT COUNT(*) FROM webhooks WHERE tls_ciphertext IS NULL AND tls_key_id IS NULL AND tls IS NOT NULL"))
	setTLS(t, b.Store, b, w.ID, func(w *postrider.Webhook) { w.TLS = nil })
	require.Equal(t, 1, b.count(t.Context(), t, "SELECT COUNT(*) FROM webhooks WHERE tls IS NULL"))
}

func clientKeyReencryption(t *testing.T, b *Bundle) {
	older := b.NewWebhook(t, withTLS(t))
	b.NewWebhook(t)
	newer, err := store.NewEncryptionKey(rand.Reader)
	require.NoError(t, err)
	both := b.Open(t, newer+","+b.Key)
	n, err := both.Reencrypt(t.Context(), func(int) {})
	require.NoError(t, err)
	require.Equal(t, 2+1, n, "two secrets, and a client key")
	n, err = both.Reencrypt(t.Context(), func(int) {})
	require.NoError(t, err)
	require.Zero(t, n)
	alone := b.Open(t, newer)
	require.NoError(t, alone.CheckKeys(t.Context()))
	read, err := alone.Webhook(t.Context(), b.Workspace, older.ID)
	require.NoError(t, err)
	require.Equal(t, older.TLS, read.TLS)
}

func clientKeyWithoutKey(t *testing.T, b *Bundle) {
	good, foreign := b.NewWebhook(t, withTLS(t)), b.NewWebhook(t)
	newer, err := store.NewEncryptionKey(rand.Reader)
	require.NoError(t, err)
	setTLS(t, b.Open(t, newer+","+b.Key), b, foreign.ID, withTLS(t))
	require.ErrorContains(t, b.CheckKeys(t.Context()), "encryption key")
	targets, err := b.Targets(t.Context(), []string{b.PublishTo(t, foreign.ID, 1)[0], b.PublishTo(t, good.ID, 1)[0]})
	require.NoError(t, err)
	require.ErrorContains(t, targets[0].Failure, "webhook "+foreign.ID+": a secret cannot be decrypted")
	require.Nil(t, targets[0].TLS)
	require.NoError(t, targets[1].Failure)

	read, err := b.Webhook(t.Context(), b.Workspace, foreign.ID)
	require.NoError(t, err)
	require.Equal(t, postrider.MaskedKey, *read.TLS.ClientKey)
	_, err = b.UpdateWebhook(t.Context(), b.Workspace, foreign.ID, func(*postrider.WebhookEdit) error { return nil })
	require.ErrorContains(t, err, "cannot be decrypted", "the mask must not be stored")
	_, err = b.Reencrypt(t.Context(), func(int) {})
	require.ErrorContains(t, err, "client key of "+foreign.ID)
}

func clientKeyMoved(t *testing.T, b *Bundle) {
	one, two := b.NewWebhook(t, withTLS(t)), b.NewWebhook(t, withTLS(t))
	_, err := b.Raw(t).ExecContext(t.Context(), `UPDATE webhooks
		SET tls_ciphertext = (SELECT tls_ciphertext FROM webhooks WHERE id = $1) WHERE id = $2`, one.ID, two.ID)
	require.NoError(t, err)
	targets, err := b.Targets(t.Context(), b.PublishTo(t, two.ID, 1))
	require.NoError(t, err)
	require.ErrorContains(t, targets[0].Failure, "cannot be decrypted")
}

// Guards against a version that would send without the certificate, and trust others.
func tlsUnmigrated(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t, withTLS(t))
	require.ErrorContains(t, b.downTo(t, 23), "version:24")
	setTLS(t, b.Store, b, w.ID, func(w *postrider.Webhook) { w.TLS = nil })
	require.NoError(t, b.downTo(t, 23))
	require.NoError(t, b.Migrate(t.Context()))
	read, err := b.Webhook(t.Context(), b.Workspace, w.ID)
	require.NoError(t, err)
	require.Nil(t, read.TLS)
}
