package postrider_test

import (
	"bytes"
	"crypto/rand"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
)

func TestNamesAreCountedInCharacters(t *testing.T) {
	t.Parallel()
	for name, ok := range map[string]bool{
		"":  false,
		"a": true,
		strings.Repeat("é", postrider.MaxNameLength):   true,
		strings.Repeat("é", postrider.MaxNameLength+1): false,
	} {
		broken := postrider.Workspace{Name: name}.Validate()
		require.Equal(t, ok, len(broken) == 0, name)
		if !ok {
			require.Equal(t, postrider.FieldError{Field: "name", Message: "must be from 1 to 255 characters", Value: name}, broken[0])
		}
	}
}

func TestKeyRules(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	valid := func() postrider.APIKey {
		later := now.Add(time.Nanosecond)
		return postrider.APIKey{Name: "k", Scopes: postrider.Scopes(), ExpiresAt: &later}
	}
	require.Empty(t, valid().Validate(now))
	scopes := func(scopes ...postrider.Scope) func(*postrider.APIKey) {
		return func(k *postrider.APIKey) { k.Scopes = scopes }
	}
	for rule, change := range map[string]func(*postrider.APIKey){
		"name must be from 1 to 255 characters":                          func(k *postrider.APIKey) { k.Name = "" },
		"scopes must name at least one scope":                            scopes(),
		"scopes[1] must be one of publish, manage, read, secrets, admin": scopes("read", "root"),
		"scopes[1] must not be named twice":                              scopes("read", "read"),
		"expires_at must be in the future":                               func(k *postrider.APIKey) { k.ExpiresAt = &now },
	} {
		key := valid()
		change(&key)
		require.EqualError(t, postrider.Invalid(key.Validate(now)), "validation failed; "+rule)
	}
}

// TestIssue guards that a key is stored by its hash, that its times fit PostgreSQL, and that a
// refused key costs no randomness.
func TestIssue(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 0, 0, 0, 123456789, time.UTC)
	ids := postrider.NewIDs(func() time.Time { return now }, rand.Reader)
	expires := now.Add(time.Hour)
	wanted := postrider.APIKey{WorkspaceID: "ws_1", Name: "k", Scopes: []postrider.Scope{"read"}, ExpiresAt: &expires}
	key, secret, err := wanted.Issue(ids, bytes.NewReader(make([]byte, 32)), now)
	require.NoError(t, err)
	require.Equal(t, "prk_"+strings.Repeat("A", 43), secret)
	require.Equal(t, postrider.HashAPIKey(secret), key.Hash)
	require.True(t, strings.HasPrefix(key.ID, postrider.PrefixAPIKey+"_"))
	require.Equal(t, postrider.Timestamp(now), key.CreatedAt)
	require.Equal(t, postrider.Timestamp(expires), *key.ExpiresAt)
	require.Equal(t, 123456789, wanted.ExpiresAt.Nanosecond(), "the caller's key stays")
	require.Equal(t, "ws_1 k", key.WorkspaceID+" "+key.Name)

	wanted.ExpiresAt = nil
	key, _, err = wanted.Issue(ids, rand.Reader, now)
	require.NoError(t, err)
	require.Nil(t, key.ExpiresAt)
	_, secret, err = wanted.Issue(ids, iotest.ErrReader(iotest.ErrTimeout), now)
	require.ErrorIs(t, err, iotest.ErrTimeout)
	require.Empty(t, secret)

	wanted.Scopes = nil
	_, secret, err = wanted.Issue(ids, iotest.ErrReader(iotest.ErrTimeout), now)
	require.Equal(t, postrider.CodeInvalid, postrider.CodeOf(err))
	require.Empty(t, secret)
}

func TestAPIKeys(t *testing.T) {
	t.Parallel()
	secret, err := postrider.NewAPIKeySecret(bytes.NewReader(make([]byte, 32)))
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(secret, "prk_"))
	require.Len(t, postrider.HashAPIKey(secret), 64)
	require.NotContains(t, postrider.HashAPIKey(secret), secret)
	_, err = postrider.NewAPIKeySecret(bytes.NewReader(nil))
	require.Error(t, err)

	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	key := postrider.APIKey{Scopes: []postrider.Scope{postrider.ScopeRead}}
	require.True(t, key.Allows(postrider.ScopeRead))
	require.False(t, key.Allows(postrider.ScopeAdmin))
	require.True(t, key.LiveAt(now))
	key.ExpiresAt = &now
	require.False(t, key.LiveAt(now))
	require.True(t, key.LiveAt(now.Add(-time.Second)))
	key.RevokedAt = &now
	require.False(t, key.LiveAt(now.Add(-time.Second)))
}
