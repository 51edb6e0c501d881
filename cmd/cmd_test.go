package cmd

import (
	"context"
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

	"github.com/alecthomas/kong"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	_ "modernc.org/sqlite"

	"postrider"
	"postrider/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// commands has the settings of every shape, without the environment's.
type commands struct {
	Serve  ServeCommand  `cmd:""`
	API    APICommand    `cmd:"" name:"api"`
	Worker WorkerCommand `cmd:""`
}

// parse reads a command line as the binaries do.
func parse(t *testing.T, args ...string) (commands, error) {
	t.Helper()
	var c commands
	parser, err := kong.New(&c, Vars("none", time.Second), kong.Exit(func(int) {}))
	require.NoError(t, err)
	_, err = parser.Parse(args)
	return c, err
}

const testKeys = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="

// serve is a command line of production with nothing missing.
func serve(args ...string) []string {
	return append([]string{"serve", "--database-url", "postgres://u@h/d", "--encryption-keys", testKeys}, args...)
}

func TestDefaultsAreTheContracts(t *testing.T) {
	t.Parallel()
	c, err := parse(t, serve()...)
	require.NoError(t, err)
	require.Equal(t, "127.0.0.1:8080", c.Serve.Listen)
	require.Equal(t, "127.0.0.1:9464", c.Serve.MetricsListen)
	require.Equal(t, "127.0.0.1:7233", c.Serve.Address)
	require.Equal(t, "default", c.Serve.Namespace)
	require.Equal(t, time.Second, c.Serve.ShutdownTimeout)
}

func TestSettingsNameTheFlag(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "empty.pem")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	for _, c := range []struct{ flag, value, rule string }{
		{"--max-in-flight", "2001", "from 1 to 2000"},
		{"--shutdown-timeout", "-1s", "must not be negative"},
		{"--allow-networks", "10.0.0.0/33", "10.0.0.0/33"},
		{"--profile-listen", "0.0.0.0:6060", "loopback"},
		{"--profile-listen", "localhost", "loopback"},
		{"--log-level", "loud", "must be one of"},
		{"--log-format", "xml", "must be one of"},
		{"--database-url", "postgre://user:password@host/db", "must start with postgres://"},
		{"--encryption-keys", "", "must be set"},
		{"--temporal-tls-ca", file, "holds no PEM certificate"},
		{"--temporal-tls-ca", file + ".missing", "no such file"},
		{"--temporal-tls-cert", file, "given together"},
		{"--traces-endpoint", "collector:4318", "must be http://HOST:PORT"},
		{"--traces-endpoint", "http://user:password@collector:4318", "must be http://HOST:PORT"},
		{"--traces-endpoint", "https://collector/?token=password", "must be http://HOST:PORT"},
		{"--traces-sample", "1.1", "from 0 to 1"},
		{"--traces-sample", "NaN", "from 0 to 1"},
	} {
		_, err := parse(t, serve(c.flag+"="+c.value)...)
		require.ErrorContains(t, err, c.flag, "%s", c.value)
		require.ErrorContains(t, err, c.rule)
		require.NotContains(t, err.Error(), "password")
	}
	_, err := parse(t, "worker", "--encryption-keys", testKeys)
	require.ErrorContains(t, err, "--database-url")
	_, err = parse(t, serve("--temporal-tls-cert", file, "--temporal-tls-key", file)...)
	require.ErrorContains(t, err, "--temporal-tls-cert")
}

func TestNetworks(t *testing.T) {
	t.Parallel()
	c, err := parse(t, serve("--allow-networks", "none")...)
	require.NoError(t, err)
	networks, err := c.Serve.networks(nil)
	require.NoError(t, err)
	require.Empty(t, networks)
	c, err = parse(t, serve("--allow-networks", "10.0.0.0/8,fd00::/8")...)
	require.NoError(t, err)
	networks, err = c.Serve.networks(nil)
	require.NoError(t, err)
	require.Len(t, networks, 2)
}

func TestBindSaysWhatToDoAboutATakenPort(t *testing.T) {
	t.Parallel()
	taken, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, taken.Close()) })
	_, err = Bind(t.Context(), Settings{MetricsListen: taken.Addr().String()}, &APISettings{Listen: "127.0.0.1:0"})
	require.ErrorContains(t, err, "--metrics-listen "+taken.Addr().String()+": the port is taken")
	_, err = Bind(t.Context(), Settings{MetricsListen: "127.0.0.1:0"}, &APISettings{Listen: "no address"})
	require.ErrorContains(t, err, "--listen no address (POSTRIDER_LISTEN): cannot listen")
	ports, err := Bind(t.Context(), Settings{MetricsListen: "127.0.0.1:0"}, nil)
	require.NoError(t, err)
	require.Nil(t, ports.API, "a worker has none")
	require.Nil(t, ports.Profile, "profiles are asked for")
	ports.Close()
	ports, err = Bind(t.Context(), Settings{MetricsListen: "127.0.0.1:0", ProfileSettings: ProfileSettings{ProfileListen: "127.0.0.1:0"}}, nil)
	require.NoError(t, err)
	require.NotNil(t, ports.Profile)
	ports.Close()
}

func TestProfilesKeepTheCommandLineBack(t *testing.T) {
	t.Parallel()
	for path, status := range map[string]int{"": http.StatusOK, "heap": http.StatusOK, "cmdline": http.StatusNotFound} {
		answer := httptest.NewRecorder()
		profileHandler().ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/debug/pprof/"+path, nil))
		require.Equal(t, status, answer.Code, "%s", path)
	}
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
	valid := ListenCommand{Status: 204, Method: "basic_auth", Secret: []string{"user:password"}}
	require.NoError(t, valid.Validate())
	for _, secret := range []string{"", "no colon"} {
		c := ListenCommand{Status: 204, Method: "basic_auth", Secret: []string{secret}}
		require.ErrorContains(t, c.Validate(), "--secret (POSTRIDER_RECEIVER_SECRET): ")
	}
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

func TestRetention(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]days{"30d": 30 * oneDay, "36h": oneDay + oneDay/2, "0": 0, "0d": 0} {
		c, err := parse(t, serve("--retention", text)...)
		require.NoError(t, err)
		require.Equal(t, want, c.Serve.Retention)
	}
	for _, text := range []string{"12h", "-1d", "a month", "1.5d", "99999d"} {
		_, err := parse(t, serve("--retention="+text)...)
		require.ErrorContains(t, err, "--retention")
	}
}

func TestHealthCommand(t *testing.T) {
	t.Parallel()
	status := http.StatusOK
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/readyz" {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		w.WriteHeader(status)
	}))
	t.Cleanup(server.Close)
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	require.NoError(t, err)
	for _, listen := range []string{"127.0.0.1:" + port, "0.0.0.0:" + port, ":" + port} {
		require.NoError(t, (&HealthCommand{MetricsListen: listen, Timeout: time.Minute}).Run(t.Context()))
	}
	status = http.StatusServiceUnavailable
	require.ErrorContains(t, (&HealthCommand{MetricsListen: "127.0.0.1:" + port, Timeout: time.Minute}).Run(t.Context()), "503")
	require.ErrorContains(t, (&HealthCommand{URL: server.URL, Timeout: time.Minute}).Run(t.Context()), "404")
	http.DefaultClient.CloseIdleConnections()
}
