package cli

import (
	"context"
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

	"postrider.dev/postrider/server"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// commands are the commands of every role.
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

// serve returns a complete command line of serve, with more arguments.
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

func TestListenCommandValidates(t *testing.T) {
	t.Parallel()
	valid := ListenCommand{Status: 204, Method: "basic_auth", Secret: []string{"user:password"}}
	require.NoError(t, valid.Validate())
	empty := ListenCommand{Status: 204, Method: "basic_auth", Secret: []string{""}}
	require.ErrorContains(t, empty.Validate(), "--secret (POSTRIDER_RECEIVER_SECRET): ")
	for _, c := range []ListenCommand{
		{Status: 99}, {Status: 600}, {Status: 200, Fail: -1}, {Status: 200, Delay: -1}, {Status: 200, RetryAfter: -1},
	} {
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
	const day = server.Days(24 * time.Hour)
	for text, want := range map[string]server.Days{"30d": 30 * day, "36h": day + day/2, "0": 0, "0d": 0} {
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
	process := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/readyz" {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		w.WriteHeader(status)
	}))
	t.Cleanup(process.Close)
	_, port, err := net.SplitHostPort(process.Listener.Addr().String())
	require.NoError(t, err)
	for _, listen := range []string{"127.0.0.1:" + port, "0.0.0.0:" + port, ":" + port} {
		require.NoError(t, (&HealthCommand{MetricsListen: listen, Timeout: time.Minute}).Run(t.Context()))
	}
	status = http.StatusServiceUnavailable
	require.ErrorContains(t, (&HealthCommand{MetricsListen: "127.0.0.1:" + port, Timeout: time.Minute}).Run(t.Context()), "503")
	require.ErrorContains(t, (&HealthCommand{URL: process.URL, Timeout: time.Minute}).Run(t.Context()), "404")
	http.DefaultClient.CloseIdleConnections()
}
