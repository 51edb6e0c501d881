package api_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Guards against a receiver that can change its one value only in the moment of the rotation.
func TestRotationTakesEffectAtItsTime(t *testing.T) {
	t.Parallel()
	b := setup(t)
	path := webhooksPath + "/" + b.newWebhook(`,"secret":"one"`) + "/secret"
	b.clock.advance(time.Minute)
	const start, rotated, effective, end = "2026-08-03T12:00:00Z", "2026-08-03T12:01:00Z", "2026-08-03T13:00:00Z", "2026-08-03T13:01:00Z"
	got := b.do(http.MethodPost, path+"/rotate", `{"secret":"two","grace_seconds":60,"effective_at":"2026-08-03t15:00:00+02:00"}`).
		object(http.StatusOK)
	require.Equal(t, map[string]any{
		"id": got["id"], "secret": "one", "created_at": start, "previous": []any{},
		"next": map[string]any{"secret": "two", "created_at": rotated, "effective_at": effective},
		"headers": []any{
			map[string]any{
				"name": "Webhook-Signature", "current_since": start, "current_until": end, "previous_until": nil, "next_since": rotated,
			},
			map[string]any{
				"name": "X-Hub-Signature-256", "current_since": start, "current_until": effective, "previous_until": nil, "next_since": effective,
			},
		},
	}, got)
	require.Equal(t, got, b.do(http.MethodGet, path, "").object(http.StatusOK))

	b.clock.advance(59 * time.Minute)
	got = b.do(http.MethodGet, path, "").object(http.StatusOK)
	require.Equal(t, map[string]any{
		"id": got["id"], "secret": "two", "created_at": rotated, "next": nil,
		"previous": []any{map[string]any{"created_at": start, "expires_at": end}},
		"headers": []any{
			map[string]any{
				"name": "Webhook-Signature", "current_since": rotated, "current_until": nil, "previous_until": end, "next_since": nil,
			},
			map[string]any{
				"name": "X-Hub-Signature-256", "current_since": effective, "current_until": nil, "previous_until": nil, "next_since": nil,
			},
		},
	}, got)
}

// A method whose headers have one value each keeps the old secret until then, and no longer.
func TestRotationOfOneValueTakesEffectAtItsTime(t *testing.T) {
	t.Parallel()
	for method, secrets := range map[string][2]string{
		"hmac_sha1": {"one", "two"}, "bearer": {"one", "two"}, "basic_auth": {"u:one", "u:two"},
	} {
		b := setup(t)
		path := webhooksPath + "/" + b.newWebhook(`,"signing_method":"`+method+`","secret":"`+secrets[0]+`"`) + "/secret"
		const effective = "2026-08-10T12:00:00Z" // as far ahead as may be
		got := b.do(http.MethodPost, path+"/rotate", `{"secret":"`+secrets[1]+`","effective_at":"`+effective+`"}`).object(http.StatusOK)
		require.Equal(t, secrets[0], got["secret"], method)
		header := got["headers"].([]any)[0].(map[string]any)
		require.Equal(t, effective, header["current_until"], method)
		require.Equal(t, effective, header["next_since"], method)
		b.clock.advance(7 * 24 * time.Hour)
		got = b.do(http.MethodGet, path, "").object(http.StatusOK)
		require.Equal(t, secrets[1], got["secret"], method)
		require.Nil(t, got["next"], method)
		require.Empty(t, got["previous"], method)
	}
}

func TestEffectiveAtRefusals(t *testing.T) {
	t.Parallel()
	b := setup(t)
	path := webhooksPath + "/" + b.newWebhook(`,"secret":"one"`) + "/secret"
	before := b.do(http.MethodGet, path, "").object(http.StatusOK)
	for value, rule := range map[string]string{
		`"2026-08-03T11:59:59.999999Z"`: "must not be past",
		`"2026-08-10T12:00:00.000001Z"`: "must be at most 7 days ahead",
		`"2026-08-04 12:00:00Z"`:        "must be an RFC 3339 time",
		`"2026-08-04T12:00:00"`:         "must be an RFC 3339 time",
		`"tomorrow"`:                    "must be an RFC 3339 time",
		`""`:                            "must be an RFC 3339 time",
		`1786190400`:                    "string",
	} {
		problem := b.do(http.MethodPost, path+"/rotate", `{"secret":"two","effective_at":`+value+`}`)
		require.Equal(t, []string{"body.effective_at"}, problem.locations(), value)
		require.Contains(t, strings.ToLower(string(problem.Body)), strings.ToLower(rule), value)
	}
	require.Equal(t, before, b.do(http.MethodGet, path, "").object(http.StatusOK))
	got := b.do(http.MethodPost, path+"/rotate", `{"secret":"two","effective_at":null}`).object(http.StatusOK)
	require.Equal(t, "two", got["secret"])

	unsigned := webhooksPath + "/" + b.newWebhook(`,"signing_method":"none"`) + "/secret"
	require.Equal(t, []string{"body.effective_at"},
		b.do(http.MethodPost, unsigned+"/rotate", `{"secret":"one","effective_at":"2026-08-04T12:00:00Z"}`).locations())
	b.do(http.MethodGet, unsigned, "").problem(http.StatusNotFound)
}

// Guards against a secret that becomes current under a signing method that it does not suit.
func TestPatchBesideARotationToCome(t *testing.T) {
	t.Parallel()
	b := setup(t)
	path := webhooksPath + "/" + b.newWebhook(`,"signing_method":"hmac_sha1","secret":"one"`)
	rotation := `{"secret":"whsec_chosen by a person","effective_at":"2026-08-04T12:00:00Z"}`
	b.do(http.MethodPost, path+"/secret/rotate", rotation).object(http.StatusOK)
	require.Equal(t, []string{"body.signing_method"}, b.do(http.MethodPatch, path, `{"signing_method":"hmac_sha256"}`).locations())
	b.do(http.MethodPatch, path, `{"name":"changed"}`).object(http.StatusOK)
	require.NotNil(t, b.do(http.MethodGet, path+"/secret", "").object(http.StatusOK)["next"])
	b.do(http.MethodPatch, path, `{"signing_method":"hmac_sha256","secret":"two"}`).object(http.StatusOK)
	got := b.do(http.MethodGet, path+"/secret", "").object(http.StatusOK)
	require.Equal(t, "two", got["secret"])
	require.Nil(t, got["next"])
}
