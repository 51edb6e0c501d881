package postrider_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
)

func TestSecretVersionsAt(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 8, 3, 12, 0, 0, 0, time.UTC)
	at := func(minutes int) time.Time { return start.Add(time.Duration(minutes) * time.Minute) }
	until := func(minutes int) *time.Time { end := at(minutes); return &end }
	versions := postrider.SecretVersions{
		{Value: "third", EffectiveAt: at(30)},
		{Value: "second", EffectiveAt: at(10), ExpiresAt: until(40)},
		{Value: "first", EffectiveAt: at(0), ExpiresAt: until(20)},
	}
	for minutes, signing := range map[int][]string{
		-1: {"third", "second", "first"}, // by a clock that lags
		0:  {"first", "third", "second"},
		10: {"second", "third", "first"},
		20: {"second", "third"},
		30: {"third", "second"},
		40: {"third"},
	} {
		require.Equal(t, signing, versions.Values(at(minutes)), minutes)
	}
	current, others := versions.At(at(20))
	require.Equal(t, &versions[1], current)
	require.Equal(t, versions[:1], others)
	require.Empty(t, postrider.SecretVersions{}.Values(start))
	require.Empty(t, postrider.SecretVersions{{ExpiresAt: until(0)}}.Values(start))
}
