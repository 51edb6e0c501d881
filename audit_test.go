package postrider

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCallerOfAContext(t *testing.T) {
	t.Parallel()
	require.Equal(t, Caller{Actor: ActorSystem}, CallerOf(t.Context()))
	c := Caller{Actor: "key_1", Route: "POST /x", RequestID: "req_1"}
	require.Equal(t, c, CallerOf(WithCaller(t.Context(), c)))
}

func TestActionsAreKindAndVerb(t *testing.T) {
	t.Parallel()
	for i, action := range AuditActions() {
		require.Regexp(t, `^[a-z_]+\.[a-z_]+$`, string(action))
		require.NotContains(t, AuditActions()[:i], action)
	}
}

// Guards against a new field of a webhook of which nobody decided whether the audit log may keep its values.
func TestEveryFieldOfAWebhookIsAuditedOrHidden(t *testing.T) {
	t.Parallel()
	hidden := []string{"tls"} // fields that may hold secrets
	for _, settings := range []reflect.Type{reflect.TypeFor[WebhookSettings](), reflect.TypeFor[Policy]()} {
		for field := range settings.Fields() {
			name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			require.NotEqual(t, slices.Contains(hidden, name), slices.Contains(auditedFields(), name), "%s is one of the two", name)
		}
	}
}

func TestChangesLeaveOutWhatMayBeSecret(t *testing.T) {
	t.Parallel()
	raw := func(text string) json.RawMessage { return json.RawMessage(text) }
	long := strings.Repeat("x", MaxAuditValue)
	headers := func(value string) any { return map[string]any{"headers": map[string]string{"A": value}} }
	for name, c := range map[string]struct {
		before, after any
		want          []FieldChange
	}{
		"nothing":         {map[string]any{"name": "a"}, map[string]any{"name": "a"}, []FieldChange{}},
		"null is nothing": {nil, map[string]any{"name": nil, "headers": map[string]string{}}, []FieldChange{}},
		"new":             {nil, map[string]any{"name": "a"}, []FieldChange{{Field: "name", New: raw(`"a"`)}}},
		"gone":            {map[string]any{"max_retries": 3}, nil, []FieldChange{{Field: "max_retries", Old: raw(`3`)}}},
		"by name": {nil, map[string]any{"url": "http://h/", "name": "a"}, []FieldChange{
			{Field: "name", New: raw(`"a"`)}, {Field: "url", New: raw(`"http://h/"`)},
		}},
		"an unknown field": {map[string]any{"client_key": "k"}, map[string]any{"client_key": "l"}, []FieldChange{
			{Field: "client_key", Redacted: true},
		}},
		"what is long": {map[string]any{"name": "a"}, map[string]any{"name": long}, []FieldChange{
			{Field: "name", Old: raw(`"a"`), Redacted: true},
		}},
		"a header's value": {headers("1"), headers("2"), []FieldChange{
			{Field: "headers", Old: raw(`["A"]`), New: raw(`["A"]`), Redacted: true},
		}},
		"a query": {map[string]any{"url": "https://h/p?k=1"}, map[string]any{"url": "https://u:p@h/p#f"}, []FieldChange{
			{Field: "url", Old: raw(`"https://h/p"`), New: raw(`"https://h/p"`), Redacted: true},
		}},
		"no URL": {nil, map[string]any{"url": "%"}, []FieldChange{{Field: "url", Redacted: true}}},
	} {
		require.Equal(t, c.want, Changes(c.before, c.after), name)
	}
	require.Panics(t, func() { Changes(nil, 1) })
}
