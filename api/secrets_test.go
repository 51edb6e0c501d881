package api_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestRevealSecret(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.newWebhook(`,"secret":"mine"`)
	revealed := b.do(http.MethodGet, webhooksPath+"/"+id+"/secret", "")
	require.Equal(t, "no-store", revealed.Header.Get("Cache-Control"))
	got := revealed.object(http.StatusOK)
	require.Equal(t, map[string]any{
		"id": got["id"], "secret": "mine", "created_at": "2026-08-03T12:00:00Z", "next": nil, "previous": []any{},
		"headers": headersSince("2026-08-03T12:00:00Z", nil),
	}, got)
	require.Equal(t, got["id"], b.do(http.MethodGet, webhooksPath+"/"+id, "").object(http.StatusOK)["secret_id"])
	b.do(http.MethodGet, webhooksPath+"/wh_unknown/secret", "").problem(http.StatusNotFound)
	require.NotContains(t, b.logs.String(), "mine")
}

func TestRotateSecret(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.newWebhook(`,"secret":"one"`)
	rotate := func(body string) map[string]any {
		b.clock.advance(time.Minute)
		rotated := b.do(http.MethodPost, webhooksPath+"/"+id+"/secret/rotate", body)
		require.Equal(t, "no-store", rotated.Header.Get("Cache-Control"))
		return rotated.object(http.StatusOK)
	}
	got := rotate("")
	require.Regexp(t, `^whsec_`, got["secret"])
	require.Equal(t, []any{map[string]any{"created_at": "2026-08-03T12:00:00Z", "expires_at": "2026-08-04T12:01:00Z"}}, got["previous"])

	got = rotate(`{"secret":"three","grace_seconds":60}`)
	require.Equal(t, "three", got["secret"])
	require.Equal(t, []any{
		map[string]any{"created_at": "2026-08-03T12:01:00Z", "expires_at": "2026-08-03T12:03:00Z"},
		map[string]any{"created_at": "2026-08-03T12:00:00Z", "expires_at": "2026-08-03T12:03:00Z"},
	}, got["previous"], "newest first, none longer than the new grace")
	require.Equal(t, got, b.do(http.MethodGet, webhooksPath+"/"+id+"/secret", "").object(http.StatusOK))

	got = rotate(`{"secret":null,"grace_seconds":0}`)
	require.Regexp(t, `^whsec_`, got["secret"])
	require.Empty(t, got["previous"])
}

// headersSince returns what hmac_sha256's headers do with a secret.
func headersSince(since string, previousUntil any) []any {
	return []any{
		headerSince("Webhook-Signature", since, previousUntil),
		headerSince("X-Hub-Signature-256", since, nil),
	}
}

func headerSince(name, since string, previousUntil any) map[string]any {
	return map[string]any{"name": name, "current_since": since, "current_until": nil, "previous_until": previousUntil, "next_since": nil}
}

// Guards against a rotation that promises an overlap which the header cannot have: its receivers
// would fail from that moment on.
func TestRotationSaysWhichHeaderOverlaps(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for method, c := range map[string]struct{ first, second, header string }{
		"hmac_sha1":  {"one", "two", "X-Hub-Signature"},
		"bearer":     {"one", "two", "Authorization"},
		"basic_auth": {"u:one", "u:two", "Authorization"},
	} {
		id := b.newWebhook(`,"signing_method":"` + method + `","secret":"` + c.first + `"`)
		got := b.do(http.MethodPost, webhooksPath+"/"+id+"/secret/rotate", `{"secret":"`+c.second+`","grace_seconds":60}`).object(http.StatusOK)
		at := "2026-08-03T12:00:00Z"
		require.Equal(t, []any{headerSince(c.header, at, nil)}, got["headers"], method)
		require.Empty(t, got["previous"], "%s: it signs nothing any more", method)
		require.Equal(t, got, b.do(http.MethodGet, webhooksPath+"/"+id+"/secret", "").object(http.StatusOK))
	}
	id := b.newWebhook("")
	b.clock.advance(time.Minute)
	got := b.do(http.MethodPost, webhooksPath+"/"+id+"/secret/rotate", `{"grace_seconds":60}`).object(http.StatusOK)
	require.Equal(t, headersSince("2026-08-03T12:01:00Z", "2026-08-03T12:02:00Z"), got["headers"])
	unsigned := b.newWebhook(`,"signing_method":"none","secret":"kept"`)
	require.Empty(t, b.do(http.MethodGet, webhooksPath+"/"+unsigned+"/secret", "").object(http.StatusOK)["headers"])
}

func TestRotateSecretRefusals(t *testing.T) {
	t.Parallel()
	b := setup(t)
	hmac := b.newWebhook("")
	basic := b.newWebhook(`,"signing_method":"basic_auth","secret":"u:p"`)
	for _, c := range []struct{ id, body, location string }{
		{hmac, `{"grace_seconds":-1}`, "body.grace_seconds"},
		{hmac, `{"grace_seconds":604801}`, "body.grace_seconds"},
		{hmac, `{"grace_seconds":null}`, "body.grace_seconds"},
		{hmac, `{"grace_seconds":6e1}`, "body.grace_seconds"},
		{hmac, `{"secret":""}`, "body.secret"},
		{hmac, `{"grace":1}`, "body.grace"},
		{hmac, `{"secret":"v1,whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}`, "body.secret"},
		{basic, ``, "body.secret"},
		{basic, `{"secret":"no colon"}`, "body.secret"},
	} {
		require.Equal(t, []string{c.location}, b.do(http.MethodPost, webhooksPath+"/"+c.id+"/secret/rotate", c.body).locations(), c.body)
	}
	require.Equal(t, "u:p", b.do(http.MethodGet, webhooksPath+"/"+basic+"/secret", "").text(http.StatusOK, "secret"))
	b.do(http.MethodPost, webhooksPath+"/wh_unknown/secret/rotate", "").problem(http.StatusNotFound)
}
