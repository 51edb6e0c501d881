package embedded_test

import (
	"context"
	"database/sql"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider/standalone/embedded"
	"postrider.dev/postrider/store/pgtest"
)

// onPostgres starts PostgreSQL and returns the URL of a database on it.
func onPostgres(t *testing.T) string {
	t.Helper()
	server, err := pgtest.Start(t.Context())
	require.NoError(t, err)
	t.Cleanup(server.Stop)
	return server.EmptyDatabase(t)
}

func postgresConfig(t *testing.T, address string) embedded.Config {
	t.Helper()
	cfg := testConfig(t.TempDir())
	cfg.DatabaseURL = address
	return cfg
}

// database opens one of Temporal's databases.
func database(t *testing.T, address, suffix string) *sql.DB {
	t.Helper()
	u, err := url.Parse(address)
	require.NoError(t, err)
	u.Path += suffix
	db, err := sql.Open("pgx", u.String())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

func TestPostgres(t *testing.T) { //nolint:tparallel // what follows the subtest wants its server stopped
	t.Parallel()
	address := onPostgres(t)
	cfg := postgresConfig(t, address)
	t.Run("workflows outlive the server, which is alone", func(t *testing.T) {
		outlive(t, cfg)
		_, err := embedded.Start(t.Context(), postgresConfig(t, address))
		require.ErrorContains(t, err, "another process runs Temporal on it")
	})

	visibility := database(t, address, "_temporal_visibility")
	var indexes string
	err := visibility.QueryRowContext(t.Context(),
		"SELECT string_agg(indexname, ' ' ORDER BY indexname) FROM pg_indexes WHERE tablename = 'executions_visibility'").Scan(&indexes)
	require.NoError(t, err)
	require.Equal(t, "by_execution_time default_idx executions_visibility_pkey", indexes)

	// Tables of a later version must not be changed.
	_, err = visibility.ExecContext(t.Context(), "UPDATE schema_version SET curr_version = '99.0'")
	require.NoError(t, err)
	_, err = embedded.Start(t.Context(), cfg)
	require.ErrorIs(t, err, embedded.ErrOtherSchema)
}

// TestPostgresHalfMade guards that a start goes on when an earlier one was killed while it created
// the databases.
func TestPostgresHalfMade(t *testing.T) {
	t.Parallel()
	address := onPostgres(t)
	u, err := url.Parse(address)
	require.NoError(t, err)
	_, err = database(t, address, "").ExecContext(t.Context(), `CREATE DATABASE "`+strings.Trim(u.Path, "/")+`_temporal"`)
	require.NoError(t, err)
	_, err = database(t, address, "_temporal").ExecContext(t.Context(), `CREATE TABLE schema_version (
		version_partition INT NOT NULL, db_name VARCHAR(255) NOT NULL, creation_time TIMESTAMP, curr_version VARCHAR(64),
		min_compatible_version VARCHAR(64), PRIMARY KEY (version_partition, db_name))`)
	require.NoError(t, err)
	server, err := embedded.Start(t.Context(), postgresConfig(t, address))
	require.NoError(t, err)
	require.NoError(t, server.Stop(context.WithoutCancel(t.Context())))
}

func TestPostgresRefusals(t *testing.T) {
	t.Parallel()
	address := onPostgres(t)
	_, err := database(t, address, "").ExecContext(t.Context(), "CREATE ROLE plain LOGIN PASSWORD 'pass word'")
	require.NoError(t, err)
	u, err := url.Parse(address)
	require.NoError(t, err)
	u.User = url.UserPassword("plain", "pass word")
	_, err = embedded.Start(t.Context(), postgresConfig(t, u.String()))
	require.ErrorContains(t, err, `the role "plain" may not create databases`)
	require.ErrorContains(t, err, "_temporal_visibility")

	for _, bad := range []string{"postgres://user:pass word@[", "postgres://user:pass%20word@host", "postgres:///name"} {
		_, err := embedded.Start(t.Context(), postgresConfig(t, bad))
		require.ErrorContains(t, err, "the database URL")
		require.NotContains(t, err.Error(), "pass")
	}
}
