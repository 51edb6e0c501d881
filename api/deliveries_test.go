package api_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
	"postrider.dev/postrider/api"
)

const deliveriesPath = "/api/v1/deliveries"

// publish publishes an event and returns the id of its only delivery.
func (b *bundle) publish(body string) string {
	b.t.Helper()
	event := b.do(http.MethodPost, eventsPath, body).text(http.StatusAccepted, "id")
	found := first(b.do(http.MethodGet, eventsPath+"/"+event+"/deliveries", "").items())
	require.Len(b.t, found, 1)
	return found[0]["id"].(string)
}

// attempt claims the due deliveries and records an attempt of one.
func (b *bundle) attempt(deliveryID string, state postrider.DeliveryState, a postrider.Attempt) {
	b.t.Helper()
	_, err := b.store.Claim(b.t.Context(), postrider.ClaimRequest{Limit: 100, Lease: time.Minute})
	require.NoError(b.t, err)
	targets, err := b.store.Targets(b.t.Context(), []string{deliveryID})
	require.NoError(b.t, err)
	d := targets[0].Delivery
	outcome := postrider.Outcome{
		DeliveryID: d.ID, WorkspaceID: d.WorkspaceID, WebhookID: d.WebhookID, Attempt: a, State: state, WorkflowID: d.WorkflowID,
	}
	if state == postrider.StateRetrying {
		next := b.clock.Now().Add(time.Second)
		outcome.NextAttempt = &next
	}
	require.NoError(b.t, b.store.Record(b.t.Context(), []postrider.Outcome{outcome}))
}

// refusal is a first attempt that the receiver answered with 500.
func (b *bundle) refusal() postrider.Attempt {
	status, message, excerpt, ip := http.StatusInternalServerError, "the receiver answered 500", "oops", "192.0.2.1"
	return postrider.Attempt{
		Number: 1, StartedAt: b.clock.Now(), DurationMS: 12, StatusCode: &status, Result: postrider.ResultServerError,
		Error: &message, ResponseExcerpt: &excerpt, RemoteIP: &ip,
	}
}

func TestGetDelivery(t *testing.T) {
	t.Parallel()
	b := setup(t)
	webhook := b.newWebhook("")
	id := b.publish(`{"type":"call.ended","data":1,"id":"e1"}`)
	want := map[string]any{
		"id": id, "webhook_id": webhook, "event_id": "e1", "event_type": "call.ended", "state": "pending", "attempt_count": 0.0,
		"next_attempt_at": nil, "last_error": nil, "created_at": "2026-08-03T12:00:00Z", "finished_at": nil,
		"expires_at": nil, "workflow_id": nil, "replay_of": nil, "attempts": []any{}, "blocked_by": nil,
	}
	require.Equal(t, want, b.do(http.MethodGet, deliveriesPath+"/"+id, "").object(http.StatusOK))

	b.attempt(id, postrider.StateRetrying, b.refusal())
	want["state"], want["attempt_count"], want["last_error"] = "retrying", 1.0, "the receiver answered 500"
	want["next_attempt_at"], want["workflow_id"] = "2026-08-03T12:00:01Z", "delivery/"+id
	want["attempts"] = []any{map[string]any{
		"number": 1.0, "started_at": "2026-08-03T12:00:00Z", "duration_ms": 12.0, "status_code": 500.0, "result": "server_error",
		"error": "the receiver answered 500", "response_excerpt": "oops", "response_truncated": false, "remote_ip": "192.0.2.1",
	}}
	require.Equal(t, want, b.do(http.MethodGet, deliveriesPath+"/"+id, "").object(http.StatusOK))
	b.do(http.MethodGet, deliveriesPath+"/dlv_unknown", "").problem(http.StatusNotFound)

	second := postrider.Attempt{Number: 2, StartedAt: b.clock.Now(), DurationMS: 5, Result: postrider.ResultTimeout}
	b.attempt(id, postrider.StateFailed, second)
	got := b.do(http.MethodGet, webhooksPath+"/"+webhook, "").object(http.StatusOK)
	require.Equal(t, map[string]any{"total_deliveries": 1.0, "failed_deliveries": 1.0, "success_rate": 0.0}, got["stats"])
	require.NotNil(t, got["last_delivery_at"])
}

func TestListDeliveries(t *testing.T) {
	t.Parallel()
	b := setup(t)
	webhook := b.newWebhook("")
	early := b.publish(`{"type":"a","data":1}`)
	b.clock.advance(time.Hour)
	late := b.publish(`{"type":"b","data":1,"id":"late"}`)
	b.attempt(early, postrider.StateRetrying, b.refusal())

	path := webhooksPath + "/" + webhook + "/deliveries"
	list := func(query string) []string { return idsOf(first(b.do(http.MethodGet, path+query, "").items())) }
	require.Equal(t, []string{late, early}, list(""))
	require.Equal(t, []string{early}, list("?state=retrying"))
	require.Equal(t, []string{late}, list("?event_type=b"))
	require.Equal(t, []string{late}, list("?since=2026-08-03T13:00:00Z"))
	require.Equal(t, []string{early}, list("?until=2026-08-03T13:00:00Z"))
	require.Empty(t, list("?state=failed"), "known, and none")
	page, cursor := b.do(http.MethodGet, path+"?limit=1", "").items()
	require.Equal(t, []string{late}, idsOf(page))
	require.NotContains(t, page[0], "attempts")
	require.Equal(t, []string{early}, list("?cursor="+cursor))

	require.Equal(t, []string{late}, idsOf(first(b.do(http.MethodGet, eventsPath+"/late/deliveries", "").items())))
	require.Empty(t, first(b.do(http.MethodGet, eventsPath+"/late/deliveries?state=failed", "").items()))
	b.do(http.MethodGet, webhooksPath+"/wh_unknown/deliveries", "").problem(http.StatusNotFound)
	b.do(http.MethodGet, eventsPath+"/unknown/deliveries", "").problem(http.StatusNotFound)
	for query, location := range map[string]string{
		"?state=lost": "query.state", "?event_type=a.*": "query.event_type", "?since=x": "query.since",
		"?cursor=x": "query.cursor", "?type=a": "query.type",
	} {
		require.Equal(t, []string{location}, b.do(http.MethodGet, path+query, "").locations(), query)
	}
}

// historyFunc is a history reader.
type historyFunc func(ctx context.Context, workflowID, deliveryID string) (postrider.History, error)

func (f historyFunc) History(ctx context.Context, workflowID, deliveryID string) (postrider.History, error) {
	return f(ctx, workflowID, deliveryID)
}

func TestHistoryFromTheWorkflow(t *testing.T) {
	t.Parallel()
	next := time.Date(2026, 8, 3, 12, 0, 2, 0, time.UTC)
	b := setup(t, func(c *api.Config) {
		c.TemporalUIURL, c.TemporalNamespace = "http://127.0.0.1:8233/", "space 1"
		c.Histories = historyFunc(func(context.Context, string, string) (postrider.History, error) {
			return postrider.History{
				State: postrider.StateRetrying, Policy: postrider.Policy{TimeoutMS: 1000, MaxRetries: 1, BackoffMS: 100},
				Attempts:      []postrider.Attempt{{Number: 1, Result: postrider.ResultTimeout}, {Number: 2, Result: postrider.ResultTimeout}},
				NextAttemptAt: &next, RunID: "run-1",
			}, nil
		})
	})
	b.newWebhook("")
	id := b.publish(`{"type":"a","data":1}`)
	got := b.do(http.MethodGet, deliveriesPath+"/"+id+"/history", "").object(http.StatusOK)
	require.Equal(t, map[string]any{
		"delivery_id": id, "state": "pending", "policy": map[string]any{"timeout_ms": 5000.0, "max_retries": 3.0, "backoff_ms": 1000.0},
		"attempts": []any{}, "next_attempt_at": nil, "workflow_id": nil, "run_id": nil, "temporal_ui_url": nil, "source": "database",
		"actions": []any{},
	}, got, "no workflow was started yet")

	b.attempt(id, postrider.StateRetrying, b.refusal())
	got = b.do(http.MethodGet, deliveriesPath+"/"+id+"/history", "").object(http.StatusOK)
	require.Len(t, got["attempts"], 2)
	delete(got, "attempts")
	require.Equal(t, map[string]any{
		"delivery_id": id, "state": "retrying", "policy": map[string]any{"timeout_ms": 1000.0, "max_retries": 1.0, "backoff_ms": 100.0},
		"next_attempt_at": "2026-08-03T12:00:02Z", "workflow_id": "delivery/" + id, "run_id": "run-1",
		"temporal_ui_url": "http://127.0.0.1:8233/namespaces/space%201/workflows/delivery%2F" + id + "/run-1", "source": "workflow",
		"actions": []any{},
	}, got)
	b.do(http.MethodGet, deliveriesPath+"/dlv_unknown/history", "").problem(http.StatusNotFound)
}

func TestHistoryFromTheDatabase(t *testing.T) {
	t.Parallel()
	for name, reader := range map[string]api.HistoryReader{
		"no Temporal": nil,
		"past retention": historyFunc(func(context.Context, string, string) (postrider.History, error) {
			return postrider.History{}, postrider.NotFound("workflow")
		}),
		"not answering": historyFunc(func(ctx context.Context, _, _ string) (postrider.History, error) {
			<-ctx.Done()
			return postrider.History{}, ctx.Err()
		}),
		"away": historyFunc(func(context.Context, string, string) (postrider.History, error) {
			return postrider.History{}, errors.New("connection refused")
		}),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, func(c *api.Config) { c.Histories, c.TemporalUIURL = reader, "http://ui" })
			b.newWebhook("")
			id := b.publish(`{"type":"a","data":1}`)
			b.attempt(id, postrider.StateRetrying, b.refusal())
			got := b.do(http.MethodGet, deliveriesPath+"/"+id+"/history", "").object(http.StatusOK)
			require.Equal(t, "database", got["source"])
			require.Equal(t, "retrying", got["state"])
			require.Nil(t, got["run_id"])
			require.Equal(t, "delivery/"+id, got["workflow_id"])
			require.Equal(t, "http://ui/namespaces/default/workflows/delivery%2F"+id, got["temporal_ui_url"])
			require.Equal(t, "2026-08-03T12:00:01Z", got["next_attempt_at"])
			require.Equal(t, "oops", got["attempts"].([]any)[0].(map[string]any)["response_excerpt"])
		})
	}
}

// A page that found nothing yet is no sign of a webhook that does not exist.
type shortPages struct{ api.Store }

func (shortPages) Deliveries(
	context.Context, string, postrider.DeliveryFilter, postrider.Page,
) (postrider.List[postrider.Delivery], error) {
	return postrider.List[postrider.Delivery]{Items: []postrider.Delivery{}, Next: "dlv_019a8f3c5b7e7c3a9d2e4f6081a2b3c4"}, nil
}

func TestEmptyPagesGoOn(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *api.Config) { c.Store = shortPages{c.Store} })
	for _, path := range []string{webhooksPath + "/wh_1/deliveries", eventsPath + "/evt_1/deliveries"} {
		page := b.do(http.MethodGet, path+"?state=succeeded", "").object(http.StatusOK)
		require.Empty(t, page["data"])
		require.NotEmpty(t, page["next_cursor"])
	}
}
