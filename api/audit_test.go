package api_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
)

const auditPath = "/api/v1/audit"

// audit returns the entries that the query selects, newest first.
func (b *bundle) audit(query string) []map[string]any {
	b.t.Helper()
	return first(b.do(http.MethodGet, auditPath+query, "").items())
}

// audited reports whether a call of the route leaves an entry. A route that changes something does, unless it
// publishes; of those that read, only the one that reveals a secret.
func audited(o operation) bool {
	switch o.OperationID {
	case "publish-event", "publish-events", "test-expression":
		return false
	case "act-on-deliveries": // on a delivery that is unknown; see TestActionsOnDeliveriesAreAudited
		return false
	case "get-webhook-secret":
		return true
	}
	return o.Method != http.MethodGet
}

// Guards against a route that changes something and leaves no trace, and against one that only reads and does.
func TestEveryRouteThatChangesSomethingIsAudited(t *testing.T) {
	t.Parallel()
	succeeds := func(o operation) bool { return !alwaysRefused(o) }
	forEachOperation(t, succeeds, func(w *world, o operation) {
		caller := *w
		caller.bundle = w.as(w.newKey(w.workspace, o.scope()))
		id := first(w.do(http.MethodGet, "/api/v1/admin/workspaces/"+w.workspace+"/keys?limit=1", "").items())[0]["id"]
		answer := caller.do(o.Method, w.path(o), good(w.t, o), "X-Request-Id", "asked-1")
		require.Less(w.t, answer.Status, http.StatusBadRequest, string(answer.Body))
		workspace := w.workspace
		if o.OperationID == "create-workspace" { // it is the new workspace that it was done to
			workspace = answer.text(http.StatusCreated, "id")
		}
		entries := w.as(w.newKey(workspace, postrider.ScopeManage)).audit("?actor=" + fmt.Sprint(id))
		if !audited(o) {
			require.Empty(w.t, entries)
			return
		}
		require.Len(w.t, entries, 1)
		require.Equal(w.t, id, entries[0]["actor"])
		require.Equal(w.t, o.Method+" "+o.Path, entries[0]["route"])
		require.Equal(w.t, "asked-1", entries[0]["request_id"])
		require.Contains(w.t, postrider.AuditActions(), postrider.AuditAction(fmt.Sprint(entries[0]["action"])))
		require.NotEmpty(w.t, entries[0]["resource_id"])
	})
}

// An action on many deliveries leaves an entry for each that it was not refused on.
func TestActionsOnDeliveriesAreAudited(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.do(http.MethodPost, deliveriesPath+"/actions", `{"action":"cancel","ids":["`+w.delivery+`","dlv_unknown"]}`).object(http.StatusAccepted)
	w.do(http.MethodPatch, deliveriesPath+"/"+w.publish(`{"type":"a","data":1}`), `{"max_retries":7}`).object(http.StatusAccepted)
	entries := w.audit("?limit=2")
	require.Equal(t, "delivery.edit", entries[0]["action"])
	require.Equal(t, []any{map[string]any{"field": "max_retries", "old": 3.0, "new": 7.0, "redacted": false}}, entries[0]["changes"])
	require.Equal(t, "delivery.cancel", entries[1]["action"])
	require.Equal(t, w.delivery, entries[1]["resource_id"])
	require.Empty(t, w.audit("?resource=dlv_unknown"))
}

// Guards the log against what did not happen: a call that was refused changed nothing.
func TestRefusedCallsAreNotAudited(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	before := w.audit("")
	w.do(http.MethodPatch, webhooksPath+"/"+w.webhook, `{"timeout_ms":1}`).problem(http.StatusUnprocessableEntity)
	w.do(http.MethodPost, webhooksPath, `{}`).problem(http.StatusUnprocessableEntity)
	w.do(http.MethodDelete, webhooksPath+"/wh_unknown", "").problem(http.StatusNotFound)
	w.do(http.MethodPost, webhooksPath+"/wh_unknown/test", "").problem(http.StatusNotFound)
	w.do(http.MethodGet, webhooksPath+"/wh_unknown/secret", "").problem(http.StatusNotFound)
	w.as(w.newKey(w.workspace, postrider.ScopeRead)).do(http.MethodPost, webhooksPath+"/"+w.webhook+"/pause", "").problem(http.StatusForbidden)
	require.Len(t, w.audit(""), len(before)+1, "the new key alone")
}

func TestAuditTellsWhatChanged(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	path := webhooksPath + "/" + w.webhook
	w.do(http.MethodPatch, path, `{"max_retries":7,"name":"n","url":"https://example.com/b?token=hush",
		"headers":{"X-Token":"hush"},"secret":"hushhush"}`).object(http.StatusOK)
	updated := w.audit("?action=webhook.update")
	require.Len(t, updated, 1)
	require.Equal(t, w.webhook, updated[0]["resource_id"])
	require.Equal(t, []any{
		map[string]any{"field": "headers", "old": nil, "new": []any{"X-Token"}, "redacted": true},
		map[string]any{"field": "max_retries", "old": 3.0, "new": 7.0, "redacted": false},
		map[string]any{"field": "name", "old": nil, "new": "n", "redacted": false},
		map[string]any{"field": "url", "old": "https://example.com/hook", "new": "https://example.com/b", "redacted": true},
		map[string]any{"field": "secret", "old": nil, "new": nil, "redacted": true},
	}, updated[0]["changes"])

	for _, step := range []struct {
		verb     string
		old, now any
	}{{"resume", nil, nil}, {"pause", "active", "paused"}, {"pause", nil, nil}, {"resume", "paused", "active"}} {
		w.do(http.MethodPost, path+"/"+step.verb, "").object(http.StatusOK)
		latest := w.audit("?limit=1")[0]
		require.EqualValues(t, "webhook."+step.verb, latest["action"])
		if step.old == nil {
			require.Empty(t, latest["changes"], "it was so before")
			continue
		}
		require.Equal(t, []any{map[string]any{"field": "status", "old": step.old, "new": step.now, "redacted": false}}, latest["changes"])
	}
}

func TestAuditFilters(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	actor := w.audit("?action=webhook.create")[0]["actor"]
	w.clock.advance(time.Hour)
	other := w.newWebhook("")
	between := w.clock.Now()
	w.clock.advance(time.Hour)
	w.do(http.MethodDelete, webhooksPath+"/"+other, "")

	all := w.audit("")
	require.Len(t, all, 8, "workspace, key, three webhooks, an event type, a replay, a deletion")
	require.Len(t, w.audit("?resource="+other), 2)
	require.Len(t, w.audit("?resource="+other+"&action=webhook.delete"), 1)
	require.Len(t, w.audit(fmt.Sprintf("?actor=%s", actor)), 6)
	require.Len(t, w.audit(fmt.Sprintf("?actor=%s&resource=%s", actor, w.webhook)), 1)
	require.Len(t, w.audit("?actor=system"), 2)
	require.Nil(t, w.audit("?actor=system")[0]["route"])
	at := url.QueryEscape(between.Format(time.RFC3339Nano))
	require.Len(t, w.audit("?since="+at), 2)
	require.Len(t, w.audit("?until="+at), 6)
	require.Empty(t, w.audit("?actor=key_unknown"))
	require.Empty(t, w.audit("?resource=unknown"))
	for query, location := range map[string]string{
		"?action=webhook.created": "query.action", "?since=yesterday": "query.since", "?until=1": "query.until", "?cursor=x": "query.cursor",
	} {
		require.Equal(t, []string{location}, w.do(http.MethodGet, auditPath+query, "").locations())
	}
}

// Guards secrecy: whatever is done with secrets, no answer of the audit log has one, nor a header's value.
func TestAuditHasNoSecrets(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const hush = "hush-hush-hush"
	path := webhooksPath + "/" + w.do(http.MethodPost, webhooksPath, `{"events":["*"],"secret":"`+hush+`1","headers":{"X-A":"`+hush+
		`2"},"url":"https://example.com/a?k=`+hush+`3"}`).text(http.StatusCreated, "id")
	w.do(http.MethodPatch, path, `{"secret":"`+hush+`4","headers":{"X-B":"`+hush+`5"},"url":"https://example.com/a?k=`+hush+`6"}`).
		object(http.StatusOK)
	w.do(http.MethodPost, path+"/secret/rotate", `{"secret":"`+hush+`7"}`).object(http.StatusOK)
	revealed := w.do(http.MethodGet, path+"/secret", "").text(http.StatusOK, "secret")
	require.Equal(t, hush+"7", revealed)
	key := w.do(http.MethodPost, "/api/v1/admin/workspaces/"+w.workspace+"/keys", `{"name":"k","scopes":["read"]}`).
		text(http.StatusCreated, "key")
	log := string(w.do(http.MethodGet, auditPath, "").Body)
	for _, action := range []string{"webhook.create", "webhook.update", "secret.rotate", "secret.reveal", "key.create"} {
		require.Contains(t, log, action)
	}
	require.NotContains(t, log, "hush")
	require.NotContains(t, log, key)
	require.NotContains(t, log, postrider.HashAPIKey(key))
	require.Contains(t, log, "X-B", "the names of headers are told")
}

// Guards the size of an entry: a value that is very long is left out.
func TestAuditEntriesAreBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var events []string
	for i := range postrider.MaxEventPatterns {
		events = append(events, fmt.Sprintf(`"%s%d"`, strings.Repeat("e", 120), i))
	}
	w.do(http.MethodPatch, webhooksPath+"/"+w.webhook, `{"events":[`+strings.Join(events, ",")+`]}`).object(http.StatusOK)
	changes := w.audit("?action=webhook.update")[0]["changes"]
	require.Equal(t, []any{map[string]any{"field": "events", "old": []any{"*"}, "new": nil, "redacted": true}}, changes)
}
