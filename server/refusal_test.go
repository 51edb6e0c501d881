package server

import (
	"database/sql"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// refused starts a process that must be refused, and returns why.
func refused(t *testing.T, dir string, change func(*Settings, *Role)) error {
	t.Helper()
	s, role, _ := testRole(t, dir, change)
	server, err := New(t.Context(), s, role)
	require.Nil(t, server)
	require.Error(t, err)
	return err
}

// production takes the data directory away: operators migrate and make keys.
func production(s *Settings, r *Role) {
	r.DataDir = ""
	s.EncryptionKeys = strings.Repeat("A", 43) + "="
}

// execute changes the database of a folder behind the process's back.
func execute(t *testing.T, dir, statement string) {
	t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(dir, "postrider.db"))
	require.NoError(t, err)
	_, err = db.ExecContext(t.Context(), statement)
	require.NoError(t, err)
	require.NoError(t, db.Close())
}

func TestProductionDoesNotMigrate(t *testing.T) {
	t.Parallel()
	require.ErrorContains(t, refused(t, t.TempDir(), production), "postrider migrate up")
}

// TestNewerSchemaIsRefused guards against an older build that works on tables it does not know, with
// a data directory and without.
func TestNewerSchemaIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, run(t, dir, nil).end())
	execute(t, dir, "INSERT INTO goose_db_version (version_id, is_applied) VALUES (999999, 1)")
	for name, change := range map[string]func(*Settings, *Role){"standalone": nil, "production": production} {
		require.ErrorContains(t, refused(t, dir, change), "run a newer build", name)
	}
}

// TestWrongKeysAreRefused guards that a process never starts with keys that cannot read the stored
// secrets: each delivery would fail. The keys themselves are never repeated.
func TestWrongKeysAreRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := run(t, dir, nil)
	p.publish(t) // its webhook has a secret
	require.NoError(t, p.end())
	const other = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
	for keys, want := range map[string]string{other: "fingerprint", "c2hvcnQ=": "32 bytes", "not base64": "base64"} {
		err := refused(t, dir, func(s *Settings, _ *Role) { s.EncryptionKeys = keys })
		require.ErrorContains(t, err, "POSTRIDER_ENCRYPTION_KEYS")
		require.ErrorContains(t, err, want)
		require.NotContains(t, err.Error(), keys)
	}

	require.NoError(t, os.Remove(filepath.Join(dir, encryptionKeyFile)))
	require.ErrorContains(t, refused(t, dir, nil), "fingerprint", "a lost file is not replaced silently")
}

func TestUnreachableDatabaseIsRefused(t *testing.T) {
	t.Parallel()
	err := refused(t, t.TempDir(), func(_ *Settings, r *Role) { r.Database = "postgres://user:password@127.0.0.1:1/name" })
	require.ErrorContains(t, err, "database: ")
	require.NotContains(t, err.Error(), "password")
}

func TestWrongSettingsAreRefusedBeforeWork(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.ErrorContains(t, refused(t, dir, func(s *Settings, _ *Role) { s.AllowNetworks = "10.0.0.0/33" }), "--allow-networks")
	missing := func(_ *Settings, r *Role) { r.Temporal.TLSCA = filepath.Join(dir, "missing.pem") }
	require.ErrorContains(t, refused(t, dir, missing), "--temporal-tls-ca")
}

// TestInterruptedProvisioning guards the order of a first start: a key that was written and not
// stored is stored by the next start, so that the key in the file always opens the API.
func TestInterruptedProvisioning(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, run(t, dir, nil).end())
	execute(t, dir, "DELETE FROM api_keys")
	p := run(t, dir, nil)
	status, body := p.call(t, http.MethodGet, p.apiURL()+"/api/v1/webhooks", "")
	require.Equal(t, http.StatusOK, status, body)
}

// TestKeyFilesAreWrittenWhole guards that a failed write leaves neither half a file nor a temporary
// one.
func TestKeyFilesAreWrittenWhole(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	occupied := filepath.Join(dir, apiKeyFile)
	require.NoError(t, os.MkdirAll(filepath.Join(occupied, "inside"), 0o700))
	require.Error(t, writeFile(occupied, "key\n"), "a folder cannot be replaced")
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 1)
	_, err = secretFile(occupied, nil)
	require.Error(t, err, "a file that cannot be read is not made anew")
	require.Error(t, writeFile(filepath.Join(dir, "missing", "file"), "text"))
	broken := func() (string, error) { return "", os.ErrInvalid }
	_, err = secretFile(filepath.Join(dir, "new"), broken)
	require.ErrorIs(t, err, os.ErrInvalid)
}
