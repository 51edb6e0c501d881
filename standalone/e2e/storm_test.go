package e2e

import (
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider/standalone/instance"
	"postrider.dev/postrider/store/pgtest"
)

// refusingReceiver is a receiver that refuses every request and counts requests by delivery.
type refusingReceiver struct {
	*httptest.Server

	mu       sync.Mutex
	seen     map[string]int
	requests int
}

func newRefusingReceiver(t *testing.T) *refusingReceiver {
	t.Helper()
	r := &refusingReceiver{seen: map[string]int{}}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.seen[request.Header.Get("postrider-delivery-id")]++
		r.requests++
		w.WriteHeader(http.StatusInternalServerError)
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *refusingReceiver) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.requests
}

// TestKillInAStorm guards that each delivery makes exactly the attempts of its policy when the
// process, with its Temporal, is killed while hundreds of deliveries are retried. Only attempts
// that were under way may be made twice, at most max_in_flight.
func TestKillInAStorm(t *testing.T) {
	t.Parallel()
	server, err := pgtest.Start(t.Context())
	require.NoError(t, err)
	t.Cleanup(server.Stop)
	for name, env := range map[string][]string{
		"SQLite":                  nil,
		"PostgreSQL":              {"POSTRIDER_DATABASE_URL=" + server.EmptyDatabase(t)},
		"a workflow for each one": {"POSTRIDER_BATCHING=never"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			killInAStorm(t, env)
		})
	}
}

func killInAStorm(t *testing.T, env []string) {
	t.Helper()
	const deliveries, attempts, maxInFlight = 150, 3, 32
	dir := t.TempDir()
	i := startWith(t, dir, env)
	receiver := newRefusingReceiver(t)
	w := webhook(t, i, receiver.URL, map[string]any{
		"max_retries": attempts - 1, "backoff_ms": 500, "max_in_flight": maxInFlight, "circuit_breaker": false,
	})
	var events []map[string]any
	for n := range deliveries {
		events = append(events, map[string]any{"type": "call.ended", "data": n})
	}
	require.NoError(t, i.Call(t.Context(), http.MethodPost, "/api/v1/events/batch", map[string]any{"events": events}, nil))
	require.Eventually(t, func() bool { return receiver.count() > deliveries*3/2 }, patience, time.Millisecond)
	require.NoError(t, i.Kill())

	i = startWith(t, dir, env)
	require.Eventually(t, func() bool {
		var seen instance.Webhook
		err := i.Call(t.Context(), http.MethodGet, "/api/v1/webhooks/"+w.ID, nil, &seen)
		return err == nil && seen.Stats.FailedDeliveries == deliveries
	}, 3*patience, 100*time.Millisecond)
	for _, d := range allInState(t, i, w.ID, "failed", deliveries) {
		require.Equal(t, attempts, d.AttemptCount)
	}
	receiver.mu.Lock()
	defer receiver.mu.Unlock()
	require.Len(t, receiver.seen, deliveries)
	for id, n := range receiver.seen {
		require.GreaterOrEqual(t, n, attempts, id)
	}
	twice := receiver.requests - attempts*deliveries
	require.LessOrEqual(t, twice, maxInFlight)
	t.Logf("%d deliveries made %d attempts each, %d of them twice", deliveries, attempts, twice)
}
