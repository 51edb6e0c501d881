package storetest

import (
	"crypto/rand"
	"log/slog"
	"path/filepath"
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
	db, err := store.Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "test.db"), store.Options{
		Keys: keys, Now: time.Now, IDs: ids, Logger: slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	require.NoError(t, db.Migrate(t.Context()))
	return db, ids
}
