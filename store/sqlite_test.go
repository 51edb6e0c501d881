package store_test

import (
	"crypto/rand"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	_ "modernc.org/sqlite"

	"postrider.dev/postrider"
	"postrider.dev/postrider/store"
	"postrider.dev/postrider/store/storetest"
)

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

func TestSQLite(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) string {
		t.Helper()
		return "sqlite:" + filepath.Join(t.TempDir(), "postrider.db")
	})
}

func TestSQLiteReopens(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	path := filepath.Join(t.TempDir(), "made for it", "50% ?#ü.db")
	b := storetest.NewBundle(t, path)
	w := b.NewWebhook(t)
	ids := b.PublishTo(t, w.ID, 3)
	require.Len(t, b.Claimed(t, 1)[w.ID], 1)
	require.NoError(t, b.Record(ctx, []postrider.Outcome{b.Outcome(t, ids[0], 1, postrider.StateSucceeded)}))
	before, err := b.Webhook(ctx, b.Workspace, w.ID)
	require.NoError(t, err)
	require.NoError(t, b.Close())

	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	b.Store = b.Open(t, b.Key)
	require.NoError(t, b.Migrate(ctx))
	require.NoError(t, b.EnsurePartitions(ctx, b.Clock.Now()))
	after, err := b.Webhook(ctx, b.Workspace, w.ID)
	require.NoError(t, err)
	require.Equal(t, before, after)
	require.Equal(t, ids[1:], b.Claimed(t, 10)[w.ID])
	attempts, err := b.Attempts(ctx, ids[0])
	require.NoError(t, err)
	require.Len(t, attempts, 1)
}

// Guards against a start with a new key beside secrets that only the old one opens.
func TestKeysInUseAreMissed(t *testing.T) {
	t.Parallel()
	b := storetest.NewBundle(t, "sqlite:"+filepath.Join(t.TempDir(), "postrider.db"))
	other, err := store.NewEncryptionKey(rand.Reader)
	require.NoError(t, err)
	require.NoError(t, b.Open(t, other).CheckKeys(t.Context()), "nothing is encrypted yet")
	_, err = b.CreateWebhook(t.Context(), b.Settings(), "a secret")
	require.NoError(t, err)
	require.NoError(t, b.CheckKeys(t.Context()))
	require.NoError(t, b.Open(t, other+","+b.Key).CheckKeys(t.Context()))
	require.ErrorContains(t, b.Open(t, other).CheckKeys(t.Context()), "encryption key")
}

func TestSQLiteCannotOpen(t *testing.T) {
	t.Parallel()
	keys, err := store.ParseKeyring("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, []byte("this is no database, and long enough to be looked at as one"), 0o600))
	options := store.Options{Keys: keys, Now: storetest.Start, IDs: postrider.NewIDs(storetest.Start, rand.Reader), Logger: discard()}
	for _, path := range []string{filepath.Join(file, "inside"), filepath.Dir(file), file} {
		_, err = store.Open(t.Context(), path, options)
		require.Error(t, err, path)
	}
}
