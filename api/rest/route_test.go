package rest_test

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"
	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
	"postrider.dev/postrider/api/rest"
)

func TestAuthorizeGetsTheKeyAndTheRoutesScope(t *testing.T) {
	t.Parallel()
	type call struct {
		secret string
		scope  postrider.Scope
	}
	var calls []call
	n := newNotes(t, func(c *rest.Config) {
		c.Authorize = func(ctx context.Context, secret string, scope postrider.Scope) (postrider.APIKey, error) {
			calls = append(calls, call{secret, scope})
			return authorize(ctx, secret, scope)
		}
	})
	n.fetch(t, "/api/notes/1")
	n.post(t, `{"title":"a"}`, "X-API-Key", "poor").problem(http.StatusForbidden)
	n.fetch(t, "/api/notes", "X-API-Key", "").problem(http.StatusUnauthorized)
	require.Equal(t, []call{{"good", postrider.ScopeRead}, {"poor", postrider.ScopeManage}, {"", postrider.ScopeRead}}, calls)
}

// Guards the order of the checks: the key comes first, so that a caller without one does not
// learn whether its request is valid, and cheap checks come before expensive ones.
func TestTheFirstThingThatIsWrongIsTheAnswer(t *testing.T) {
	t.Parallel()
	n := newNotes(t)
	const path = "/api/notes/optional"
	for _, c := range []struct {
		key, query, contentType, body string
		status                        int
	}{
		{"", "?%ff=1", "text/plain", strings.Repeat("x", 65), http.StatusUnauthorized},
		{"poor", "?%ff=1", "text/plain", strings.Repeat("x", 65), http.StatusForbidden},
		{"away", "?%ff=1", "text/plain", strings.Repeat("x", 65), http.StatusServiceUnavailable},
		{"good", "?%ff=1", "text/plain", strings.Repeat("x", 65), http.StatusUnprocessableEntity},
		{"good", "?x=1", "text/plain", strings.Repeat("x", 65), http.StatusRequestEntityTooLarge},
		{"good", "?x=1", "text/plain", "x", http.StatusUnsupportedMediaType},
		{"good", "?x=1", "", "x", http.StatusBadRequest},
		{"good", "?x=1", "", "{}", http.StatusUnprocessableEntity},
		{"good", "?x=1", "", `{"title":"a"}`, http.StatusUnprocessableEntity},
	} {
		got := n.send(t, http.MethodPost, path+c.query, strings.NewReader(c.body), "X-API-Key", c.key, "Content-Type", c.contentType)
		got.problem(c.status)
	}
	require.Equal(t, []string{"query"}, n.send(t, http.MethodPost, path+"?%ff=1", strings.NewReader("{}")).locations())
	require.Equal(t, []string{"body.title"}, n.send(t, http.MethodPost, path+"?x=1", strings.NewReader("{}")).locations())
	require.Equal(t, []string{"query.x"}, n.send(t, http.MethodPost, path+"?x=1", strings.NewReader(`{"title":"a"}`)).locations())
}

// Guards the database: it answers such bytes with an error, and no stored text has them.
func TestBytesThatNoStoredTextHas(t *testing.T) {
	t.Parallel()
	n := newNotes(t)
	n.get = func(context.Context, string) (note, error) { panic("reached") }
	for _, id := range []string{"%00", "a%00", "%ff", "%c3%28", "%ed%a0%80"} {
		n.fetch(t, "/api/notes/"+id).problem(http.StatusNotFound)
		require.Equal(t, []string{"query.mood"}, n.fetch(t, "/api/notes?mood="+id).locations(), id)
		require.Equal(t, []string{"query"}, n.fetch(t, "/api/notes?"+id+"=good").locations(), id)
		require.Equal(t, []string{"query.mood"}, n.fetch(t, "/api/notes?mood=good&mood="+id).locations(), id)
	}
}

func TestUnknownRoutesAndMethodsAreProblems(t *testing.T) {
	t.Parallel()
	n := newNotes(t)
	for _, path := range []string{"/", "/api/notes/", "/api/notes/1/", "/api//notes", "/API/NOTES", "/docs"} {
		n.fetch(t, path, "X-API-Key", "").problem(http.StatusNotFound)
	}
	for method, path := range map[string]string{
		http.MethodDelete: "/api/notes/1", http.MethodPut: "/api/notes", http.MethodOptions: "/api/notes",
	} {
		got := n.send(t, method, path, nil)
		require.Contains(t, got.problem(http.StatusMethodNotAllowed).Detail, method)
		require.Contains(t, got.Header.Get("Allow"), http.MethodGet)
	}
}

func TestRoutesWithoutAKey(t *testing.T) {
	t.Parallel()
	n := newNotes(t)
	n.HandleHTTP(&huma.Operation{Path: "/open", OperationID: "open", Tags: []string{rest.TagService}}, http.HandlerFunc(
		func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }))
	require.Equal(t, http.StatusTeapot, n.fetch(t, "/open", "X-API-Key", "").Status)
	n.send(t, http.MethodPost, "/open", nil).problem(http.StatusMethodNotAllowed)
	require.Contains(t, n.Endpoints(), rest.Endpoint{Method: http.MethodGet, Path: "/open"})
}

// operation is a route of the OpenAPI document.
type operation struct {
	OperationID string
	Description string
	Security    []map[string][]string
	RequestBody *struct {
		Required bool
		Content  map[string]struct {
			Schema struct {
				Ref string `json:"$ref"`
			}
		}
	}
	Responses map[string]any
}

// document returns the operations of the OpenAPI document by path and method.
func (n *notes) document(t *testing.T) map[string]map[string]operation {
	t.Helper()
	var document struct {
		Paths map[string]map[string]operation
	}
	require.NoError(t, json.Unmarshal([]byte(n.fetch(t, "/openapi.json", "X-API-Key", "").Body), &document))
	return document.Paths
}

func TestDocumentDescribesWhatIsEnforced(t *testing.T) {
	t.Parallel()
	n := newNotes(t)
	n.HandleReference()
	document := n.document(t)
	create, get := document["/api/notes"]["post"], document["/api/notes/{id}"]["get"]
	require.Equal(t, "The key needs the scope `manage`.", create.Description)
	require.Equal(t, []map[string][]string{{"apiKey": {}}}, create.Security)
	require.True(t, create.RequestBody.Required)
	require.Equal(t, "#/components/schemas/Note", create.RequestBody.Content["application/json"].Schema.Ref)
	for _, status := range []string{"201", "400", "401", "403", "413", "415", "422", "503"} {
		require.Contains(t, create.Responses, status)
	}
	require.False(t, document["/api/notes/optional"]["post"].RequestBody.Required)
	require.Nil(t, get.RequestBody)
	require.Contains(t, get.Responses, "404")
	require.NotContains(t, get.Responses, "413")
	require.Empty(t, document["/docs"]["get"].Security)

	documented := 0
	for path, operations := range document {
		for method := range operations {
			documented++
			require.True(t, slices.Contains(n.Endpoints(), rest.Endpoint{Method: strings.ToUpper(method), Path: path}), "%s %s", method, path)
		}
	}
	require.Len(t, n.Endpoints(), documented)
}
