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

func TestPerishableEvent(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.newWebhook("")
	id := b.publish(`{"type":"a","data":1,"id":"e1","ttl_seconds":90,"deliver_at":"2026-08-03T12:01:29Z"}`)
	require.Equal(t, "2026-08-03T12:01:30Z", b.do(http.MethodGet, deliveriesPath+"/"+id, "").object(http.StatusOK)["expires_at"])
	require.Equal(t, "2026-08-03T12:01:30Z", b.do(http.MethodGet, eventsPath+"/e1", "").object(http.StatusOK)["expires_at"])
	longest := b.publish(`{"type":"a","data":1,"ttl_seconds":2592000}`)
	require.Equal(t, "2026-09-02T12:00:00Z", b.do(http.MethodGet, deliveriesPath+"/"+longest, "").object(http.StatusOK)["expires_at"])
	listed := first(b.do(http.MethodGet, eventsPath+"/e1/deliveries", "").items())
	require.Equal(t, "2026-08-03T12:01:30Z", listed[0]["expires_at"])

	b.clock.advance(90 * time.Second)
	_, err := b.store.Expire(t.Context())
	require.NoError(t, err)
	got := b.do(http.MethodGet, deliveriesPath+"/"+id, "").object(http.StatusOK)
	require.Equal(t, []any{"failed", "expired", 0.0, "2026-08-03T12:01:30Z"},
		[]any{got["state"], got["last_error"], got["attempt_count"], got["finished_at"]})
}

func TestEventForOneWebhook(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.newWebhook(`,"name":"other events only"`)
	b.do(http.MethodPatch, webhooksPath+"/"+id, `{"events":["other"]}`).object(http.StatusOK)
	b.newWebhook("")
	got := b.do(http.MethodPost, eventsPath, `{"type":"a","data":1,"id":"e1","webhook_id":"`+id+`"}`).object(http.StatusAccepted)
	require.Equal(t, []any{1.0, 0.0}, []any{got["deliveries"], got["parked"]})
	require.Equal(t, id, first(b.do(http.MethodGet, eventsPath+"/e1/deliveries", "").items())[0]["webhook_id"])
	require.Equal(t, id, b.do(http.MethodGet, eventsPath+"/e1", "").object(http.StatusOK)["webhook_id"])

	b.do(http.MethodPost, webhooksPath+"/"+id+"/pause", "").object(http.StatusOK)
	got = b.do(http.MethodPost, eventsPath, `{"type":"a","data":1,"webhook_id":"`+id+`"}`).object(http.StatusAccepted)
	require.Equal(t, []any{1.0, 1.0}, []any{got["deliveries"], got["parked"]})
	batch := fmt.Sprintf(`{"events":[{"type":"a","data":1},{"type":"a","data":1,"webhook_id":%q},{"type":"a","data":1}]}`, id)
	for i, receipt := range b.do(http.MethodPost, batchPath, batch).object(http.StatusAccepted)["data"].([]any) {
		require.InDelta(t, 1, receipt.(map[string]any)["deliveries"], 0, i)
	}
}

func TestEventHeaders(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.newWebhook("")
	stored, err := b.store.APIKeyByHash(t.Context(), postrider.HashAPIKey(b.key))
	require.NoError(t, err)
	b.publish(`{"type":"a","data":1,"id":"e1","headers":{"X-Token":"a credential"}}`)
	for _, c := range []struct {
		scopes []postrider.Scope
		want   string
	}{
		{[]postrider.Scope{postrider.ScopeRead}, "***"},
		{[]postrider.Scope{postrider.ScopeRead, postrider.ScopePublish, postrider.ScopeSecrets}, "***"},
		{[]postrider.Scope{postrider.ScopeRead, postrider.ScopeManage}, "a credential"},
	} {
		reader := b.as(b.newKey(stored.WorkspaceID, c.scopes...))
		got := reader.do(http.MethodGet, eventsPath+"/e1", "").object(http.StatusOK)["headers"]
		require.Equal(t, map[string]any{"X-Token": c.want}, got, c.scopes)
		require.NotContains(t, string(reader.do(http.MethodGet, eventsPath, "").Body), "a credential", "a list has none")
	}
	require.NotContains(t, b.logs.String(), "a credential")
}

func TestEventOptionRefusals(t *testing.T) {
	t.Parallel()
	b := setup(t)
	theirs := b.newWebhook(`,"scope_type":"persona","persona_id":"p1"`)
	many := strings.TrimSuffix(strings.Repeat(`"X-%d":"v",`, 33), ",")
	numbers := make([]any, 33)
	for i := range numbers {
		numbers[i] = i
	}
	tooLong := `"headers":{"X-A":"` + strings.Repeat("s3cret", 700) + `"}`
	for location, broken := range map[string][]string{
		"ttl_seconds": {`"ttl_seconds":0`, `"ttl_seconds":2592001`, `"ttl_seconds":1.5`, `"ttl_seconds":1e2`, `"ttl_seconds":"60"`},
		"deliver_at": {
			`"ttl_seconds":60,"deliver_at":"2026-08-03T12:01:00Z"`, `"ttl_seconds":60,"deliver_at":"2026-08-04T12:00:00Z"`,
		},
		"webhook_id": {
			`"webhook_id":""`, `"webhook_id":7`, `"webhook_id":"wh_unknown"`, `"webhook_id":"` + strings.Repeat("w", 129) + `"`,
			`"persona_id":"p2","webhook_id":"` + theirs + `"`,
		},
		"headers":                   {`"headers":[]`, `"headers":{` + fmt.Sprintf(many, numbers...) + `}`},
		"headers.X-A":               {`"headers":{"X-A":1}`, `"headers":{"X-A":"***"}`, `"headers":{"X-A":"s3cr\u00e9t"}`, tooLong},
		"headers.X A":               {`"headers":{"X A":"s3cret"}`},
		"headers.x-a":               {`"headers":{"x-a":"1","X-A":"s3cret"}`},
		"headers.Authorization":     {`"headers":{"Authorization":"s3cret"}`},
		"headers.webhook-id":        {`"headers":{"webhook-id":"s3cret"}`},
		"headers.Postrider-Attempt": {`"headers":{"Postrider-Attempt":"7"}`},
		"headers.Content-Type":      {`"headers":{"Content-Type":"text/html"}`},
	} {
		for _, fields := range broken {
			body := `{"type":"a","data":1,` + fields + `}`
			refused := b.do(http.MethodPost, eventsPath, body)
			require.Equal(t, []string{"body." + location}, refused.locations(), fields)
			batch := `{"events":[{"type":"ok","data":1},` + body + `]}`
			inBatch := b.do(http.MethodPost, batchPath, batch)
			require.Equal(t, []string{"body.events[1]." + location}, inBatch.locations(), fields)
			for _, a := range []answer{refused, inBatch} {
				require.NotContains(t, string(a.Body), "s3cr", "a header may be a credential")
			}
		}
	}
	require.Empty(t, first(b.do(http.MethodGet, eventsPath, "").items()))
	nulls := `{"type":"a","data":1,"ttl_seconds":null,"webhook_id":null,"headers":null,"persona_id":"p1"}`
	require.InDelta(t, 1, b.do(http.MethodPost, eventsPath, nulls).object(http.StatusAccepted)["deliveries"], 0)
	for _, persona := range []string{`"p1"`, "null"} {
		body := `{"type":"a","data":1,"persona_id":` + persona + `,"webhook_id":"` + theirs + `"}`
		require.InDelta(t, 1, b.do(http.MethodPost, eventsPath, body).object(http.StatusAccepted)["deliveries"], 0)
	}
}

func TestOptionsArePartOfARepeatedRequest(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.newWebhook("")
	own := func(fields string) string { return `{"type":"a","data":1,"id":"own"` + fields + `}` }
	options := `,"ttl_seconds":60,"headers":{"X-A":"1","X-B":"2"},"webhook_id":"` + id + `"`
	b.do(http.MethodPost, eventsPath, own(options)).object(http.StatusAccepted)
	b.clock.advance(time.Second)
	reordered := `,"webhook_id":"` + id + `","headers": {"X-B":"2","X-\u0041":"1"}, "ttl_seconds":60`
	require.Equal(t, true, b.do(http.MethodPost, eventsPath, own(reordered)).object(http.StatusAccepted)["duplicate"])
	for _, other := range []string{
		"", `,"ttl_seconds":60`, strings.Replace(options, "60", "61", 1), strings.Replace(options, `"2"`, `"3"`, 1),
		strings.Replace(options, "X-B", "X-C", 1),
	} {
		b.do(http.MethodPost, eventsPath, own(other)).problem(http.StatusConflict)
	}
	b.do(http.MethodDelete, webhooksPath+"/"+id, "")
	require.Equal(t, true, b.do(http.MethodPost, eventsPath, own(options)).object(http.StatusAccepted)["duplicate"],
		"it was accepted when there was the webhook")
}

func TestCancelEvent(t *testing.T) {
	t.Parallel()
	b := setup(t, func(*api.Config) {})
	b.newWebhook("")
	b.newWebhook("")
	b.do(http.MethodPost, eventsPath, `{"type":"a","data":1,"id":"e1","deliver_at":"2026-09-03T12:00:00Z"}`).object(http.StatusAccepted)
	stored, err := b.store.APIKeyByHash(t.Context(), postrider.HashAPIKey(b.key))
	require.NoError(t, err)
	others := []postrider.Scope{postrider.ScopeRead, postrider.ScopeManage, postrider.ScopeSecrets}
	b.as(b.newKey(stored.WorkspaceID, others...)).do(http.MethodDelete, eventsPath+"/e1", "").problem(http.StatusForbidden)
	publisher := b.as(b.newKey(stored.WorkspaceID, postrider.ScopePublish))
	require.Equal(t, map[string]any{"cancelled": 2.0}, publisher.do(http.MethodDelete, eventsPath+"/e1", "").object(http.StatusOK))
	require.Equal(t, map[string]any{"cancelled": 0.0}, publisher.do(http.MethodDelete, eventsPath+"/e1", "").object(http.StatusOK))
	for _, d := range first(b.do(http.MethodGet, eventsPath+"/e1/deliveries", "").items()) {
		require.Equal(t, "cancelled", d["state"])
	}
	b.do(http.MethodDelete, eventsPath+"/unknown", "").problem(http.StatusNotFound)
	b.do(http.MethodDelete, eventsPath+"/%00", "").problem(http.StatusNotFound)
}
