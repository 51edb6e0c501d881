package api_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
	"postrider.dev/postrider/api"
)

const eventTypesPath = "/api/v1/event-types"

// newEventType adds a type to the catalogue.
func (b *bundle) newEventType(body string) map[string]any {
	b.t.Helper()
	return b.do(http.MethodPost, eventTypesPath, body).object(http.StatusCreated)
}

func TestEventTypeHasTheContractsShape(t *testing.T) {
	t.Parallel()
	b := setup(t)
	got := b.newEventType(`{"type":"call.ended"}`)
	for _, field := range []string{"description", "schema", "example", "replaced_by"} {
		require.Contains(t, got, field)
		require.Nil(t, got[field], field)
	}
	require.Equal(t, []any{"call.ended", "off", false}, []any{got["type"], got["enforcement"], got["deprecated"]})
	b.do(http.MethodPost, eventTypesPath, `{"type":"call.ended"}`).problem(http.StatusConflict)

	changed := b.do(http.MethodPatch, eventTypesPath+"/call.ended",
		`{"schema":{"type":"object"},"example":{"n":1.10},"enforcement":"warn","deprecated":true,"replaced_by":"call.finished"}`)
	require.Contains(t, string(changed.Body), `"example":{"n":1.10}`, "as it was spelled")
	require.Equal(t, changed.object(http.StatusOK), b.do(http.MethodGet, eventTypesPath+"/call.ended", "").object(http.StatusOK))
	removed := b.do(http.MethodPatch, eventTypesPath+"/call.ended", `{"schema":null,"enforcement":"off","example":null}`).object(http.StatusOK)
	require.Nil(t, removed["schema"])
	require.Equal(t, "call.finished", removed["replaced_by"], "what is left out stays")
	require.Equal(t, http.StatusNoContent, b.do(http.MethodDelete, eventTypesPath+"/call.ended", "").Status)
	b.do(http.MethodGet, eventTypesPath+"/call.ended", "").problem(http.StatusNotFound)
}

func TestEventTypeNamesTheFieldThatIsWrong(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for body, want := range map[string]string{
		`{}`:                                      "body.type",
		`{"type":"call ended"}`:                   "body.type",
		`{"type":"postrider.x"}`:                  "body.type",
		`{"type":"webhook.test"}`:                 "body.type",
		`{"type":"a","enforcement":"always"}`:     "body.enforcement",
		`{"type":"a","enforcement":"warn"}`:       "body.enforcement",
		`{"type":"a","schema":[]}`:                "body.schema",
		`{"type":"a","schema":true}`:              "body.schema",
		`{"type":"a","schema":{"type":"x"}}`:      "body.schema",
		`{"type":"a","replaced_by":"b"}`:          "body.replaced_by",
		`{"type":"a","deprecated":null}`:          "body.deprecated",
		`{"type":"a","id":"x"}`:                   "body.id",
		`{"type":"a","schema":{"$ref":"b.json"}}`: "body.schema",
		`{"type":"a","schema":{"properties":{"n":{"type":"string"}}},"example":{"n":1}}`: "body.example.n",
		`{"type":"a","deprecated":true,"replaced_by":"a"}`:                               "body.replaced_by",
		`{"type":"a","description":"` + strings.Repeat("x", 1025) + `"}`:                 "body.description",
		`{"type":"a","example":"` + strings.Repeat("x", postrider.MaxSchemaBytes) + `"}`: "body.example",
	} {
		require.Equal(t, []string{want}, b.do(http.MethodPost, eventTypesPath, body).locations(), body)
	}
	b.newEventType(`{"type":"a","schema":{"type":"integer"},"example":1}`)
	for body, want := range map[string]string{
		`{"type":"b"}`:                 "body.type",
		`{"example":"x"}`:              "body.example",
		`{"schema":{"type":"string"}}`: "body.example",
		`{"schema":null,"example":null,"enforcement":"enforce"}`: "body.enforcement",
	} {
		require.Equal(t, []string{want}, b.do(http.MethodPatch, eventTypesPath+"/a", body).locations(), body)
	}
}

func TestPublishKeepsToTheCatalogue(t *testing.T) {
	t.Parallel()
	broken := 0
	b := setup(t, func(c *api.Config) { c.OnSchemaBroken = func(n int) { broken += n } })
	b.newEventType(`{"type":"order.paid","enforcement":"enforce","schema":{"properties":{"amount":{"type":"number"}},"required":["amount"]}}`)
	b.newEventType(`{"type":"order.seen","enforcement":"warn","schema":{"type":"object"},"deprecated":true,"replaced_by":"order.paid"}`)

	refused := b.do(http.MethodPost, eventsPath, `{"type":"order.paid","data":{"amount":"12"}}`)
	require.Equal(t, []string{"body.data.amount"}, refused.locations())
	require.NotContains(t, string(refused.Body), `"12"`, "data stays out of answers")
	require.Equal(t, []string{"body.events[1].data.amount"}, b.do(http.MethodPost, eventsPath+"/batch",
		`{"events":[{"type":"order.paid","data":{"amount":1}},{"type":"order.paid","data":{}}]}`).locations())
	require.Empty(t, first(b.do(http.MethodGet, eventsPath, "").items()), "all or nothing")

	plain := b.do(http.MethodPost, eventsPath, `{"type":"order.paid","data":{"amount":12}}`).object(http.StatusAccepted)
	require.NotContains(t, plain, "deprecated")
	require.NotContains(t, plain, "schema_errors")
	warned := b.do(http.MethodPost, eventsPath, `{"type":"order.seen","data":[]}`).object(http.StatusAccepted)
	require.Equal(t, []any{"data must be of type object"}, warned["schema_errors"])
	require.Equal(t, []any{true, "order.paid"}, []any{warned["deprecated"], warned["replaced_by"]})
	require.Equal(t, 1, broken)
	events := first(b.do(http.MethodGet, eventsPath, "").items())
	require.Equal(t, []any{false, nil}, []any{events[0]["schema_valid"], events[1]["schema_valid"]})
}

func TestTestSendsTheExampleOfAType(t *testing.T) {
	t.Parallel()
	b := setup(t)
	path := webhooksPath + "/" + b.newWebhook("") + "/test"
	b.newEventType(`{"type":"order.paid","enforcement":"enforce","schema":{"type":"object"},"example":{"amount":1.50}}`)
	b.newEventType(`{"type":"order.seen"}`)
	require.Equal(t, []string{"body.event_type"}, b.do(http.MethodPost, path, `{"event_type":"order.lost"}`).locations())
	require.Equal(t, []string{"body.event_type"}, b.do(http.MethodPost, path, `{"event_type":"order.seen"}`).locations())
	b.do(http.MethodPost, webhooksPath+"/unknown/test", `{"event_type":"order.lost"}`).problem(http.StatusNotFound)
	sent := b.do(http.MethodPost, path, `{"event_type":"order.paid"}`).object(http.StatusAccepted)
	require.Equal(t, "order.paid", sent["type"])
	require.NotEmpty(t, sent["delivery_id"])
	event := b.do(http.MethodGet, eventsPath+"/"+sent["id"].(string), "")
	require.Contains(t, string(event.Body), `"data":{"amount":1.50}`)
}

func TestCatalogueIsAWorkspacesOwn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	stranger := w.as(w.newKey(w.newWorkspace(), postrider.Scopes()...))
	path := eventTypesPath + "/" + w.eventType
	stranger.do(http.MethodGet, path, "").problem(http.StatusNotFound)
	stranger.do(http.MethodPatch, path, `{}`).problem(http.StatusNotFound)
	stranger.do(http.MethodDelete, path, "").problem(http.StatusNotFound)
	require.Empty(t, first(stranger.do(http.MethodGet, eventTypesPath, "").items()))
}
