package api_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
	"postrider.dev/postrider/api"
	"postrider.dev/postrider/api/rest"
)

// These tests walk the router's table, so that nothing that is served is left out.

// openRoutes are all routes that need no key.
func openRoutes() []rest.Endpoint {
	return []rest.Endpoint{
		{Method: http.MethodGet, Path: "/"},
		{Method: http.MethodGet, Path: "/docs"},
		{Method: http.MethodGet, Path: "/openapi.json"},
		{Method: http.MethodGet, Path: "/healthz"},
		{Method: http.MethodGet, Path: "/readyz"},
	}
}

// forEachRoute calls a test with each route of the router, and what the document says of it.
func (w *world) forEachRoute(test func(route rest.Endpoint, o operation)) {
	w.t.Helper()
	document := w.contract()
	for _, route := range api.Routes() {
		o := document.Paths[route.Path][strings.ToLower(route.Method)]
		require.NotNil(w.t, o, "%v is documented", route)
		test(route, *o)
	}
}

// Guards against a route that somebody forgot to lock. Nothing is told or done without a valid key.
func TestEveryRouteNeedsAKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	expired := w.clock.Now()
	keys := map[string]string{
		"none": "", "unknown": "prk_unknown", "cut": w.bundle.key[:len(w.bundle.key)-1], "longer": w.bundle.key + "x",
		"expired": w.newKeyUntil(w.workspace, &expired, postrider.Scopes()...),
	}
	opened := 0
	w.forEachRoute(func(route rest.Endpoint, o operation) {
		if slices.Contains(openRoutes(), route) {
			require.Empty(t, o.Security, route)
			require.Less(t, w.as("").do(o.Method, w.path(o), "").Status, http.StatusBadRequest, route)
			opened++
			return
		}
		require.NotEmpty(t, o.Security, route)
		for name, key := range keys {
			anonymous := *w
			anonymous.bundle = w.as(key)
			refused := anonymous.call(o, "")
			refused.problem(http.StatusUnauthorized)
			require.NotEmpty(t, refused.Header.Get("WWW-Authenticate"), "%v with a key that is %s", route, name)
			require.Equal(t, "no-store", refused.Header.Get("Cache-Control"))
		}
	})
	require.Len(t, openRoutes(), opened)
	require.Equal(t, "https://example.com/hook", w.do(http.MethodGet, webhooksPath+"/"+w.webhook, "").text(http.StatusOK, "url"))
}

// Guards the walls between workspaces: on every route that names a resource, that of another workspace is answered
// byte for byte like one that does not exist, and no list has it. The routes of the scope admin reach over all
// workspaces, so every other key is refused there.
func TestNoRouteReachesIntoAnotherWorkspace(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	others := slices.DeleteFunc(postrider.Scopes(), func(s postrider.Scope) bool { return s == postrider.ScopeAdmin })
	stranger, nobody := *w, *w
	stranger.bundle = w.as(w.newKey(w.newWorkspace(), others...))
	nobody.bundle = stranger.bundle
	nobody.webhook, nobody.event, nobody.delivery = "wh_019a8f3c5b7e7c3a9d2e4f6081a2b3c4", "unknown", "dlv_019a8f3c5b7e7c3a9d2e4f6081a2b3c4"
	before := w.snapshot()
	named := 0
	w.forEachRoute(func(route rest.Endpoint, o operation) {
		switch {
		case slices.Contains(openRoutes(), route):
		case o.scope() == postrider.ScopeAdmin:
			stranger.call(o, "").problem(http.StatusForbidden)
		case strings.Contains(route.Path, "{"):
			theirs := stranger.call(o, "")
			theirs.problem(http.StatusNotFound)
			require.Equal(t, string(nobody.call(o, "").Body), string(theirs.Body), route)
			named++
		case o.OperationID == "list-audit":
			for _, entry := range first(stranger.call(o, "").items()) {
				require.Contains(t, []any{"workspace.create", "key.create"}, entry["action"], "how the stranger came to be")
				require.Equal(t, postrider.ActorSystem, entry["actor"])
			}
		case o.takes("cursor"):
			require.Empty(t, first(stranger.call(o, "").items()), route)
		}
	})
	require.GreaterOrEqual(t, named, 11)
	require.Equal(t, before, w.snapshot(), "nothing was changed")
}

// snapshot returns what the world's workspace has, as its own key sees it.
func (w *world) snapshot() map[string]string {
	w.t.Helper()
	seen := map[string]string{}
	for _, path := range []string{
		webhooksPath + "/" + w.webhook, webhooksPath + "/" + w.webhook + "/secret", eventsPath + "/" + w.event,
		deliveriesPath + "/" + w.delivery, webhooksPath + "/" + w.webhook + "/deliveries",
	} {
		seen[path] = string(w.do(http.MethodGet, path, "").Body)
	}
	return seen
}

// Guards HEAD: it is answered as GET is, without a body.
func TestHeadIsAnsweredWhereGetIs(t *testing.T) {
	t.Parallel()
	var summaries []api.RequestSummary
	w := newWorld(t, func(c *api.Config) { c.OnRequest = func(s api.RequestSummary) { summaries = append(summaries, s) } })
	w.forEachRoute(func(route rest.Endpoint, o operation) {
		head := w.do(http.MethodHead, w.path(o), "", "X-Request-Id", "mine")
		require.Empty(t, head.Body, route)
		require.Equal(t, http.MethodHead, summaries[len(summaries)-1].Method)
		if route.Method != http.MethodGet {
			return // what is answered there is GET's, too
		}
		get := w.do(http.MethodGet, w.path(o), "", "X-Request-Id", "mine")
		for _, volatile := range []string{"Date", "Content-Length", "Transfer-Encoding"} {
			head.Header.Del(volatile)
			get.Header.Del(volatile)
		}
		require.Equal(t, get.Status, head.Status, route)
		require.Equal(t, get.Header, head.Header, route)
	})
	missing := w.do(http.MethodHead, webhooksPath+"/wh_unknown", "")
	require.Equal(t, http.StatusNotFound, missing.Status)
	require.Equal(t, "application/problem+json", missing.Header.Get("Content-Type"))
	require.Equal(t, http.StatusUnauthorized, w.as("").do(http.MethodHead, webhooksPath, "").Status)
	require.Equal(t, http.StatusMethodNotAllowed, w.do(http.MethodHead, "/api/v1/admin/keys/"+w.key, "").Status)
}

// Guards browsers: whatever is answered, and to whomever, does nothing in them.
func TestEveryAnswerHasTheSecurityHeaders(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	secured := func(got answer, about any) {
		require.Equal(t, "nosniff", got.Header.Get("X-Content-Type-Options"), about)
		require.Equal(t, "no-referrer", got.Header.Get("Referrer-Policy"), about)
		require.Equal(t, "DENY", got.Header.Get("X-Frame-Options"), about)
		require.Contains(t, got.Header.Get("Content-Security-Policy"), "default-src 'none'", about)
		require.Contains(t, got.Header.Get("Content-Security-Policy"), "frame-ancestors 'none'", about)
		require.Empty(t, got.Header.Get("Strict-Transport-Security"), "this process speaks no TLS")
		require.Len(t, got.Header.Values("Content-Security-Policy"), 1, about)
	}
	w.forEachRoute(func(route rest.Endpoint, o operation) {
		for _, b := range []*bundle{w.bundle, w.as("")} {
			caller := *w
			caller.bundle = b
			got := caller.call(o, "")
			secured(got, route)
			if len(o.Security) > 0 {
				require.Equal(t, "no-store", got.Header.Get("Cache-Control"), route)
			}
		}
	})
	secured(w.do(http.MethodGet, "/nowhere", ""), "no such route")
	secured(w.do(http.MethodPut, webhooksPath, ""), "no such method")
}

// Guards against connections of callers that have shown no key, and against those that lead to a process which is
// about to end.
func TestConnectionsAreKeptForCallersWithAKey(t *testing.T) {
	t.Parallel()
	stopping := false
	var authenticated int
	w := newWorld(t, func(c *api.Config) {
		c.Stopping = func() bool { return stopping }
		c.OnAuthenticated = func(context.Context) { authenticated++ }
	})
	kept := func(got answer) bool { return !got.Closed }
	weak := w.as(w.newKey(w.workspace, postrider.ScopePublish))
	before := authenticated
	require.True(t, kept(w.do(http.MethodGet, webhooksPath, "")))
	require.True(t, kept(w.do(http.MethodGet, webhooksPath+"/wh_unknown", "")))
	require.True(t, kept(w.do(http.MethodPost, webhooksPath, `{}`)))
	require.True(t, kept(weak.do(http.MethodGet, webhooksPath, "")), "its key is valid")
	require.Equal(t, before+4, authenticated)
	require.False(t, kept(w.as("").do(http.MethodGet, webhooksPath, "")))
	require.False(t, kept(w.as("prk_unknown").do(http.MethodPost, eventsPath, `{}`)))
	for _, path := range []string{"/", "/docs", "/openapi.json", "/healthz", "/readyz", "/nowhere"} {
		require.False(t, kept(w.do(http.MethodGet, path, "")), path)
	}
	require.False(t, kept(w.do(http.MethodPost, eventsPath, `{}`, "Content-Type", "text/plain")), "the body was not read")
	require.Equal(t, before+5, authenticated)
	stopping = true
	require.False(t, kept(w.do(http.MethodGet, webhooksPath, "")))
	require.Equal(t, http.StatusAccepted, w.do(http.MethodPost, eventsPath, `{"type":"a","data":1}`).Status)
}

// Guards against a compressed body that is read as if it were not, and against one that is decompressed.
func TestEveryBodyIsSentAsItIs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, o := range slices.DeleteFunc(w.contract().operations(t), func(o operation) bool { return !hasBody(o) }) {
		var packed bytes.Buffer
		writer := gzip.NewWriter(&packed)
		_, err := writer.Write([]byte(good(t, o)))
		require.NoError(t, err)
		require.NoError(t, writer.Close())
		for _, encoding := range []string{"gzip", "GZIP", "deflate", "br", "zstd", "gzip, identity", "identity, gzip"} {
			refused := w.do(o.Method, w.path(o), packed.String(), "Content-Encoding", encoding)
			require.Contains(t, refused.problem(http.StatusUnsupportedMediaType).Detail, "Content-Encoding "+encoding)
			require.Equal(t, "identity", refused.Header.Get("Accept-Encoding"))
		}
		for _, encoding := range []string{"identity", "Identity", " identity "} {
			got := w.do(o.Method, w.path(o), good(t, o), "Content-Encoding", encoding)
			if o.OperationID == "create-replay" && got.Status == http.StatusConflict { // the webhook has one by now
				continue
			}
			require.Less(t, got.Status, http.StatusBadRequest, encoding)
		}
	}
}

// Guards against a field whose first value is not checked and is used.
func TestEveryFieldIsGivenOnce(t *testing.T) {
	t.Parallel()
	forEachOperation(t, hasBody, func(w *world, o operation) {
		body := good(w.t, o)
		for _, name := range slices.Sorted(maps.Keys(w.contract().resolve(o.body()).Properties)) {
			whole := with(w.t, body, name, "null")
			twice := strings.TrimSuffix(whole, "}") + fmt.Sprintf(`,%q:null}`, name)
			require.Contains(w.t, w.do(o.Method, w.path(o), twice).locations(), "body."+name)
			require.Contains(w.t, string(w.do(o.Method, w.path(o), twice).Body), "must be given once", name)
			escaped := strings.TrimSuffix(whole, "}") + fmt.Sprintf(`,"\u%04x%s":null}`, name[0], name[1:])
			require.Contains(w.t, string(w.do(o.Method, w.path(o), escaped).Body), "must be given once", name)
		}
	})
}

// Guards the texts about wrong types: each names the type that its field has, whatever was sent.
func TestWrongTypesAreToldTheRightOne(t *testing.T) {
	t.Parallel()
	// What a text may say of a type.
	words := map[string]string{
		"string": `string`, "integer": `integer|number (>=|<=)`, "number": `number`, "boolean": `boolean`,
		"array": `array`, "object": `object`,
	}
	wrong := map[string]string{
		`"text"`: "string", `7.5`: "number", `1e999`: "number", `-1e999`: "number", `true`: "boolean", `["a"]`: "array", `[1e999]`: "array",
		`{"a":"b"}`: "object", `{"a":1e999}`: "object",
	}
	forEachOperation(t, hasBody, func(w *world, o operation) {
		document := w.contract()
		for name, field := range document.resolve(o.body()).Properties {
			field = document.resolve(field)
			for kind, word := range words {
				for value, is := range wrong {
					if !field.is(kind) || is == kind {
						continue
					}
					got := w.do(o.Method, w.path(o), with(w.t, good(w.t, o), name, value))
					p := got.problem(http.StatusUnprocessableEntity)
					about := fmt.Sprintf("%s %s %s: %s", o.OperationID, name, value, got.Body)
					require.Equal(w.t, "body."+name, p.Errors[0].Location, about)
					require.Regexp(w.t, word, p.Errors[0].Message, about)
				}
			}
		}
	})
}

// Guards the times of every body and query: they are those of RFC 3339, neither those of Go nor fewer.
func TestTimesAreThoseOfRFC3339(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	since := func(text string) answer {
		return w.do(http.MethodGet, eventsPath+"?since="+url.QueryEscape(text), "")
	}
	key := func(text string) answer {
		path := "/api/v1/admin/workspaces/" + w.workspace + "/keys"
		return w.do(http.MethodPost, path, fmt.Sprintf(`{"name":"k","scopes":["read"],"expires_at":%q}`, text))
	}
	event := func(text string) answer {
		return w.do(http.MethodPost, eventsPath, fmt.Sprintf(`{"type":"a","data":1,"timestamp":%q}`, text))
	}
	batch := func(text string) answer {
		return w.do(http.MethodPost, batchPath, fmt.Sprintf(`{"events":[{"type":"a","data":1,"timestamp":%q,"Type":1}]}`, text))
	}
	for text, want := range map[string]string{
		"2027-01-02t03:04:05z":             "2027-01-02T03:04:05Z",
		"2027-01-02T03:04:05.5-00:00":      "2027-01-02T03:04:05.5Z",
		"2026-12-31T23:59:60Z":             "2027-01-01T00:00:00Z",
		"2027-01-01T05:29:60.25+05:30":     "2027-01-01T00:00:00.25Z",
		"2027-01-02T03:04:05.123456789Z":   "2027-01-02T03:04:05.123456Z",
		"2027-01-02T03:04:05.12345678901Z": "2027-01-02T03:04:05.123456Z",
	} {
		since(text).object(http.StatusOK)
		require.Equal(t, want, key(text).text(http.StatusCreated, "expires_at"), text)
		id := event(text).text(http.StatusAccepted, "id")
		require.Equal(t, want, w.do(http.MethodGet, eventsPath+"/"+id, "").text(http.StatusOK, "timestamp"), text)
		require.Equal(t, []string{"body.events[0].Type"}, batch(text).locations(), "the time is accepted")
	}
	for _, text := range []string{
		"2027-01-02T3:04:05Z", "2027-01-02T03:04:05,5Z", "2027-01-02T03:04:05+24:00", "2027-01-02T03:04:05+02:60", "2027-01-02 03:04:05Z",
		"2027-01-02T03:04:05", "2027-01-02T03:04:60Z", "2027-01-15T23:59:60Z", "2026-12-31T23:59:61Z", "2027-01-02T24:00:00Z",
		"2027-02-29T00:00:00Z", "20270102T030405Z", "2027-01-02T03:04Z", "2027-01-02T03:04:05.Z", "+2027-01-02T03:04:05Z",
		"2027-01-02T03:04:05+0200", "2027-01-02T03:04:05 Z", "\uff12027-01-02T03:04:05Z",
	} {
		require.Equal(t, []string{"query.since"}, since(text).locations(), text)
		require.Equal(t, []string{"body.expires_at"}, key(text).locations(), text)
		require.Equal(t, []string{"body.timestamp"}, event(text).locations(), text)
		require.Contains(t, batch(text).locations(), "body.events[0].timestamp", text)
	}
}

// Guards generated clients: create-key's answer, which nobody gets again, has a name for every field.
func TestTheDocumentHasEveryFieldOfANewKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	document := w.contract()
	o := document.Paths["/api/v1/admin/workspaces/{id}/keys"]["post"]
	described := document.resolve(o.Responses[strconv.Itoa(http.StatusCreated)].Content["application/json"].Schema)
	answered := w.call(*o, "").object(http.StatusCreated)
	fields := slices.Sorted(maps.Keys(answered))
	require.Equal(t, fields, slices.Sorted(maps.Keys(described.Properties)))
	require.ElementsMatch(t, fields, described.Required)
	require.Subset(t, fields, []string{"id", "key", "name", "scopes", "workspace_id"})
}
