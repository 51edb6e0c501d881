package api_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider/api"
)

const (
	eventsPath = "/api/v1/events"
	batchPath  = "/api/v1/events/batch"
)

func TestPublishEvent(t *testing.T) {
	t.Parallel()
	var events, deliveries int
	b := setup(t, func(c *api.Config) {
		c.OnAccepted = func(e, d int) { events, deliveries = events+e, deliveries+d }
	})
	b.newWebhook("")
	b.newWebhook(`,"scope_type":"persona","persona_id":"p1"`)

	got := b.do(http.MethodPost, eventsPath, `{"type":"call.ended","data":{"n": 1.50, "text": "<&>"}}`).object(http.StatusAccepted)
	require.Regexp(t, `^evt_[0-9a-f]{32}$`, got["id"])
	require.Equal(t, map[string]any{"id": got["id"], "type": "call.ended", "deliveries": 1.0, "parked": 0.0, "duplicate": false}, got)
	require.Equal(t, []int{1, 1}, []int{events, deliveries})

	got = b.do(http.MethodPost, eventsPath, `{"type":"call.ended","data":null,"persona_id":"p1"}`).object(http.StatusAccepted)
	require.InDelta(t, 2, got["deliveries"], 0)
	nulls := `{"type":"webhook.test","data":[],"id":null,"persona_id":null,"timestamp":null,"deliver_at":null}`
	got = b.do(http.MethodPost, eventsPath, nulls).object(http.StatusAccepted)
	require.InDelta(t, 1, got["deliveries"], 0)
	require.Equal(t, []int{3, 4}, []int{events, deliveries})
}

func TestReadEvent(t *testing.T) {
	t.Parallel()
	b := setup(t)
	sent := `{"type":"call.ended","data":{"b": 1.50, "a": "<&>"},"id":"order-1","persona_id":"p1",` +
		`"timestamp":"2026-08-01T10:00:00.1234567+02:00","deliver_at":"2026-08-04T00:00:00Z"}`
	require.Equal(t, "order-1", b.do(http.MethodPost, eventsPath, sent).text(http.StatusAccepted, "id"))
	read := b.do(http.MethodGet, eventsPath+"/order-1", "")
	require.Contains(t, string(read.Body), `"data":{"b":1.50,"a":"<&>"}`, "its own spelling is kept")
	want := map[string]any{
		"id": "order-1", "type": "call.ended", "persona_id": "p1",
		"timestamp": "2026-08-01T08:00:00.123456Z", "deliver_at": "2026-08-04T00:00:00Z", "created_at": "2026-08-03T12:00:00Z",
		"expires_at": nil, "webhook_id": nil, "ordering_key": nil, "schema_valid": nil, "headers": map[string]any{},
		"data": map[string]any{"a": "<&>", "b": 1.5},
	}
	require.Equal(t, want, read.object(http.StatusOK))

	b.do(http.MethodPost, eventsPath, `{"type":"a","data":0,"id":"order-2","deliver_at":"2020-01-01T00:00:00Z"}`)
	got := b.do(http.MethodGet, eventsPath+"/order-2", "").object(http.StatusOK)
	require.Nil(t, got["deliver_at"], "past is at once")
	require.Equal(t, "2026-08-03T12:00:00Z", got["timestamp"], "now when left out")

	b.do(http.MethodGet, eventsPath+"/order-3", "").problem(http.StatusNotFound)
	b.do(http.MethodGet, eventsPath+"/%00", "").problem(http.StatusNotFound)
	b.do(http.MethodGet, eventsPath+"/%ff", "").problem(http.StatusNotFound)
}

func TestListEvents(t *testing.T) {
	t.Parallel()
	b := setup(t)
	publish := func(id, kind string) {
		b.do(http.MethodPost, eventsPath, fmt.Sprintf(`{"type":%q,"data":1,"id":%q}`, kind, id)).object(http.StatusAccepted)
		b.clock.advance(time.Hour)
	}
	publish("z-first", "a")
	publish("m-second", "b")
	publish("a-third", "a")
	list := func(query string) []string { return idsOf(first(b.do(http.MethodGet, eventsPath+query, "").items())) }
	require.Equal(t, []string{"a-third", "m-second", "z-first"}, list(""))
	require.Equal(t, []string{"a-third", "z-first"}, list("?type=a"))
	require.Equal(t, []string{"a-third", "m-second"}, list("?since=2026-08-03T13:00:00Z"))
	require.Equal(t, []string{"m-second", "z-first"}, list("?until=2026-08-03T14:00:00Z"))
	require.Equal(t, []string{"m-second"}, list("?since=2026-08-03T15:00:00%2B02:00&until=2026-08-03T14:00:00Z"))

	page, cursor := b.do(http.MethodGet, eventsPath+"?limit=1", "").items()
	require.Equal(t, []string{"a-third"}, idsOf(page))
	require.NotContains(t, page[0], "data")
	require.Equal(t, []string{"m-second", "z-first"}, list("?cursor="+cursor))

	for query, location := range map[string]string{
		"?since=yesterday":                 "query.since",
		"?until=2026-08-03":                "query.until",
		"?until=9999-12-31T23:59:59-10:00": "query.until",
		"?type=a.*":                        "query.type",
		"?cursor=d2hfMDE5OGYzYzViN2U3YzNhOWQyZTRmNjA4MWEyYjNjNGQ": "query.cursor",
	} {
		require.Equal(t, []string{location}, b.do(http.MethodGet, eventsPath+query, "").locations(), query)
	}
}

func TestPublishRefusals(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for body, location := range map[string]string{
		`{"data":1}`:               "type",
		`{"type":"a"}`:             "data",
		`{"type":null,"data":1}`:   "type",
		`{"type":"","data":1}`:     "type",
		`{"type":"a..b","data":1}`: "type",
		`{"type":"a.*","data":1}`:  "type",
		`{"type":"` + strings.Repeat("a", 129) + `","data":1}`:                   "type",
		`{"type":"a","data":1,"kind":2}`:                                         "kind",
		`{"type":"a","data":1,"id":""}`:                                          "id",
		`{"type":"a","data":1,"id":"a.b"}`:                                       "id",
		`{"type":"a","data":1,"id":7}`:                                           "id",
		`{"type":"a","data":1,"id":"` + strings.Repeat("a", 129) + `"}`:          "id",
		`{"type":"a","data":1,"persona_id":""}`:                                  "persona_id",
		`{"type":"a","data":1,"persona_id":"` + strings.Repeat("é", 1025) + `"}`: "persona_id",
		`{"type":"a","data":1,"persona_id":"` + strings.Repeat("€", 683) + `"}`:  "persona_id", // 2,049 bytes
		`{"type":"a","data":1,"timestamp":"now"}`:                                "timestamp",
		`{"type":"a","data":1,"timestamp":1754222400}`:                           "timestamp",
		`{"type":"a","data":1,"timestamp":"9999-12-31T23:59:59-23:00"}`:          "timestamp",
		`{"type":"a","data":1,"deliver_at":"2026-11-01T12:00:01Z"}`:              "deliver_at",
		`{"type":"a","data":1,"deliver_at":"soon"}`:                              "deliver_at",
		`{"type":"a","data":1,"deliver_at":"0000-01-01T00:00:00Z"}`:              "deliver_at",
	} {
		t.Run(body[:min(len(body), 60)], func(t *testing.T) {
			t.Parallel()
			require.Equal(t, []string{"body." + location}, b.do(http.MethodPost, eventsPath, body).locations())
			batch := `{"events":[{"type":"ok","data":1},{"type":"ok","data":1},` + body + `]}`
			require.Equal(t, []string{"body.events[2]." + location}, b.do(http.MethodPost, batchPath, batch).locations())
		})
	}
	b.do(http.MethodPost, eventsPath, `{"type":"a","data":1,"deliver_at":"2026-11-01T12:00:00Z"}`).object(http.StatusAccepted)
	require.Len(t, first(b.do(http.MethodGet, eventsPath, "").items()), 1, "a refused batch leaves nothing")
}

func TestPublishIsRepeatable(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.newWebhook("")
	const body = `{"type":"a","data":{"x":1,"y":2},"timestamp":"2026-08-03T11:00:00Z"}`
	original := b.do(http.MethodPost, eventsPath, body, "Idempotency-Key", "key 1").object(http.StatusAccepted)
	b.clock.advance(time.Minute)
	reordered := `{"timestamp":"2026-08-03T11:00:00Z", "data":{"x": 1, "y": 2}, "type":"a"}`
	again := b.do(http.MethodPost, eventsPath, reordered, "Idempotency-Key", "key 1").object(http.StatusAccepted)
	require.Equal(t, true, again["duplicate"])
	require.Equal(t, original["id"], again["id"])
	require.Equal(t, original["deliveries"], again["deliveries"])

	for _, other := range []string{
		`{"type":"b","data":{"x":1,"y":2},"timestamp":"2026-08-03T11:00:00Z"}`,
		`{"type":"a","data":{"x":1,"y":3},"timestamp":"2026-08-03T11:00:00Z"}`,
		`{"type":"a","data":{"x":1,"y":2}}`,
		`{"type":"a","data":{"x":1,"y":2},"timestamp":"2026-08-03T11:00:00Z","persona_id":"p1"}`,
		`{"type":"a","data":{"x":1,"y":2},"timestamp":"2026-08-03T11:00:00Z","deliver_at":"2026-08-03T20:00:00Z"}`,
		`{"type":"a","data":{"x":1,"y":2},"timestamp":"2026-08-03T11:00:00Z","id":"own"}`,
	} {
		b.do(http.MethodPost, eventsPath, other, "Idempotency-Key", "key 1").problem(http.StatusConflict)
	}

	own := `{"type":"a","data":1,"id":"own-1"}`
	b.do(http.MethodPost, eventsPath, own).object(http.StatusAccepted)
	require.Equal(t, true, b.do(http.MethodPost, eventsPath, own).object(http.StatusAccepted)["duplicate"])
	b.do(http.MethodPost, eventsPath, `{"type":"a","data":2,"id":"own-1"}`).problem(http.StatusConflict)
	require.Len(t, first(b.do(http.MethodGet, eventsPath, "").items()), 2)
}

func TestIdempotencyKeyIsChecked(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for name, key := range map[string]string{"long": strings.Repeat("k", 256), "not ASCII": "schlüssel", "tab": "a\tb"} {
		refused := b.do(http.MethodPost, eventsPath, `{"type":"a","data":1}`, "Idempotency-Key", key)
		require.Equal(t, []string{"header.Idempotency-Key"}, refused.locations(), name)
	}
	b.do(http.MethodPost, eventsPath, `{"type":"a","data":1}`, "Idempotency-Key", strings.Repeat("k", 255)).object(http.StatusAccepted)

	body := strings.NewReader(`{"type":"a","data":1}`)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, b.server.URL+eventsPath, body)
	require.NoError(t, err)
	request.Header = http.Header{"X-Api-Key": {b.key}, "Content-Type": {"application/json"}, "Idempotency-Key": {""}}
	response, err := b.server.Client().Do(request)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, http.StatusUnprocessableEntity, response.StatusCode, "an empty key protects nobody")
}

func TestPublishBatch(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.newWebhook("")
	batch := `{"events":[{"type":"b","data":1,"id":"2"},{"type":"a","data":2,"id":"1"},{"type":"c","data":null}]}`
	got := b.do(http.MethodPost, batchPath, batch, "Idempotency-Key", "batch").object(http.StatusAccepted)
	data := got["data"].([]any)
	require.Len(t, data, 3)
	require.Equal(t, map[string]any{"id": "2", "type": "b", "deliveries": 1.0, "parked": 0.0, "duplicate": false}, data[0])
	require.Equal(t, map[string]any{"id": "1", "type": "a", "deliveries": 1.0, "parked": 0.0, "duplicate": false}, data[1])
	require.Equal(t, "c", data[2].(map[string]any)["type"])

	for body, locations := range map[string][]string{
		`{}`:                {"body.events"},
		`{"events":null}`:   {"body.events"},
		`{"events":[]}`:     {"body.events"},
		`{"events":{}}`:     {"body.events"},
		`{"events":[1]}`:    {"body.events[0]"},
		`{"events":[null]}`: {"body.events[0]"},
		`{"events":[{},{"type":"a","data":1}],"x":1}`: {"body.events[0].type", "body.events[0].data", "body.x"},

		`{"events":[` + strings.Repeat(`{"type":"a","data":1},`, 500) + `{"type":"a","data":1}]}`: {"body.events"},
	} {
		require.Equal(t, locations, b.do(http.MethodPost, batchPath, body).locations())
	}
	// A batch of 500 passes the check of its length: the last event is refused for its own time.
	most := `{"events":[` + strings.Repeat(`{"type":"a","data":1},`, 499) + `{"type":"a","data":1,"deliver_at":"2027-01-01T00:00:00Z"}]}`
	require.Equal(t, []string{"body.events[499].deliver_at"}, b.do(http.MethodPost, batchPath, most).locations())
}

func TestBatchIsAllOrNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.do(http.MethodPost, eventsPath, `{"type":"a","data":1,"id":"taken"}`).object(http.StatusAccepted)
	batch := `{"events":[{"type":"a","data":1,"id":"new"},{"type":"a","data":2,"id":"taken"}]}`
	b.do(http.MethodPost, batchPath, batch).problem(http.StatusConflict)
	b.do(http.MethodGet, eventsPath+"/new", "").problem(http.StatusNotFound)
}

func TestBodySizes(t *testing.T) {
	t.Parallel()
	b := setup(t)
	event := func(size int) string {
		const frame = `{"type":"a","data":""}`
		return `{"type":"a","data":"` + strings.Repeat("x", size-len(frame)) + `"}`
	}
	const limit = 256 << 10
	chunked := func(path, body string) answer {
		return b.send(http.MethodPost, path, struct{ *strings.Reader }{strings.NewReader(body)}) // hides its length
	}
	b.do(http.MethodPost, eventsPath, event(limit)).object(http.StatusAccepted)
	chunked(eventsPath, event(limit)).object(http.StatusAccepted)
	b.do(http.MethodPost, eventsPath, event(limit+1)).problem(http.StatusRequestEntityTooLarge)
	chunked(eventsPath, event(limit+1)).problem(http.StatusRequestEntityTooLarge)
	b.do(http.MethodPost, webhooksPath, event(limit+1)).problem(http.StatusRequestEntityTooLarge)

	batch := func(events ...string) string { return `{"events":[` + strings.Join(events, ",") + `]}` }
	b.do(http.MethodPost, batchPath, batch(event(limit), event(limit))).object(http.StatusAccepted)
	refused := b.do(http.MethodPost, batchPath, batch(event(100), event(limit+1))).problem(http.StatusRequestEntityTooLarge)
	require.Contains(t, refused.Detail, "body.events[1]")
	chunked(batchPath, batch(event(9<<20))).problem(http.StatusRequestEntityTooLarge)
}

func TestTestRoute(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.newWebhook(`,"scope_type":"persona","persona_id":"p1"`)
	b.newWebhook("")
	got := b.do(http.MethodPost, webhooksPath+"/"+id+"/test", "").object(http.StatusAccepted)
	require.Equal(t, "webhook.test", got["type"])
	require.InDelta(t, 1, got["deliveries"], 0)
	require.Equal(t, false, got["duplicate"])
	delivery := b.do(http.MethodGet, "/api/v1/deliveries/"+got["delivery_id"].(string), "").object(http.StatusOK)
	require.Equal(t, id, delivery["webhook_id"])
	require.Equal(t, got["id"], delivery["event_id"])
	var event struct{ Data struct{ Message string } }
	require.NoError(t, json.Unmarshal(b.do(http.MethodGet, eventsPath+"/"+got["id"].(string), "").Body, &event))
	require.NotEmpty(t, event.Data.Message)

	b.do(http.MethodPost, webhooksPath+"/wh_unknown/test", "").problem(http.StatusNotFound)
}

// Guards idempotency across the two ways of decoding: the same event spelled with escapes,
// which the quick way does not decode, is the same request.
func TestEscapesDoNotMakeAnotherRequest(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const plain = `{"type":"call.ended","data":{"a":1},"id":"order-1","persona_id":"Jörg"}`
	const escaped = `{"\u0074ype":"call\u002eended","data": {"a" : 1},"id":"order\u002d1","persona_id":"J\u00f6rg","timestamp":null}`
	require.Equal(t, false, b.do(http.MethodPost, eventsPath, plain).object(http.StatusAccepted)["duplicate"])
	require.Equal(t, true, b.do(http.MethodPost, eventsPath, escaped).object(http.StatusAccepted)["duplicate"])
	require.Equal(t, true, b.do(http.MethodPost, eventsPath, plain).object(http.StatusAccepted)["duplicate"])
	b.do(http.MethodPost, eventsPath, strings.Replace(escaped, `"a" : 1`, `"a":"\u0031"`, 1)).problem(http.StatusConflict)
}

// Guards the limit of an event in a batch: white space counts, as it does for one alone.
func TestWhiteSpaceCountsAsPartOfAnEvent(t *testing.T) {
	t.Parallel()
	b := setup(t)
	event := func(size int) string {
		const frame = `{"type":"a","data":1}`
		return `{"type":"a","data":` + strings.Repeat(" ", size-len(frame)) + `1}`
	}
	b.do(http.MethodPost, batchPath, `{"events":[`+event(256<<10)+`]}`).object(http.StatusAccepted)
	b.do(http.MethodPost, batchPath, `{"events":[`+event(256<<10+1)+`]}`).problem(http.StatusRequestEntityTooLarge)
	// White space between events does not count.
	b.do(http.MethodPost, batchPath, `{"events":[`+event(100)+strings.Repeat(" ", 300<<10)+`,`+event(100)+`]}`).object(http.StatusAccepted)
}
