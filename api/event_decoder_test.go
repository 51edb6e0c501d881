package api

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"postrider.dev/postrider/api/rest"
)

// bothWays decodes bodies of events the quick way and the thorough way.
type bothWays struct {
	event rest.Body[publishEvent]
	batch rest.Body[[]publishEvent]
}

func newBothWays() bothWays {
	a := newServer(Config{}).rest
	return bothWays{event: thoroughEvent(a), batch: thoroughBatch(a)}
}

// agree checks that the thorough way decodes a plain body to the same events.
// It reports whether the body was plain.
func (b bothWays) agree(t require.TestingT, raw []byte) bool {
	event, isEvent := plainEvent(raw)
	if isEvent {
		thorough, err := b.event.Decode(raw)
		require.NoError(t, err, "%s", raw)
		require.Equal(t, thorough, event, "%s", raw)
	}
	events, isBatch := plainBatch(raw)
	if isBatch {
		thorough, err := b.batch.Decode(raw)
		require.NoError(t, err, "%s", raw)
		require.Equal(t, thorough, events, "%s", raw)
	}
	return isEvent || isBatch
}

// drawBody draws a publish request's body in which most things are right.
func drawBody(t *rapid.T) string {
	space := func() string { return rapid.SampledFrom([]string{"", "", "", " ", "\n\t"}).Draw(t, "space") }
	event := func() string {
		values := map[string][]string{
			"type":       {`"call.ended"`, `"a"`, `"a"`, `"a..b"`, `"call"`, `""`, `null`, `7`},
			"data":       {`{"a": [1, {"b":"}]\\\""}], "\"": 1e5}`, `null`, `"\\"`, `[ ]`, `-0.10`, `true`, `"ü{"`, `{"a":"\u0000"}`, `nul`},
			"id":         {`"order-1"`, `null`, `"a.b"`, `"ab"`, `""`, `{}`},
			"persona_id": {`"p\"1"`, `"Jörg"`, `null`, `""`, `"\u0000"`, `"` + strings.Repeat("ü", 600) + `"`},
			"timestamp":  {`"2026-08-01T10:00:00.1234567+02:00"`, `"2026-08-01"`, `null`, `"2026-08-01T10:00:00Z"`, `"0000-01-01T00:00:00Z"`},
			"deliver_at": {`"2026-08-01T10:00:00Z"`, `"soon"`, `null`},

			"ordering_key": {`"a"`, `""`, `null`, `1`, `"a\u0062"`, `"` + strings.Repeat("ä", 256) + `"`, `"` + strings.Repeat("a", 257) + `"`},
			"ttl_seconds":  {`60`, `1`, `2592000`, `2592001`, `0`, `-1`, `1.0`, `1e2`, `060`, `"60"`, `null`, `99999999999999999999`},
			"webhook_id":   {`"wh_1"`, `""`, `null`, `1`, `"` + strings.Repeat("w", 129) + `"`},
			"headers": {
				`{"X-A": "1", "x-b" : "2"}`, `{}`, `null`, `{"X-A":"1","X-A":"2"}`, `{"X-A":"1","x-a":"2"}`, `{"X-A":1}`, `{"Host":"a"}`,
				`{"X-\u0041":"1"}`, `{"X-A":"\u0031"}`, `[]`, `{"":"1"}`,
			},
		}
		names := []string{"type", "data"}
		others := []string{
			"id", "persona_id", "timestamp", "deliver_at", "ttl_seconds", "ordering_key", "webhook_id", "headers", "id", "timestamp",
			"type", "data", "x", "Type",
			`t\u0079pe`,
		}
		names = append(names, rapid.SliceOfN(rapid.SampledFrom(others), 0, 3).Draw(t, "names")...)
		var fields []string
		for _, name := range rapid.Permutation(names).Draw(t, "order") {
			of := values[name]
			if of == nil {
				of = []string{`"call.ended"`}
			}
			fields = append(fields, space()+`"`+name+`"`+space()+":"+space()+rapid.SampledFrom(of).Draw(t, "value")+space())
		}
		return "{" + strings.Join(fields, ",") + "}"
	}
	if rapid.Bool().Draw(t, "single") {
		return space() + event() + space()
	}
	var events []string
	for range rapid.IntRange(0, 3).Draw(t, "events") {
		events = append(events, event())
	}
	return fmt.Sprintf(`{"events":%s[%s]%s}`, space(), strings.Join(events, ","), space())
}

func TestPlainBodiesAreReadAsAllOthers(t *testing.T) {
	t.Parallel()
	b := newBothWays()
	plain := 0
	rapid.Check(t, func(t *rapid.T) {
		if b.agree(t, []byte(drawBody(t))) {
			plain++
		}
	})
	require.Positive(t, plain)
}

func FuzzPlainBodies(f *testing.F) {
	b := newBothWays()
	for _, body := range []string{
		`{"type":"call.ended","data":{"a":[1,{"b":"}]\\\""}]}}`,
		`{"events":[{"type":"a","data":1},{"data":"x","type":"b","id":"2","persona_id":null}]}`,
		`{"type":"a","data":1,"timestamp":"2026-08-01T10:00:00.5+02:00","deliver_at":"2026-08-01T10:00:00Z"}`,
		`[]`, `1`, ``, `{}`, `{"events":{}}`, `{"events":[]}`, `{"events":[1]}`,
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, raw []byte) { b.agree(t, raw) })
}

// Guards the quick way against giving up on bodies that publishers send.
func TestPlainBodies(t *testing.T) {
	t.Parallel()
	b := newBothWays()
	event := `{"type":"call.ended","data":{"a":"\u0000 \\ \" ü"},"id":"order-1",` +
		`"persona_id":"Jörg","timestamp":"2026-08-01T10:00:00.5+02:00","deliver_at":null,` +
		`"ttl_seconds":2592000,"ordering_key":"k","webhook_id":"wh_1","headers":{"X-Tenant":"a b","x-other":""}}`
	for _, body := range []string{
		event, " " + event + "\n", `{"events":[` + event + `]}`, `{"events": [ ` + strings.Repeat(event+" , ", 499) + event + ` ] }`,
	} {
		require.True(t, b.agree(t, []byte(body)), "%.200s", body)
	}
	for _, body := range []string{
		`{"type":"a","data":1,"data":2}`, `{"type":"a","data":1,"id":null,"id":null}`, `{"type":"a","type":"b","data":1}`,
		`{"type":"a","data":1,"id":"x","id":null}`, `{"type":"a","data":1,"headers":{"X-A":"1","X-A":"1"}}`,
		`{"type":"a","data":1,"ttl_seconds":0}`, `{"type":"a","data":1,"headers":{"Host":"a"}}`, `{"type":"a"}`, `{"type":"\u0061","data":1}`,
		`{"events":[` + event + `],"events":[]}`, `{"events":[` + event + `],"x":1}`,
		`{"events":[` + strings.Repeat(event+",", 500) + event + `]}`,
		`{"events":[` + `{"type":"a","data":"` + strings.Repeat("x", rest.MaxBody-100) + `"` + strings.Repeat(" ", 100) + `}]}`,
		"{\"type\":\"a\",\"data\":\"\xff\"}",
	} {
		require.False(t, b.agree(t, []byte(body)), "%.200s", body)
	}
}
