package store

import (
	"crypto/rand"
	"errors"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func newKey(t *testing.T) string {
	t.Helper()
	key, err := NewEncryptionKey(rand.Reader)
	require.NoError(t, err)
	return key
}

func TestKeyringRoundTrip(t *testing.T) {
	t.Parallel()
	older, newer := newKey(t), newKey(t)
	old, err := ParseKeyring(older)
	require.NoError(t, err)
	both, err := ParseKeyring(newer + " , " + older)
	require.NoError(t, err)
	rapid.Check(t, func(r *rapid.T) {
		plain, identity := rapid.String().Draw(r, "plain"), rapid.String().Draw(r, "identity")
		keyID, ciphertext := old.seal(plain, identity)
		opened, err := both.unseal(keyID, ciphertext, identity)
		require.NoError(t, err)
		require.Equal(t, plain, opened)

		_, err = both.unseal(keyID, ciphertext, identity+"x")
		require.ErrorIs(t, err, errUndecryptable)
		ciphertext[rapid.IntRange(0, len(ciphertext)-1).Draw(r, "byte")] ^= 1
		_, err = both.unseal(keyID, ciphertext, identity)
		require.ErrorIs(t, err, errUndecryptable)

		keyID, ciphertext = both.seal(plain, identity)
		require.Equal(t, both.newest, keyID)
		_, err = old.unseal(keyID, ciphertext, identity)
		require.ErrorIs(t, err, errUndecryptable)
	})
}

func TestKeyringRefuses(t *testing.T) {
	t.Parallel()
	good := newKey(t)
	for _, text := range []string{"", "hunter2", good + ",", good + ",c2hvcnQ=", good[:20] + "\n" + good[20:] + "!"} {
		_, err := ParseKeyring(text)
		require.Error(t, err)
		for part := range strings.SplitSeq(text, ",") {
			if part != "" {
				require.NotContains(t, err.Error(), part)
			}
		}
	}
	_, err := NewEncryptionKey(iotest.ErrReader(errors.New("no randomness")))
	require.Error(t, err)
}
