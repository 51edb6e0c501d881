package e2e

import (
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider/standalone/instance"
)

// failingFirst starts a receiver that fails every first attempt. attempts returns the requests that
// came, by delivery.
func failingFirst(t *testing.T) (url string, attempts func() map[string][]string) {
	t.Helper()
	var mu sync.Mutex
	came := map[string][]string{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		id, attempt := r.Header.Get("postrider-delivery-id"), r.Header.Get("postrider-attempt")
		came[id] = append(came[id], attempt)
		if attempt == "1" {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	t.Cleanup(server.Close)
	return server.URL, func() map[string][]string {
		mu.Lock()
		defer mu.Unlock()
		return came
	}
}

// TestTwoInstallationsInOneNamespace guards against installations, each with a database of its own,
// that take each other's tasks: a worker found no such delivery and dropped the other's retry, which
// waited for ever.
func TestTwoInstallationsInOneNamespace(t *testing.T) {
	t.Parallel()
	const each = 40
	first := newLayout(t)
	type installation struct {
		*layout
		webhook  instance.Webhook
		attempts func() map[string][]string
	}
	installations := []*installation{{layout: first}, {layout: first.beside(t)}}
	for _, i := range installations {
		i.run(t, "serve")
		i.run(t, "worker")
		var url string
		url, i.attempts = failingFirst(t)
		i.webhook = webhook(t, &i.Client, url, map[string]any{"max_retries": 3})
	}
	for range each {
		for _, i := range installations {
			publish(t, &i.Client, "call.ended", nil)
		}
	}
	for _, i := range installations {
		await(t, func() bool { return i.finished(t) == each })
		var seen instance.Webhook
		require.NoError(t, i.Call(t.Context(), http.MethodGet, "/api/v1/webhooks/"+i.webhook.ID, nil, &seen))
		require.Zero(t, seen.Stats.FailedDeliveries)
		attempts := i.attempts()
		require.Len(t, attempts, each)
		for id, made := range attempts {
			require.Equal(t, []string{"1", "2"}, made, id)
		}
	}
}
