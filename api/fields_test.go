package api_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// These tests walk the fields of every body in the OpenAPI document.

// probe is a value for a field, and whether the field's rule forbids it.
type probe struct {
	what, json string
	refused    bool
}

// arrayProbes returns arrays just inside and just outside a field's rule.
func arrayProbes(s *schema) []probe {
	all := []probe{{"a text", `"a"`, true}, {"an object", `{}`, true}}
	if s.MinItems != nil && *s.MinItems > 0 {
		all = append(all, probe{"too few", "[]", true})
	}
	if s.MaxItems != nil {
		item := `"a"`
		if s.Items != nil && s.Items.is("integer") {
			item = strconv.Itoa(*s.Items.Minimum)
		}
		all = append(all, probe{"too many", "[" + strings.Repeat(item+",", *s.MaxItems) + item + "]", true})
	}
	return all
}

// probes returns values just inside and just outside a field's rule.
func (c contract) probes(s *schema) []probe {
	s = c.resolve(s)
	if s.Type == nil {
		return nil // any JSON
	}
	all := []probe{{"null", "null", !s.is("null")}, {"a boolean", "true", !s.is("boolean")}}
	text := func(length int) string { return `"` + strings.Repeat("a", length) + `"` }
	if s.is("string") {
		all = append(all, probe{"a number", "7", true}, probe{"an array", `["a"]`, true}, probe{"NUL", `"a\u0000"`, true})
		if s.MinLength != nil && *s.MinLength > 0 {
			all = append(all, probe{"too short", text(*s.MinLength - 1), true})
		}
		if s.MaxLength != nil {
			all = append(all, probe{"too long", text(*s.MaxLength + 1), true})
		}
		if s.Format == "date-time" {
			all = append(all, probe{"no time", `"tomorrow"`, true}, probe{"a date", `"2026-08-03"`, true})
		}
		for _, value := range s.Enum {
			all = append(all, probe{"of the enum", fmt.Sprintf("%q", value), false})
		}
		if len(s.Enum) > 0 {
			capitals := strings.ToUpper(fmt.Sprintf("%q", s.Enum[0]))
			all = append(all, probe{"outside the enum", `"nonsense"`, true}, probe{"in capitals", capitals, true})
		}
	}
	if s.is("boolean") {
		all = append(all, probe{"a number", "1", true}, probe{"a text", `"true"`, true})
	}
	if s.is("integer") {
		least, most := *s.Minimum, *s.Maximum
		all = append(all,
			probe{"the least", strconv.Itoa(least), false}, probe{"less", strconv.Itoa(least - 1), true},
			probe{"the most", strconv.Itoa(most), false}, probe{"more", strconv.Itoa(most + 1), true},
			probe{"a fraction", fmt.Sprintf("%d.5", least), true}, probe{"spelled as a fraction", fmt.Sprintf("%d.0", most), true},
			probe{"a text", fmt.Sprintf("%q", strconv.Itoa(least)), true}, probe{"out of range", "1e999", true},
		)
	}
	if s.is("array") {
		all = append(all, arrayProbes(s)...)
	}
	if s.is("object") {
		all = append(all, probe{"a text", `"a"`, true}, probe{"an array", `[]`, true})
	}
	return all
}

// with returns the body with a field set, or without it for "".
func with(tb testing.TB, body, field, value string) string {
	tb.Helper()
	var fields map[string]json.RawMessage
	require.NoError(tb, json.Unmarshal([]byte(body), &fields))
	if delete(fields, field); value != "" {
		fields[field] = json.RawMessage(value)
	}
	text, err := json.Marshal(fields)
	require.NoError(tb, err)
	return string(text)
}

// Guards every rule that the document states: a value outside it is refused with the name of
// its field, and a value inside it is not.
func TestEveryFieldKeepsToItsRule(t *testing.T) {
	t.Parallel()
	// Null is refused by the handler, which says why; see [TestPatchWebhookRefusals].
	byHandler := map[string]bool{"update-webhook secret null": true}
	forEachOperation(t, hasBody, func(w *world, o operation) {
		document := w.contract()
		s := document.resolve(o.body())
		for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
			for _, p := range document.probes(s.Properties[name]) {
				got := w.do(o.Method, w.path(o), with(w.t, good(w.t, o), name, p.json))
				about := fmt.Sprintf("%s %s %s", o.OperationID, name, p.what)
				refused := got.Status == http.StatusUnprocessableEntity && slices.ContainsFunc(got.locations(), isAbout("body."+name))
				require.Equal(w.t, p.refused || byHandler[about], refused, "%s: %s", about, got.Body)
				if p.refused {
					require.Len(w.t, got.locations(), 1, about)
				}
			}
		}
	})
}

// Guards against lengths that are counted in bytes where the document says characters.
func TestLengthsAreInCharacters(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.newWebhook("")
	const webhook = `{"url":"https://example.com/","events":["*"],"scope_type":"persona","persona_id":"p1"}`
	for _, c := range []struct {
		method, path, body, field string
		longest                   string // a value of as many characters as may be
	}{
		{http.MethodPost, webhooksPath, webhook, "url", "https://example.com/" + strings.Repeat("\u00e9", 2063)},
		{http.MethodPost, webhooksPath, webhook, "name", strings.Repeat("\U0001F40E", 255)},
		{http.MethodPost, webhooksPath, webhook, "description", strings.Repeat("\U0001F40E", 1024)},
		{http.MethodPost, webhooksPath, webhook, "persona_id", strings.Repeat("\u00e9", 1024)},
		{http.MethodPost, webhooksPath, webhook, "secret", strings.Repeat("\U0001F40E", 1024)},
		{http.MethodPost, webhooksPath + "/" + id + "/secret/rotate", `{}`, "secret", strings.Repeat("\U0001F40E", 1024)},
		{http.MethodPost, eventsPath, `{"type":"a","data":1}`, "persona_id", strings.Repeat("\u00e9", 1024)},
	} {
		require.Less(t, b.do(c.method, c.path, with(t, c.body, c.field, `"`+c.longest+`"`)).Status, http.StatusBadRequest, c.field)
		got := b.do(c.method, c.path, with(t, c.body, c.field, `"`+c.longest+"\u00e9"+`"`))
		require.Equal(t, []string{"body." + c.field}, got.locations())
		require.NotContains(t, string(got.Body), " bytes")
	}
}

// isAbout returns a function that reports whether a location is the field or inside it.
func isAbout(field string) func(location string) bool {
	return func(location string) bool { return location == field || strings.HasPrefix(location, field+"[") }
}

// Guards the events of a batch as [TestEveryFieldKeepsToItsRule] guards an event that comes
// alone: both have the same rules, and a batch says which event breaks one.
func TestEveryFieldOfABatchKeepsToItsRule(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	document := w.contract()
	const event = `{"type":"a","data":1}`
	for name, field := range document.Components.Schemas["PublishEvent"].Properties {
		for _, p := range document.probes(field) {
			got := w.do(http.MethodPost, batchPath, `{"events":[`+event+`,`+with(t, event, name, p.json)+`]}`)
			if p.refused {
				require.Equal(t, []string{"body.events[1]." + name}, got.locations(), "%s %s", name, p.what)
			} else {
				require.Equal(t, http.StatusAccepted, got.Status, "%s %s: %s", name, p.what, got.Body)
			}
		}
	}
}

func TestEveryBodyNamesItsMissingAndUnknownFields(t *testing.T) {
	t.Parallel()
	forEachOperation(t, hasBody, func(w *world, o operation) {
		body := good(w.t, o)
		s := w.contract().resolve(o.body())
		for _, name := range s.Required {
			require.Equal(w.t, []string{"body." + name}, w.do(o.Method, w.path(o), with(w.t, body, name, "")).locations())
		}
		for name := range s.Properties {
			other := strings.ToUpper(name)
			require.Contains(w.t, w.do(o.Method, w.path(o), with(w.t, body, other, "1")).locations(), "body."+other, "names have one case")
		}
		require.Equal(w.t, []string{"body.surprise"}, w.do(o.Method, w.path(o), with(w.t, body, "surprise", "1")).locations())
		for _, value := range []string{"null", "[]", `"a"`, "1"} {
			require.Equal(w.t, []string{"body"}, w.do(o.Method, w.path(o), value).locations(), value)
		}
	})
}

func TestEveryBodyIsJSONWithinItsLimit(t *testing.T) {
	t.Parallel()
	forEachOperation(t, hasBody, func(w *world, o operation) {
		for _, status := range []string{"400", "413", "415", "422"} {
			require.Contains(w.t, o.Responses, status)
		}
		w.do(o.Method, w.path(o), `{"name":`).problem(http.StatusBadRequest)
		w.do(o.Method, w.path(o), "{\"name\":\"\xff\"}").problem(http.StatusBadRequest)
		w.do(o.Method, w.path(o), good(w.t, o), "Content-Type", "text/plain").problem(http.StatusUnsupportedMediaType)
		limit := 256 << 10
		if o.OperationID == "publish-events" {
			limit = 8 << 20
		}
		space := strings.Repeat(" ", limit-len(good(w.t, o)))
		if limit == 256<<10 { // reading 8 MiB takes too long under the race detector
			require.Less(w.t, w.do(o.Method, w.path(o), good(w.t, o)+space).Status, http.StatusBadRequest, "white space up to the limit")
		}
		w.do(o.Method, w.path(o), good(w.t, o)+space+" ").problem(http.StatusRequestEntityTooLarge)
		empty := w.do(o.Method, w.path(o), "")
		if o.RequestBody.Required {
			empty.problem(http.StatusBadRequest)
		} else {
			require.Less(w.t, empty.Status, http.StatusBadRequest)
		}
	})
}
