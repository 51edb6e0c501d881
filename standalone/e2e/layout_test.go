package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider/standalone/instance"
	"postrider.dev/postrider/store/pgtest"
)

// layout is Postrider as in production: processes of the production binary, a PostgreSQL and a
// Temporal server.
type layout struct {
	instance.Client // of the first API process

	postgres  *pgtest.Server
	temporal  *instance.Process
	dir       string
	env       []string
	processes int
}

// process is a process of the production binary, and a client of its API.
type process struct {
	*instance.Process
	instance.Client // of an API process

	metrics string // base URL
	log     string // path
}

// newLayout starts PostgreSQL and Temporal, and prepares both by an operator's commands.
func newLayout(t *testing.T) *layout {
	t.Helper()
	l := &layout{dir: t.TempDir()}
	var err error
	l.postgres, err = pgtest.Start(t.Context())
	require.NoError(t, err)
	t.Cleanup(l.postgres.Stop)
	port := freePort(t)
	l.env = []string{
		"POSTRIDER_DATABASE_URL=" + l.postgres.EmptyDatabase(t),
		"POSTRIDER_TEMPORAL_ADDRESS=127.0.0.1:" + port,
		"POSTRIDER_TEMPORAL_NAMESPACE=postrider",
		"POSTRIDER_ENCRYPTION_KEYS=MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
		"POSTRIDER_ALLOW_NETWORKS=127.0.0.0/8",
		"POSTRIDER_LISTEN=127.0.0.1:0",
		"POSTRIDER_METRICS_LISTEN=127.0.0.1:0",
		"POSTRIDER_LOG_FORMAT=json",
	}
	l.startTemporal(t)
	l.prepare(t)
	return l
}

// beside returns another installation on the same Temporal server, in the same namespace. Its
// database is empty.
func (l *layout) beside(t *testing.T) *layout {
	t.Helper()
	other := &layout{postgres: l.postgres, temporal: l.temporal, dir: t.TempDir()}
	for _, setting := range l.env {
		if strings.HasPrefix(setting, "POSTRIDER_DATABASE_URL=") {
			setting = "POSTRIDER_DATABASE_URL=" + l.postgres.EmptyDatabase(t)
		}
		other.env = append(other.env, setting)
	}
	other.prepare(t)
	return other
}

// prepare makes the database and the namespace ready, and a key.
func (l *layout) prepare(t *testing.T) {
	t.Helper()
	l.command(t, "migrate", "up")
	l.command(t, "temporal", "setup")
	workspace := l.command(t, "workspace", "create", "acme")
	l.Key = l.command(t, "key", "create", "--workspace", workspace, "--name", "tests",
		"--scope", "publish", "--scope", "manage", "--scope", "read", "--scope", "secrets", "--scope", "admin")
}

// command runs a command of the production binary and returns its standard output.
func (l *layout) command(t *testing.T, args ...string) string {
	t.Helper()
	out, err := l.try(t, nil, args...)
	require.NoError(t, err, args)
	return strings.TrimSpace(out)
}

// try runs a command that may fail, with more environment variables. The error has the command's
// standard error.
func (l *layout) try(t *testing.T, env []string, args ...string) (string, error) {
	t.Helper()
	command := exec.CommandContext(t.Context(), production, args...)
	command.Env = append(append(os.Environ(), l.env...), env...)
	var out, errs bytes.Buffer
	command.Stdout, command.Stderr = &out, &errs
	if err := command.Run(); err != nil {
		return out.String(), fmt.Errorf("%w: %s", err, &errs)
	}
	return out.String(), nil
}

// startTemporal starts the Temporal server. A later start has the same address.
func (l *layout) startTemporal(t *testing.T) {
	t.Helper()
	var err error
	args := []string{
		"temporal", "--bare", "--data-dir", filepath.Join(l.dir, "temporal"), "--database-url", l.setting("POSTRIDER_DATABASE_URL"),
		"--temporal-listen", l.setting("POSTRIDER_TEMPORAL_ADDRESS"), "--temporal-ui-listen", "127.0.0.1:0",
	}
	l.temporal, err = instance.Spawn(binary, args, nil, l.logFile(t, "temporal"))
	require.NoError(t, err)
	l.endWithTest(t, l.temporal)
}

// setting returns the value of an environment variable.
func (l *layout) setting(name string) string {
	for _, setting := range l.env {
		if value, found := strings.CutPrefix(setting, name+"="); found {
			return value
		}
	}
	return ""
}

// run starts a process of the production binary and returns when it has started. An API process
// is also ready then.
func (l *layout) run(t *testing.T, args ...string) *process {
	t.Helper()
	l.processes++
	log := l.logFile(t, fmt.Sprintf("%s-%d", args[0], l.processes))
	spawned, err := instance.Spawn(production, args, l.env, log)
	require.NoError(t, err)
	l.endWithTest(t, spawned)
	p := &process{Process: spawned, log: log.Name()}
	p.Key = l.Key
	require.Eventually(t, func() bool { return p.started(t) }, patience, tick)
	if p.API != "" {
		require.Eventually(t, func() bool { return p.Ready(t.Context()) }, patience, tick)
		if l.API == "" {
			l.API = p.API
		}
	}
	return p
}

// started reports whether the process has logged its addresses, and reads them.
func (p *process) started(t *testing.T) bool {
	t.Helper()
	text, err := os.ReadFile(p.log)
	require.NoError(t, err)
	select {
	case <-p.Exited():
		require.Fail(t, "the process ended", "%s", text)
	default:
	}
	for line := range bytes.Lines(text) {
		var entry struct{ Msg, API, Metrics string }
		if json.Unmarshal(line, &entry) == nil && entry.Msg == "started" {
			p.API, p.metrics = entry.API, entry.Metrics
			return true
		}
	}
	return false
}

// logFile returns a file for a log. A failed test shows the log.
func (l *layout) logFile(t *testing.T, name string) *os.File {
	t.Helper()
	file, err := os.OpenFile(filepath.Join(l.dir, name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	require.NoError(t, err)
	t.Cleanup(func() {
		if text, err := os.ReadFile(file.Name()); t.Failed() && err == nil {
			t.Logf("log of %s:\n%s", name, tail(text))
		}
		_ = file.Close()
	})
	return file
}

// endWithTest stops the process when the test ends.
func (l *layout) endWithTest(t *testing.T, process *instance.Process) {
	t.Helper()
	t.Cleanup(func() { _ = process.Stop() })
}

// freePort returns a port that is free at the moment.
func freePort(t *testing.T) string {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	_, port, err := net.SplitHostPort(listener.Addr().String())
	require.NoError(t, err)
	require.NoError(t, listener.Close())
	return port
}

// await waits until the condition is true.
func await(t *testing.T, condition func() bool) {
	t.Helper()
	require.Eventually(t, condition, patience, 100*time.Millisecond)
}
