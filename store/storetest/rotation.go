//nolint:thelper // these are the tests, not helpers of one
package storetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"postrider.dev/postrider"
)

func rotationLater(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t)
	at := Start().Add(time.Hour)
	secret, err := b.RotateSecret(t.Context(), b.Workspace, w.ID, postrider.Rotation{Value: "second", EffectiveAt: at, Grace: time.Minute})
	require.NoError(t, err)
	end := at.Add(time.Minute)
	first := postrider.SecretVersion{Value: firstSecret, CreatedAt: Start(), EffectiveAt: Start(), ExpiresAt: &end}
	second := postrider.SecretVersion{Value: "second", CreatedAt: Start(), EffectiveAt: at}
	require.Equal(t, postrider.Secret{ID: *w.SecretID, SecretVersion: first, Next: &second, Previous: []postrider.PreviousSecret{}}, secret)

	// What was read long before signs by the time of its attempt.
	targets, err := b.Targets(t.Context(), b.PublishTo(t, w.ID, 1))
	require.NoError(t, err)
	before, after := []string{firstSecret, "second"}, []string{"second", firstSecret}
	require.Equal(t, before, b.signing(targets[0]))
	require.Equal(t, before, targets[0].Secrets.Values(at.Add(-time.Microsecond)))
	require.Equal(t, after, targets[0].Secrets.Values(at))
	require.Equal(t, []string{"second"}, targets[0].Secrets.Values(end))

	b.Clock.Advance(time.Hour)
	secret, err = b.Secret(t.Context(), b.Workspace, w.ID)
	require.NoError(t, err)
	replaced := []postrider.PreviousSecret{{CreatedAt: Start(), ExpiresAt: end}}
	require.Equal(t, postrider.Secret{ID: *w.SecretID, SecretVersion: second, Previous: replaced}, secret)
	b.Clock.Advance(time.Minute)
	secret, err = b.Secret(t.Context(), b.Workspace, w.ID)
	require.NoError(t, err)
	require.Equal(t, postrider.Secret{ID: *w.SecretID, SecretVersion: second, Previous: []postrider.PreviousSecret{}}, secret)
}

// Guards against a secret that becomes current though a later rotation replaced it, and against a
// time without a current one.
func rotationOvertaken(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t)
	rotate := func(value string, in, grace time.Duration) postrider.Secret {
		secret, err := b.RotateSecret(t.Context(), b.Workspace, w.ID,
			postrider.Rotation{Value: value, EffectiveAt: b.Clock.Now().Add(in), Grace: grace})
		require.NoError(t, err)
		return secret
	}
	rotate("second", time.Hour, 0)
	secret := rotate("third", 3*time.Hour, time.Minute)
	end := Start().Add(3*time.Hour + time.Minute)
	require.Equal(t, firstSecret, secret.Value)
	require.Equal(t, &end, secret.ExpiresAt, "it is current for longer than the first rotation meant")
	require.Equal(t, "third", secret.Next.Value)
	require.Equal(t, []postrider.PreviousSecret{{CreatedAt: Start(), ExpiresAt: end}}, secret.Previous, "it signs beside the others")
	b.Clock.Advance(2 * time.Hour)
	secret, err := b.Secret(t.Context(), b.Workspace, w.ID)
	require.NoError(t, err)
	require.Equal(t, firstSecret, secret.Value)

	secret = rotate("fourth", 0, 0)
	require.Equal(t, "fourth", secret.Value)
	require.Nil(t, secret.Next)
	require.Empty(t, secret.Previous)
	b.Clock.Advance(2 * time.Hour)
	targets, err := b.Targets(t.Context(), b.PublishTo(t, w.ID, 1))
	require.NoError(t, err)
	require.Equal(t, []string{"fourth"}, b.signing(targets[0]))
}

// rotationProperty rotates at random. The current secret changes at the times that were set and at
// no other, and a handful sign.
func rotationProperty(t *testing.T, b *Bundle) {
	rapid.Check(t, func(r *rapid.T) {
		w := b.NewWebhook(t)
		target := b.PublishTo(t, w.ID, 1)
		current, next, made := firstSecret, postrider.Rotation{}, 0
		span := func(most int, name string) time.Duration {
			return time.Duration(rapid.IntRange(0, most).Draw(r, name)) * time.Minute
		}
		r.Repeat(map[string]func(*rapid.T){
			"rotate": func(*rapid.T) {
				made++
				next = postrider.Rotation{
					Value: fmt.Sprint("secret ", made), EffectiveAt: b.Clock.Now().Add(span(3, "ahead")), Grace: span(5, "grace"),
				}
				_, err := b.RotateSecret(t.Context(), b.Workspace, w.ID, next)
				require.NoError(t, err)
			},
			"time passes": func(*rapid.T) { b.Clock.Advance(span(4, "time")) },
			"": func(*rapid.T) {
				now := b.Clock.Now()
				if next.Value != "" && !next.EffectiveAt.After(now) {
					current, next = next.Value, postrider.Rotation{}
				}
				secret, err := b.Secret(t.Context(), b.Workspace, w.ID)
				require.NoError(t, err)
				require.Equal(t, current, secret.Value)
				targets, err := b.Targets(t.Context(), target)
				require.NoError(t, err)
				signing := b.signing(targets[0])
				require.Equal(t, current, signing[0])
				require.LessOrEqual(t, len(signing), postrider.MaxLiveSecrets)
				require.Equal(t, next.Value != "", secret.Next != nil)
				if secret.Next != nil {
					require.Equal(t, next.Value, secret.Next.Value)
					require.Equal(t, next.Value, signing[1])
				}
			},
		})
	})
}
