package api_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
	"postrider.dev/postrider/api"
)

// act makes an action on a delivery.
func (b *bundle) act(id, action string) answer {
	b.t.Helper()
	return b.do(http.MethodPost, deliveriesPath+"/"+id+"/"+action, "")
}

func TestActionsOnADelivery(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.newWebhook("")
	id := b.publish(`{"type":"a","data":1,"id":"e1"}`)
	b.attempt(id, postrider.StateRetrying, b.refusal())
	paused := b.act(id, "pause").object(http.StatusAccepted)
	require.Equal(t, "parked", paused["state"])
	require.Nil(t, paused["next_attempt_at"])
	require.Len(t, paused["attempts"], 1, "as it is read singly")
	require.Equal(t, "parked", b.act(id, "pause").text(http.StatusAccepted, "state"), "it may be repeated")
	require.Equal(t, "the delivery is parked: it is paused; resume, cancel and a change of its policy are possible",
		b.act(id, "retry").problem(http.StatusConflict).Detail)
	b.clock.advance(time.Hour)
	resumed := b.act(id, "resume").object(http.StatusAccepted)
	require.Equal(t, "retrying", resumed["state"])
	require.Equal(t, "2026-08-03T13:00:00Z", resumed["next_attempt_at"])
	require.Equal(t, id, b.act(id, "retry").text(http.StatusAccepted, "id"))
	require.Contains(t, b.act(id, "skip").problem(http.StatusConflict).Detail, "it has no order")
	require.Equal(t, "cancelled", b.act(id, "cancel").text(http.StatusAccepted, "state"))
	require.Contains(t, b.act(id, "resume").problem(http.StatusConflict).Detail, "the delivery is cancelled: it has ended; retry is possible")
	b.act("dlv_unknown", "retry").problem(http.StatusNotFound)

	again := b.act(id, "retry").object(http.StatusAccepted)
	require.Equal(t, id, again["replay_of"])
	require.Equal(t, "pending", again["state"])
	require.Equal(t, "e1", again["event_id"])
	require.Equal(t, again["id"], b.act(id, "retry").text(http.StatusAccepted, "id"))

	history := b.do(http.MethodGet, deliveriesPath+"/"+id+"/history", "").object(http.StatusOK)
	var told []string
	for _, each := range history["actions"].([]any) {
		action := each.(map[string]any)
		require.Regexp(t, "^key_", action["actor"])
		require.NotEmpty(t, action["at"])
		told = append(told, fmt.Sprintf("%s: %s", action["action"], action["detail"]))
	}
	require.Equal(t, []string{
		"pause: attempt 2 is not made before it is resumed", "resume: attempt 2 is made now", "retry: attempt 2 is due",
		"cancel: no more attempts are made", "retry: its event is sent again by " + again["id"].(string),
	}, told)
}

func TestUpdateDelivery(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.newWebhook("")
	id := b.publish(`{"type":"a","data":1}`)
	path := deliveriesPath + "/" + id
	b.do(http.MethodPatch, path, `{"max_retries":7,"backoff_ms":100}`).object(http.StatusAccepted)
	history := b.do(http.MethodGet, path+"/history", "").object(http.StatusOK)
	require.Equal(t, map[string]any{"timeout_ms": 5000.0, "max_retries": 7.0, "backoff_ms": 100.0}, history["policy"])
	action := history["actions"].([]any)[0].(map[string]any)
	require.Equal(t, "edit", action["action"])
	require.Equal(t, "backoff_ms from 1000 to 100, max_retries from 3 to 7", action["detail"])
	require.Equal(t, []string{"body.max_retries", "body.timeout_ms"},
		b.do(http.MethodPatch, path, `{"max_retries":11,"timeout_ms":1,"backoff_ms":200}`).locations())
	require.Equal(t, []string{"body.max_retries"}, b.do(http.MethodPatch, path, `{"max_retries":null}`).locations())
	unchanged := b.do(http.MethodGet, path+"/history", "").object(http.StatusOK)
	require.Equal(t, history, unchanged)
	b.act(id, "cancel").object(http.StatusAccepted)
	require.Contains(t, b.do(http.MethodPatch, path, `{"max_retries":1}`).problem(http.StatusConflict).Detail, "the delivery is cancelled")
	b.do(http.MethodPatch, deliveriesPath+"/dlv_unknown", `{}`).problem(http.StatusNotFound)
}

func TestUpdateWhenADeliveryExpires(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.newWebhook("")
	path := deliveriesPath + "/" + b.publish(`{"type":"a","data":1}`)
	patch := func(expires string) answer { return b.do(http.MethodPatch, path, `{"expires_at":`+expires+`}`) }
	require.Equal(t, "2026-08-03T12:00:01Z", patch(`"2026-08-03T14:00:01+02:00"`).text(http.StatusAccepted, "expires_at"))
	require.Equal(t, "2026-09-02T12:00:00Z", patch(`"2026-09-02T12:00:00Z"`).text(http.StatusAccepted, "expires_at"))
	for value, rule := range map[string]string{
		`"2026-08-03T12:00:00Z"`:        "must be in the future",
		`"1999-12-31T12:00:00Z"`:        "must be in the future",
		`"0001-01-01T00:00:00Z"`:        "must be in the future",
		`"2026-09-02T12:00:00.000001Z"`: "must be at most 30 days ahead",
		`"9999-12-31T23:59:59Z"`:        "must be at most 30 days ahead",
		`"2026-08-04"`:                  "",
		`"tomorrow"`:                    "",
		`""`:                            "",
		`1785844800`:                    "",
		`{}`:                            "",
	} {
		problem := patch(value).problem(http.StatusUnprocessableEntity)
		require.Len(t, problem.Errors, 1, value)
		require.Equal(t, "body.expires_at", problem.Errors[0].Location, value)
		require.Contains(t, problem.Errors[0].Message, rule, value)
	}
	both := `{"max_retries":5,"expires_at":"1999-12-31T12:00:00Z"}`
	require.Equal(t, []string{"body.expires_at"}, b.do(http.MethodPatch, path, both).locations())
	kept := b.do(http.MethodPatch, path, `{"max_retries":5}`).object(http.StatusAccepted)
	require.Equal(t, "2026-09-02T12:00:00Z", kept["expires_at"], "what is not sent stays")
	require.Nil(t, patch("null").object(http.StatusAccepted)["expires_at"])
	history := b.do(http.MethodGet, path+"/history", "").object(http.StatusOK)
	var details []string
	for _, each := range history["actions"].([]any) {
		details = append(details, each.(map[string]any)["detail"].(string))
	}
	require.Equal(t, []string{
		"expires_at from null to 2026-08-03T12:00:01Z", "expires_at from 2026-08-03T12:00:01Z to 2026-09-02T12:00:00Z",
		"max_retries from 3 to 5", "expires_at from 2026-09-02T12:00:00Z to null",
	}, details)
}

func TestActOnManyDeliveries(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.newWebhook("")
	open, done := b.publish(`{"type":"a","data":1}`), b.publish(`{"type":"a","data":2}`)
	b.attempt(done, postrider.StateFailed, b.refusal())
	act := func(action string, ids ...string) []any {
		t.Helper()
		body := fmt.Sprintf(`{"action":%q,"ids":["%s"]}`, action, strings.Join(ids, `","`))
		return b.do(http.MethodPost, deliveriesPath+"/actions", body).object(http.StatusAccepted)["data"].([]any)
	}
	came := act("cancel", open, done, "dlv_unknown", open)
	require.Equal(t, map[string]any{"id": open, "status": 202.0, "detail": nil, "delivery_id": open, "state": "cancelled"}, came[0])
	require.Equal(t, map[string]any{
		"id": done, "status": 409.0, "delivery_id": done, "state": "failed",
		"detail": "the delivery is failed: it has ended; retry is possible, which sends its event again",
	}, came[1])
	require.Equal(t, map[string]any{
		"id": "dlv_unknown", "status": 404.0, "detail": "delivery not found", "delivery_id": nil, "state": nil,
	}, came[2])
	require.Equal(t, came[0], came[3])
	again := act("retry", done)[0].(map[string]any)
	require.NotEqual(t, done, again["delivery_id"])
	require.Equal(t, "pending", again["state"])

	many := strings.Repeat(`"dlv_1",`, 500)
	b.do(http.MethodPost, deliveriesPath+"/actions", `{"action":"retry","ids":[`+many[:len(many)-1]+`]}`).object(http.StatusAccepted)
	for body, location := range map[string]string{
		`{"action":"retry","ids":[]}`:               "body.ids",
		`{"action":"retry","ids":[` + many + `""]}`: "body.ids",
		`{"action":"retry","ids":null}`:             "body.ids",
		`{"action":"retry","ids":[7]}`:              "body.ids[0]",
		`{"action":"pause","ids":["dlv_1"]}`:        "body.action",
		`{"ids":["dlv_1"]}`:                         "body.action",
	} {
		require.Equal(t, []string{location}, b.do(http.MethodPost, deliveriesPath+"/actions", body).locations(), body)
	}
}

func TestListDeliveriesOfTheWorkspace(t *testing.T) {
	t.Parallel()
	b := setup(t)
	webhook := b.newWebhook("")
	early := b.publish(`{"type":"a","data":1}`)
	b.clock.advance(time.Hour)
	late := b.publish(`{"type":"b","data":1}`)
	b.attempt(early, postrider.StateRetrying, b.refusal())
	list := func(query string) []string {
		return idsOf(first(b.do(http.MethodGet, deliveriesPath+query, "").items()))
	}
	require.Equal(t, []string{late, early}, list(""))
	require.Equal(t, []string{early}, list("?state=retrying"))
	require.Equal(t, []string{late, early}, list("?state=retrying,delivering,retrying"))
	require.Equal(t, []string{late, early}, list("?webhook_id="+webhook))
	require.Empty(t, list("?webhook_id=wh_unknown"))
	require.Equal(t, []string{late}, list("?event_type=b"))
	require.Equal(t, []string{early}, list("?result=server_error&status_code=500"))
	require.Empty(t, list("?status_code=502"))
	require.Equal(t, []string{late}, list("?since=2026-08-03T13:00:00Z"))
	for query, location := range map[string]string{
		"?state=lost": "query.state[0]", "?state=failed,lost": "query.state[1]", "?event_type=a.*": "query.event_type", "?until=x": "query.until",
		"?result=odd": "query.result", "?status_code=99": "query.status_code", "?status_code=x": "query.status_code",
		"?state=failed&state=retrying": "query.state",
	} {
		require.Equal(t, []string{location}, b.do(http.MethodGet, deliveriesPath+query, "").locations(), query)
	}
	other := b.as(b.newKey(b.newWorkspace(), postrider.ScopeRead))
	require.Empty(t, first(other.do(http.MethodGet, deliveriesPath+"?webhook_id="+webhook, "").items()))
}

// Guards against a workflow that tells an operator what it was told before the operator's own action.
func TestHistoryIsNotOlderThanAnAction(t *testing.T) {
	t.Parallel()
	var next time.Time
	b := setup(t, func(c *api.Config) {
		c.Histories = told(postrider.History{
			State: postrider.StateRetrying, RunID: "run-1", Attempts: []postrider.Attempt{{Number: 1}}, NextAttemptAt: &next,
			Policy: postrider.Policy{TimeoutMS: 5000, MaxRetries: 3, BackoffMS: 1000},
		})
	})
	next = b.clock.Now().Add(time.Second)
	b.newWebhook("")
	id := b.publish(`{"type":"a","data":1}`)
	b.attempt(id, postrider.StateRetrying, b.refusal())
	source := func() string {
		return b.do(http.MethodGet, deliveriesPath+"/"+id+"/history", "").text(http.StatusOK, "source")
	}
	require.Equal(t, "workflow", source())
	b.do(http.MethodPatch, deliveriesPath+"/"+id, `{"max_retries":4}`).object(http.StatusAccepted)
	require.Equal(t, "database", source())
	b.do(http.MethodPatch, deliveriesPath+"/"+id, `{"max_retries":3}`).object(http.StatusAccepted)
	require.Equal(t, "workflow", source())
	b.act(id, "retry").object(http.StatusAccepted)
	require.Equal(t, "database", source(), "its next attempt is now")
}
