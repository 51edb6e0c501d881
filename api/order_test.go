package api_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
)

func TestOrderingOfAWebhook(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.newWebhook(`,"ordering":"key","on_exhausted":"block"`)
	got := b.do(http.MethodGet, webhooksPath+"/"+id, "").object(http.StatusOK)
	require.Equal(t, []any{"key", "block"}, []any{got["ordering"], got["on_exhausted"]})
	got = b.do(http.MethodPatch, webhooksPath+"/"+id, `{"ordering":"fifo"}`).object(http.StatusOK)
	require.Equal(t, []any{"fifo", "block"}, []any{got["ordering"], got["on_exhausted"]})
	for _, field := range []string{"ordering", "on_exhausted"} {
		for _, value := range []string{`"lifo"`, `""`, `null`, `1`} {
			problem := b.do(http.MethodPatch, webhooksPath+"/"+id, `{"`+field+`":`+value+`}`).problem(http.StatusUnprocessableEntity)
			require.Contains(t, fmt.Sprint(problem.Errors), "body."+field, value)
		}
	}
}

func TestOrderingKeyOfAnEvent(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.newWebhook("")
	key := strings.Repeat("ä", postrider.MaxOrderingKeyLength)
	b.publish(`{"type":"a","data":1,"id":"e1","ordering_key":"` + key + `"}`)
	require.Equal(t, key, b.do(http.MethodGet, eventsPath+"/e1", "").object(http.StatusOK)["ordering_key"])
	require.Equal(t, true, b.do(http.MethodPost, eventsPath, `{"type":"a","data":1,"id":"e1","ordering_key":"`+key+`"}`).
		object(http.StatusAccepted)["duplicate"])
	b.do(http.MethodPost, eventsPath, `{"type":"a","data":1,"id":"e1","ordering_key":"b"}`).problem(http.StatusConflict)
	for _, value := range []string{`""`, `"` + key + `ä"`, `1`} {
		problem := b.do(http.MethodPost, eventsPath, `{"type":"a","data":1,"ordering_key":`+value+`}`).problem(http.StatusUnprocessableEntity)
		require.Contains(t, fmt.Sprint(problem.Errors), "body.ordering_key", value)
	}
}

func TestWhatBlocksIsNamed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	webhook := b.newWebhook(`,"ordering":"key","on_exhausted":"block"`)
	head := b.publish(`{"type":"a","data":1,"ordering_key":"k"}`)
	behind := b.publish(`{"type":"a","data":1,"ordering_key":"k"}`)
	read := func(id string) map[string]any {
		return b.do(http.MethodGet, deliveriesPath+"/"+id, "").object(http.StatusOK)
	}
	require.Equal(t, []any{nil, head}, []any{read(head)["blocked_by"], read(behind)["blocked_by"]})
	require.Equal(t, "the delivery is pending: it waits behind delivery "+head+"; retry, skip or cancel that one",
		b.act(behind, "retry").problem(http.StatusConflict).Detail)
	require.Equal(t, "the delivery is pending: it waits behind delivery "+head+"; skip that one, or cancel this one",
		b.act(behind, "skip").problem(http.StatusConflict).Detail)

	b.attempt(head, postrider.StateFailed, b.refusal())
	require.Equal(t, []any{map[string]any{"ordering_key": "k", "delivery_id": head, "state": "failed", "since": "2026-08-03T12:00:00Z"}},
		b.do(http.MethodGet, webhooksPath+"/"+webhook, "").object(http.StatusOK)["blocked_by"])
	require.Equal(t, "failed", b.act(head, "skip").text(http.StatusAccepted, "state"))
	require.Equal(t, []any{}, b.do(http.MethodGet, webhooksPath+"/"+webhook, "").object(http.StatusOK)["blocked_by"])
	require.Nil(t, read(behind)["blocked_by"])
	require.Equal(t, "the delivery is failed: it has ended; retry is possible, which sends its event again",
		b.act(head, "skip").problem(http.StatusConflict).Detail)
	skipped := b.act(behind, "skip").object(http.StatusAccepted)
	require.Equal(t, []any{"failed", "skipped"}, []any{skipped["state"], skipped["last_error"]})
}
