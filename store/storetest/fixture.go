package storetest

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
	"postrider.dev/postrider/store"
)

// NewStore returns a migrated store on a SQLite file of the test's own, under the
// real clock, for the tests of packages that work on a store. The test binary
// imports SQLite's driver.
func NewStore(t *testing.T) (*store.Store, *postrider.IDs) {
	t.Helper()
	key, err := store.NewEncryptionKey(rand.Reader)
	require.NoError(t, err)
	keys, err := store.ParseKeyring(key)
	require.NoError(t, err)
	ids := postrider.NewIDs(time.Now, rand.Reader)
	db, err := store.Open(t.Context(), NewFile(t), store.Options{
		Keys: keys, Now: time.Now, IDs: ids, Logger: slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db, ids
}

// NewFile returns the address of a migrated SQLite file of the test's own.
func NewFile(tb testing.TB) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "test.db")
	migrated, err := migratedFile()
	require.NoError(tb, err)
	require.NoError(tb, os.WriteFile(path, migrated, 0o600))
	return "sqlite:" + path
}

// migratedFile returns a SQLite file that was migrated once for the test binary: seventeen
// migrations take longer than most tests.
var migratedFile = sync.OnceValues(func() (file []byte, err error) {
	folder, err := os.MkdirTemp("", "postrider-storetest-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	key, err := store.NewEncryptionKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	keys, err := store.ParseKeyring(key)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(folder, "migrated.db")
	ctx := context.Background() //nolint:forbidigo // no one test's: all have the file
	db, err := store.Open(ctx, "sqlite:"+path, store.Options{
		Keys: keys, Now: time.Now, IDs: postrider.NewIDs(time.Now, rand.Reader), Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return nil, err
	}
	if err := errors.Join(db.Migrate(ctx), db.Close()); err != nil {
		return nil, err
	}
	return os.ReadFile(path)
})
