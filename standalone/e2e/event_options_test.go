package e2e

import (
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	sdktemporal "go.temporal.io/sdk/temporal"

	"postrider.dev/postrider"
	"postrider.dev/postrider/standalone/instance"
	"postrider.dev/postrider/workflows"
)

// TestEventOptions tests what a publisher may say of one event, on one instance at the same time.
func TestEventOptions(t *testing.T) {
	t.Parallel()
	i := startWith(t, t.TempDir(), []string{"POSTRIDER_BATCHING=never"})
	for name, try := range map[string]func(*testing.T, *instance.Instance){
		"what expires behind a slow request is not sent": testExpiryBehindALimit,
		"no retry is waited for that would be too late":  testExpiryInABackoff,
		"an event goes to one webhook alone":             testOneWebhook,
		"an event's headers replace its webhook's":       testEventHeaders,
		"a scheduled event is called off":                testCallOffScheduled,
		"a retry in an hour is called off":               testCallOffRetrying,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			try(t, i)
		})
	}
}

// publishWith publishes an event with more fields.
func publishWith(t *testing.T, i caller, eventType string, fields map[string]any) instance.Receipt {
	t.Helper()
	all := map[string]any{"type": eventType, "data": nil}
	for name, value := range fields {
		all[name] = value
	}
	receipt, err := i.Publish(t.Context(), all)
	require.NoError(t, err)
	return receipt
}

// recording starts a receiver that answers with the status, and returns the requests' headers so far.
func recording(t *testing.T, status int) (url string, seen func() []http.Header) {
	t.Helper()
	var mu sync.Mutex
	var all []http.Header
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		all = append(all, r.Header)
		mu.Unlock()
		w.WriteHeader(status)
	}))
	t.Cleanup(server.Close)
	return server.URL, func() []http.Header {
		mu.Lock()
		defer mu.Unlock()
		return append([]http.Header{}, all...)
	}
}

func requireExpired(t *testing.T, d instance.Delivery, attempts int) {
	t.Helper()
	require.Equal(t, "failed", d.State)
	require.NotNil(t, d.LastError)
	require.Equal(t, "expired", *d.LastError)
	require.Len(t, d.Attempts, attempts)
	require.Nil(t, d.NextAttemptAt)
}

// ended waits until a delivery is finished, and returns it with its attempts.
func ended(t *testing.T, i caller, id string) instance.Delivery {
	t.Helper()
	var d instance.Delivery
	require.Eventually(t, func() bool {
		var err error
		d, err = i.Delivery(t.Context(), id)
		return err == nil && postrider.DeliveryState(d.State).Finished()
	}, patience, tick)
	return d
}

func testExpiryBehindALimit(t *testing.T, i *instance.Instance) {
	t.Helper()
	release := make(chan struct{})
	var mu sync.Mutex
	var got []string
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		got = append(got, r.Header.Get("webhook-id"))
		mu.Unlock()
		<-release
	}))
	t.Cleanup(server.Close)
	free := sync.OnceFunc(func() { close(release) })
	t.Cleanup(free)
	w := webhook(t, i, server.URL, map[string]any{"events": []string{topic(t)}, "max_in_flight": 1, "timeout_ms": 30000})
	slow := publish(t, i, topic(t), nil)
	require.Eventually(t, func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(got) == 1
	}, patience, tick)
	late := publishWith(t, i, topic(t), map[string]any{"ttl_seconds": 1})
	deliveries := allOf(t, i, w.ID, 2)
	requireExpired(t, ended(t, i, deliveries[late.ID].ID), 0)
	free()
	last := publish(t, i, topic(t), nil)
	require.Equal(t, "succeeded", ended(t, i, allOf(t, i, w.ID, 3)[last.ID].ID).State)
	require.Equal(t, "succeeded", ended(t, i, deliveries[slow.ID].ID).State)
	mu.Lock()
	defer mu.Unlock()
	require.ElementsMatch(t, []string{slow.ID, last.ID}, got, "what expired was never sent")
	var seen instance.Webhook
	require.NoError(t, i.Call(t.Context(), http.MethodGet, "/api/v1/webhooks/"+w.ID, nil, &seen))
	require.Equal(t, []int{3, 1}, []int{seen.Stats.TotalDeliveries, seen.Stats.FailedDeliveries})
}

// allOf waits until a webhook has n deliveries, and returns them by event.
func allOf(t *testing.T, i caller, webhookID string, n int) map[string]instance.Delivery {
	t.Helper()
	byEvent := map[string]instance.Delivery{}
	require.Eventually(t, func() bool {
		found, err := i.Deliveries(t.Context(), webhookID)
		for _, d := range found {
			byEvent[d.EventID] = d
		}
		return err == nil && len(found) == n
	}, patience, tick)
	return byEvent
}

func testExpiryInABackoff(t *testing.T, i *instance.Instance) {
	t.Helper()
	url, requests := answering(t, http.StatusBadGateway)
	w := webhook(t, i, url, map[string]any{"events": []string{topic(t)}, "backoff_ms": 3600000})
	published := time.Now()
	publishWith(t, i, topic(t), map[string]any{"ttl_seconds": 600})
	d := finished(t, i, w.ID)
	requireExpired(t, d, 1)
	require.Less(t, time.Since(published), 10*time.Minute, "it does not wait for its time")
	require.EqualValues(t, 1, requests.Load())
	var typed *sdktemporal.ApplicationError
	require.ErrorAs(t, temporal(t, i).GetWorkflow(t.Context(), *d.WorkflowID, "").Get(t.Context(), nil), &typed)
	require.Equal(t, workflows.ErrorExpired, typed.Type())

	// Attempts go on as long as there is time for another.
	soon := webhook(t, i, url, map[string]any{"events": []string{topic(t) + ".soon"}, "backoff_ms": 500, "max_retries": 10})
	publishWith(t, i, topic(t)+".soon", map[string]any{"ttl_seconds": 3})
	d = finished(t, i, soon.ID)
	require.Equal(t, "expired", *d.LastError)
	require.Greater(t, d.AttemptCount, 1)
	require.Less(t, d.AttemptCount, 11)
	first, last := at(t, d.Attempts[0].StartedAt), at(t, d.Attempts[d.AttemptCount-1].StartedAt)
	require.Less(t, last.Sub(first), 3*time.Second, "none after its time")
}

func testOneWebhook(t *testing.T, i *instance.Instance) {
	t.Helper()
	url, seen := recording(t, http.StatusNoContent)
	other, others := answering(t, http.StatusNoContent)
	one := webhook(t, i, url, map[string]any{"events": []string{"nothing.of.this"}})
	subscribed := webhook(t, i, other, map[string]any{"events": []string{topic(t)}})
	r := publishWith(t, i, topic(t), map[string]any{"webhook_id": one.ID})
	require.Equal(t, 1, r.Deliveries)
	require.Equal(t, "succeeded", finished(t, i, one.ID).State)
	require.Equal(t, r.ID, seen()[0].Get("webhook-id"))
	publish(t, i, topic(t), nil) // comes after it
	require.Equal(t, "succeeded", finished(t, i, subscribed.ID).State)
	require.EqualValues(t, 1, others.Load())
	_, err := i.Publish(t.Context(), map[string]any{"type": topic(t), "data": 1, "webhook_id": "wh_unknown"})
	require.ErrorContains(t, err, `"location":"body.webhook_id"`)
}

func testEventHeaders(t *testing.T, i *instance.Instance) {
	t.Helper()
	url, seen := recording(t, http.StatusBadGateway)
	w := webhook(t, i, url, map[string]any{
		"events": []string{topic(t)}, "max_retries": 1, "headers": map[string]string{"X-Tenant": "webhook", "X-Kept": "webhook"},
	})
	publishWith(t, i, topic(t), map[string]any{"headers": map[string]string{"x-tenant": "event", "X-Own": "event"}})
	require.Equal(t, "failed", finished(t, i, w.ID).State)
	require.Len(t, seen(), 2)
	for _, header := range seen() {
		require.Equal(t, []string{"event"}, header.Values("X-Tenant"))
		require.Equal(t, []string{"event"}, header.Values("X-Own"))
		require.Equal(t, []string{"webhook"}, header.Values("X-Kept"))
	}
}

func cancelEvent(t *testing.T, i *instance.Instance, id string) (cancelled int) {
	t.Helper()
	var answer struct{ Cancelled int }
	require.NoError(t, i.Call(t.Context(), http.MethodDelete, "/api/v1/events/"+id, nil, &answer))
	return answer.Cancelled
}

func testCallOffScheduled(t *testing.T, i *instance.Instance) {
	t.Helper()
	url, seen := recording(t, http.StatusNoContent)
	w := webhook(t, i, url, map[string]any{"events": []string{topic(t)}})
	at := func(after time.Duration) string { return time.Now().Add(after).Format(time.RFC3339Nano) }
	off := publishWith(t, i, topic(t), map[string]any{"id": "e2e-called-off", "deliver_at": at(2 * time.Second)})
	sentinel := publishWith(t, i, topic(t), map[string]any{"deliver_at": at(3 * time.Second)})
	require.Equal(t, 1, cancelEvent(t, i, off.ID))
	require.Zero(t, cancelEvent(t, i, off.ID))
	deliveries := allOf(t, i, w.ID, 2)
	require.Equal(t, "cancelled", deliveries[off.ID].State)
	require.Equal(t, "succeeded", ended(t, i, deliveries[sentinel.ID].ID).State)
	require.Len(t, seen(), 1, "the one that was called off was due before")
	require.ErrorContains(t, i.Call(t.Context(), http.MethodDelete, "/api/v1/events/e2e-unknown", nil, nil), "status 404")
}

func testCallOffRetrying(t *testing.T, i *instance.Instance) {
	t.Helper()
	url, requests := answering(t, http.StatusBadGateway)
	w := webhook(t, i, url, map[string]any{"events": []string{topic(t)}, "backoff_ms": 3600000})
	r := publish(t, i, topic(t), nil)
	waiting := allInState(t, i, w.ID, "retrying", 1)
	require.Equal(t, 1, cancelEvent(t, i, r.ID))
	d := finished(t, i, w.ID)
	require.Equal(t, "cancelled", d.State)
	require.Len(t, d.Attempts, 1)
	require.EqualValues(t, 1, requests.Load())
	c := temporal(t, i)
	require.Eventually(t, func() bool {
		return statusOf(t, c, *waiting[0].WorkflowID) == enumspb.WORKFLOW_EXECUTION_STATUS_CANCELED
	}, patience, tick, "its workflow does not wait for an hour")
}

// TestExpiryOutlivesTheProcess guards that what is parked expires, though its time comes while
// nothing runs.
func TestExpiryOutlivesTheProcess(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	i := start(t, dir)
	url, requests := answering(t, http.StatusNoContent)
	w := webhook(t, i, url, nil)
	require.NoError(t, i.Call(t.Context(), http.MethodPost, "/api/v1/webhooks/"+w.ID+"/pause", nil, nil))
	publishWith(t, i, "call.ended", map[string]any{"ttl_seconds": 1})
	kept := publishWith(t, i, "call.ended", map[string]any{"ttl_seconds": 3600})
	require.NoError(t, i.Kill())

	i = start(t, dir)
	failed := allInState(t, i, w.ID, "failed", 1)[0]
	d, err := i.Delivery(t.Context(), failed.ID)
	require.NoError(t, err)
	requireExpired(t, d, 0)
	require.NoError(t, i.Call(t.Context(), http.MethodPost, "/api/v1/webhooks/"+w.ID+"/resume", nil, nil))
	require.Equal(t, kept.ID, allInState(t, i, w.ID, "succeeded", 1)[0].EventID)
	require.EqualValues(t, 1, requests.Load())
}
