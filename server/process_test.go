package server

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	patience = 30 * time.Second
	tick     = 10 * time.Millisecond
)

// process is a server with SQLite in a folder, its API, and its log.
type process struct {
	*Server
	dir    string
	log    *logBuffer
	stop   context.CancelFunc
	ended  chan error
	client *http.Client
	key    string
}

// logBuffer is a log that can be read while it is written.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// testRole is a standalone process with everything, on free ports. Its Temporal is at an address
// that nothing listens on.
func testRole(t *testing.T, dir string, change func(*Settings, *Role)) (Settings, Role, *logBuffer) {
	t.Helper()
	s, err := settings(t)
	require.NoError(t, err)
	s.MetricsListen, s.ShutdownTimeout = "127.0.0.1:0", 5*time.Second
	log := &logBuffer{}
	role := Role{
		API: &APISettings{Listen: "127.0.0.1:0"}, Worker: &WorkerSettings{MaxInFlight: 10, Batching: "never", Retention: 30 * oneDay},
		Database: "sqlite:" + filepath.Join(dir, "postrider.db"), DataDir: dir,
		Temporal: TemporalSettings{Address: "127.0.0.1:1", Namespace: "default", UIURL: "http://127.0.0.1:2"},
		Networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
		Logger:   slog.New(slog.NewTextHandler(log, nil)),
	}
	if change != nil {
		change(s, &role)
	}
	role.Ports, err = BindPorts(t.Context(), *s, role.API)
	require.NoError(t, err)
	t.Cleanup(role.Ports.Close)
	return *s, role, log
}

// run starts a process and stops it, at the latest, when the test ends.
func run(t *testing.T, dir string, change func(*Settings, *Role)) *process {
	t.Helper()
	s, role, log := testRole(t, dir, change)
	server, err := New(t.Context(), s, role)
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	p := &process{Server: server, dir: dir, log: log, stop: stop, ended: make(chan error, 1), client: &http.Client{}}
	go func() { p.ended <- server.Run(ctx) }()
	t.Cleanup(func() { require.NoError(t, p.end()) })
	if server.ownsDatabase() {
		key, err := os.ReadFile(filepath.Join(dir, apiKeyFile))
		require.NoError(t, err)
		p.key = strings.TrimSpace(string(key))
	}
	return p
}

// end stops the process and returns what Run returned.
func (p *process) end() error {
	p.client.CloseIdleConnections()
	p.stop()
	err := <-p.ended
	p.ended <- err
	return err
}

func (p *process) apiURL() string { return "http://" + p.role.Ports.API.Addr().String() }

func (p *process) metricsURL() string { return "http://" + p.role.Ports.Metrics.Addr().String() }

// call makes a request with the process's key and returns status and body.
func (p *process) call(t *testing.T, method, url, body string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	require.NoError(t, err)
	request.Header.Set("X-API-Key", p.key)
	request.Header.Set("Content-Type", "application/json")
	response, err := p.client.Do(request)
	require.NoError(t, err)
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	return response.StatusCode, string(text)
}

// publish creates a webhook and publishes an event to it, which must be accepted.
func (p *process) publish(t *testing.T) {
	t.Helper()
	status, body := p.call(t, http.MethodPost, p.apiURL()+"/api/v1/webhooks", `{"url":"http://127.0.0.1:9000/hook","events":["*"]}`)
	require.Equal(t, http.StatusCreated, status, body)
	status, body = p.call(t, http.MethodPost, p.apiURL()+"/api/v1/events", `{"type":"call.ended","data":1}`)
	require.Equal(t, http.StatusAccepted, status, body)
}

// TestEventsAreAcceptedWhileTemporalIsAway guards that the API needs no Temporal, that readiness
// names the dependency that is away, and that the log says so too.
func TestEventsAreAcceptedWhileTemporalIsAway(t *testing.T) {
	t.Parallel()
	p := run(t, t.TempDir(), nil)
	p.publish(t)
	for _, base := range []string{p.apiURL(), p.metricsURL()} {
		status, body := p.call(t, http.MethodGet, base+"/readyz", "")
		require.Equal(t, http.StatusServiceUnavailable, status)
		require.JSONEq(t, `{"status":"unavailable","checks":{"database":"ok","database_writes":"ok","temporal":"unavailable"}}`, body)
		status, body = p.call(t, http.MethodGet, base+"/readyz?exclude=temporal", "")
		require.Equal(t, http.StatusOK, status, body)
		status, _ = p.call(t, http.MethodGet, base+"/healthz", "")
		require.Equal(t, http.StatusOK, status, "a restart would not bring Temporal back")
	}
	require.Eventually(t, func() bool {
		return strings.Contains(p.log.String(), `msg="cannot reach Temporal, trying again" address=127.0.0.1:1`)
	}, patience, tick)
	_, metrics := p.call(t, http.MethodGet, p.metricsURL()+"/metrics", "")
	require.Contains(t, metrics, "postrider_events_accepted_total 1\n")
	require.Contains(t, metrics, "postrider_backlog_pending 1\n")
}

// Guards the way of the settings that limit callers: a limit that reaches nobody limits nobody.
func TestCallersAreLimited(t *testing.T) {
	t.Parallel()
	p := run(t, t.TempDir(), func(_ *Settings, role *Role) {
		role.API.MaxWebhooksPerWorkspace, role.API.RateLimitPerKey = 1, 3
	})
	p.publish(t)
	status, body := p.call(t, http.MethodPost, p.apiURL()+"/api/v1/webhooks", `{"url":"http://127.0.0.1:9000/hook","events":["*"]}`)
	require.Equal(t, http.StatusConflict, status, body)
	require.Contains(t, body, "the workspace has 1 webhooks, as many as it may have")
	require.Eventually(t, func() bool {
		status, _ = p.call(t, http.MethodGet, p.apiURL()+"/api/v1/webhooks", "")
		return status == http.StatusTooManyRequests
	}, patience, time.Nanosecond)
}

// TestDeliveriesStartWhenTemporalComes guards that nothing that was accepted before waits for a
// restart: the workflow of its delivery starts as soon as Temporal answers.
func TestDeliveriesStartWhenTemporalComes(t *testing.T) {
	t.Parallel()
	reserved, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := reserved.Addr().String()
	require.NoError(t, reserved.Close())
	p := run(t, t.TempDir(), func(_ *Settings, r *Role) { r.Temporal.Address = address })
	p.publish(t)
	require.Eventually(t, func() bool { return strings.Contains(p.log.String(), "cannot reach Temporal") }, patience, tick)
	f := newFrontend()
	f.serve(t, address)
	require.Regexp(t, "^delivery/dlv_[0-9a-f]{32}$", <-f.started)
	status, body := p.call(t, http.MethodGet, p.apiURL()+"/readyz", "")
	require.Equal(t, http.StatusOK, status, body)
	require.NoError(t, p.end())
	require.Contains(t, p.log.String(), `msg="cannot schedule the maintenance"`, "a frontend without schedules does not stop deliveries")
}

// TestMissingNamespaceEndsTheProcess guards that a namespace that an operator has to create is an
// error with the command for it, and no endless wait.
func TestMissingNamespaceEndsTheProcess(t *testing.T) {
	t.Parallel()
	f := newFrontend()
	f.noNamespace = true
	address := f.serve(t, "127.0.0.1:0")
	s, role, _ := testRole(t, t.TempDir(), func(_ *Settings, r *Role) { r.Temporal.Address, r.Temporal.Namespace = address, "missing" })
	server, err := New(t.Context(), s, role)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	require.ErrorContains(t, server.Run(ctx), "temporal at "+address+` has no namespace "missing": run `+"`postrider temporal setup`")
	require.ErrorContains(t, server.store.Ping(t.Context()), "closed", "Run has closed the database")
}

// TestMissingSearchAttributesEndTheProcess guards an upgrade before which nobody prepared the namespace:
// Temporal would refuse some workflows, and others for ever.
func TestMissingSearchAttributesEndTheProcess(t *testing.T) {
	t.Parallel()
	f := newFrontend()
	f.noAttributes = true
	address := f.serve(t, "127.0.0.1:0")
	s, role, _ := testRole(t, t.TempDir(), func(_ *Settings, r *Role) { r.Temporal.Address = address })
	server, err := New(t.Context(), s, role)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	require.ErrorContains(t, server.Run(ctx), "temporal at "+address+": run `postrider temporal setup`")
}

// TestEndpointsFile guards the file by which programs find a standalone process: it is complete
// when it appears, only its owner can read it, and it goes before the process ends.
func TestEndpointsFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := run(t, dir, func(s *Settings, _ *Role) { s.ProfileListen = "127.0.0.1:0" })
	path := filepath.Join(dir, endpointsFile)
	var text []byte
	require.Eventually(t, func() bool {
		var err error
		text, err = os.ReadFile(path)
		return err == nil
	}, patience, tick)
	var got map[string]string
	require.NoError(t, json.Unmarshal(text, &got))
	require.Equal(t, map[string]string{
		"api": p.apiURL(), "metrics": p.metricsURL(), "temporal": "127.0.0.1:1", "temporal_ui": "http://127.0.0.1:2",
		"profile": "http://" + p.role.Ports.Profile.Addr().String() + "/debug/pprof/",
	}, got)
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o600), info.Mode().Perm())
	status, _ := p.call(t, http.MethodGet, got["profile"]+"heap", "")
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, p.log.String(), "profiles are served")

	require.NoError(t, p.end())
	_, err = os.Stat(path)
	require.ErrorIs(t, err, fs.ErrNotExist)
	for name, address := range got {
		host := strings.TrimSuffix(strings.TrimPrefix(address, "http://"), "/debug/pprof/")
		_, err := new(net.Dialer).DialContext(context.WithoutCancel(t.Context()), "tcp", host)
		require.Error(t, err, "%s is closed", name)
	}
}

// TestOnePartsFailureStopsAll guards that a process never goes on with half of its parts.
func TestOnePartsFailureStopsAll(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	require.NoError(t, os.Mkdir(data, 0o700))
	s, role, _ := testRole(t, t.TempDir(), func(_ *Settings, r *Role) { r.DataDir = data })
	server, err := New(t.Context(), s, role)
	require.NoError(t, err)
	require.NoError(t, os.RemoveAll(data))
	require.ErrorContains(t, server.Run(t.Context()), "cannot write "+filepath.Join(data, endpointsFile))
	_, err = new(net.Dialer).DialContext(t.Context(), "tcp", role.Ports.API.Addr().String())
	require.Error(t, err, "the API stopped with the others")
}

// TestRestartKeepsKeys guards that a second start finds the database, the keys and the API key of
// the first one.
func TestRestartKeepsKeys(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := run(t, dir, nil)
	first.publish(t)
	require.NoError(t, first.end())
	second := run(t, dir, nil)
	require.Equal(t, first.key, second.key)
	status, body := second.call(t, http.MethodGet, second.apiURL()+"/api/v1/webhooks", "")
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, body, "http://127.0.0.1:9000/hook")
}

// TestProductionLogsItsAddresses guards the line by which operators and scripts find a process, and
// that production writes no files. Each role says whether it delivers.
func TestProductionLogsItsAddresses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, run(t, dir, nil).end())
	keys, err := encryptionKeys(dir)
	require.NoError(t, err)
	before, err := os.ReadDir(dir)
	require.NoError(t, err)
	for name, c := range map[string]struct {
		change   func(*Role)
		delivers string
	}{
		"serve": {func(*Role) {}, "delivers=true"}, "api": {func(r *Role) { r.Worker = nil }, "delivers=false"},
		"worker": {func(r *Role) { r.API = nil }, "delivers=true"},
	} {
		p := run(t, dir, func(s *Settings, r *Role) {
			r.DataDir, s.EncryptionKeys = "", keys
			c.change(r)
		})
		require.Eventually(t, func() bool { return strings.Contains(p.log.String(), "msg=started") }, patience, tick, name)
		require.Contains(t, p.log.String(), "metrics="+p.metricsURL())
		require.Contains(t, p.log.String(), c.delivers, name)
		require.Equal(t, p.role.API == nil, strings.Contains(p.log.String(), `api=""`), name)
		require.Equal(t, p.role.API == nil, p.api == nil, name)
		require.Equal(t, p.role.Worker == nil, p.dispatcher == nil, name)
		require.NoError(t, p.end())
	}
	after, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, after, len(before))
}
