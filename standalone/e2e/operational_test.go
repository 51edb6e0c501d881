package e2e

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
	"postrider.dev/postrider/signing"
	"postrider.dev/postrider/standalone/instance"
)

// received is an operational event as its receiver got it.
type received struct {
	ID   string
	Type string
	Data map[string]any
}

// watcher is a receiver of events that keeps each event once, by its id, and answers 401 to a request
// whose signature is wrong.
type watcher struct {
	url    string
	secret string

	mu   sync.Mutex
	seen map[string]received
}

func newWatcher(t *testing.T) *watcher {
	t.Helper()
	o := &watcher{secret: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", seen: map[string]received{}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var event received
		if err != nil || json.Unmarshal(body, &event) != nil || event.ID != r.Header.Get("webhook-id") ||
			signing.Verify(signing.HMACSHA256, []string{o.secret}, r.Header, body, time.Now(), time.Minute) != nil {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		o.mu.Lock()
		defer o.mu.Unlock()
		o.seen[event.ID] = event
	}))
	t.Cleanup(server.Close)
	o.url = server.URL
	return o
}

// of returns the events of the type so far.
func (o *watcher) of(eventType string) []received {
	o.mu.Lock()
	defer o.mu.Unlock()
	var found []received
	for _, event := range o.seen {
		if event.Type == eventType {
			found = append(found, event)
		}
	}
	return found
}

// await waits for n events of the type.
func (o *watcher) await(t *testing.T, eventType string, n int) []received {
	t.Helper()
	require.Eventually(t, func() bool { return len(o.of(eventType)) >= n }, patience, tick, eventType)
	require.Len(t, o.of(eventType), n)
	return o.of(eventType)
}

// published counts the operational events of a type that there are.
func published(t *testing.T, i *instance.Instance, eventType string) int {
	t.Helper()
	var list struct{ Data []received }
	require.NoError(t, i.Call(t.Context(), http.MethodGet, "/api/v1/events?limit=200&type="+eventType, nil, &list))
	return len(list.Data)
}

func TestOperationalEvents(t *testing.T) {
	t.Parallel()
	i := start(t, t.TempDir())
	told, all := newWatcher(t), newWatcher(t)
	broken, _ := answering(t, http.StatusInternalServerError)
	gone, _ := answering(t, http.StatusGone)
	webhook(t, i, told.url, map[string]any{"events": []string{"postrider.*"}, "secret": told.secret})
	webhook(t, i, all.url, map[string]any{"events": []string{"*"}, "secret": all.secret})
	deaf := webhook(t, i, broken, map[string]any{"events": []string{"postrider.delivery.failed"}, "max_retries": 0})
	failing := webhook(t, i, broken, map[string]any{"events": []string{"call.ended"}, "max_retries": 1})
	leaving := webhook(t, i, gone, map[string]any{"events": []string{"call.left"}})

	event := publish(t, i, "call.ended", map[string]string{"number": "private"})
	failed := told.await(t, postrider.EventDeliveryFailed, 1)[0].Data
	d := finished(t, i, failing.ID)
	require.Equal(t, []any{d.ID, failing.ID, event.ID, "call.ended", 2.0, *d.LastError, "server_error", 500.0}, []any{
		failed["delivery_id"], failed["webhook_id"], failed["event_id"], failed["event_type"],
		failed["attempt_count"], failed["last_error"], failed["result"], failed["status_code"],
	})
	require.NotContains(t, failed, "number")

	publish(t, i, "call.left", nil)
	disabled := told.await(t, postrider.EventWebhookDisabled, 1)[0].Data
	require.Equal(t, []any{leaving.ID, strings.TrimPrefix(gone, "http://"), "gone"},
		[]any{disabled["webhook_id"], disabled["host"], disabled["reason"]})
	told.await(t, postrider.EventDeliveryFailed, 2)

	allInState(t, i, deaf.ID, "failed", 2)
	publish(t, i, "call.ended", nil) // what a failure of an operational event made would come before this one's
	told.await(t, postrider.EventDeliveryFailed, 3)
	require.Equal(t, 3, published(t, i, postrider.EventDeliveryFailed), "those that failed made no others")
	require.Len(t, all.of("call.ended"), 2)
	for _, own := range []string{postrider.EventDeliveryFailed, postrider.EventWebhookDisabled} {
		require.Empty(t, all.of(own), "* does not ask for it")
	}
	_, err := i.Publish(t.Context(), map[string]any{"type": postrider.EventDeliveryFailed, "data": nil})
	require.ErrorContains(t, err, `"location":"body.type"`)
}

// TestOperationalEventsOutliveTheProcess kills the process while events are being published.
func TestOperationalEventsOutliveTheProcess(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	i := start(t, dir)
	told := newWatcher(t)
	broken, _ := answering(t, http.StatusInternalServerError)
	webhook(t, i, told.url, map[string]any{"events": []string{"postrider.*"}, "secret": told.secret})
	failing := webhook(t, i, broken, map[string]any{"events": []string{"call.ended"}, "max_retries": 0})
	const failures = 150
	events := make([]map[string]any, failures)
	for n := range events {
		events[n] = map[string]any{"type": "call.ended", "data": n}
	}
	require.NoError(t, i.Call(t.Context(), http.MethodPost, "/api/v1/events/batch", map[string]any{"events": events}, nil))
	require.Eventually(t, func() bool { return len(told.of(postrider.EventDeliveryFailed)) > 0 }, patience, tick)
	require.NoError(t, i.Kill())

	i = start(t, dir)
	byDelivery := map[any]bool{}
	for _, event := range told.await(t, postrider.EventDeliveryFailed, failures) {
		require.Equal(t, failing.ID, event.Data["webhook_id"])
		byDelivery[event.Data["delivery_id"]] = true
	}
	require.Len(t, byDelivery, failures, "each failure is told, by one event")
	require.Equal(t, failures, published(t, i, postrider.EventDeliveryFailed))
}
