package e2e

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"

	"postrider.dev/postrider/standalone/instance"
)

// mixed starts a receiver that refuses every first attempt. Later it depends on the event's number
// whether it accepts the third attempt, refuses all, or asks for a wait of one hour.
func mixed(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var event struct{ Data int }
		if err := json.NewDecoder(r.Body).Decode(&event); err != nil {
			t.Errorf("decode an event: %v", err)
		}
		attempt := r.Header.Get("postrider-attempt")
		switch {
		case event.Data%3 == 0 && attempt == "3":
			w.WriteHeader(http.StatusNoContent)
		case event.Data%3 == 1 && attempt == "2":
			w.Header().Set("Retry-After", "3600")
			w.WriteHeader(http.StatusTooManyRequests)
		default:
			w.WriteHeader(http.StatusBadGateway)
		}
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// TestRetriesTogether guards that one workflow can carry retries that end differently. Deliveries
// whose receiver asks for a long wait leave it for another workflow, which is cancelled when the
// webhook is deleted.
func TestRetriesTogether(t *testing.T) {
	t.Parallel()
	i := startWith(t, t.TempDir(), []string{"POSTRIDER_BATCHING=always"})
	c := temporal(t, i)
	w := webhook(t, i, mixed(t), map[string]any{"max_retries": 2, "backoff_ms": 1000})
	const each = 4
	var events []map[string]any
	for n := range 3 * each {
		events = append(events, map[string]any{"type": "call.ended", "data": n})
	}
	require.NoError(t, i.Call(t.Context(), http.MethodPost, "/api/v1/events/batch", map[string]any{"events": events}, nil))

	succeeded, failed := allInState(t, i, w.ID, "succeeded", each), allInState(t, i, w.ID, "failed", each)
	together := map[string]bool{}
	for _, d := range slices.Concat(succeeded, failed) {
		require.Equal(t, 3, d.AttemptCount)
		require.Contains(t, *d.WorkflowID, "retry/")
		together[*d.WorkflowID] = true
	}
	require.Less(t, len(together), each, "%v", together)
	for _, d := range failed {
		require.Eventually(t, func() bool {
			return statusOf(t, c, *d.WorkflowID) == enumspb.WORKFLOW_EXECUTION_STATUS_FAILED
		}, patience, tick)
	}
	replay(t, c, *failed[0].WorkflowID, "retry_v2_fates")

	// The other deliveries are in another workflow by now.
	var waiting []instance.Delivery
	require.Eventually(t, func() bool {
		waiting = allInState(t, i, w.ID, "retrying", each)
		return !slices.ContainsFunc(waiting, func(d instance.Delivery) bool {
			return d.AttemptCount != 2 || d.WorkflowID == nil || *d.WorkflowID == "" || together[*d.WorkflowID]
		})
	}, patience, tick)
	require.NoError(t, i.Call(t.Context(), http.MethodDelete, "/api/v1/webhooks/"+w.ID, nil, nil))
	for _, d := range waiting {
		require.Eventually(t, func() bool {
			return statusOf(t, c, *d.WorkflowID) == enumspb.WORKFLOW_EXECUTION_STATUS_CANCELED
		}, patience, tick)
	}
	replay(t, c, *waiting[0].WorkflowID, "retry_v2_cancelled")
}
