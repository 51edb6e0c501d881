package api_test

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
)

// subscribed creates a webhook that gets the events alone, and returns its id.
func (b *bundle) subscribed(events string) string {
	b.t.Helper()
	body := `{"url":"https://example.com/hook","events":["` + events + `"]}`
	return b.do(http.MethodPost, webhooksPath, body).text(http.StatusCreated, "id")
}

func TestTypesOfOperationalEventsAreReserved(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.subscribed("postrider.*")
	b.newWebhook("")
	for _, reserved := range []string{postrider.EventDeliveryFailed, "postrider.anything", "postrider.a.b.c", `\u0070ostrider.x`} {
		event := `{"type":"` + reserved + `","data":1}`
		for location, request := range map[string][2]string{
			"body.type":           {eventsPath, event},
			"body.events[1].type": {batchPath, `{"events":[{"type":"a","data":1},` + event + `]}`},
		} {
			refused := b.do(http.MethodPost, request[0], request[1])
			require.Equal(t, []string{location}, refused.locations(), reserved)
			require.Contains(t, string(refused.Body), "must not begin with postrider. (reserved for events about the engine itself)")
		}
	}
	require.Empty(t, first(b.do(http.MethodGet, eventsPath, "").items()), "nothing was accepted")
	for _, free := range []string{"postrider", "postriders.a", "a.postrider.b", "Postrider.a"} {
		b.do(http.MethodPost, eventsPath, `{"type":"`+free+`","data":1}`).object(http.StatusAccepted)
	}
}

// TestOperationalEventsAreRead guards that they are events like any other for those who read.
func TestOperationalEventsAreRead(t *testing.T) {
	t.Parallel()
	b := setup(t)
	watcher := b.subscribed(postrider.EventDeliveryFailed)
	b.newWebhook("")
	failed := b.publish(`{"type":"call.ended","data":{"number":"private"},"ttl_seconds":1}`)
	b.clock.advance(2 * time.Second)
	_, err := b.store.Expire(t.Context())
	require.NoError(t, err)
	_, err = b.store.PublishOperational(t.Context())
	require.NoError(t, err)

	events := first(b.do(http.MethodGet, eventsPath+"?type=postrider.delivery.failed", "").items())
	require.Len(t, events, 1)
	shown := b.do(http.MethodGet, eventsPath+"/"+events[0]["id"].(string), "")
	require.NotContains(t, string(shown.Body), "private")
	data := shown.object(http.StatusOK)["data"].(map[string]any)
	require.Equal(t, []any{failed, "call.ended", "expired", nil},
		[]any{data["delivery_id"], data["event_type"], data["last_error"], data["result"]})
	deliveries := first(b.do(http.MethodGet, webhooksPath+"/"+watcher+"/deliveries", "").items())
	require.Len(t, deliveries, 1)

	var document struct {
		Webhooks map[string]struct {
			Post struct {
				RequestBody struct {
					Content map[string]struct{ Schema *schema }
				}
			}
		}
	}
	text := b.do(http.MethodGet, "/openapi.json", "").Body
	require.NoError(t, json.Unmarshal(text, &document))
	var body any
	key, err := b.store.APIKeyByHash(t.Context(), postrider.HashAPIKey(b.key))
	require.NoError(t, err)
	event, err := b.store.Event(t.Context(), key.WorkspaceID, events[0]["id"].(string))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(event.Body, &body))
	described := document.Webhooks[postrider.EventDeliveryFailed].Post.RequestBody.Content["application/json"].Schema
	newContract(t, text).conforms(t, body, described, "what the receiver gets")
	require.Len(t, document.Webhooks, 5)
}
