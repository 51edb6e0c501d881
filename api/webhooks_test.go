package api_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
	"postrider.dev/postrider/api"
	"postrider.dev/postrider/store/storetest"
)

const webhooksPath = "/api/v1/webhooks"

func TestCreateWebhookAnswersTheContractsShape(t *testing.T) {
	t.Parallel()
	b := setup(t)
	created := b.do(http.MethodPost, webhooksPath, `{"url":"https://example.com/hook","events":["call.ended","contact.*","call.ended"]}`)
	got := created.object(http.StatusCreated)
	require.Equal(t, webhooksPath+"/"+got["id"].(string), created.Header.Get("Location"))
	require.Regexp(t, `^wh_[0-9a-f]{32}$`, got["id"])
	require.Regexp(t, `^sec_[0-9a-f]{32}$`, got["secret_id"])
	want := map[string]any{
		"id": got["id"], "secret_id": got["secret_id"],
		"url": "https://example.com/hook", "events": []any{"call.ended", "contact.*"},
		"name": nil, "description": nil, "signing_method": "hmac_sha256", "scope_type": "global", "persona_id": nil,
		"delivery_settings": map[string]any{"timeout_ms": 5000.0, "max_retries": 3.0, "backoff_ms": 1000.0},
		"headers":           map[string]any{}, "rate_limit": nil, "max_in_flight": 32.0, "park_seconds": 604800.0,
		"tls":    nil,
		"filter": nil, "transform": nil, "format": "envelope", "ordering": "none", "on_exhausted": "skip",
		"circuit_breaker": true, "disable_after_seconds": 432000.0,
		"status": "active", "disabled_reason": nil,
		"health":           map[string]any{"state": "ok", "failing_since": nil, "consecutive_failures": 0.0, "open_until": nil},
		"stats":            map[string]any{"total_deliveries": 0.0, "failed_deliveries": 0.0, "success_rate": 1.0},
		"last_delivery_at": nil, "last_error": nil,
		"created_at": "2026-08-03T12:00:00Z", "updated_at": "2026-08-03T12:00:00Z",
	}
	require.Equal(t, want, got)
	want["blocked_by"] = []any{} // of one that is read singly
	require.Equal(t, want, b.do(http.MethodGet, webhooksPath+"/"+got["id"].(string), "").object(http.StatusOK))
}

func TestCreateWebhookTakesEveryField(t *testing.T) {
	t.Parallel()
	b := setup(t)
	got := b.do(http.MethodPost, webhooksPath, `{
		"url": "http://example.com:8080/a?b=c", "events": ["*"], "name": "CRM", "description": "to the CRM",
		"signing_method": "basic_auth", "secret": "user:pass", "scope_type": "persona", "persona_id": "p1",
		"timeout_ms": 30000, "max_retries": 0, "backoff_ms": 3600000, "headers": {"X-Team": "blue"}, "rate_limit": 10, "max_in_flight": 1000,
		"park_seconds": 0, "circuit_breaker": false, "disable_after_seconds": 0
	}`).object(http.StatusCreated)
	require.Equal(t, "CRM", got["name"])
	require.Equal(t, "to the CRM", got["description"])
	require.Equal(t, "basic_auth", got["signing_method"])
	require.Equal(t, "persona", got["scope_type"])
	require.Equal(t, "p1", got["persona_id"])
	require.Equal(t, map[string]any{"timeout_ms": 30000.0, "max_retries": 0.0, "backoff_ms": 3600000.0}, got["delivery_settings"])
	require.Equal(t, map[string]any{"X-Team": "blue"}, got["headers"])
	require.InDelta(t, 10, got["rate_limit"], 0)
	require.InDelta(t, 1000, got["max_in_flight"], 0)
	require.InDelta(t, 0, got["park_seconds"], 0)
	require.Equal(t, false, got["circuit_breaker"])
	require.InDelta(t, 0, got["disable_after_seconds"], 0)
	require.NotContains(t, got, "secret")
}

func TestCreateWebhookTakesNullForNullableFields(t *testing.T) {
	t.Parallel()
	b := setup(t)
	got := b.do(http.MethodPost, webhooksPath, `{"url":"https://example.com","events":["*"],"name":null,"description":null,`+
		`"secret":null,"persona_id":null,"rate_limit":null}`).object(http.StatusCreated)
	for _, field := range []string{"name", "description", "persona_id", "rate_limit"} {
		require.Nil(t, got[field], field)
	}
}

func TestCreateWebhookSecrets(t *testing.T) {
	t.Parallel()
	b := setup(t)
	secretOf := func(fields string) string {
		id := b.newWebhook(fields)
		return b.do(http.MethodGet, webhooksPath+"/"+id+"/secret", "").text(http.StatusOK, "secret")
	}
	require.Regexp(t, `^whsec_[A-Za-z0-9+/]{43}=$`, secretOf(``))
	require.Regexp(t, `^whsec_`, secretOf(`,"signing_method":"hmac_sha1"`))
	require.Equal(t, "mine", secretOf(`,"secret":"mine"`))
	require.Equal(t, "a token", secretOf(`,"signing_method":"bearer","secret":"a token"`))
	require.Equal(t, "kept", secretOf(`,"signing_method":"none","secret":"kept"`), "a secret that is given is kept, whatever the method")

	none := b.newWebhook(`,"signing_method":"none"`)
	require.Nil(t, b.do(http.MethodGet, webhooksPath+"/"+none, "").object(http.StatusOK)["secret_id"])
	b.do(http.MethodGet, webhooksPath+"/"+none+"/secret", "").problem(http.StatusNotFound)
}

func TestCreateWebhookRefusals(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const good = `"url":"https://example.com","events":["*"]`
	long := strings.Repeat("x", 2100)
	for name, c := range map[string]struct {
		body      string
		locations []string
	}{
		"nothing":                  {`{}`, []string{"body.url", "body.events"}},
		"not an object":            {`["url"]`, []string{"body"}},
		"null":                     {`null`, []string{"body"}},
		"a string":                 {`"url"`, []string{"body"}},
		"unknown field":            {`{` + good + `,"timeout":5}`, []string{"body.timeout"}},
		"field in another case":    {`{"URL":"https://example.com","events":["*"]}`, []string{"body.URL", "body.url"}},
		"empty url":                {`{"url":"","events":["*"]}`, []string{"body.url"}},
		"long url":                 {`{"url":"https://example.com/` + long + `","events":["*"]}`, []string{"body.url"}},
		"unparsable url":           {`{"url":"http://[::1","events":["*"]}`, []string{"body.url"}},
		"ftp url":                  {`{"url":"ftp://example.com","events":["*"]}`, []string{"body.url"}},
		"url without host":         {`{"url":"https://","events":["*"]}`, []string{"body.url"}},
		"url of the wrong type":    {`{"url":7,"events":["*"]}`, []string{"body.url"}},
		"no events":                {`{"url":"https://example.com","events":[]}`, []string{"body.events"}},
		"too many events":          {`{"url":"https://example.com","events":["a"` + strings.Repeat(`,"a"`, 100) + `]}`, []string{"body.events"}},
		"events null":              {`{"url":"https://example.com","events":null}`, []string{"body.events"}},
		"bad patterns":             {`{"url":"https://example.com","events":["a","a..b","*.b"]}`, []string{"body.events[1]", "body.events[2]"}},
		"pattern of another type":  {`{"url":"https://example.com","events":[1]}`, []string{"body.events[0]"}},
		"NUL":                      {`{` + good + `,"name":"a\u0000b"}`, []string{"body.name"}},
		"NUL in a header name":     {`{` + good + `,"headers":{"a\u0000b":"c"}}`, []string{"body.headers"}},
		"long name":                {`{` + good + `,"name":"` + long + `"}`, []string{"body.name"}},
		"long description":         {`{` + good + `,"description":"` + long + `"}`, []string{"body.description"}},
		"unknown method":           {`{` + good + `,"signing_method":"rsa"}`, []string{"body.signing_method"}},
		"method null":              {`{` + good + `,"signing_method":null}`, []string{"body.signing_method"}},
		"empty secret":             {`{` + good + `,"secret":""}`, []string{"body.secret"}},
		"long secret":              {`{` + good + `,"secret":"` + long + `"}`, []string{"body.secret"}},
		"bearer without secret":    {`{` + good + `,"signing_method":"bearer"}`, []string{"body.secret"}},
		"basic without colon":      {`{` + good + `,"signing_method":"basic_auth","secret":"user"}`, []string{"body.secret"}},
		"bearer with line break":   {`{` + good + `,"signing_method":"bearer","secret":"a\nb"}`, []string{"body.secret"}},
		"unknown scope":            {`{` + good + `,"scope_type":"team"}`, []string{"body.scope_type"}},
		"persona without id":       {`{` + good + `,"scope_type":"persona"}`, []string{"body.persona_id"}},
		"persona with empty id":    {`{` + good + `,"scope_type":"persona","persona_id":""}`, []string{"body.persona_id"}},
		"global with persona":      {`{` + good + `,"persona_id":"p1"}`, []string{"body.persona_id"}},
		"timeout too short":        {`{` + good + `,"timeout_ms":999}`, []string{"body.timeout_ms"}},
		"timeout too long":         {`{` + good + `,"timeout_ms":30001}`, []string{"body.timeout_ms"}},
		"timeout null":             {`{` + good + `,"timeout_ms":null}`, []string{"body.timeout_ms"}},
		"timeout a string":         {`{` + good + `,"timeout_ms":"5000"}`, []string{"body.timeout_ms"}},
		"timeout a fraction":       {`{` + good + `,"timeout_ms":5000.5}`, []string{"body.timeout_ms"}},
		"timeout spelled 5e3":      {`{` + good + `,"timeout_ms":5e3}`, []string{"body.timeout_ms"}},
		"timeout out of range":     {`{` + good + `,"timeout_ms":1e999}`, []string{"body.timeout_ms"}},
		"negative retries":         {`{` + good + `,"max_retries":-1}`, []string{"body.max_retries"}},
		"too many retries":         {`{` + good + `,"max_retries":11}`, []string{"body.max_retries"}},
		"backoff too short":        {`{` + good + `,"backoff_ms":99}`, []string{"body.backoff_ms"}},
		"backoff too long":         {`{` + good + `,"backoff_ms":3600001}`, []string{"body.backoff_ms"}},
		"reserved header":          {`{` + good + `,"headers":{"Webhook-Id":"x"}}`, []string{"body.headers.Webhook-Id"}},
		"bad header name":          {`{` + good + `,"headers":{"a b":"x"}}`, []string{"body.headers.a b"}},
		"bad header value":         {`{` + good + `,"headers":{"X-A":"a\nb"}}`, []string{"body.headers.X-A"}},
		"header of the wrong type": {`{` + good + `,"headers":{"X-A":1}}`, []string{"body.headers.X-A"}},
		"headers null":             {`{` + good + `,"headers":null}`, []string{"body.headers"}},
		"rate limit zero":          {`{` + good + `,"rate_limit":0}`, []string{"body.rate_limit"}},
		"rate limit too high":      {`{` + good + `,"rate_limit":10001}`, []string{"body.rate_limit"}},
		"nothing in flight":        {`{` + good + `,"max_in_flight":0}`, []string{"body.max_in_flight"}},
		"too much in flight":       {`{` + good + `,"max_in_flight":1001}`, []string{"body.max_in_flight"}},
		"several": {
			`{"url":"ftp://x","events":["*"],"scope_type":"persona","signing_method":"bearer"}`,
			[]string{"body.url", "body.persona_id", "body.secret"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, c.locations, b.do(http.MethodPost, webhooksPath, c.body).locations())
		})
	}
}

func TestAnAddressWithoutItsSchemeIsToldTheRule(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, address := range []string{"127.0.0.1:9000/hook", "localhost:9000/hook", "example.com/hook", "http://no such/hook"} {
		refused := b.do(http.MethodPost, webhooksPath, `{"url":"`+address+`","events":["*"]}`).problem(http.StatusUnprocessableEntity)
		require.Equal(t, "body.url", refused.Errors[0].Location)
		require.Contains(t, refused.Errors[0].Message, "must start with http:// or https://", address)
	}
}

func TestErrorsRepeatWhatWasSentButNoSecrets(t *testing.T) {
	t.Parallel()
	b := setup(t)
	errorOf := func(fields string) broken {
		body := `{"url":"https://example.com","events":["*"]` + fields + `}`
		return b.do(http.MethodPost, webhooksPath, body).problem(http.StatusUnprocessableEntity).Errors[0]
	}
	require.InDelta(t, 999, errorOf(`,"timeout_ms":999`).Value, 0)
	require.Equal(t, "rsa", errorOf(`,"signing_method":"rsa"`).Value)
	require.LessOrEqual(t, len(errorOf(`,"signing_method":"`+strings.Repeat("é", 1000)+`"`).Value.(string)), 300)
	require.Nil(t, errorOf(`,"headers":{"X-A":["hunter2"]}`).Value)
	for _, body := range []string{
		`{"url":"https://example.com","events":["*"],"signing_method":"basic_auth","secret":"hunter2"}`,
		`{"url":"https://example.com","events":["*"],"secret":["hunter2"]}`,
		`{"url":"https://example.com","events":["*"],"secret":"` + strings.Repeat("hunter2", 200) + `"}`,
		`{"url":"https://example.com","events":["*"],"sekret":"hunter2"}`,
		`{"url":"https://example.com","events":["*"],"headers":{"Authorization":"hunter2"}}`,
		`{"url":"https://example.com","events":["*"],"headers":{"X-A":"hunter2\n"}}`,
		`{"url":"https://user:hunter2@example.com","events":["*"]}`,
		`{"url":"https://user:hunter2@example.com:port","events":["*"]}`,
		`{"events":["*"],"secret":"hunter2"}`,
		`{"url":"https://example.com","events":["*"],"secret":"hunter2"`,
	} {
		refused := b.do(http.MethodPost, webhooksPath, body)
		require.Contains(t, []int{http.StatusUnprocessableEntity, http.StatusBadRequest}, refused.Status)
		require.NotContains(t, string(refused.Body), "hunter2", body)
	}
	require.NotContains(t, b.logs.String(), "hunter2")
}

func TestErrorsAreBoundedInNumberAndLength(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var fields strings.Builder
	for i := range 500 {
		fmt.Fprintf(&fields, `,"%s%d":1`, strings.Repeat("n", 400), i)
	}
	refused := b.do(http.MethodPost, webhooksPath, `{"url":"https://example.com","events":["*"]`+fields.String()+`}`)
	require.Len(t, refused.locations(), 100)
	require.Less(t, len(refused.Body), 64<<10)
}

func TestURLsAreCheckedByTheGuard(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *api.Config) {
		c.CheckURL = func(u string) error {
			switch {
			case strings.Contains(u, "internal"):
				return &postrider.Error{Code: postrider.CodeInvalid, Message: "must not be internal"}
			case strings.Contains(u, "odd"):
				return errors.New("must not be odd")
			}
			return nil
		}
	})
	refused := b.do(http.MethodPost, webhooksPath, `{"url":"http://internal/","events":["*"]}`).problem(http.StatusUnprocessableEntity)
	require.Equal(t, []broken{{Location: "body.url", Message: "must not be internal", Value: "http://internal/"}}, refused.Errors)

	id := b.newWebhook("")
	refused = b.do(http.MethodPatch, webhooksPath+"/"+id, `{"url":"http://odd/"}`).problem(http.StatusUnprocessableEntity)
	require.Equal(t, []broken{{Location: "body.url", Message: "must not be odd", Value: "http://odd/"}}, refused.Errors)
	require.Equal(t, "https://example.com/hook", b.do(http.MethodGet, webhooksPath+"/"+id, "").text(http.StatusOK, "url"))
}

func TestListWebhooks(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.Empty(t, first(b.do(http.MethodGet, webhooksPath, "").items()))
	create := func(body string) string {
		b.clock.advance(time.Second)
		return b.do(http.MethodPost, webhooksPath, body).text(http.StatusCreated, "id")
	}
	exact := create(`{"url":"https://example.com/1","events":["call.ended"]}`)
	wild := create(`{"url":"https://example.com/2","events":["call.*"]}`)
	persona := create(`{"url":"https://example.com/3","events":["*"],"scope_type":"persona","persona_id":"p1"}`)

	list := func(query string) []string { return idsOf(first(b.do(http.MethodGet, webhooksPath+query, "").items())) }
	require.Equal(t, []string{persona, wild, exact}, list(""), "newest first")
	require.Equal(t, []string{persona, wild, exact}, list("?event=call.ended"))
	require.Equal(t, []string{persona, wild}, list("?event=call.started"))
	require.Equal(t, []string{persona}, list("?persona_id=p1"))
	require.Equal(t, []string{persona, wild, exact}, list("?status=active"))
	require.Empty(t, list("?status=paused"))

	page, cursor := b.do(http.MethodGet, webhooksPath+"?limit=2", "").items()
	require.Equal(t, []string{persona, wild}, idsOf(page))
	page, cursor = b.do(http.MethodGet, webhooksPath+"?limit=2&cursor="+url.QueryEscape(cursor), "").items()
	require.Equal(t, []string{exact}, idsOf(page))
	require.Empty(t, cursor)
}

func TestListParametersAreChecked(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for query, location := range map[string]string{
		"?limit=0":            "query.limit",
		"?limit=201":          "query.limit",
		"?limit=many":         "query.limit",
		"?cursor=garbage":     "query.cursor",
		"?cursor=%00":         "query.cursor",
		"?cursor=ZXZ0XzAxOWE": "query.cursor", // evt_019a: too short
		"?cursor=ZXZ0XzAxOThmM2M1YjdlN2MzYTlkMmU0ZjYwODFhMmIzYzRk": "query.cursor", // of another list
		"?status=broken":    "query.status",
		"?event=a..b":       "query.event",
		"?event=%2A.ended":  "query.event",
		"?persona_id=a%00b": "query.persona_id",
		"?persona_id=%ff":   "query.persona_id",
		"?%ff=x":            "query",
		"?evnt=call.ended":  "query.evnt",
	} {
		t.Run(query, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, []string{location}, b.do(http.MethodGet, webhooksPath+query, "").locations())
		})
	}
}

// Guards against a field that a PATCH which does not name it resets, or that an answer
// lacks: every one is there after a POST, in a GET, and after an empty PATCH.
func TestEveryFieldOfAWebhookSurvives(t *testing.T) {
	t.Parallel()
	b := setup(t)
	settings := storetest.EverySetting(t)
	settings["transform"] = nil // goes with no other format
	delete(settings, "max_retries")
	delete(settings, "backoff_ms") // which retry_schedule_ms replaces
	text, err := json.Marshal(settings)
	require.NoError(t, err)
	posted := b.do(http.MethodPost, webhooksPath, string(text)).object(http.StatusCreated)
	path := webhooksPath + "/" + posted["id"].(string)
	for how, shown := range map[string]map[string]any{
		"POST":       posted,
		"GET":        b.do(http.MethodGet, path, "").object(http.StatusOK),
		"PATCH":      b.do(http.MethodPatch, path, "{}").object(http.StatusOK),
		"GET, later": b.do(http.MethodGet, path, "").object(http.StatusOK),
	} {
		policy := shown["delivery_settings"].(map[string]any)
		for name, want := range settings {
			got, found := shown[name]
			if !found {
				got, found = policy[name]
			}
			require.True(t, found, "%s does not show %s", how, name)
			wanted, err := json.Marshal(want)
			require.NoError(t, err)
			given, err := json.Marshal(got)
			require.NoError(t, err)
			require.JSONEq(t, string(wanted), string(given), "%s shows another %s", how, name)
		}
	}
}

func TestDeleteWebhook(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.newWebhook("")
	b.do(http.MethodPost, "/api/v1/events", `{"type":"a","data":1}`).object(http.StatusAccepted)
	deleted := b.do(http.MethodDelete, webhooksPath+"/"+id, "")
	require.Equal(t, http.StatusNoContent, deleted.Status)
	require.Empty(t, deleted.Body)
	b.do(http.MethodGet, webhooksPath+"/"+id, "").problem(http.StatusNotFound)
	b.do(http.MethodDelete, webhooksPath+"/"+id, "").problem(http.StatusNotFound)
	require.Empty(t, first(b.do(http.MethodGet, webhooksPath, "").items()))

	history := first(b.do(http.MethodGet, webhooksPath+"/"+id+"/deliveries", "").items())
	require.Len(t, history, 1, "the history stays")
	require.Equal(t, "cancelled", history[0]["state"])
}

func first[A, B any](a A, _ B) A { return a }

func idsOf(items []map[string]any) []string {
	var ids []string
	for _, item := range items {
		ids = append(ids, item["id"].(string))
	}
	return ids
}

// Guards the answer to a URL that breaks a rule and is refused by the guard too: one error
// is enough.
func TestOneErrorForAURLThatIsWrongTwice(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *api.Config) { c.CheckURL = func(string) error { return errors.New("must not be odd") } })
	for body, want := range map[string][]string{
		`{"url":"ftp://example.com","events":["*"]}`:                             {"body.url"},
		`{"url":"https://example.com","events":["*"],"signing_method":"bearer"}`: {"body.url", "body.secret"},
	} {
		require.Equal(t, want, b.do(http.MethodPost, webhooksPath, body).locations(), body)
	}
}

// Guards against a webhook without the secret that its method needs.
func TestNoWebhookWithoutEntropyForItsSecret(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *api.Config) { c.Entropy = iotest.ErrReader(errors.New("no entropy")) })
	got := b.do(http.MethodPost, webhooksPath, `{"url":"https://example.com","events":["*"]}`)
	got.problem(http.StatusInternalServerError)
	require.NotContains(t, string(got.Body), "entropy")
	require.Empty(t, first(b.do(http.MethodGet, webhooksPath, "").items()))

	given := b.newWebhook(`,"secret":"mine"`)
	b.do(http.MethodPost, webhooksPath+"/"+given+"/secret/rotate", "").problem(http.StatusInternalServerError)
	require.Equal(t, "mine", b.do(http.MethodGet, webhooksPath+"/"+given+"/secret", "").text(http.StatusOK, "secret"))
	keys := "/api/v1/admin/workspaces/" + b.newWorkspace() + "/keys"
	b.do(http.MethodPost, keys, `{"name":"k","scopes":["read"]}`).problem(http.StatusInternalServerError)
}
