package api_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
	"postrider.dev/postrider/signing"
)

func TestPatchWebhook(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.newWebhook(`,"name":"one","description":"d","scope_type":"persona","persona_id":"p1","rate_limit":5,"headers":{"X-A":"1"}`)
	before := b.do(http.MethodGet, webhooksPath+"/"+id, "").object(http.StatusOK)
	b.clock.advance(time.Minute)
	patch := func(body string) map[string]any {
		return b.do(http.MethodPatch, webhooksPath+"/"+id, body).object(http.StatusOK)
	}

	got := patch(`{"timeout_ms":2000}`)
	require.Equal(t, map[string]any{"timeout_ms": 2000.0, "max_retries": 3.0, "backoff_ms": 1000.0}, got["delivery_settings"])
	require.Equal(t, "2026-08-03T12:01:00Z", got["updated_at"])
	for _, field := range []string{"name", "description", "persona_id", "rate_limit", "headers", "events", "url", "secret_id", "created_at"} {
		require.Equal(t, before[field], got[field], field)
	}
	got = patch(`{"name":null,"description":null,"rate_limit":null,"headers":{"X-B":"2"},"events":["b","b","c.*"]}`)
	require.Nil(t, got["name"])
	require.Nil(t, got["description"])
	require.Nil(t, got["rate_limit"])
	require.Equal(t, map[string]any{"X-B": "2"}, got["headers"], "replaced as a whole")
	require.Equal(t, []any{"b", "c.*"}, got["events"])

	got = patch(`{"scope_type":"global"}`)
	require.Equal(t, "global", got["scope_type"])
	require.Nil(t, got["persona_id"], "cleared with the scope")
	got = patch(`{"scope_type":"persona","persona_id":"p2","name":"two"}`)
	require.Equal(t, "p2", got["persona_id"])
	require.Equal(t, "two", got["name"])

	got = patch(`{}`)
	require.Equal(t, "two", got["name"])
	got["blocked_by"] = []any{} // of one that is read singly
	require.Equal(t, got, b.do(http.MethodGet, webhooksPath+"/"+id, "").object(http.StatusOK))
}

func TestPatchWebhookRefusals(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.newWebhook("")
	before := b.do(http.MethodGet, webhooksPath+"/"+id, "").Body
	for body, location := range map[string]string{
		`{"id":"wh_1"}`:                   "body.id",
		`{"status":"paused"}`:             "body.status",
		`{"url":null}`:                    "body.url",
		`{"url":"ftp://x"}`:               "body.url",
		`{"events":[]}`:                   "body.events",
		`{"timeout_ms":null}`:             "body.timeout_ms",
		`{"timeout_ms":2000.5}`:           "body.timeout_ms",
		`{"timeout_ms":2e3}`:              "body.timeout_ms",
		`{"secret":null}`:                 "body.secret",
		`{"secret":""}`:                   "body.secret",
		`{"scope_type":"persona"}`:        "body.persona_id",
		`{"persona_id":"p1"}`:             "body.persona_id",
		`{"headers":{"Host":"x"}}`:        "body.headers.Host",
		`{"signing_method":"basic_auth"}`: "body.secret", // the kept one is not user:password
	} {
		t.Run(body, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, []string{location}, b.do(http.MethodPatch, webhooksPath+"/"+id, body).locations())
			require.JSONEq(t, string(before), string(b.do(http.MethodGet, webhooksPath+"/"+id, "").Body))
		})
	}
	b.do(http.MethodPatch, webhooksPath+"/wh_unknown", `{"name":"x"}`).problem(http.StatusNotFound)
}

func TestPatchWebhookSecrets(t *testing.T) {
	t.Parallel()
	b := setup(t)
	secret := func(id string) map[string]any {
		return b.do(http.MethodGet, webhooksPath+"/"+id+"/secret", "").object(http.StatusOK)
	}
	patch := func(id, body string) map[string]any {
		return b.do(http.MethodPatch, webhooksPath+"/"+id, body).object(http.StatusOK)
	}

	none := b.newWebhook(`,"signing_method":"none"`)
	require.Equal(t, []string{"body.secret"}, b.do(http.MethodPatch, webhooksPath+"/"+none, `{"signing_method":"bearer"}`).locations())
	require.NotNil(t, patch(none, `{"signing_method":"hmac_sha1"}`)["secret_id"], "one is made")
	made := secret(none)["secret"]
	require.Regexp(t, `^whsec_`, made)
	patch(none, `{"signing_method":"hmac_sha256"}`)
	require.Equal(t, made, secret(none)["secret"], "it is sent by neither")

	given := b.newWebhook(`,"secret":"old"`)
	patch(given, `{"secret":"new"}`)
	require.Equal(t, "new", secret(given)["secret"])
	require.Empty(t, secret(given)["previous"], "replaced at once, without a grace period")
	patch(given, `{"signing_method":"basic_auth","secret":"u:p"}`)
	require.Equal(t, "u:p", secret(given)["secret"])
}

// Guards against a webhook that cannot be changed any more, because its secret is older than a rule
// for new ones. A method that the secret did not serve yet has its rules.
func TestSecretInUseStays(t *testing.T) {
	t.Parallel()
	b := setup(t)
	path := webhooksPath + "/" + b.newWebhook("")
	const old = "whsec_chosen by a person"
	require.NotEmpty(t, signing.CheckSecret(signing.HMACSHA256, old))
	workspaces, err := b.store.Workspaces(t.Context(), postrider.Page{Limit: 1})
	require.NoError(t, err)
	id := strings.TrimPrefix(path, webhooksPath+"/")
	_, err = b.store.RotateSecret(t.Context(), workspaces.Items[0].ID, id, postrider.Rotation{Value: old})
	require.NoError(t, err)
	for _, body := range []string{`{"name":"changed"}`, `{"secret":"` + old + `"}`, `{"signing_method":"hmac_sha1"}`} {
		b.do(http.MethodPatch, path, body).object(http.StatusOK)
		require.Equal(t, old, b.do(http.MethodGet, path+"/secret", "").text(http.StatusOK, "secret"))
	}
	require.Equal(t, []string{"body.secret"}, b.do(http.MethodPatch, path, `{"signing_method":"hmac_sha256"}`).locations())
	b.do(http.MethodPatch, path, `{"signing_method":"hmac_sha256","secret":"new"}`).object(http.StatusOK)
}

// Guards against a key that signs and is sent to its receiver, and against a credential that is
// sent to whom it was not made for.
func TestSecretServesOneKindOfMethod(t *testing.T) {
	t.Parallel()
	b := setup(t)
	secret := func(id string) any {
		return b.do(http.MethodGet, webhooksPath+"/"+id+"/secret", "").object(http.StatusOK)["secret"]
	}
	refused := func(id, body string) {
		require.Equal(t, []string{"body.secret"}, b.do(http.MethodPatch, webhooksPath+"/"+id, body).locations(), body)
	}
	path := func(id string) string { return webhooksPath + "/" + id }
	for _, method := range signing.Methods() {
		if !signing.RevealsSecret(method) {
			continue
		}
		signs := b.newWebhook("")
		refused(signs, `{"signing_method":"`+string(method)+`"}`)
		b.do(http.MethodPatch, path(signs), `{"signing_method":"none"}`).object(http.StatusOK)
		refused(signs, `{"signing_method":"`+string(method)+`"}`)

		sent := b.newWebhook(`,"secret":"user:password","signing_method":"` + string(method) + `"`)
		b.do(http.MethodPatch, path(sent), `{"signing_method":"hmac_sha256"}`).object(http.StatusOK)
		require.Regexp(t, `^whsec_`, secret(sent))

		detour := b.newWebhook(`,"secret":"user:password","signing_method":"` + string(method) + `"`)
		b.do(http.MethodPatch, path(detour), `{"signing_method":"none"}`).object(http.StatusOK)
		b.do(http.MethodPatch, path(detour), `{"signing_method":"hmac_sha1"}`).object(http.StatusOK)
		require.Regexp(t, `^whsec_`, secret(detour))
	}
}

func TestCredentialDoesNotMoveUnasked(t *testing.T) {
	t.Parallel()
	b := setup(t)
	workspace := b.newWorkspace()
	manager := b.as(b.newKey(workspace, postrider.ScopeManage))
	b = b.as(b.newKey(workspace, postrider.Scopes()...))
	id := b.newWebhook(`,"secret":"user:password","signing_method":"basic_auth"`)
	path := webhooksPath + "/" + id
	moved := `{"url":"https://other.example/hook"}`
	require.Equal(t, []string{"body.secret"}, manager.do(http.MethodPatch, path, moved).locations())
	before := b.do(http.MethodGet, path, "").object(http.StatusOK)["url"].(string)
	manager.do(http.MethodPatch, path, `{"url":"`+strings.TrimSuffix(before, "/")+`/deeper"}`).object(http.StatusOK)
	manager.do(http.MethodPatch, path, `{"url":"https://other.example/hook","secret":"u:p"}`).object(http.StatusOK)
	b.do(http.MethodPatch, path, `{"url":"https://third.example/hook"}`).object(http.StatusOK)
}
