package server

import (
	"crypto/rand"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	_ "modernc.org/sqlite"

	"postrider.dev/postrider"
	"postrider.dev/postrider/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestNetworks(t *testing.T) {
	t.Parallel()
	networks, err := (&Settings{AllowNetworks: "none"}).networks(nil)
	require.NoError(t, err)
	require.Empty(t, networks)
	networks, err = (&Settings{AllowNetworks: "10.0.0.0/8,fd00::/8"}).networks(nil)
	require.NoError(t, err)
	require.Len(t, networks, 2)
}

func TestBindSaysWhatToDoAboutATakenPort(t *testing.T) {
	t.Parallel()
	taken, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, taken.Close()) })
	_, err = BindPorts(t.Context(), Settings{MetricsListen: taken.Addr().String()}, &APISettings{Listen: "127.0.0.1:0"})
	require.ErrorContains(t, err, "--metrics-listen "+taken.Addr().String()+": the port is taken")
	_, err = BindPorts(t.Context(), Settings{MetricsListen: "127.0.0.1:0"}, &APISettings{Listen: "no address"})
	require.ErrorContains(t, err, "--listen no address (POSTRIDER_LISTEN): cannot listen")
	ports, err := BindPorts(t.Context(), Settings{MetricsListen: "127.0.0.1:0"}, nil)
	require.NoError(t, err)
	require.Nil(t, ports.API, "a worker has none")
	require.Nil(t, ports.Profile, "profiles are asked for")
	ports.Close()
	profiled := Settings{MetricsListen: "127.0.0.1:0", ProfileSettings: ProfileSettings{ProfileListen: "127.0.0.1:0"}}
	ports, err = BindPorts(t.Context(), profiled, nil)
	require.NoError(t, err)
	require.NotNil(t, ports.Profile)
	ports.Close()
}

func TestProfilesKeepTheCommandLineBack(t *testing.T) {
	t.Parallel()
	for path, status := range map[string]int{"": http.StatusOK, "heap": http.StatusOK, "cmdline": http.StatusNotFound} {
		answer := httptest.NewRecorder()
		address := "http://127.0.0.1:6060/debug/pprof/" + path
		profileHandler().ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), http.MethodGet, address, nil))
		require.Equal(t, status, answer.Code, "%s", path)
	}
}

// Guards against pages of the internet that reach the profiles by DNS rebinding.
func TestProfilesAreForThisMachine(t *testing.T) {
	t.Parallel()
	for host, allowed := range map[string]bool{
		"127.0.0.1:6060": true, "localhost": true, "LOCALHOST:6060": true, "[::1]:6060": true, "[::1]": true,
		"evil.example:6060": false, "localhost.evil.example": false, "127.0.0.1.evil.example": false, "10.0.0.5:6060": false, "": false,
	} {
		require.Equal(t, allowed, loopback(host), host)
	}
	answer := httptest.NewRecorder()
	rebound := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://evil.example:6060/debug/pprof/heap", nil)
	profileHandler().ServeHTTP(answer, rebound)
	require.Equal(t, http.StatusForbidden, answer.Code)
}

func open(t *testing.T, dir string) *store.Store {
	t.Helper()
	text, err := encryptionKeys(dir)
	require.NoError(t, err)
	keys, err := store.ParseKeyring(text)
	require.NoError(t, err)
	db, err := store.Open(t.Context(), "sqlite:"+filepath.Join(dir, "test.db"), store.Options{
		Keys: keys, Now: time.Now, IDs: postrider.NewIDs(time.Now, rand.Reader), Logger: slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	require.NoError(t, db.Migrate(t.Context()))
	return db
}

// TestProvision guards against a key that nobody knows, however a first start was interrupted.
func TestProvision(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	db := open(t, dir)
	ids := postrider.NewIDs(time.Now, rand.Reader)
	key := func() (string, postrider.APIKey) {
		path, err := provision(t.Context(), db, dir, ids, time.Now)
		require.NoError(t, err)
		info, err := os.Stat(path)
		require.NoError(t, err)
		require.Equal(t, fs.FileMode(0o600), info.Mode().Perm())
		text, err := secretFile(path, nil)
		require.NoError(t, err)
		stored, err := db.APIKeyByHash(t.Context(), postrider.HashAPIKey(text))
		require.NoError(t, err)
		return text, stored
	}
	text, stored := key()
	require.Equal(t, postrider.Scopes(), stored.Scopes)

	again, same := key()
	require.Equal(t, text, again, "the key stays")
	require.Equal(t, stored.ID, same.ID)

	require.NoError(t, os.Remove(filepath.Join(dir, apiKeyFile)))
	other, second := key()
	require.NotEqual(t, text, other, "a lost file is replaced, not read back")
	require.Equal(t, stored.WorkspaceID, second.WorkspaceID, "it opens the same workspace")

	require.NoError(t, writeFile(filepath.Join(dir, apiKeyFile), "written before a crash\n"))
	_, third := key()
	require.Equal(t, stored.WorkspaceID, third.WorkspaceID)
}

// Guards against an empty address, which would be any port on every interface.
func TestEmptyAddressIsRefused(t *testing.T) {
	t.Parallel()
	_, err := Listen(t.Context(), "--listen", "POSTRIDER_LISTEN", "")
	require.EqualError(t, err, "--listen (POSTRIDER_LISTEN): must be an address and a port, such as 127.0.0.1:0")
}

func discardLogger() *slog.Logger { return slog.New(slog.DiscardHandler) }
