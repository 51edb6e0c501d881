package cmd

import (
	"context"
	"crypto/rand"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	_ "modernc.org/sqlite"

	"postrider"
	"postrider/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// parse reads a command line as the binaries do, without the process's environment.
func parse(t *testing.T, args ...string) (Settings, error) {
	t.Helper()
	var s Settings
	parser, err := kong.New(&s, Vars("none"), kong.Exit(func(int) {}))
	require.NoError(t, err)
	_, err = parser.Parse(args)
	return s, err
}

func TestDefaultsAreTheContracts(t *testing.T) {
	t.Parallel()
	s, err := parse(t)
	require.NoError(t, err)
	require.Equal(t, "127.0.0.1:8080", s.Listen)
	require.Equal(t, "127.0.0.1:9464", s.MetricsListen)
	require.Empty(t, s.DatabaseURL)
}

func TestSettingsNameTheFlag(t *testing.T) {
	t.Parallel()
	for flag, value := range map[string]string{
		"--max-in-flight": "2001", "--shutdown-timeout": "-1s", "--allow-networks": "10.0.0.0/33", "--log-level": "loud", "--log-format": "xml", "--database-url": "postgre://user:password@host/db",
	} {
		_, err := parse(t, flag+"="+value)
		require.ErrorContains(t, err, flag)
		require.NotContains(t, err.Error(), "password")
	}
}

func TestNetworks(t *testing.T) {
	t.Parallel()
	s, err := parse(t, "--allow-networks", "none")
	require.NoError(t, err)
	networks, err := s.networks(nil)
	require.NoError(t, err)
	require.Empty(t, networks)
	s, err = parse(t, "--allow-networks", "10.0.0.0/8,fd00::/8")
	require.NoError(t, err)
	networks, err = s.networks(nil)
	require.NoError(t, err)
	require.Len(t, networks, 2)
}

func TestBindSaysWhatToDoAboutATakenPort(t *testing.T) {
	t.Parallel()
	taken, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, taken.Close()) })
	_, err = Bind(t.Context(), Settings{Listen: "127.0.0.1:0", MetricsListen: taken.Addr().String()})
	require.ErrorContains(t, err, "--metrics-listen "+taken.Addr().String()+": the port is taken")
	_, err = Bind(t.Context(), Settings{Listen: "no address"})
	require.ErrorContains(t, err, "--listen no address (POSTRIDER_LISTEN): cannot listen")
	ports, err := Bind(t.Context(), Settings{Listen: "127.0.0.1:0", MetricsListen: "127.0.0.1:0"})
	require.NoError(t, err)
	ports.Close()
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

// TestProvision covers every way a first start can have been broken off.
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

func TestListenCommandValidates(t *testing.T) {
	t.Parallel()
	valid := ListenCommand{Status: 204}
	require.NoError(t, valid.Validate())
	for _, c := range []ListenCommand{{Status: 99}, {Status: 600}, {Status: 200, Fail: -1}, {Status: 200, Delay: -1}, {Status: 200, RetryAfter: -1}} {
		require.Error(t, c.Validate())
	}
}

func TestListenCommandStops(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	c := ListenCommand{Address: "127.0.0.1:0", Method: "hmac_sha256", Secret: []string{"s"}, Status: 204}
	cancel()
	require.NoError(t, c.Run(ctx))
}
