// Package e2e tests the real binaries from outside, as their users do: by HTTP to the API, HTTP
// receivers, a Temporal client, and signals to processes. TestMain builds both binaries.
//
//   - start and startWith (this file) run a postrider-standalone.
//   - layout (layout_test.go) runs production: processes of the production binary, a PostgreSQL
//     and a Temporal server.
//   - webhook, publish, only and finished (this file) are the steps that most tests need.
//   - replay (histories_test.go) replays the history of a workflow that a test has run, and
//     records it with -record.
//
// Invariants: receivers verify or count every request. Tests wait for a state with a deadline and
// never sleep, except where an outage has a length. Every process ends with its test. A test
// shows the logs of its processes when it fails.
//
// The tests must not use internals of Postrider's packages: they read states from the API, from
// Temporal, and from the receivers. A test of one package belongs into that package.
package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"
	"go.uber.org/goleak"

	"postrider.dev/postrider/standalone/instance"
)

// The binaries that TestMain built.
var (
	binary     string // postrider-standalone
	production string // postrider
)

// patience is how long a test waits for a state, unless the state has a time limit of its own.
const patience = 3 * time.Minute

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

// run builds the binaries, runs the tests and looks for goroutines that are left.
func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "postrider-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	binary, production = filepath.Join(dir, "postrider-standalone"), filepath.Join(dir, "postrider")
	fmt.Fprintln(os.Stderr, "building both binaries (minutes, with a cold cache)")
	if err := errors.Join(build("..", binary, "."), build("../..", production, "./cmd/postrider")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return code
}

// build builds a package of the module in dir with the flags of a release.
func build(dir, binary, pkg string) error {
	command := exec.Command("go", "build", "-C", dir, "-trimpath", "-o", binary, pkg)
	command.Env = append(os.Environ(), "CGO_ENABLED=0")
	command.Stderr = os.Stderr
	return command.Run()
}

// tick is how often a test checks a state.
const tick = 20 * time.Millisecond

// start starts an instance on a folder, and stops it when the test ends. A failed test shows the
// instance's log.
func start(t *testing.T, dataDir string) *instance.Instance {
	t.Helper()
	return startWith(t, dataDir, nil)
}

// startWith is start with more environment variables.
func startWith(t *testing.T, dataDir string, env []string) *instance.Instance {
	t.Helper()
	log, err := os.OpenFile(filepath.Join(dataDir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	i, err := instance.Start(ctx, instance.Options{Binary: binary, DataDir: dataDir, Env: env, Log: log})
	if err != nil {
		text, _ := os.ReadFile(log.Name())
		require.NoError(t, err, "%s", text)
	}
	t.Cleanup(func() {
		if t.Failed() {
			text, _ := os.ReadFile(log.Name())
			t.Logf("log of the instance:\n%s", tail(text))
		}
		_ = i.Stop()
		_ = log.Close()
	})
	return i
}

// tail returns the end of a log.
func tail(text []byte) []byte {
	const most = 20_000
	return text[max(len(text)-most, 0):]
}

// temporal connects to the instance's Temporal server.
func temporal(t *testing.T, i *instance.Instance) client.Client {
	t.Helper()
	c, err := client.DialContext(t.Context(), client.Options{HostPort: i.Temporal, Namespace: "default"})
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

// caller is a client of an API, of an instance or of one API process.
type caller interface {
	CreateWebhook(ctx context.Context, fields map[string]any) (instance.Webhook, error)
	Publish(ctx context.Context, fields map[string]any) (instance.Receipt, error)
	Deliveries(ctx context.Context, webhookID string) ([]instance.Delivery, error)
	Delivery(ctx context.Context, id string) (instance.Delivery, error)
}

// webhook creates a webhook for the receiver. It gets all events and retries soon, unless the
// fields say otherwise.
func webhook(t *testing.T, i caller, url string, fields map[string]any) instance.Webhook {
	t.Helper()
	all := map[string]any{"url": url, "events": []string{"*"}, "backoff_ms": 100}
	for name, value := range fields {
		all[name] = value
	}
	w, err := i.CreateWebhook(t.Context(), all)
	require.NoError(t, err)
	return w
}

// publish publishes an event and returns its receipt.
func publish(t *testing.T, i caller, eventType string, data any) instance.Receipt {
	t.Helper()
	receipt, err := i.Publish(t.Context(), map[string]any{"type": eventType, "data": data})
	require.NoError(t, err)
	return receipt
}

// only returns the single delivery of a webhook.
func only(t *testing.T, i caller, webhookID string) instance.Delivery {
	t.Helper()
	var found []instance.Delivery
	require.Eventually(t, func() bool {
		var err error
		found, err = i.Deliveries(t.Context(), webhookID)
		return err == nil && len(found) == 1
	}, patience, tick)
	return found[0]
}

// finished waits until a webhook's single delivery is finished, and returns it with its attempts.
func finished(t *testing.T, i caller, webhookID string) instance.Delivery {
	t.Helper()
	id := only(t, i, webhookID).ID
	var d instance.Delivery
	require.Eventually(t, func() bool {
		var err error
		d, err = i.Delivery(t.Context(), id)
		return err == nil && (d.State == "succeeded" || d.State == "failed" || d.State == "cancelled")
	}, patience, tick)
	return d
}
