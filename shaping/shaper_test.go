package shaping_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
	"postrider.dev/postrider/shaping"
)

const orderData = `{"amount":1499,"currency":"EUR","paid":true,"note":null,"rate":1.10,"big":12345678901234567890,` +
	`"huge":123456789012345678901234567890,"tags":["new","vip"],"items":[{"sku":"a-1","qty":2},{"sku":"b-2","qty":0}],` +
	`"customer":{"email":"kim@example.test","name":"Kim"}}`

func eventOf(t *testing.T, data string) *shaping.Event {
	t.Helper()
	e, err := shaping.NewEvent(bodyOf(t, data))
	require.NoError(t, err)
	return e
}

func bodyOf(t *testing.T, data string) []byte {
	t.Helper()
	persona := "acct_7"
	body, err := postrider.RenderBody(postrider.Event{
		ID: "evt_1", Type: "order.paid", PersonaID: &persona, Timestamp: time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC),
	}, json.RawMessage(data))
	require.NoError(t, err)
	return body
}

func TestFilters(t *testing.T) {
	t.Parallel()
	shaper, event := shaping.New(), eventOf(t, orderData)
	for _, c := range []struct {
		filter  string
		matches bool
		fails   string // part of the error
	}{
		{filter: `true`, matches: true},
		{filter: `false`},
		{filter: `event.type == "order.paid"`, matches: true},
		{filter: `event.type.startsWith("order.")`, matches: true},
		{filter: `event.type.endsWith(".refunded")`},
		{filter: `event.id == "evt_1" && event.persona_id == "acct_7"`, matches: true},
		{filter: `event.timestamp < timestamp("2026-03-05T00:00:00Z")`, matches: true},
		{filter: `event.timestamp.getHours() == 5`, matches: true},
		{filter: `event.data.amount > 1000`, matches: true},
		{filter: `event.data.amount > 1000.5`, matches: true},
		{filter: `event.data.amount == 1499.0`, matches: true},
		{filter: `event.data.amount % 100 == 99`, matches: true},
		{filter: `event.data.rate == 1.1`, matches: true},
		{filter: `event.data.big == 12345678901234567890u`, matches: true},
		{filter: `event.data.big > 9223372036854775807`, matches: true},
		{filter: `event.data.huge > 1.0e29`, matches: true},
		{filter: `event.data.paid`, matches: true},
		{filter: `!event.data.paid`},
		{filter: `event.data.note == null`, matches: true},
		{filter: `event.data.currency in ["EUR", "USD"]`, matches: true},
		{filter: `"vip" in event.data.tags`, matches: true},
		{filter: `size(event.data.tags) == 2`, matches: true},
		{filter: `event.data.tags[0] == "new"`, matches: true},
		{filter: `event.data.tags == ["new", "vip"]`, matches: true},
		{filter: `event.data.items.exists(i, i.qty == 0)`, matches: true},
		{filter: `event.data.items.all(i, i.qty > 0)`},
		{filter: `event.data.items.exists_one(i, i.sku == "a-1")`, matches: true},
		{filter: `event.data.items.filter(i, i.qty > 0).size() == 1`, matches: true},
		{filter: `event.data.items.map(i, i.qty) == [2, 0]`, matches: true},
		{filter: `has(event.data.customer.email)`, matches: true},
		{filter: `has(event.data.customer.phone)`},
		{filter: `has(event.data.phone) && event.data.phone != ""`},
		{filter: `event.data.?phone.orValue("") == ""`, matches: true},
		{filter: `event.data["customer"]["name"] == "Kim"`, matches: true},
		{filter: `event.data.customer.email.matches("^[a-z]+@example[.]test$")`, matches: true},
		{filter: `event.data.amount > 2000 ? true : event.data.currency == "EUR"`, matches: true},
		{filter: `event.data.phone == "1"`, fails: "no such key"},
		{filter: `event.data.amount == 1499 || event.data.phone == "1"`, matches: true},
		{filter: `event.data.amount + "x" == "y"`, fails: "no such overload"},
		{filter: `event.data.tags[7] == ""`, fails: "index out of bounds"},
		{filter: `event.data.amount / (event.data.amount - 1499) > 1`, fails: "division by zero"},
		{filter: `event.data.amount`, fails: "not bool"},
	} {
		require.Empty(t, shaper.CheckFilter(c.filter), c.filter)
		matches, err := shaper.Matches(c.filter, event)
		if c.fails != "" {
			require.ErrorContains(t, err, c.fails, c.filter)
		} else {
			require.NoError(t, err, c.filter)
		}
		require.Equal(t, c.matches, matches, c.filter)
	}
}

func TestMistakesNameTheirPlace(t *testing.T) {
	t.Parallel()
	shaper := shaping.New()
	for filter, message := range map[string]string{
		"":                                   "must have 1 to 2048 characters",
		strings.Repeat("é", 2049):            "must have 1 to 2048 characters",
		"event.data.a >":                     "line 1, column 15: Syntax error",
		"true &&\n event.data.a + 'x' == ''": "",
		"true &&\n 1 + 'x' == 1":             "line 2, column 4: found no matching overload",
		"event.typ == 'a'":                   `line 1, column 6: events have no field "typ"; they have id, type`,
		"events.type == 'a'":                 "line 1, column 1: undeclared reference to 'events'",
		"event.type":                         "",
		"1 + 1":                              "must be an expression of type bool, and is of type int",
	} {
		rule := shaper.CheckFilter(filter)
		if message == "" {
			require.Empty(t, rule, filter)
		} else {
			require.Contains(t, rule, message, filter)
		}
	}
	deep := "lists and maps may be in each other, or made of each other, 24 times"
	require.Contains(t, shaper.CheckTransform("[1]"+strings.Repeat(".map(a, {'x': [[a]]})", 20)), deep)
	require.Contains(t, shaper.CheckTransform(strings.Repeat("[", 30)+strings.Repeat("]", 30)), deep)
	require.Empty(t, shaper.CheckTransform(`{"sum": 1 + 1}`))
	require.Equal(t, "must have 1 to 8192 characters", shaper.CheckTransform(strings.Repeat("a", 8193)))
}

// What would take for ever, or all memory, is cut off.
func TestCostsAreBounded(t *testing.T) {
	t.Parallel()
	shaper, event := shaping.New(), eventOf(t, `{"text":"`+strings.Repeat("x", 200_000)+`"}`)
	digits := "[0,1,2,3,4,5,6,7,8,9]"
	nested := "true"
	for _, name := range strings.Split("abcdefgh", "") {
		nested = digits + ".all(" + name + ", " + nested + ")"
	}
	growing := "[event.data.text]" + strings.Repeat(".map(a, a + a)", 10) + "[0] == ''"
	for filter, reason := range map[string]string{
		nested:  "actual cost limit exceeded",
		growing: "memory limit exceeded",
	} {
		require.Empty(t, shaper.CheckFilter(filter))
		matches, err := shaper.Matches(filter, event)
		require.Error(t, err)
		require.False(t, matches)
		require.Equal(t, reason, shaping.Reason(err))
	}
}

func TestTransforms(t *testing.T) {
	t.Parallel()
	shaper, event := shaping.New(), eventOf(t, orderData)
	for transform, body := range map[string]string{
		`event.data`: `{"amount":1499,"big":12345678901234567890,"currency":"EUR","customer":{"email":"kim@example.test","name":"Kim"},` +
			`"huge":123456789012345678901234567890,"items":[{"qty":2,"sku":"a-1"},{"qty":0,"sku":"b-2"}],"note":null,"paid":true,` +
			`"rate":1.10,"tags":["new","vip"]}`,
		`event`: "",
		`{"text": "Paid: " + string(event.data.amount / 100) + " " + event.data.currency}`: `{"text":"Paid: 14 EUR"}`,
		`[event.id, event.timestamp, event.persona_id]`:                                    `["evt_1","2026-03-04T05:06:07Z","acct_7"]`,
		`{"n": event.data.huge, "r": event.data.rate * 2.0}`:                               `{"n":123456789012345678901234567890,"r":2.2}`,
		`{"skus": event.data.items.map(i, i.sku)}`:                                         `{"skus":["a-1","b-2"]}`,
		`event.data.?phone`: `null`,
		`{?"phone": event.data.?phone, ?"name": event.data.customer.?name}`: `{"name":"Kim"}`,
		`b"ab"`:           `"YWI="`,
		`duration("90s")`: `"90s"`,
		`"<b>\u2028\"é"`:  `"<b>\u2028\"é"`,
	} {
		require.Empty(t, shaper.CheckTransform(transform), transform)
		got, err := shaper.Transform(transform, event)
		require.NoError(t, err, transform)
		require.True(t, json.Valid(got), string(got))
		if body != "" {
			require.Equal(t, body, string(got), transform)
		}
		again, err := shaping.New().Transform(transform, eventOf(t, orderData))
		require.NoError(t, err)
		require.Equal(t, got, again, "the same bytes each time")
	}
}

func TestTransformsThatFail(t *testing.T) {
	t.Parallel()
	shaper, event := shaping.New(), eventOf(t, `{"secret":"s3cr3t","text":"`+strings.Repeat("x", 100_000)+`"}`)
	for transform, reason := range map[string]string{
		`event.data.missing`:                                  "no such key",
		`event.data[event.data.secret]`:                       "no such key",
		`[event.data.text, event.data.text, event.data.text]`: "the result is larger than 256 KiB",
		`{1: 2}`:      "the result cannot be JSON",
		`type(event)`: "the result cannot be JSON",
		`1.0 / 0.0`:   "the result cannot be JSON",
	} {
		require.Empty(t, shaper.CheckTransform(transform), transform)
		_, err := shaper.Transform(transform, event)
		require.Error(t, err, transform)
		require.Equal(t, reason, shaping.Reason(err), transform)
	}
}

func TestFormats(t *testing.T) {
	t.Parallel()
	shaper := shaping.New()
	envelope := bodyOf(t, `{"rate":1.10,"text":"<é>"}`)
	for shape, want := range map[postrider.Shape]struct{ contentType, body string }{
		{}:                             {"application/json", string(envelope)},
		{Format: postrider.FormatData}: {"application/json", `{"rate":1.10,"text":"<é>"}`},
		{Format: postrider.FormatThin}: {
			"application/json", `{"id":"evt_1","type":"order.paid","timestamp":"2026-03-04T05:06:07Z","persona_id":"acct_7"}`,
		},
		{Format: postrider.FormatCloudEvents, Source: "urn:postrider:ws_1"}: {
			"application/cloudevents+json",
			`{"specversion":"1.0","id":"evt_1","source":"urn:postrider:ws_1","type":"order.paid","time":"2026-03-04T05:06:07Z",` +
				`"personaid":"acct_7","datacontenttype":"application/json","data":{"rate":1.10,"text":"\u003cé\u003e"}}`,
		},
		{Transform: `event.data.rate`}: {"application/json", "1.10"},
	} {
		body, contentType, err := shaper.Body(shape, envelope)
		require.NoError(t, err)
		require.Equal(t, want.body, string(body))
		require.Equal(t, want.contentType, contentType)
	}
}

func BenchmarkFilter(b *testing.B) {
	shaper := shaping.New()
	body := []byte(`{"id":"evt_1","type":"order.paid","timestamp":"2026-03-04T05:06:07Z","persona_id":null,"data":` + orderData + `}`)
	b.ReportAllocs()
	for b.Loop() {
		e, err := shaping.NewEvent(body)
		if err != nil {
			b.Fatal(err)
		}
		if matches, err := shaper.Matches(`event.data.amount > 1000 && event.data.currency == "EUR"`, e); err != nil || !matches {
			b.Fatal(err)
		}
	}
}
