package embedded_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	sdklog "go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"postrider.dev/postrider/standalone/embedded"
)

const (
	taskQueue = "embedded-test"
	patience  = 30 * time.Second
	tick      = 50 * time.Millisecond
)

var customer = temporal.NewSearchAttributeKeyKeyword("customer")

// greet runs a local activity, as workflows do for the first attempt of a delivery.
func greet(ctx workflow.Context, name string) (string, error) {
	greeting := ""
	err := workflow.SetQueryHandler(ctx, "greeting", func() (string, error) { return greeting, nil })
	if err != nil {
		return "", err
	}
	local := workflow.WithLocalActivityOptions(ctx, workflow.LocalActivityOptions{StartToCloseTimeout: patience})
	err = workflow.ExecuteLocalActivity(local, makeGreeting, name).Get(ctx, &greeting)
	return greeting, err
}

func makeGreeting(_ context.Context, name string) (string, error) { return "hello " + name, nil }

// nap waits while the test stops and starts the server.
func nap(ctx workflow.Context) (string, error) {
	if err := workflow.Sleep(ctx, 3*time.Second); err != nil {
		return "", err
	}
	return "awake", nil
}

func testConfig(dir string) embedded.Config {
	return embedded.Config{
		Dir:            dir,
		FrontendListen: "127.0.0.1:0",
		UIListen:       "127.0.0.1:0",
		SearchAttributes: map[string]enumspb.IndexedValueType{
			"customer": enumspb.INDEXED_VALUE_TYPE_KEYWORD,
			"amount":   enumspb.INDEXED_VALUE_TYPE_INT,
		},
	}
}

func start(t *testing.T, cfg embedded.Config) *embedded.Server {
	t.Helper()
	server, err := embedded.Start(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Stop(context.WithoutCancel(t.Context()))) })
	return server
}

// connect returns a client with a worker on it, and a function that closes both.
func connect(t *testing.T, server *embedded.Server) (client.Client, func()) {
	t.Helper()
	c, err := client.DialContext(t.Context(), client.Options{
		HostPort: server.FrontendAddress(),
		Logger:   sdklog.NewStructuredLogger(slog.New(slog.DiscardHandler)),
	})
	require.NoError(t, err)
	w := worker.New(c, taskQueue, worker.Options{})
	w.RegisterWorkflow(greet)
	w.RegisterWorkflow(nap)
	require.NoError(t, w.Start())
	return c, func() {
		w.Stop()
		c.Close()
	}
}

func options(id string) client.StartWorkflowOptions {
	return client.StartWorkflowOptions{
		ID:                    id,
		TaskQueue:             taskQueue,
		EnableEagerStart:      true,
		TypedSearchAttributes: temporal.NewSearchAttributes(customer.ValueSet("acme")),
	}
}

func TestWorkflowsOutliveTheServer(t *testing.T) {
	t.Parallel()
	outlive(t, testConfig(t.TempDir()))
}

// outlive stops a server in the middle of a workflow and starts it again. The workflow must go
// on.
func outlive(t *testing.T, cfg embedded.Config) {
	t.Helper()
	ctx := t.Context()

	first := start(t, cfg)
	c, disconnect := connect(t, first)
	greetWorld(t, c, options("greeting"))
	require.Equal(t, "hello world", query(t, c, "greeting"))
	require.True(t, eagerlyStarted(t, c, "greeting"))
	requireListed(t, c, "customer = 'acme'", "greeting")
	_, err := c.ExecuteWorkflow(ctx, options("nap"), nap)
	require.NoError(t, err)
	disconnect()
	require.NoError(t, first.Stop(ctx))

	second := start(t, cfg)
	require.NotEqual(t, first.FrontendAddress(), second.FrontendAddress())
	c, disconnect = connect(t, second)
	defer disconnect()
	require.Equal(t, "hello world", query(t, c, "greeting"))
	requireListed(t, c, "customer = 'acme' AND ExecutionStatus = 'Completed'", "greeting")
	var woke string
	require.NoError(t, c.GetWorkflow(ctx, "nap", "").Get(ctx, &woke))
	require.Equal(t, "awake", woke)
}

// greetWorld runs a workflow to its end. A worker that is stopped in the middle of a local activity
// would leave goroutines of the workflow.
func greetWorld(t *testing.T, c client.Client, o client.StartWorkflowOptions) {
	t.Helper()
	run, err := c.ExecuteWorkflow(t.Context(), o, greet, "world")
	require.NoError(t, err)
	var greeting string
	require.NoError(t, run.Get(t.Context(), &greeting))
	require.Equal(t, "hello world", greeting)
}

func query(t *testing.T, c client.Client, id string) string {
	t.Helper()
	value, err := c.QueryWorkflow(t.Context(), id, "", "greeting")
	require.NoError(t, err)
	var answer string
	require.NoError(t, value.Get(&answer))
	return answer
}

func eagerlyStarted(t *testing.T, c client.Client, id string) bool {
	t.Helper()
	history := c.GetWorkflowHistory(t.Context(), id, "", false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	event, err := history.Next()
	require.NoError(t, err)
	return event.GetWorkflowExecutionStartedEventAttributes().GetEagerExecutionAccepted()
}

// requireListed waits until a visibility query finds exactly the workflow.
func requireListed(t *testing.T, c client.Client, filter, id string) {
	t.Helper()
	require.Eventually(t, func() bool {
		list, err := c.ListWorkflow(t.Context(), &workflowservice.ListWorkflowExecutionsRequest{Query: filter})
		found := list.GetExecutions()
		return err == nil && len(found) == 1 && found[0].GetExecution().GetWorkflowId() == id
	}, patience, tick, filter)
}

func TestLaterStartChangesTheNamespace(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t.TempDir())
	require.NoError(t, start(t, cfg).Stop(t.Context()))

	wrong := cfg
	wrong.SearchAttributes = map[string]enumspb.IndexedValueType{"customer": enumspb.INDEXED_VALUE_TYPE_INT}
	_, err := embedded.Start(t.Context(), wrong)
	require.ErrorContains(t, err, "search attribute customer is a Keyword already")

	cfg.Retention = 48 * time.Hour
	cfg.SearchAttributes = map[string]enumspb.IndexedValueType{"city": enumspb.INDEXED_VALUE_TYPE_KEYWORD}
	c, disconnect := connect(t, start(t, cfg))
	defer disconnect()
	namespace, err := c.WorkflowService().DescribeNamespace(t.Context(),
		&workflowservice.DescribeNamespaceRequest{Namespace: embedded.DefaultNamespace})
	require.NoError(t, err)
	require.Equal(t, 48*time.Hour, namespace.GetConfig().GetWorkflowExecutionRetentionTtl().AsDuration())
	o := options("both")
	city := temporal.NewSearchAttributeKeyKeyword("city")
	o.TypedSearchAttributes = temporal.NewSearchAttributes(customer.ValueSet("acme"), city.ValueSet("Turin"))
	greetWorld(t, c, o)
	requireListed(t, c, "customer = 'acme' AND city = 'Turin'", "both")
}

func TestTakenPortIsNamed(t *testing.T) {
	t.Parallel()
	var lc net.ListenConfig
	taken, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, taken.Close()) })

	for name, change := range map[string]func(*embedded.Config){
		embedded.ListenerFrontend: func(c *embedded.Config) { c.FrontendListen = taken.Addr().String() },
		embedded.ListenerUI:       func(c *embedded.Config) { c.UIListen = taken.Addr().String() },
	} {
		cfg := testConfig(t.TempDir())
		change(&cfg)
		_, err := embedded.Start(t.Context(), cfg)
		var portTaken *embedded.PortTakenError
		require.ErrorAs(t, err, &portTaken)
		require.Equal(t, name, portTaken.Listener)
		require.Equal(t, taken.Addr().String(), portTaken.Address)
		var opError *net.OpError
		require.ErrorAs(t, err, &opError)
	}
}

func TestWebUI(t *testing.T) {
	t.Parallel()
	server := start(t, testConfig(t.TempDir()))
	c, disconnect := connect(t, server)
	defer disconnect()
	greetWorld(t, c, options("shown"))

	status, header, body := get(t, server.UIURL()+"/")
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, header.Get("Content-Type"), "text/html")
	require.Contains(t, body, "<html")
	_, _, body = get(t, server.UIURL()+"/api/v1/settings")
	require.Contains(t, body, `"DefaultNamespace":"default"`)
	require.Eventually(t, func() bool {
		_, _, body := get(t, server.UIURL()+"/api/v1/namespaces/default/workflows?query="+"customer%3D%27acme%27")
		return strings.Contains(body, `"shown"`)
	}, patience, tick)
	status, _, body = get(t, server.UIURL()+"/namespaces/default/workflows")
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, body, "<html", "a page's address can be opened directly")

	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.UIURL()+"/api/v1/settings", nil)
	require.NoError(t, err)
	request.Host = "evil.example:8233"
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, http.StatusForbidden, response.StatusCode, "a page whose name resolves to this machine")
}

func get(t *testing.T, url string) (int, http.Header, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	require.NoError(t, err)
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer func() { require.NoError(t, response.Body.Close()) }()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response.StatusCode, response.Header, string(body)
}

func TestOtherPagesCannotAct(t *testing.T) {
	t.Parallel()
	server := start(t, testConfig(t.TempDir()))
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost,
		server.UIURL()+"/api/v1/namespaces/default/workflows/any/terminate", strings.NewReader("{}"))
	require.NoError(t, err)
	request.Header.Set("Origin", "https://elsewhere.example")
	request.Header.Set("Sec-Fetch-Site", "cross-site")
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, http.StatusForbidden, response.StatusCode)
	require.Empty(t, response.Header.Get("Access-Control-Allow-Origin"))
}

func TestStopLeavesNoListenerAndOneFile(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t.TempDir())
	server := start(t, cfg)
	require.NoError(t, server.Healthy(t.Context()))
	require.NoError(t, server.Stop(t.Context()))
	require.NoError(t, server.Stop(t.Context()), "a second stop does nothing")

	var dialer net.Dialer
	for _, address := range []string{server.FrontendAddress(), strings.TrimPrefix(server.UIURL(), "http://")} {
		_, err := dialer.DialContext(t.Context(), "tcp", address)
		require.Error(t, err)
	}
	require.Error(t, server.Healthy(t.Context()))
	log, err := filepath.Glob(filepath.Join(cfg.Dir, "temporal.db-wal"))
	require.NoError(t, err)
	for _, path := range log {
		require.Zero(t, size(t, path), "the log is folded into the file")
	}
}

// TestStopIsQuiet guards that a stop logs nothing, though the services lose each other.
func TestStopIsQuiet(t *testing.T) {
	t.Parallel()
	var lines lockedBuffer
	cfg := testConfig(t.TempDir())
	cfg.Logger = slog.New(slog.NewTextHandler(&lines, nil))
	server := start(t, cfg)
	require.NotContains(t, lines.String(), "Nexus")
	before := lines.String()
	require.NoError(t, server.Stop(t.Context()))
	require.Equal(t, before, lines.String())
}

type lockedBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}

func TestOtherSchemaIsRefused(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t.TempDir())
	db, err := sql.Open("sqlite", filepath.Join(cfg.Dir, "temporal.db"))
	require.NoError(t, err)
	_, err = db.ExecContext(t.Context(), "PRAGMA user_version = 7")
	require.NoError(t, err)
	require.NoError(t, db.Close())
	_, err = embedded.Start(t.Context(), cfg)
	require.ErrorIs(t, err, embedded.ErrOtherSchema)
}

func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	_, err := embedded.Start(t.Context(), embedded.Config{})
	require.ErrorContains(t, err, "no data directory")
	_, err = embedded.Start(t.Context(), embedded.Config{Dir: t.TempDir(), Retention: time.Hour})
	require.ErrorContains(t, err, "shorter than")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("not now"))
	_, err = embedded.Start(ctx, testConfig(t.TempDir()))
	require.ErrorIs(t, err, context.Canceled)
}

func size(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	require.NoError(t, err)
	return info.Size()
}

// Guards against tasks that are given to a worker that is leaving: the SDK takes what was polled
// until then only where the namespace says that the server ends the polls.
func TestPollsEndWithTheirWorker(t *testing.T) {
	t.Parallel()
	c, disconnect := connect(t, start(t, testConfig(t.TempDir())))
	defer disconnect()
	found, err := c.WorkflowService().DescribeNamespace(t.Context(),
		&workflowservice.DescribeNamespaceRequest{Namespace: embedded.DefaultNamespace})
	require.NoError(t, err)
	require.True(t, found.GetNamespaceInfo().GetCapabilities().GetWorkerPollCompleteOnShutdown())
}
