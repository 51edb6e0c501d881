//nolint:thelper // these are the tests, not helpers of one
package storetest

import (
	"bytes"
	"crypto/rand"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
	"postrider.dev/postrider/store"
)

func secretTests() map[string]func(*testing.T, *Bundle) {
	return map[string]func(*testing.T, *Bundle){
		"the secret is not in the table":                   secretEncrypted,
		"a rotated secret signs on for its grace":          secretRotation,
		"a handful of secrets sign at once":                secretsBounded,
		"a rotation takes effect at its time":              rotationLater,
		"a rotation takes the place of one to come":        rotationOvertaken,
		"however secrets rotate one is current":            rotationProperty,
		"the first secret may come later":                  secretLater,
		"a moved ciphertext does not decrypt":              secretMoved,
		"a second encryption key takes over":               secretReencryption,
		"without its key a secret is not decrypted":        secretWithoutKey,
		"re-encryption goes on past what has no key":       secretReencryptionPast,
		"a secret without its key fails its targets only":  secretTargetsWithoutKey,
		"targets carry the live secrets, newest one first": secretTargets,
	}
}

// signing returns the values that sign an attempt now, the current one first.
func (b *Bundle) signing(target postrider.Target) []string {
	return target.Secrets.Values(b.Clock.Now())
}

const firstSecret = "whsec_dG9wIHNlY3JldCB0b3Agc2VjcmV0IQ=="

func secretsBounded(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t)
	var rotated []string
	for i := range 2 * postrider.MaxLiveSecrets {
		b.Clock.Advance(time.Second)
		rotated = append(rotated, "secret "+string(rune('a'+i)))
		secret, err := b.RotateSecret(t.Context(), b.Workspace, w.ID, postrider.Rotation{Value: rotated[i], Grace: day})
		require.NoError(t, err)
		require.Equal(t, rotated[i], secret.Value)
		require.Len(t, secret.Previous, min(i+1, postrider.MaxLiveSecrets-1))
	}
	ids := b.PublishTo(t, w.ID, 1)
	targets, err := b.Targets(t.Context(), ids)
	require.NoError(t, err)
	slices.Reverse(rotated)
	require.Equal(t, rotated[:postrider.MaxLiveSecrets], b.signing(targets[0]))
}

func secretEncrypted(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t)
	var ciphertext []byte
	require.NoError(t, b.Raw(t).GetContext(t.Context(), &ciphertext, "SELECT ciphertext FROM secret_versions"))
	require.False(t, bytes.Contains(ciphertext, []byte(firstSecret)))
	require.False(t, bytes.Contains(ciphertext, []byte("secret")))
	require.Len(t, ciphertext, len(firstSecret)+28) // nonce and tag
	secret, err := b.Secret(t.Context(), b.Workspace, w.ID)
	require.NoError(t, err)
	first := postrider.SecretVersion{Value: firstSecret, CreatedAt: Start(), EffectiveAt: Start()}
	require.Equal(t, postrider.Secret{ID: *w.SecretID, SecretVersion: first, Previous: []postrider.PreviousSecret{}}, secret)
}

func secretRotation(t *testing.T, b *Bundle) {
	ctx := t.Context()
	w := b.NewWebhook(t)
	b.Clock.Advance(time.Minute)
	secret, err := b.RotateSecret(ctx, b.Workspace, w.ID, postrider.Rotation{Value: "second", Grace: time.Hour})
	require.NoError(t, err)
	minute := Start().Add(time.Minute)
	require.Equal(t, postrider.Secret{
		ID: *w.SecretID, SecretVersion: postrider.SecretVersion{Value: "second", CreatedAt: minute, EffectiveAt: minute},
		Previous: []postrider.PreviousSecret{{CreatedAt: Start(), ExpiresAt: Start().Add(61 * time.Minute)}},
	}, secret)

	// A longer grace does not bring back what ends earlier.
	b.Clock.Advance(30 * time.Minute)
	secret, err = b.RotateSecret(ctx, b.Workspace, w.ID, postrider.Rotation{Value: "third", Grace: 24 * time.Hour})
	require.NoError(t, err)
	require.Equal(t, []postrider.PreviousSecret{
		{CreatedAt: Start().Add(time.Minute), ExpiresAt: Start().Add(31*time.Minute + 24*time.Hour)},
		{CreatedAt: Start(), ExpiresAt: Start().Add(61 * time.Minute)},
	}, secret.Previous)

	b.Clock.Advance(30 * time.Minute) // the first one's last moment is over
	secret, err = b.Secret(ctx, b.Workspace, w.ID)
	require.NoError(t, err)
	require.Len(t, secret.Previous, 1)

	secret, err = b.RotateSecret(ctx, b.Workspace, w.ID, postrider.Rotation{Value: "fourth"})
	require.NoError(t, err)
	require.Equal(t, "fourth", secret.Value)
	require.Empty(t, secret.Previous)
}

func secretLater(t *testing.T, b *Bundle) {
	w, err := b.CreateWebhook(t.Context(), b.Settings(), "")
	require.NoError(t, err)
	secret, err := b.RotateSecret(t.Context(), b.Workspace, w.ID, postrider.Rotation{Value: "late", Grace: time.Hour})
	require.NoError(t, err)
	require.Equal(t, "late", secret.Value)
	read, err := b.Webhook(t.Context(), b.Workspace, w.ID)
	require.NoError(t, err)
	require.Equal(t, &secret.ID, read.SecretID)
}

func secretMoved(t *testing.T, b *Bundle) {
	one, two := b.NewWebhook(t), b.NewWebhook(t)
	raw := b.Raw(t)
	_, err := raw.ExecContext(t.Context(), `UPDATE secret_versions
		SET ciphertext = (SELECT ciphertext FROM secret_versions WHERE secret_id = $1) WHERE secret_id = $2`, *one.SecretID, *two.SecretID)
	require.NoError(t, err)
	_, err = b.Secret(t.Context(), b.Workspace, two.ID)
	require.ErrorContains(t, err, "cannot be decrypted")
	_, err = b.Secret(t.Context(), b.Workspace, one.ID)
	require.NoError(t, err)
}

func secretReencryption(t *testing.T, b *Bundle) {
	ctx := t.Context()
	w := b.NewWebhook(t)
	newer, err := store.NewEncryptionKey(rand.Reader)
	require.NoError(t, err)
	both := b.Open(t, newer+", "+b.Key)
	secret, err := both.Secret(ctx, b.Workspace, w.ID)
	require.NoError(t, err)
	require.Equal(t, firstSecret, secret.Value)
	_, err = both.RotateSecret(ctx, b.Workspace, w.ID, postrider.Rotation{Value: "second", Grace: time.Hour})
	require.NoError(t, err)

	n, err := both.Reencrypt(ctx, func(int) {})
	require.NoError(t, err)
	require.Equal(t, 1, n)
	n, err = both.Reencrypt(ctx, func(int) {})
	require.NoError(t, err)
	require.Zero(t, n)

	alone := b.Open(t, newer)
	secret, err = alone.Secret(ctx, b.Workspace, w.ID)
	require.NoError(t, err)
	require.Equal(t, "second", secret.Value)
	require.Len(t, secret.Previous, 1)
}

func secretWithoutKey(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t)
	other, err := store.NewEncryptionKey(rand.Reader)
	require.NoError(t, err)
	s := b.Open(t, other)
	_, err = s.Secret(t.Context(), b.Workspace, w.ID)
	require.ErrorContains(t, err, "cannot be decrypted")
	_, err = s.Reencrypt(t.Context(), func(int) {})
	require.ErrorContains(t, err, "cannot be decrypted")
}

// foreignSecret creates a webhook whose secret was encrypted with a key that the bundle's store does
// not have.
func foreignSecret(t *testing.T, b *Bundle) (postrider.Webhook, *store.Store) {
	t.Helper()
	other, err := store.NewEncryptionKey(rand.Reader)
	require.NoError(t, err)
	s := b.Open(t, other+","+b.Key)
	w := b.NewWebhook(t)
	_, err = s.RotateSecret(t.Context(), b.Workspace, w.ID, postrider.Rotation{Value: "second"})
	require.NoError(t, err)
	return w, s
}

func secretReencryptionPast(t *testing.T, b *Bundle) {
	first := b.NewWebhook(t)
	foreign, _ := foreignSecret(t, b)
	last := b.NewWebhook(t)
	newer, err := store.NewEncryptionKey(rand.Reader)
	require.NoError(t, err)
	n, err := b.Open(t, newer+","+b.Key).Reencrypt(t.Context(), func(int) {})
	require.ErrorContains(t, err, *foreign.SecretID+", version 2: a secret cannot be decrypted")
	require.Equal(t, 3, n, "of three webhooks' first secrets")
	for _, w := range []postrider.Webhook{first, last} {
		secret, err := b.Open(t, newer).Secret(t.Context(), b.Workspace, w.ID)
		require.NoError(t, err)
		require.Equal(t, firstSecret, secret.Value)
	}
}

// Guards against a rolling change of keys in which one secret holds up all deliveries that are read
// together.
func secretTargetsWithoutKey(t *testing.T, b *Bundle) {
	good := b.NewWebhook(t)
	foreign, knowing := foreignSecret(t, b)
	ids := []string{b.PublishTo(t, good.ID, 1)[0], b.PublishTo(t, foreign.ID, 1)[0], b.PublishTo(t, good.ID, 1)[0]}
	targets, err := b.Targets(t.Context(), ids)
	require.NoError(t, err)
	require.Len(t, targets, 3)
	require.NoError(t, targets[0].Failure)
	require.Equal(t, []string{firstSecret}, b.signing(targets[0]))
	require.NoError(t, targets[2].Failure)
	require.ErrorContains(t, targets[1].Failure, "webhook "+foreign.ID+": a secret cannot be decrypted")
	targets, err = knowing.Targets(t.Context(), ids)
	require.NoError(t, err)
	require.NoError(t, targets[1].Failure)
	require.Equal(t, []string{"second"}, b.signing(targets[1]))
}

func secretTargets(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t, func(w *postrider.Webhook) { w.Headers = map[string]string{"X-One": "1"} })
	deliveries := b.PublishTo(t, w.ID, 2)
	_, err := b.RotateSecret(t.Context(), b.Workspace, w.ID, postrider.Rotation{Value: "second", Grace: time.Minute})
	require.NoError(t, err)
	targets, err := b.Targets(t.Context(), []string{deliveries[1], deliveries[0], deliveries[1]})
	require.NoError(t, err)
	require.Len(t, targets, 3)
	require.Equal(t, targets[0], targets[2])
	require.Equal(t, deliveries[0], targets[1].Delivery.ID)
	require.Equal(t, []string{"second", firstSecret}, b.signing(targets[0]))
	require.Equal(t, w.URL, targets[0].URL)
	require.Equal(t, postrider.WebhookActive, targets[0].WebhookStatus)
	require.Equal(t, map[string]string{"X-One": "1"}, targets[0].Headers)
	require.Equal(t, postrider.SigningMethod("hmac_sha256"), targets[0].SigningMethod)
	require.JSONEq(t, `{"id":"`+targets[0].Delivery.EventID+`"}`, string(targets[0].Body))
	require.False(t, targets[0].EventExpired)
	b.Clock.Advance(time.Minute)
	targets, err = b.Targets(t.Context(), deliveries)
	require.NoError(t, err)
	require.Equal(t, []string{"second"}, b.signing(targets[1]))

	_, err = b.Raw(t).ExecContext(t.Context(), "DELETE FROM events WHERE key = $1", targets[0].Delivery.EventKey)
	require.NoError(t, err)
	targets, err = b.Targets(t.Context(), deliveries)
	require.NoError(t, err)
	require.True(t, targets[0].EventExpired)
	require.False(t, targets[1].EventExpired)
	known, err := b.Targets(t.Context(), []string{deliveries[0], "dlv_unknown"})
	require.NoError(t, err)
	require.Equal(t, targets[:1], known)
	none, err := b.Targets(t.Context(), nil)
	require.NoError(t, err)
	require.Empty(t, none)
}
