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

// layout is Postrider as it runs in production: processes of the production binary
// around a PostgreSQL and a Temporal server that are processes of their own.
type layout struct {
	instance.Client // of the first API process

	postgres  *pgtest.Server
	temporal  *instance.Process
	dir       string
	env       []string
	processes int
}

// member is one process of the production binary.
type member struct {
	*instance.Process
	instance.Client // of an API process

	metrics string // base URL
	log     string // path
}

// newLayout starts PostgreSQL and Temporal and prepares both, by the commands that
// an operator would give, in their order.
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
	l.command(t, "migrate", "up")
	l.command(t, "temporal", "setup")
	workspace := l.command(t, "workspace", "create", "acme")
	l.Key = l.command(t, "key", "create", "--workspace", workspace, "--name", "tests",
		"--scope", "publish", "--scope", "manage", "--scope", "read", "--scope", "secrets", "--scope", "admin")
	return l
}

// command runs a command of the production binary to its end and returns what it
// printed on standard output.
func (l *layout) command(t *testing.T, args ...string) string {
	t.Helper()
	out, err := l.try(t, nil, args...)
	require.NoError(t, err, args)
	return strings.TrimSpace(out)
}

// try is command for one that may fail, with settings on top of the others. Its
// error is what the command said.
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

// startTemporal starts the Temporal server, always at the same address.
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

func (l *layout) setting(name string) string {
	for _, setting := range l.env {
		if value, found := strings.CutPrefix(setting, name+"="); found {
			return value
		}
	}
	return ""
}

// run starts a process of the production binary and returns when it has started;
// an API process, when it is ready.
func (l *layout) run(t *testing.T, args ...string) *member {
	t.Helper()
	l.processes++
	log := l.logFile(t, fmt.Sprintf("%s-%d", args[0], l.processes))
	process, err := instance.Spawn(production, args, l.env, log)
	require.NoError(t, err)
	l.endWithTest(t, process)
	m := &member{Process: process, log: log.Name()}
	m.Key = l.Key
	require.Eventually(t, func() bool { return m.started(t) }, patience, tick)
	if m.API != "" {
		require.Eventually(t, func() bool { return m.Ready(t.Context()) }, patience, tick)
		if l.API == "" {
			l.API = m.API
		}
	}
	return m
}

// started looks in the process's log for where it answers.
func (m *member) started(t *testing.T) bool {
	t.Helper()
	text, err := os.ReadFile(m.log)
	require.NoError(t, err)
	select {
	case <-m.Exited():
		require.Fail(t, "the process ended", "%s", text)
	default:
	}
	for line := range bytes.Lines(text) {
		var entry struct{ Msg, API, Metrics string }
		if json.Unmarshal(line, &entry) == nil && entry.Msg == "started" {
			m.API, m.metrics = entry.API, entry.Metrics
			return true
		}
	}
	return false
}

// logFile returns a log that is shown when the test failed.
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

func (l *layout) endWithTest(t *testing.T, process *instance.Process) {
	t.Helper()
	t.Cleanup(func() { _ = process.Stop() })
}

func freePort(t *testing.T) string {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	_, port, err := net.SplitHostPort(listener.Addr().String())
	require.NoError(t, err)
	require.NoError(t, listener.Close())
	return port
}

// await returns when it is so.
func await(t *testing.T, so func() bool) {
	t.Helper()
	require.Eventually(t, so, patience, 100*time.Millisecond)
}
