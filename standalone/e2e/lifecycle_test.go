package e2e

import (
	"context"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider/standalone/instance"
)

// slowReceiver is a receiver that answers after a delay, and counts requests by event.
type slowReceiver struct {
	*httptest.Server

	mu   sync.Mutex
	seen map[string]int
}

func newSlowReceiver(t *testing.T, delay time.Duration) *slowReceiver {
	t.Helper()
	receiver := &slowReceiver{seen: map[string]int{}}
	receiver.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		receiver.mu.Lock()
		receiver.seen[r.Header.Get("webhook-id")]++
		receiver.mu.Unlock()
		late, cancel := context.WithTimeout(r.Context(), delay)
		defer cancel()
		<-late.Done()
	}))
	t.Cleanup(receiver.Close)
	return receiver
}

// counts returns the numbers of different events and of requests.
func (r *slowReceiver) counts() (events, requests int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range r.seen {
		requests += n
	}
	return len(r.seen), requests
}

// TestKill guards that no accepted event is lost when the process is killed while 300 deliveries
// are under way, with every setting of batching. Only events whose request was under way at that
// moment may arrive twice.
func TestKill(t *testing.T) {
	t.Parallel()
	for _, batching := range []string{"always", "auto", "never"} {
		t.Run(batching, func(t *testing.T) {
			t.Parallel()
			killUnderLoad(t, []string{"POSTRIDER_BATCHING=" + batching})
		})
	}
}

func killUnderLoad(t *testing.T, env []string) {
	t.Helper()
	const deliveries = 300
	dir := t.TempDir()
	i := startWith(t, dir, env)
	receiver := newSlowReceiver(t, time.Second)
	w := webhook(t, i, receiver.URL, map[string]any{"max_in_flight": 1000})

	var events []map[string]any
	for n := range deliveries {
		events = append(events, map[string]any{"type": "call.ended", "data": n})
	}
	var accepted struct {
		Data []instance.Receipt `json:"data"`
	}
	require.NoError(t, i.Call(t.Context(), http.MethodPost, "/api/v1/events/batch", map[string]any{"events": events}, &accepted))
	require.Len(t, accepted.Data, deliveries)
	require.Eventually(t, func() bool { _, requests := receiver.counts(); return requests >= 50 }, patience, time.Millisecond)
	require.NoError(t, i.Kill())
	underWay, _ := receiver.counts()

	i = startWith(t, dir, env)
	require.Eventually(t, func() bool {
		var seen instance.Webhook
		err := i.Call(t.Context(), http.MethodGet, "/api/v1/webhooks/"+w.ID, nil, &seen)
		return err == nil && seen.Stats.TotalDeliveries == deliveries
	}, patience, 100*time.Millisecond)
	arrived, requests := receiver.counts()
	require.Equal(t, deliveries, arrived)
	receiver.mu.Lock()
	defer receiver.mu.Unlock()
	for _, event := range accepted.Data {
		require.Positive(t, receiver.seen[event.ID])
	}
	require.LessOrEqual(t, requests-arrived, underWay)
	t.Logf("%d deliveries under way when the process was killed, %d of them on the wire; all arrived, %d twice",
		deliveries, underWay, requests-arrived)
}

// TestRestart guards that keys, webhooks, waiting deliveries and histories survive a restart.
func TestRestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	i := start(t, dir)
	url, requests := answering(t, http.StatusInternalServerError)
	w := webhook(t, i, url, map[string]any{"max_retries": 1, "backoff_ms": 5000})
	publish(t, i, "call.ended", nil)
	id := only(t, i, w.ID).ID
	require.Eventually(t, func() bool {
		d, err := i.Delivery(t.Context(), id)
		return err == nil && d.State == "retrying"
	}, patience, tick)
	key := i.Key
	require.NoError(t, i.Stop(), "SIGTERM is a clean end")
	_, err := os.Stat(filepath.Join(dir, "endpoints.json"))
	require.ErrorIs(t, err, fs.ErrNotExist, "clients must not find the addresses of an ended process")

	i = start(t, dir)
	require.Equal(t, key, i.Key)
	d := finished(t, i, w.ID)
	require.Equal(t, id, d.ID)
	require.Len(t, d.Attempts, 2)
	require.EqualValues(t, 2, requests.Load())
}

func TestSecretFilesAreTheOwnersOnly(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	start(t, dir)
	for _, name := range []string{"api-key", "encryption-keys"} {
		info, err := os.Stat(filepath.Join(dir, name))
		require.NoError(t, err)
		require.Equal(t, fs.FileMode(0o600), info.Mode().Perm(), name)
	}
}

// TestRefusals guards that a start with a wrong setting fails with an error that names the setting.
func TestRefusals(t *testing.T) {
	t.Parallel()
	taken, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = taken.Close() })
	busy := t.TempDir()
	start(t, busy)

	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"taken API port":         {[]string{"--listen", taken.Addr().String()}, "--listen"},
		"taken metrics port":     {[]string{"--metrics-listen", taken.Addr().String()}, "--metrics-listen"},
		"taken Temporal port":    {[]string{"--temporal-listen", taken.Addr().String()}, "--temporal-listen"},
		"taken Temporal UI port": {[]string{"--temporal-ui-listen", taken.Addr().String()}, "--temporal-ui-listen"},
		"data folder in use":     {[]string{"--data-dir", busy}, "another postrider is running"},
		"bad networks":           {[]string{"--allow-networks", "10.0.0.0/99"}, "--allow-networks"},
		"bad encryption keys":    {[]string{"--encryption-keys", "c2hvcnQ="}, "POSTRIDER_ENCRYPTION_KEYS"},
		"bad in-flight limit":    {[]string{"--max-in-flight", "0"}, "--max-in-flight"},
		"bad log level":          {[]string{"--log-level", "loud"}, "--log-level"},
		"unknown flag":           {[]string{"--no-such-flag"}, "no-such-flag"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			args := append([]string{
				"--data-dir", t.TempDir(), "--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0",
				"--temporal-listen", "127.0.0.1:0", "--temporal-ui-listen", "127.0.0.1:0",
			}, c.args...)
			output, err := exec.CommandContext(t.Context(), binary, args...).CombinedOutput()
			var failed *exec.ExitError
			require.ErrorAs(t, err, &failed, "%s", output)
			require.Contains(t, string(output), c.want)
			require.NotContains(t, string(output), "c2hvcnQ", "a key is never repeated")
		})
	}
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	i := start(t, t.TempDir())
	url, _ := answering(t, http.StatusOK)
	w := webhook(t, i, url, nil)
	publish(t, i, "call.ended", nil)
	finished(t, i, w.ID)
	wanted := []string{
		"postrider_events_accepted_total 1",
		`postrider_deliveries_total{outcome="succeeded"} 1`,
		`postrider_attempts_total{result="success"} 1`,
		`postrider_attempts_total{result="timeout"} 0`,
		"postrider_accept_to_first_attempt_seconds_count 1",
		"postrider_accept_to_delivered_seconds_count 1",
		"postrider_backlog_pending 0",
		"postrider_backlog_oldest_age_seconds 0",
		`operation="StartWorkflowExecution"`, // a metric of the SDK
	}
	var text string
	require.Eventually(t, func() bool { // metrics are counted after the commit
		text = get(t, i.Metrics+"/metrics")
		return !slices.ContainsFunc(wanted, func(line string) bool { return !strings.Contains(text, line) })
	}, patience, tick, "want %s", wanted)
	require.NotContains(t, text, w.ID, "no customer chooses the value of a label")
	for _, path := range []string{"/healthz", "/readyz"} {
		get(t, i.API+path)
		get(t, i.Metrics+path)
	}
}

// get returns the body of an answer, which must be a 200.
func get(t *testing.T, url string) string {
	t.Helper()
	response, err := http.Get(url)
	require.NoError(t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, response.StatusCode, "%s: %s", url, text)
	return string(text)
}

func TestDemo(t *testing.T) {
	t.Parallel()
	output, err := exec.CommandContext(t.Context(), binary, "demo").CombinedOutput()
	require.NoError(t, err, "%s", output)
	require.Contains(t, string(output), "fails twice, then recovers")

	output, err = exec.CommandContext(t.Context(), binary, "demo", "--break-signing").CombinedOutput()
	var failed *exec.ExitError
	require.ErrorAs(t, err, &failed, "%s", output)
	require.Equal(t, 1, failed.ExitCode())
	require.Contains(t, string(output), "DIFFERS")
}
