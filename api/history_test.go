package api_test

import (
	"context"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
	"postrider.dev/postrider/api"
)

// told returns a reader whose workflow tells the history.
func told(history postrider.History) api.HistoryReader {
	return historyFunc(func(context.Context, string, string) (postrider.History, error) { return history, nil })
}

// Guards against a delivery that is cancelled in the database and shown as being retried:
// the workflow that made its latest attempt does not hear of the cancellation.
func TestHistoryIsNotOlderThanTheDatabase(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *api.Config) {
		c.Histories = told(postrider.History{State: postrider.StateRetrying, RunID: "run-1"})
	})
	webhook := b.newWebhook("")
	id := b.publish(`{"type":"a","data":1}`)
	b.attempt(id, postrider.StateRetrying, b.refusal())
	path := deliveriesPath + "/" + id + "/history"
	require.Equal(t, "workflow", b.do(http.MethodGet, path, "").text(http.StatusOK, "source"))
	require.Equal(t, http.StatusNoContent, b.do(http.MethodDelete, webhooksPath+"/"+webhook, "").Status)
	got := b.do(http.MethodGet, path, "").object(http.StatusOK)
	require.Equal(t, "database", got["source"])
	require.Equal(t, "cancelled", got["state"])
	require.Len(t, got["attempts"], 1)
}

// Guards against a delivery that failed and is shown as cancelled: its workflow was cancelled before
// it heard of the last attempt.
func TestHistoryAgreesWithAFinishedRow(t *testing.T) {
	t.Parallel()
	for _, says := range []postrider.DeliveryState{postrider.StateCancelled, postrider.StateSucceeded, postrider.StateRetrying} {
		t.Run(string(says), func(t *testing.T) {
			t.Parallel()
			b := setup(t, func(c *api.Config) { c.Histories = told(postrider.History{State: says, RunID: "run-1"}) })
			b.newWebhook("")
			id := b.publish(`{"type":"a","data":1}`)
			b.attempt(id, postrider.StateFailed, b.refusal())
			got := b.do(http.MethodGet, deliveriesPath+"/"+id+"/history", "").object(http.StatusOK)
			require.Equal(t, "database", got["source"])
			require.Equal(t, "failed", got["state"])
			require.Len(t, got["attempts"], 1)
		})
	}
}

// Guards the history of a delivery in an open batch, which does not know its policy: the
// policy comes from the database, and the attempts are an empty list.
func TestHistoryFillsInWhatABatchDoesNotKnow(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *api.Config) {
		c.Histories = told(postrider.History{State: postrider.StateDelivering, RunID: "run-1"})
	})
	b.newWebhook(`,"timeout_ms":2000`)
	id := b.publish(`{"type":"a","data":1}`)
	_, err := b.store.Claim(t.Context(), postrider.ClaimRequest{Limit: 1, Lease: 1})
	require.NoError(t, err)
	b.attempt(id, postrider.StateRetrying, b.refusal())
	got := b.do(http.MethodGet, deliveriesPath+"/"+id+"/history", "").object(http.StatusOK)
	require.Equal(t, "workflow", got["source"])
	require.Equal(t, "delivering", got["state"])
	require.Equal(t, map[string]any{"timeout_ms": 2000.0, "max_retries": 3.0, "backoff_ms": 1000.0}, got["policy"])
	require.Equal(t, []any{}, got["attempts"])
	require.Nil(t, got["temporal_ui_url"], "nobody said where the UI is")
}

// Guards the answer against a setting that is no address: it has no link then.
func TestHistoryHasNoLinkWithoutAnAddressForIt(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]any{
		"http://ui:80 80/":            nil,
		"https://ui.example/temporal": "https://ui.example/temporal/namespaces/default/workflows/delivery%2F",
	} {
		b := setup(t, func(c *api.Config) { c.TemporalUIURL = address })
		b.newWebhook("")
		id := b.publish(`{"type":"a","data":1}`)
		b.attempt(id, postrider.StateRetrying, b.refusal())
		got := b.do(http.MethodGet, deliveriesPath+"/"+id+"/history", "").object(http.StatusOK)
		if want != nil {
			want = want.(string) + id
		}
		require.Equal(t, want, got["temporal_ui_url"], address)
	}
}
