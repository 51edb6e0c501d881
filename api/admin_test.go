package api_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
)

func TestWorkspaces(t *testing.T) {
	t.Parallel()
	b := setup(t)
	created := b.do(http.MethodPost, "/api/v1/admin/workspaces", `{"name":"acme"}`)
	w := created.object(http.StatusCreated)
	require.Equal(t, "acme", w["name"])
	path := created.Header.Get("Location")
	require.Equal(t, w, b.do(http.MethodGet, path, "").object(http.StatusOK))

	listed, _ := b.do(http.MethodGet, "/api/v1/admin/workspaces?limit=1", "").items()
	require.Equal(t, []map[string]any{w}, listed, "newest first")

	require.Equal(t, []string{"body.name"}, b.do(http.MethodPost, "/api/v1/admin/workspaces", `{"name":""}`).locations())
	require.Equal(t, []string{"body.id"}, b.do(http.MethodPost, "/api/v1/admin/workspaces", `{"name":"a","id":"mine"}`).locations())
	b.do(http.MethodGet, "/api/v1/admin/workspaces/ws_unknown", "").problem(http.StatusNotFound)
}

func TestKeys(t *testing.T) {
	t.Parallel()
	b := setup(t)
	path := b.do(http.MethodPost, "/api/v1/admin/workspaces", `{"name":"acme"}`).Header.Get("Location") + "/keys"
	answer := b.do(http.MethodPost, path, `{"name":"publisher","scopes":["publish","read"],"expires_at":"2026-08-03T13:00:00Z"}`)
	require.Equal(t, "no-store", answer.Header.Get("Cache-Control"))
	created := answer.object(http.StatusCreated)
	secret, id := answer.text(http.StatusCreated, "key"), answer.text(http.StatusCreated, "id")
	require.NotContains(t, b.logs.String(), secret)

	publisher := b.as(secret)
	publisher.do(http.MethodGet, "/api/v1/webhooks", "").object(http.StatusOK)
	publisher.do(http.MethodPost, "/api/v1/webhooks", `{}`).problem(http.StatusForbidden)
	publisher.do(http.MethodGet, path, "").problem(http.StatusForbidden)

	listed, _ := b.do(http.MethodGet, path, "").items()
	require.Len(t, listed, 1)
	delete(created, "key")
	created["last_used_at"] = "2026-08-03T12:00:00Z"
	require.Equal(t, created, listed[0], "the key itself is not shown again")

	require.Equal(t, http.StatusNoContent, b.do(http.MethodDelete, "/api/v1/admin/keys/"+id, "").Status)
	require.Equal(t, http.StatusNoContent, b.do(http.MethodDelete, "/api/v1/admin/keys/"+id, "").Status)
	publisher.do(http.MethodGet, "/api/v1/webhooks", "").problem(http.StatusUnauthorized) // at once, though the key was remembered
	b.do(http.MethodDelete, "/api/v1/admin/keys/key_unknown", "").problem(http.StatusNotFound)
}

func TestKeysLastUse(t *testing.T) {
	t.Parallel()
	b := setup(t)
	workspace := b.newWorkspace()
	key := b.newKey(workspace, postrider.ScopeRead)
	lastUsed := func() *time.Time {
		keys, err := b.store.APIKeys(t.Context(), workspace, postrider.Page{})
		require.NoError(t, err)
		return keys.Items[0].LastUsedAt
	}
	require.Nil(t, lastUsed())
	first := b.clock.Now()
	for range 3 {
		require.Equal(t, http.StatusOK, b.as(key).do(http.MethodGet, "/api/v1/webhooks", "").Status)
		require.Equal(t, first, *lastUsed(), "not written for every request")
		b.clock.advance(20 * time.Second)
	}
	require.Equal(t, http.StatusOK, b.as(key).do(http.MethodGet, "/api/v1/webhooks", "").Status)
	require.Equal(t, first.Add(time.Minute), *lastUsed())
}

func TestKeyRules(t *testing.T) {
	t.Parallel()
	b := setup(t)
	path := "/api/v1/admin/workspaces/" + b.newWorkspace() + "/keys"
	for body, field := range map[string]string{
		`{"name":"k","scopes":[]}`:                                           "body.scopes",
		`{"name":"k","scopes":["root"]}`:                                     "body.scopes[0]",
		`{"name":"k","scopes":["read","read"]}`:                              "body.scopes[1]",
		`{"name":"","scopes":["read"]}`:                                      "body.name",
		`{"scopes":["read"]}`:                                                "body.name",
		`{"name":"k","scopes":["read"],"expires_at":"2026-08-03T12:00:00Z"}`: "body.expires_at",
		`{"name":"k","scopes":["read"],"expires_at":"tomorrow"}`:             "body.expires_at",
		`{"name":"k","scopes":["read"],"workspace_id":"ws_1"}`:               "body.workspace_id",
	} {
		require.Equal(t, []string{field}, b.do(http.MethodPost, path, body).locations(), body)
	}
	stored, _ := b.do(http.MethodGet, path, "").items()
	require.Empty(t, stored)
	b.do(http.MethodPost, "/api/v1/admin/workspaces/ws_unknown/keys", `{"name":"k","scopes":["read"]}`).problem(http.StatusNotFound)
}
