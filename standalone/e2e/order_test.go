package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider/standalone/instance"
)

// orderly is a receiver that notes in which order events come, by their key, and refuses some of them
// the first time.
type orderly struct {
	*httptest.Server
	refuses func(key string, n int) bool

	mu      sync.Mutex
	running map[string]int   // requests under way, by key: the event's number
	came    map[string][]int // numbers of the events that were accepted, each once
	refused map[string]bool
	faults  []string
}

func newOrderly(t *testing.T, refuses func(key string, n int) bool) *orderly {
	t.Helper()
	o := &orderly{refuses: refuses, running: map[string]int{}, came: map[string][]int{}, refused: map[string]bool{}}
	o.Server = httptest.NewServer(http.HandlerFunc(o.receive))
	t.Cleanup(o.Close)
	return o
}

func (o *orderly) receive(w http.ResponseWriter, r *http.Request) {
	var event struct {
		Data struct {
			Key string
			N   int
		}
	}
	if err := json.NewDecoder(r.Body).Decode(&event); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	key, n := event.Data.Key, event.Data.N
	o.begin(key, n)
	if !o.end(key, n) {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
}

func (o *orderly) begin(key string, n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if other, busy := o.running[key]; busy && other != n {
		o.faults = append(o.faults, fmt.Sprintf("%s: %d came while %d was under way", key, n, other))
	}
	o.running[key] = n
}

// end reports whether the event is accepted.
func (o *orderly) end(key string, n int) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.running, key)
	if again := fmt.Sprint(key, n); o.refuses(key, n) && !o.refused[again] {
		o.refused[again] = true
		return false
	}
	came := o.came[key]
	switch last := len(came) - 1; {
	case last >= 0 && came[last] == n: // a worker was killed before its record
	case last >= 0 && came[last] > n:
		o.faults = append(o.faults, fmt.Sprintf("%s: %d came after %d", key, n, came[last]))
	default:
		o.came[key] = append(came, n)
	}
	return true
}

// state returns how many events were accepted of each key, and what went wrong.
func (o *orderly) state() (came map[string]int, all int, faults []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	came = map[string]int{}
	for key, numbers := range o.came {
		came[key] = len(numbers)
		all += len(numbers)
	}
	return came, all, o.faults
}

// publishInOrder publishes n events of the type, over the keys in turn, by the clients in turn.
func publishInOrder(t *testing.T, clients []*instance.Client, topic string, n int, keys ...string) {
	t.Helper()
	const batch = 25
	for from := 0; from < n; from += batch {
		var events []map[string]any
		for i := from; i < min(from+batch, n); i++ {
			key := keys[i%len(keys)]
			events = append(events, map[string]any{"type": topic, "ordering_key": key, "data": map[string]any{"key": key, "n": i}})
		}
		client := clients[from/batch%len(clients)]
		require.NoError(t, client.Call(t.Context(), http.MethodPost, "/api/v1/events/batch", map[string]any{"events": events}, nil))
	}
}

const inOrder = 500

// orders makes webhooks of both orderings, and publishes 500 events to each.
func orders(t *testing.T, clients []*instance.Client) (fifo, key *orderly) {
	t.Helper()
	seldom := func(_ string, n int) bool { return n%25 == 10 }
	fifo, key = newOrderly(t, seldom), newOrderly(t, seldom)
	webhook(t, clients[0], fifo.URL, map[string]any{"events": []string{"order.fifo"}, "ordering": "fifo"})
	webhook(t, clients[0], key.URL, map[string]any{"events": []string{"order.key"}, "ordering": "key"})
	publishInOrder(t, clients, "order.fifo", inOrder, "all")
	publishInOrder(t, clients, "order.key", inOrder, "a", "b", "c", "d", "e")
	return fifo, key
}

// allInOrder waits until everything has come, and nothing out of its order.
func allInOrder(t *testing.T, receivers ...*orderly) {
	t.Helper()
	for _, o := range receivers {
		var all int
		var faults []string
		require.Eventually(t, func() bool { _, all, faults = o.state(); return all >= inOrder || len(faults) > 0 }, 2*patience, tick)
		require.Empty(t, faults)
		require.Equal(t, inOrder, all)
		require.Len(t, o.refused, inOrder/25)
	}
}

// TestOrder guards the order of events with retries in between, and over a kill.
func TestOrder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	i := start(t, dir)
	fifo, key := orders(t, []*instance.Client{&i.Client})
	await(t, func() bool { _, n, _ := fifo.state(); return n > inOrder/5 })
	require.NoError(t, i.Kill())
	start(t, dir)
	allInOrder(t, fifo, key)
}

// TestOrderOverProcesses is TestOrder with two APIs and three workers, of which one is killed.
func TestOrderOverProcesses(t *testing.T) {
	t.Parallel()
	l := newLayout(t)
	apis := []*instance.Client{&l.run(t, "api").Client, &l.run(t, "api").Client}
	var workers []*process
	for range 3 {
		workers = append(workers, l.run(t, "worker"))
	}
	fifo, key := orders(t, apis)
	await(t, func() bool { _, n, _ := fifo.state(); return n > inOrder/5 })
	require.NoError(t, workers[1].Kill())
	allInOrder(t, fifo, key)
}

// TestBlockedOrder guards that a delivery that blocks is named, holds up its key alone, and lets the
// rest go when it is skipped.
func TestBlockedOrder(t *testing.T) {
	t.Parallel()
	i := start(t, t.TempDir())
	o := newOrderly(t, func(key string, n int) bool { return key == "bad" && n < 2 })
	w := webhook(t, i, o.URL, map[string]any{
		"events": []string{"*"}, "ordering": "key", "on_exhausted": "block", "max_retries": 0,
	})
	began := time.Now()
	publishInOrder(t, []*instance.Client{&i.Client}, "order.blocked", 200, "bad", "good")
	await(t, func() bool { came, _, _ := o.state(); return came["good"] == 100 })
	t.Logf("100 events of the other key in %s", time.Since(began))
	blocked := blockedBy(t, i, w.ID)
	require.Len(t, blocked, 1)
	require.Equal(t, []string{"bad", "failed"}, []string{*blocked[0].OrderingKey, blocked[0].State})
	came, _, _ := o.state()
	require.Zero(t, came["bad"])

	act(t, &i.Client, blocked[0].DeliveryID, "skip")
	await(t, func() bool { came, _, _ := o.state(); return came["bad"] == 99 })
	_, all, faults := o.state()
	require.Empty(t, faults)
	require.Equal(t, 199, all)
	require.Empty(t, blockedBy(t, i, w.ID))
}

// blocker is what a webhook says of a delivery that holds others up.
type blocker struct {
	OrderingKey *string `json:"ordering_key"`
	DeliveryID  string  `json:"delivery_id"`
	State       string
}

func blockedBy(t *testing.T, i *instance.Instance, webhookID string) []blocker {
	t.Helper()
	var w struct {
		BlockedBy []blocker `json:"blocked_by"`
	}
	require.NoError(t, i.Call(t.Context(), http.MethodGet, "/api/v1/webhooks/"+webhookID, nil, &w))
	return w.BlockedBy
}
