package api_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
	"postrider.dev/postrider/egress/tlstest"
)

// tlsField returns the field tls, to follow others of a webhook; "" stands for a field that is left out.
func tlsField(t *testing.T, certificate, key, ca string) string {
	t.Helper()
	fields := map[string]string{"client_certificate": certificate, "client_key": key, "ca": ca}
	for name, value := range fields {
		if value == "" {
			delete(fields, name)
		}
	}
	text, err := json.Marshal(fields)
	require.NoError(t, err)
	return `"tls":` + string(text)
}

func TestClientKeyIsNeverShown(t *testing.T) {
	t.Parallel()
	b := setup(t)
	a := tlstest.NewAuthority(t)
	certificate, key := a.Issue("client", time.Hour)
	created := b.do(http.MethodPost, webhooksPath, `{"url":"https://example.com","events":["*"],`+tlsField(t, certificate, key, a.PEM)+`}`)
	want := map[string]any{"client_certificate": certificate, "client_key": "***", "ca": a.PEM}
	require.Equal(t, want, created.object(http.StatusCreated)["tls"])
	path := created.Header.Get("Location")
	for _, got := range []answer{
		created, b.do(http.MethodGet, path, ""), b.do(http.MethodGet, webhooksPath, ""), b.do(http.MethodPatch, path, `{"name":"x"}`),
		b.do(http.MethodPost, path+"/pause", ""), b.do(http.MethodPost, path+"/resume", ""), b.do(http.MethodGet, "/api/v1/audit", ""),
	} {
		require.NotContains(t, string(got.Body), "PRIVATE KEY")
		require.Less(t, got.Status, http.StatusBadRequest)
	}
	var logged bool
	for _, entry := range first(b.do(http.MethodGet, "/api/v1/audit", "").items()) {
		for _, change := range entry["changes"].([]any) {
			if change := change.(map[string]any); change["field"] == "tls" {
				logged = true
				require.Equal(t, map[string]any{"field": "tls", "old": nil, "new": nil, "redacted": true}, change)
			}
		}
	}
	require.True(t, logged)
}

func TestTLSIsReplacedAsAWhole(t *testing.T) {
	t.Parallel()
	b := setup(t)
	a := tlstest.NewAuthority(t)
	certificate, key := a.Issue("client", time.Hour)
	path := webhooksPath + "/" + b.newWebhook(","+tlsField(t, certificate, key, a.PEM))
	shown := func() any { return b.do(http.MethodGet, path, "").object(http.StatusOK)["tls"] }
	for body, location := range map[string]string{
		`{` + tlsField(t, certificate, "", "") + `}`:           "body.tls.client_key",
		`{` + tlsField(t, certificate, "***", a.PEM) + `}`:     "body.tls.client_key",
		`{` + tlsField(t, "", key, "") + `}`:                   "body.tls.client_certificate",
		`{"tls":{}}`:                                           "body.tls",
		`{"tls":{"certificate":"PRIVATE"}}`:                    "body.tls.certificate",
		`{` + tlsField(t, "", "", "PRIVATE") + `}`:             "body.tls.ca",
		`{` + tlsField(t, certificate, "PRIVATE", "") + `}`:    "body.tls.client_key",
		`{"tls":{"ca":7}}`:                                     "body.tls.ca",
		`{"tls":{"ca":"` + strings.Repeat("P", 65537) + `"}}`:  "body.tls.ca",
		`{"url":"http://example.com/hook"}`:                    "body.tls",
		`{"tls":{"client_key":"PRIVATE","ca":"","x":"` + `"}}`: "body.tls.ca",
	} {
		refused := b.do(http.MethodPatch, path, body)
		require.Contains(t, refused.locations(), location, body)
		require.NotContains(t, string(refused.Body), "PRIVATE", body)
	}
	require.Equal(t, map[string]any{"client_certificate": certificate, "client_key": "***", "ca": a.PEM}, shown(), "refusals change nothing")
	b.do(http.MethodPatch, path, `{`+tlsField(t, "", "", a.PEM)+`}`).object(http.StatusOK)
	require.Equal(t, map[string]any{"client_certificate": nil, "client_key": nil, "ca": a.PEM}, shown())
	b.do(http.MethodPatch, path, `{"tls":null}`).object(http.StatusOK)
	require.Nil(t, shown())
	b.do(http.MethodPatch, path, `{"url":"http://example.com/hook"}`).object(http.StatusOK)
}

// Guards a client certificate, and a secret that is sent, against who may manage webhooks and not see secrets.
func TestTLSDoesNotMoveUnasked(t *testing.T) {
	t.Parallel()
	b := setup(t)
	workspace := b.newWorkspace()
	manager := b.as(b.newKey(workspace, postrider.ScopeManage))
	b = b.as(b.newKey(workspace, postrider.Scopes()...))
	a := tlstest.NewAuthority(t)
	certificate, key := a.Issue("client", time.Hour)
	ours := tlsField(t, certificate, key, "")

	proves := webhooksPath + "/" + b.newWebhook(","+ours)
	require.Equal(t, []string{"body.tls"}, manager.do(http.MethodPatch, proves, `{"url":"https://other.example/hook"}`).locations())
	manager.do(http.MethodPatch, proves, `{"url":"https://other.example/hook",`+ours+`}`).object(http.StatusOK)
	manager.do(http.MethodPatch, proves, `{"url":"https://other.example/deeper"}`).object(http.StatusOK)
	b.do(http.MethodPatch, proves, `{"url":"https://third.example/hook"}`).object(http.StatusOK)
	manager.do(http.MethodPatch, proves, `{"url":"https://fourth.example/hook","tls":null}`).object(http.StatusOK)

	sends := webhooksPath + "/" + b.newWebhook(`,"secret":"user:password","signing_method":"basic_auth"`)
	trusts := tlsField(t, "", "", a.PEM)
	require.Equal(t, []string{"body.secret"}, manager.do(http.MethodPatch, sends, `{`+trusts+`}`).locations())
	manager.do(http.MethodPatch, sends, `{`+ours+`}`).object(http.StatusOK)
	manager.do(http.MethodPatch, sends, `{"secret":"u:p",`+trusts+`}`).object(http.StatusOK)
	require.Equal(t, []string{"body.secret"}, manager.do(http.MethodPatch, sends, `{"tls":null}`).locations())
	b.do(http.MethodPatch, sends, `{"tls":null}`).object(http.StatusOK)
	b.do(http.MethodPatch, webhooksPath+"/"+b.newWebhook(""), `{`+trusts+`}`).object(http.StatusOK)
}
