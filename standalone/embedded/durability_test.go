package embedded

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	"go.temporal.io/server/common/log"
	"go.temporal.io/server/common/metrics"
	tsql "go.temporal.io/server/common/persistence/sql"
	"go.temporal.io/server/common/persistence/sql/sqlplugin"
	"go.temporal.io/server/common/resolver"
)

// probe returns the connection of a running server with the same store, because the plugin has
// one connection in a process.
func probe(t *testing.T, cfg Config) sqlplugin.AdminDB {
	t.Helper()
	db, err := tsql.NewSQLAdminDB(sqlplugin.DbKindUnknown, storeConfig(cfg.databasePath()),
		resolver.NewNoopResolver(), log.NewNoopLogger(), metrics.NoopMetricsHandler)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

// TestConnectionIsDurable guards against a pragma that the plugin does not set, or that SQLite
// ignores. SQLite returns no error for either.
func TestConnectionIsDurable(t *testing.T) {
	t.Parallel()
	cfg := Config{Dir: t.TempDir(), FrontendListen: "127.0.0.1:0", UIListen: "127.0.0.1:0"}
	server, err := Start(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Stop(context.WithoutCancel(t.Context()))) })

	// The plugin's handle cannot query, so tables in the database check the values.
	db := probe(t, cfg)
	require.NoError(t, db.Exec("CREATE TEMP TABLE seen AS "+
		"SELECT j.journal_mode, s.synchronous FROM pragma_journal_mode j, pragma_synchronous s"))
	require.NoError(t, db.Exec("CREATE TEMP TABLE held (ok INT CHECK (ok = 1))"))
	require.NoError(t, db.Exec("INSERT INTO held SELECT journal_mode = 'wal' AND synchronous = 2 FROM seen"))
	require.Error(t, db.Exec("INSERT INTO held VALUES (0)"), "the check is in force")
}
