package api_test

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
	"postrider.dev/postrider/api"
)

// These tests walk the OpenAPI document, so that a new route or field is tested with it.

// schema is a schema of the OpenAPI document.
type schema struct {
	Ref                  string `json:"$ref"`
	Type                 any    // a name, or a list of names
	Properties           map[string]*schema
	Required             []string
	Items                *schema
	Enum                 []any
	Format               string
	Minimum, Maximum     *int
	MinLength, MaxLength *int
	MinItems, MaxItems   *int
}

// is reports whether a value may have the type.
func (s *schema) is(name string) bool {
	if names, many := s.Type.([]any); many {
		return slices.Contains(names, any(name))
	}
	return s.Type == name
}

type content map[string]struct{ Schema *schema }

// operation is a route of the document.
type operation struct {
	Method, Path string
	OperationID  string
	Description  string
	Security     []map[string][]string
	Parameters   []struct{ Name, In string }
	RequestBody  *struct {
		Required bool
		Content  content
	}
	Responses map[string]struct{ Content content }
}

// scope returns the scope that the route needs by its description, "" if that names no scope.
func (o operation) scope() postrider.Scope {
	found := regexp.MustCompile("The key needs the scope `(\\w+)`").FindStringSubmatch(o.Description)
	if found == nil {
		return ""
	}
	return postrider.Scope(found[1])
}

func (o operation) takes(parameter string) bool {
	return slices.ContainsFunc(o.Parameters, func(p struct{ Name, In string }) bool { return p.In == "query" && p.Name == parameter })
}

// body returns the schema of the route's body.
func (o operation) body() *schema { return o.RequestBody.Content["application/json"].Schema }

// documented returns the statuses that the route may answer.
func (o operation) documented() []int {
	var statuses []int
	for text := range o.Responses {
		if status, err := strconv.Atoi(text); err == nil {
			statuses = append(statuses, status)
		}
	}
	return statuses
}

// contract is the OpenAPI document.
type contract struct {
	Paths      map[string]map[string]*operation
	Components struct{ Schemas map[string]*schema }
}

// contract returns the document that is served.
func (b *bundle) contract() contract {
	b.t.Helper()
	return newContract(b.t, b.do(http.MethodGet, "/openapi.json", "").Body)
}

func newContract(tb testing.TB, document []byte) contract {
	tb.Helper()
	var c contract
	require.NoError(tb, json.Unmarshal(document, &c))
	for path, operations := range c.Paths {
		for method, o := range operations {
			o.Method, o.Path = strings.ToUpper(method), path
		}
	}
	return c
}

// operations returns the routes that need a key, in the order of their ids.
func (c contract) operations(tb testing.TB) []operation {
	tb.Helper()
	byID := map[string]operation{}
	for _, operations := range c.Paths {
		for _, o := range operations {
			if len(o.Security) > 0 {
				require.NotContains(tb, byID, o.OperationID)
				byID[o.OperationID] = *o
			}
		}
	}
	require.NotEmpty(tb, byID)
	all := make([]operation, 0, len(byID))
	for _, id := range slices.Sorted(maps.Keys(byID)) {
		all = append(all, byID[id])
	}
	return all
}

// resolve follows references.
func (c contract) resolve(s *schema) *schema {
	for s.Ref != "" {
		s = c.Components.Schemas[strings.TrimPrefix(s.Ref, "#/components/schemas/")]
	}
	return s
}

// forEachOperation runs a test for each route that needs a key and is wanted, each with
// resources of its own.
func forEachOperation(t *testing.T, wanted func(operation) bool, test func(w *world, o operation)) {
	t.Helper()
	for _, o := range setup(t).contract().operations(t) {
		if !wanted(o) {
			continue
		}
		t.Run(o.OperationID, func(t *testing.T) {
			t.Parallel()
			test(newWorld(t), o)
		})
	}
}

func anyOperation(operation) bool { return true }

// alwaysRefused reports whether the route refuses whatever there is so far.
func alwaysRefused(o operation) bool { return o.OperationID == "skip-delivery" }

func hasBody(o operation) bool { return o.RequestBody != nil }

// world is the API with one of each resource.
type world struct {
	*bundle
	workspace, key, webhook, event, delivery, eventType, replay string
}

func newWorld(tb testing.TB, change ...func(*api.Config)) *world {
	tb.Helper()
	w := &world{bundle: setup(tb, change...)}
	stored, err := w.store.APIKeyByHash(tb.Context(), postrider.HashAPIKey(w.bundle.key))
	require.NoError(tb, err)
	w.workspace = stored.WorkspaceID
	keys, err := w.store.APIKeys(tb.Context(), w.workspace, postrider.Page{Limit: 1})
	require.NoError(tb, err)
	w.key = keys.Items[0].ID
	w.webhook = w.newWebhook("")
	w.event = "e1"
	w.delivery = w.publish(`{"type":"a","data":1,"id":"e1"}`)
	w.eventType = "call.started"
	w.newEventType(`{"type":"call.started"}`)
	w.replay = w.newReplay()
	return w
}

// path returns the route's path to a resource that there is.
func (w *world) path(o operation) string {
	for prefix, id := range map[string]string{
		"/api/v1/webhooks/": w.webhook, "/api/v1/events/": w.event, "/api/v1/deliveries/": w.delivery,
		"/api/v1/replays/": w.replay, "/api/v1/admin/workspaces/": w.workspace, "/api/v1/admin/keys/": w.key,
	} {
		if strings.HasPrefix(o.Path, prefix) {
			return strings.Replace(o.Path, "{id}", id, 1)
		}
	}
	return strings.Replace(o.Path, "{type}", w.eventType, 1)
}

// good returns a body that the route accepts, with its required fields alone, and "" for a
// route without a body.
func good(tb testing.TB, o operation) string {
	tb.Helper()
	if o.RequestBody == nil {
		return ""
	}
	bodies := map[string]string{
		"create-webhook":        `{"url":"https://example.com/hook","events":["*"]}`,
		"update-webhook":        `{}`,
		"rotate-webhook-secret": `{}`,
		"create-workspace":      `{"name":"acme"}`,
		"create-key":            `{"name":"publisher","scopes":["publish"]}`,
		"test-webhook":          `{}`,
		"create-event-type":     `{"schema":{},"type":"` + rand.Text() + `"}`, // another each time
		"update-event-type":     `{"schema":{}}`,
		"test-expression":       `{"filter":"true","event":{"type":"a","data":1}}`,
		"update-delivery":       `{}`,
		"act-on-deliveries":     `{"action":"retry","ids":["dlv_unknown"]}`,
		"create-replay":         `{"since":"2026-08-01T00:00:00Z","until":"2026-08-02T00:00:00Z","states":["failed"]}`,
		"publish-event":         `{"type":"a","data":1}`,
		"publish-events":        `{"events":[{"type":"a","data":1}]}`,
	}
	require.Contains(tb, bodies, o.OperationID, "a body that the new route accepts")
	return bodies[o.OperationID]
}

// newReplay starts a job of a webhook of its own, which gets nothing, and returns its id.
func (b *bundle) newReplay() string {
	b.t.Helper()
	webhookID := b.do(http.MethodPost, webhooksPath, `{"url":"https://example.com/hook","events":["replayed"]}`).text(http.StatusCreated, "id")
	body := `{"since":"2026-08-01T00:00:00Z","until":"2026-08-02T00:00:00Z","states":["failed"]}`
	return b.do(http.MethodPost, webhooksPath+"/"+webhookID+"/replay", body).text(http.StatusAccepted, "id")
}

// call calls the route with a body that it accepts.
func (w *world) call(o operation, query string) answer {
	w.t.Helper()
	return w.do(o.Method, w.path(o)+query, good(w.t, o))
}

// Guards the keys: every route refuses a missing key and a key with all scopes but its own,
// and accepts a key with its scope alone.
func TestScopes(t *testing.T) {
	t.Parallel()
	forEachOperation(t, anyOperation, func(w *world, o operation) {
		scope := o.scope()
		require.Contains(w.t, postrider.Scopes(), scope)
		anonymous, weak, enough := *w, *w, *w
		anonymous.bundle = w.as("")
		require.NotEmpty(w.t, anonymous.call(o, "").problem(http.StatusUnauthorized))
		others := slices.DeleteFunc(postrider.Scopes(), func(s postrider.Scope) bool { return s == scope })
		weak.bundle = w.as(w.newKey(w.workspace, others...))
		require.Contains(w.t, weak.call(o, "").problem(http.StatusForbidden).Detail, string(scope))
		enough.bundle = w.as(w.newKey(w.workspace, scope))
		if got := enough.call(o, ""); alwaysRefused(o) {
			got.problem(http.StatusConflict)
		} else {
			require.Less(w.t, got.Status, http.StatusBadRequest)
		}
	})
}

// Guards the document: clients are generated from it.
func TestEveryAnswerKeepsToTheDocument(t *testing.T) {
	t.Parallel()
	forEachOperation(t, anyOperation, func(w *world, o operation) {
		w.attempt(w.delivery, postrider.StateRetrying, w.refusal())
		document := w.contract()
		got := w.call(o, "")
		described, found := o.Responses[strconv.Itoa(got.Status)]
		require.True(w.t, found, "%d is documented", got.Status)
		if alwaysRefused(o) {
			got.problem(http.StatusConflict)
			return
		}
		if described.Content == nil {
			require.Empty(w.t, got.Body)
			return
		}
		var value any
		require.NoError(w.t, json.Unmarshal(got.Body, &value))
		document.conforms(w.t, value, described.Content["application/json"].Schema, o.OperationID)
	})
}

// conforms checks that a value is as the schema says, with every required field and no other
// field than those it names.
func (c contract) conforms(tb testing.TB, value any, s *schema, place string) {
	tb.Helper()
	s = c.resolve(s)
	switch v := value.(type) {
	case nil:
		require.True(tb, s.Type == nil || s.is("null"), "%s may not be null", place)
	case map[string]any:
		require.True(tb, s.Type == nil || s.is("object"), "%s is no object", place)
		for _, name := range s.Required {
			require.Contains(tb, v, name, place)
		}
		for name, field := range v {
			if s.Properties != nil {
				require.Contains(tb, s.Properties, name, place)
				c.conforms(tb, field, s.Properties[name], place+"."+name)
			}
		}
	case []any:
		require.True(tb, s.Type == nil || s.is("array"), "%s is no array", place)
		for i, item := range v {
			if s.Items == nil {
				break
			}
			c.conforms(tb, item, s.Items, fmt.Sprintf("%s[%d]", place, i))
		}
	case string:
		require.True(tb, s.Type == nil || s.is("string"), "%s is no text", place)
		require.True(tb, s.Enum == nil || slices.Contains(s.Enum, value), "%s is not %q", place, v)
	case float64:
		require.True(tb, s.Type == nil || s.is("number") || s.is("integer"), "%s is no number", place)
	case bool:
		require.True(tb, s.Type == nil || s.is("boolean"), "%s is no boolean", place)
	}
}

func TestEveryRouteAnswersAnUnknownIDWith404(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, o := range b.contract().operations(t) {
		if !strings.Contains(o.Path, "{") {
			continue
		}
		require.Contains(t, o.Responses, "404")
		for _, id := range []string{"unknown", "wh_019a8f3c5b7e7c3a9d2e4f6081a2b3c4", "%00", "%ff", strings.Repeat("x", 2000)} {
			unknown := b.do(o.Method, regexp.MustCompile(`\{\w+\}`).ReplaceAllLiteralString(o.Path, id), good(t, o))
			require.NotContains(t, unknown.problem(http.StatusNotFound).Detail, id)
		}
	}
}

func TestEveryRouteRefusesUnknownParameters(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, o := range w.contract().operations(t) {
		require.Equal(t, []string{"query.surprise"}, w.call(o, "?surprise=1").locations(), o.OperationID)
		require.Equal(t, []string{"query"}, w.call(o, "?%ff=1").locations(), o.OperationID)
	}
}

// Guards every list: its pages have all of it, once, and its cursors are its own.
func TestEveryListHasPages(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for i := range 4 {
		w.newWebhook("")
		w.newKey(w.workspace, postrider.ScopeRead)
		w.newWorkspace()
		w.newEventType(`{"type":"call.t` + strconv.Itoa(i) + `"}`)
		w.newReplay()
	}
	w.event = "e2" // it gets five deliveries, one a webhook
	w.do(http.MethodPost, eventsPath, `{"type":"a","data":1,"id":"e2"}`).object(http.StatusAccepted)
	for i := range 3 {
		w.do(http.MethodPost, eventsPath, fmt.Sprintf(`{"type":"a","data":%d}`, i)).object(http.StatusAccepted)
	}
	lists := slices.DeleteFunc(w.contract().operations(t), func(o operation) bool { return !o.takes("cursor") })
	require.GreaterOrEqual(t, len(lists), 6)
	cursors := map[string]string{}
	for _, o := range lists {
		path := w.path(o)
		all := idsOf(first(w.do(http.MethodGet, path, "").items()))
		require.GreaterOrEqual(t, len(all), 5, path)
		var paged []string
		cursor := ""
		for page := range 3 {
			items, next := w.do(http.MethodGet, path+"?limit=2"+cursor, "").items()
			paged = append(paged, idsOf(items)...)
			require.Equal(t, page == 2 && len(all) == 5, next == "", "%s: the last page alone has no next", path)
			if cursor = "&cursor=" + next; page == 0 {
				cursors[o.OperationID] = next
			}
		}
		require.Equal(t, all[:len(paged)], paged, path)
		for _, limit := range []string{"0", "201", "-1", "x"} {
			require.Equal(t, []string{"query.limit"}, w.do(http.MethodGet, path+"?limit="+limit, "").locations(), path)
		}
	}
	for _, o := range lists {
		for id, cursor := range cursors {
			got := w.do(http.MethodGet, w.path(o)+"?cursor="+cursor, "")
			if sameKind(o.OperationID, id) {
				require.Equal(t, http.StatusOK, got.Status, "%s goes on at %s", o.OperationID, id)
			} else {
				require.Equal(t, []string{"query.cursor"}, got.locations(), "%s goes on at %s", o.OperationID, id)
			}
		}
	}
}

// sameKind reports whether two lists are of the same kind of resource.
func sameKind(a, b string) bool {
	return a == b || strings.HasSuffix(a, "-deliveries") && strings.HasSuffix(b, "-deliveries")
}
