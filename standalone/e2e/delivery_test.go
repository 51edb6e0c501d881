package e2e

import (
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	sdktemporal "go.temporal.io/sdk/temporal"
	"google.golang.org/protobuf/encoding/protojson"

	"postrider.dev/postrider"
	"postrider.dev/postrider/standalone/instance"
	"postrider.dev/postrider/workflows"
)

// TestDeliveries tests deliveries with every outcome on one instance, at the same time. Each has
// a workflow of its own: by default they would share some, if three came within a second.
func TestDeliveries(t *testing.T) {
	t.Parallel()
	i := startWith(t, t.TempDir(), []string{"POSTRIDER_BATCHING=never"})
	for name, try := range map[string]func(*testing.T, *instance.Instance){
		"attempts are max_retries and one, and waits double": testAttempts,
		"timeout_ms cuts a slow receiver off":                testTimeout,
		"410 stops at once and disables":                     testGone,
		"what is paused waits, and goes on when resumed":     testPause,
		"Retry-After is waited for":                          testRetryAfter,
		"the query answers during and after":                 testQuery,
		"temporal holds no payload and no secret":            testNothingSecretInTemporal,
		"deleting a webhook cancels what is under way":       testDelete,
		"workflows are found by search attributes":           testSearchAttributes,
		"a webhook's test reaches it alone":                  testTestRoute,
		"a rotation takes effect at its time, by itself":     testRotation,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			try(t, i)
		})
	}
}

// answering starts a receiver that answers every request with the status and counts requests.
func answering(t *testing.T, status int) (url string, requests *atomic.Int64) {
	t.Helper()
	requests = new(atomic.Int64)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		requests.Add(1)
		w.WriteHeader(status)
	}))
	t.Cleanup(server.Close)
	return server.URL, requests
}

// topic returns an event type for this test alone, so that tests on one instance do not get each
// other's events.
func topic(t *testing.T) string {
	t.Helper()
	return "e2e." + strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, t.Name())
}

func testAttempts(t *testing.T, i *instance.Instance) {
	t.Helper()
	for _, retries := range []int{0, 3, 10} {
		t.Run(strconv.Itoa(retries), func(t *testing.T) {
			t.Parallel()
			url, requests := answering(t, http.StatusInternalServerError)
			w := webhook(t, i, url, map[string]any{"events": []string{topic(t)}, "max_retries": retries})
			publish(t, i, topic(t), nil)

			d := finished(t, i, w.ID)
			require.Equal(t, "failed", d.State)
			require.Len(t, d.Attempts, retries+1)
			require.EqualValues(t, retries+1, requests.Load())
			var waits []time.Duration
			for n := 1; n < len(d.Attempts); n++ {
				require.Equal(t, n+1, d.Attempts[n].Number)
				// The shortest wait: 100 ms, doubled for each attempt, less 20 % jitter.
				least := time.Duration(float64(100*time.Millisecond<<(n-1)) * (1 - postrider.Jitter))
				waits = append(waits, at(t, d.Attempts[n].StartedAt).Sub(at(t, d.Attempts[n-1].StartedAt)))
				require.GreaterOrEqual(t, waits[n-1], least)
			}
			t.Logf("max_retries %d: %d attempts, waits %s", retries, len(d.Attempts), waits)

			run := temporal(t, i).GetWorkflow(t.Context(), postrider.DeliveryWorkflowID(d.ID), "")
			var typed *sdktemporal.ApplicationError
			require.ErrorAs(t, run.Get(t.Context(), nil), &typed)
			require.Equal(t, workflows.ErrorExhausted, typed.Type())
			require.Equal(t, enumspb.WORKFLOW_EXECUTION_STATUS_FAILED, status(t, temporal(t, i), d.ID))

			var seen instance.Webhook
			require.NoError(t, i.Call(t.Context(), http.MethodGet, "/api/v1/webhooks/"+w.ID, nil, &seen))
			require.Equal(t, 1, seen.Stats.TotalDeliveries)
			require.Equal(t, 1, seen.Stats.FailedDeliveries)
			require.Zero(t, seen.Stats.SuccessRate)
			require.NotNil(t, seen.LastError)
		})
	}
}

func at(t *testing.T, text string) time.Time {
	t.Helper()
	parsed, err := time.Parse(time.RFC3339Nano, text)
	require.NoError(t, err)
	return parsed
}

func status(t *testing.T, c client.Client, deliveryID string) enumspb.WorkflowExecutionStatus {
	t.Helper()
	return statusOf(t, c, postrider.DeliveryWorkflowID(deliveryID))
}

func statusOf(t *testing.T, c client.Client, workflowID string) enumspb.WorkflowExecutionStatus {
	t.Helper()
	described, err := c.DescribeWorkflowExecution(t.Context(), workflowID, "")
	require.NoError(t, err)
	return described.GetWorkflowExecutionInfo().GetStatus()
}

func testTimeout(t *testing.T, i *instance.Instance) {
	t.Helper()
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select { // wait until the client gives up
		case <-r.Context().Done():
		case <-release:
		}
	}))
	t.Cleanup(func() { close(release); server.Close() })
	w := webhook(t, i, server.URL, map[string]any{"events": []string{topic(t)}, "max_retries": 1, "timeout_ms": 1000})
	publish(t, i, topic(t), nil)

	d := finished(t, i, w.ID)
	require.Equal(t, "failed", d.State)
	require.Len(t, d.Attempts, 2)
	for _, a := range d.Attempts {
		require.Equal(t, "timeout", a.Result)
		require.Nil(t, a.StatusCode)
		require.GreaterOrEqual(t, a.DurationMS, int64(990))
		require.Less(t, a.DurationMS, int64(5000), "a busy machine is late, but not the default timeout late")
		t.Logf("timeout_ms 1000, cut off after %d ms", a.DurationMS)
	}
}

func testGone(t *testing.T, i *instance.Instance) {
	t.Helper()
	url, requests := answering(t, http.StatusGone)
	w := webhook(t, i, url, map[string]any{"events": []string{topic(t)}})
	publish(t, i, topic(t), nil)

	d := finished(t, i, w.ID)
	require.Equal(t, "failed", d.State)
	require.Len(t, d.Attempts, 1)
	require.EqualValues(t, 1, requests.Load())
	var seen instance.Webhook
	require.NoError(t, i.Call(t.Context(), http.MethodGet, "/api/v1/webhooks/"+w.ID, nil, &seen))
	require.Equal(t, "disabled", seen.Status)
	require.Equal(t, "gone", *seen.DisabledReason)
	run := temporal(t, i).GetWorkflow(t.Context(), postrider.DeliveryWorkflowID(d.ID), "")
	var typed *sdktemporal.ApplicationError
	require.ErrorAs(t, run.Get(t.Context(), nil), &typed)
	require.Equal(t, workflows.ErrorGone, typed.Type())

	publish(t, i, topic(t), nil)
	deliveries, err := i.Deliveries(t.Context(), w.ID)
	require.NoError(t, err)
	require.Len(t, deliveries, 2)
	require.Equal(t, "parked", deliveries[0].State, "events of a disabled webhook are kept")
}

// testPause pauses a webhook whose receiver fails, so that one delivery is being retried and
// others have just come, and resumes it when the receiver is well.
func testPause(t *testing.T, i *instance.Instance) {
	t.Helper()
	var fails atomic.Bool
	fails.Store(true)
	var requests atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		requests.Add(1)
		if fails.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	t.Cleanup(server.Close)
	w := webhook(t, i, server.URL, map[string]any{"events": []string{topic(t)}, "backoff_ms": 3600000})
	set := func(action, status string) {
		var seen instance.Webhook
		require.NoError(t, i.Call(t.Context(), http.MethodPost, "/api/v1/webhooks/"+w.ID+"/"+action, nil, &seen))
		require.Equal(t, status, seen.Status)
	}
	inState := func(state string) int {
		deliveries, err := i.Deliveries(t.Context(), w.ID)
		require.NoError(t, err)
		n := 0
		for _, d := range deliveries {
			if d.State == state {
				n++
			}
		}
		return n
	}
	publish(t, i, topic(t), nil)
	require.Eventually(t, func() bool { return inState("retrying") == 1 }, patience, tick)
	set("pause", "paused")
	publish(t, i, topic(t), nil)
	publish(t, i, topic(t), nil)
	require.Eventually(t, func() bool { return inState("parked") == 3 }, patience, tick)
	require.EqualValues(t, 1, requests.Load())
	fails.Store(false)
	set("resume", "active")
	require.Eventually(t, func() bool { return inState("succeeded") == 3 }, patience, tick, "the retry does not wait for its hour")
	require.EqualValues(t, 4, requests.Load())
}

func testRetryAfter(t *testing.T, i *instance.Instance) {
	t.Helper()
	var requests atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if requests.Add(1) <= 2 {
			w.Header().Set("Retry-After", "2")
			w.WriteHeader(http.StatusTooManyRequests)
		}
	}))
	t.Cleanup(server.Close)
	w := webhook(t, i, server.URL, map[string]any{"events": []string{topic(t)}})
	publish(t, i, topic(t), nil)

	d := finished(t, i, w.ID)
	require.Equal(t, "succeeded", d.State)
	require.Len(t, d.Attempts, 3)
	for n := 1; n < len(d.Attempts); n++ {
		waited := at(t, d.Attempts[n].StartedAt).Sub(at(t, d.Attempts[n-1].StartedAt))
		require.GreaterOrEqual(t, waited, 2*time.Second)
		t.Logf("Retry-After: 2, waited %s", waited)
	}
}

func testQuery(t *testing.T, i *instance.Instance) {
	t.Helper()
	var broken atomic.Bool
	broken.Store(true)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if broken.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	t.Cleanup(server.Close)
	// Attempts are made at about 0, 3 and 9 s. The first wait is a timer of the workflow, the
	// second one is the activity's backoff.
	w := webhook(t, i, server.URL, map[string]any{"events": []string{topic(t)}, "backoff_ms": 3000})
	publish(t, i, topic(t), nil)
	id := only(t, i, w.ID).ID

	for _, attempts := range []int{1, 2} {
		var h instance.Delivery
		require.Eventually(t, func() bool {
			var err error
			h, err = i.History(t.Context(), id)
			return err == nil && len(h.Attempts) == attempts && h.NextAttemptAt != nil && h.Source == "workflow"
		}, patience, tick)
		require.Equal(t, "retrying", h.State)
		require.Equal(t, "delivery/"+id, *h.WorkflowID)
		require.NotEmpty(t, *h.RunID)
		require.Contains(t, *h.TemporalUIURL, i.TemporalUI)
		answer, err := temporal(t, i).QueryWorkflow(t.Context(), *h.WorkflowID, *h.RunID, "history")
		require.NoError(t, err)
		var asked postrider.History
		require.NoError(t, answer.Get(&asked))
		require.Len(t, asked.Attempts, attempts)
		require.NotNil(t, asked.NextAttemptAt)
	}
	broken.Store(false)
	require.Equal(t, "succeeded", finished(t, i, w.ID).State)
	var h instance.Delivery
	require.Eventually(t, func() bool { // the database answers while the workflow is busy
		var err error
		h, err = i.History(t.Context(), id)
		return err == nil && h.Source == "workflow" && h.State == "succeeded"
	}, patience, tick)
	require.Len(t, h.Attempts, 3)
	require.Nil(t, h.NextAttemptAt)
}

func testNothingSecretInTemporal(t *testing.T, i *instance.Instance) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusBadGateway)
		_, _ = w.Write([]byte("RESPONSE-TEXT " + r.Header.Get("Authorization")))
	}))
	t.Cleanup(server.Close)
	w := webhook(t, i, server.URL+"/?token=URL-TOKEN", map[string]any{
		"events": []string{topic(t)}, "max_retries": 2, "signing_method": "bearer", "secret": "SECRET-TOKEN",
		"headers": map[string]string{"X-Tenant": "HEADER-VALUE"},
	})
	publish(t, i, topic(t), map[string]string{"card": "PAYLOAD-TEXT"})
	d := finished(t, i, w.ID)

	var text strings.Builder
	for event := range eventsOf(t, temporal(t, i), postrider.DeliveryWorkflowID(d.ID)) {
		text.WriteString(readable(t, protojson.Format(event)))
	}
	require.Contains(t, text.String(), d.ID)
	require.Contains(t, text.String(), "server_error")
	for _, secret := range []string{"SECRET-TOKEN", "PAYLOAD-TEXT", "RESPONSE-TEXT", "HEADER-VALUE", "URL-TOKEN"} {
		require.NotContains(t, text.String(), secret)
	}
}

// readable replaces payloads in base64 by their text.
func readable(t *testing.T, event string) string {
	t.Helper()
	return regexp.MustCompile(`"data":\s*"([^"]*)"`).ReplaceAllStringFunc(event, func(field string) string {
		data, err := base64.StdEncoding.DecodeString(strings.Split(field, `"`)[3])
		require.NoError(t, err)
		return string(data)
	})
}

func testDelete(t *testing.T, i *instance.Instance) {
	t.Helper()
	url, requests := answering(t, http.StatusInternalServerError)
	w := webhook(t, i, url, map[string]any{"events": []string{topic(t)}, "backoff_ms": 3600000})
	publish(t, i, topic(t), nil)
	id := only(t, i, w.ID).ID
	require.Eventually(t, func() bool {
		d, err := i.Delivery(t.Context(), id)
		return err == nil && d.State == "retrying"
	}, patience, tick)

	require.NoError(t, i.Call(t.Context(), http.MethodDelete, "/api/v1/webhooks/"+w.ID, nil, nil))
	d, err := i.Delivery(t.Context(), id)
	require.NoError(t, err, "history stays")
	require.Equal(t, "cancelled", d.State)
	require.Len(t, d.Attempts, 1)
	c := temporal(t, i)
	require.Eventually(t, func() bool {
		return status(t, c, id) == enumspb.WORKFLOW_EXECUTION_STATUS_CANCELED
	}, patience, tick)
	require.EqualValues(t, 1, requests.Load())
}

func testSearchAttributes(t *testing.T, i *instance.Instance) {
	t.Helper()
	url, _ := answering(t, http.StatusOK)
	w := webhook(t, i, url, map[string]any{"events": []string{topic(t)}})
	publish(t, i, topic(t), nil)
	d := finished(t, i, w.ID)
	c := temporal(t, i)
	require.Eventually(t, func() bool { // visibility is updated later
		found, err := c.ListWorkflow(t.Context(), &workflowservice.ListWorkflowExecutionsRequest{
			Query: "PostriderWebhook = '" + w.ID + "' AND PostriderEventType = '" + topic(t) + "'",
		})
		return err == nil && len(found.GetExecutions()) == 1 &&
			found.GetExecutions()[0].GetExecution().GetWorkflowId() == postrider.DeliveryWorkflowID(d.ID)
	}, patience, 50*time.Millisecond)
}

func testTestRoute(t *testing.T, i *instance.Instance) {
	t.Helper()
	url, requests := answering(t, http.StatusOK)
	w := webhook(t, i, url, map[string]any{"events": []string{topic(t)}})
	other := webhook(t, i, url, map[string]any{"events": []string{"webhook.test"}})
	var receipt instance.Receipt
	require.NoError(t, i.Call(t.Context(), http.MethodPost, "/api/v1/webhooks/"+w.ID+"/test", nil, &receipt))
	require.Equal(t, "webhook.test", receipt.Type)
	require.Equal(t, 1, receipt.Deliveries)
	require.Equal(t, "succeeded", finished(t, i, w.ID).State)
	require.EqualValues(t, 1, requests.Load())
	others, err := i.Deliveries(t.Context(), other.ID)
	require.NoError(t, err)
	require.Empty(t, others)
}
