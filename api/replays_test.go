package api_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
)

const replaysPath = "/api/v1/replays"

// replayBody asks for a replay of the states in a period around the clock's beginning.
func replayBody(states, more string) string {
	return `{"since":"2026-08-03T11:00:00Z","until":"2026-08-03T13:00:00+00:00","states":[` + states + `]` + more + `}`
}

func (b *bundle) startReplay(webhookID, body string) answer {
	b.t.Helper()
	return b.do(http.MethodPost, webhooksPath+"/"+webhookID+"/replay", body)
}

func TestReplayAnswersTheContractsShape(t *testing.T) {
	t.Parallel()
	b := setup(t)
	webhook := b.newWebhook("")
	for i := range 3 {
		id := b.publish(fmt.Sprintf(`{"type":"a.%d","data":1}`, i))
		b.attempt(id, postrider.StateFailed, b.refusal())
	}
	b.clock.advance(time.Minute)
	require.Equal(t, map[string]any{"matched": 3.0}, b.startReplay(webhook, replayBody(`"failed"`, `,"dry_run":true`)).object(http.StatusOK))
	items, _ := b.do(http.MethodGet, replaysPath, "").items()
	require.Empty(t, items, "a dry run makes nothing")

	job := b.startReplay(webhook, replayBody(`"failed","failed"`, `,"event_types":["a.1","a.0","a.1"],"rate":2`)).object(http.StatusAccepted)
	require.Regexp(t, "^rpl_", job["id"])
	require.NotNil(t, job["eta"])
	id := job["id"].(string)
	delete(job, "eta")
	require.Equal(t, map[string]any{
		"id": id, "webhook_id": webhook, "state": "running", "since": "2026-08-03T11:00:00Z", "until": "2026-08-03T12:01:00Z",
		"states": []any{"failed"}, "event_types": []any{"a.0", "a.1"}, "rate": 2.0, "matched": 2.0, "sent": 0.0, "succeeded": 0.0, "failed": 0.0,
		"created_at": "2026-08-03T12:01:00Z", "finished_at": nil, "workflow_id": "replay/" + id,
	}, job)
	require.Equal(t, "the webhook has the replay "+id+", which is running; wait until it ends, or cancel it",
		b.startReplay(webhook, replayBody(`"failed"`, "")).problem(http.StatusConflict).Detail)

	_, err := b.store.StepReplay(t.Context(), id)
	require.NoError(t, err)
	read := b.do(http.MethodGet, replaysPath+"/"+id, "").object(http.StatusOK)
	require.EqualValues(t, 1, read["sent"])
	for _, step := range []struct{ verb, state string }{
		{"pause", "paused"}, {"pause", "paused"}, {"resume", "running"}, {"resume", "running"}, {"cancel", "cancelled"}, {"cancel", "cancelled"},
	} {
		require.Equal(t, step.state, b.do(http.MethodPost, replaysPath+"/"+id+"/"+step.verb, "").text(http.StatusOK, "state"))
	}
	require.Equal(t, "the replay is cancelled: it cannot be resumed; create another replay",
		b.do(http.MethodPost, replaysPath+"/"+id+"/resume", "").problem(http.StatusConflict).Detail)
	read = b.do(http.MethodGet, replaysPath+"/"+id, "").object(http.StatusOK)
	require.EqualValues(t, 1, read["failed"], "what was not finished is cancelled")
	require.NotNil(t, read["finished_at"])
	require.Nil(t, read["eta"])
	for query, want := range map[string]int{"?state=cancelled": 1, "?state=running": 0, "?webhook_id=" + webhook: 1, "?webhook_id=wh_x": 0} {
		items, _ := b.do(http.MethodGet, replaysPath+query, "").items()
		require.Len(t, items, want, query)
	}
}

func TestReplayRefusals(t *testing.T) {
	t.Parallel()
	b := setup(t)
	webhook := b.newWebhook("")
	for body, location := range map[string]string{
		replayBody("", ""):                                   "body.states",
		replayBody(`"pending"`, ""):                          "body.states[0]",
		replayBody(`"failed"`, `,"rate":0`):                  "body.rate",
		replayBody(`"failed"`, `,"rate":10001`):              "body.rate",
		replayBody(`"failed"`, `,"event_types":["a","a.*"]`): "body.event_types[1]",
		`{"since":"2026-08-03T13:00:00Z","until":"2026-08-03T13:00:00Z","states":["failed"]}`: "body.since",
		`{"since":"yesterday","until":"2026-08-03T13:00:00Z","states":["failed"]}`:            "body.since",
		`{"since":"2026-08-03T13:00:00Z","until":"","states":["failed"]}`:                     "body.until",
	} {
		require.Equal(t, []string{location}, b.startReplay(webhook, body).locations(), body)
	}
	items, _ := b.do(http.MethodGet, replaysPath, "").items()
	require.Empty(t, items)
	b.do(http.MethodDelete, webhooksPath+"/"+webhook, "")
	b.startReplay(webhook, replayBody(`"failed"`, "")).problem(http.StatusNotFound)
	b.startReplay(webhook, replayBody(`"failed"`, `,"dry_run":true`)).problem(http.StatusNotFound)
	other := b.as(b.newKey(b.newWorkspace(), postrider.Scopes()...))
	job := b.newReplay()
	other.do(http.MethodGet, replaysPath+"/"+job, "").problem(http.StatusNotFound)
	other.do(http.MethodPost, replaysPath+"/"+job+"/cancel", "").problem(http.StatusNotFound)
}
