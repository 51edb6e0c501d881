package api_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
)

// Guards custom headers, which often are credentials, against keys that may read webhooks and not
// manage them.
func TestHeaderValuesNeedTheScopeManage(t *testing.T) {
	t.Parallel()
	b := setup(t)
	stored, err := b.store.APIKeyByHash(t.Context(), postrider.HashAPIKey(b.key))
	require.NoError(t, err)
	id := b.newWebhook(`,"headers":{"X-Token":"a credential","X-Team":"blue"}`)
	masked := map[string]any{"X-Token": "***", "X-Team": "***"}
	values := map[string]any{"X-Token": "a credential", "X-Team": "blue"}
	for _, c := range []struct {
		scopes []postrider.Scope
		want   map[string]any
	}{
		{[]postrider.Scope{postrider.ScopeRead}, masked},
		{[]postrider.Scope{postrider.ScopeRead, postrider.ScopeSecrets, postrider.ScopePublish}, masked},
		{[]postrider.Scope{postrider.ScopeRead, postrider.ScopeManage}, values},
	} {
		reader := b.as(b.newKey(stored.WorkspaceID, c.scopes...))
		require.Equal(t, c.want, reader.do(http.MethodGet, webhooksPath+"/"+id, "").object(http.StatusOK)["headers"], c.scopes)
		list := string(reader.do(http.MethodGet, webhooksPath, "").Body)
		require.Contains(t, list, c.want["X-Token"], c.scopes)
		require.Equal(t, c.want["X-Token"] == "a credential", strings.Contains(list, "a credential"), c.scopes)
	}
	// What a reader sees must not be written back in place of the values.
	refused := b.do(http.MethodPatch, webhooksPath+"/"+id, `{"headers":{"X-Token":"***","X-Team":"blue"}}`)
	require.Equal(t, []string{"body.headers.X-Token"}, refused.locations())
}
