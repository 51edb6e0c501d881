package postrider_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"postrider.dev/postrider"
)

// methods are the signing methods of these tests.
func methods() []postrider.SigningMethod { return []postrider.SigningMethod{"hmac_sha256", "none"} }

func validWebhook() postrider.Webhook {
	return postrider.Webhook{
		WebhookSettings: postrider.WebhookSettings{
			URL: "https://example.com/hook", Events: []string{"*"}, SigningMethod: "hmac_sha256", ScopeType: postrider.ScopeGlobal,
			MaxInFlight: postrider.DefaultMaxInFlight, Format: postrider.FormatEnvelope,
			Ordering: postrider.OrderingNone, OnExhausted: postrider.ExhaustedSkip,
		},
		Policy: postrider.Policy{
			TimeoutMS: postrider.DefaultTimeoutMS, MaxRetries: postrider.DefaultMaxRetries, BackoffMS: postrider.DefaultBackoffMS,
		},
	}
}

func TestValidateAcceptsWhatTheContractAllows(t *testing.T) {
	t.Parallel()
	persona := "p1"
	for name, change := range map[string]func(*postrider.Webhook){
		"the defaults": func(*postrider.Webhook) {},
		"longest url":  func(w *postrider.Webhook) { w.URL = "http://h/" + strings.Repeat("a", postrider.MaxURLLength-9) },
		"patterns":     func(w *postrider.Webhook) { w.Events = []string{"call.ended", "call.*", "a.b.*", "*"} },
		"persona":      func(w *postrider.Webhook) { w.ScopeType, w.PersonaID = postrider.ScopePersona, &persona },
		"least of all": func(w *postrider.Webhook) {
			w.Policy = postrider.Policy{TimeoutMS: 1000, MaxRetries: 0, BackoffMS: 100}
		},
		"most of all": func(w *postrider.Webhook) {
			w.Policy = postrider.Policy{TimeoutMS: 30000, MaxRetries: 10, BackoffMS: 3600000}
		},
		"a header of yours": func(w *postrider.Webhook) { w.Headers = map[string]string{"X-Tenant": "blue"} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := validWebhook()
			change(&w)
			require.Empty(t, w.Validate(methods()))
		})
	}
}

func TestValidateNamesTheField(t *testing.T) {
	t.Parallel()
	long, zero := strings.Repeat("n", 2000), 0
	for name, c := range map[string]struct {
		field  string
		change func(*postrider.Webhook)
	}{
		"empty url":          {"url", func(w *postrider.Webhook) { w.URL = "" }},
		"long url":           {"url", func(w *postrider.Webhook) { w.URL = "http://h/" + strings.Repeat("a", postrider.MaxURLLength) }},
		"other scheme":       {"url", func(w *postrider.Webhook) { w.URL = "ftp://example.com" }},
		"no scheme":          {"url", func(w *postrider.Webhook) { w.URL = "example.com/hook" }},
		"no host":            {"url", func(w *postrider.Webhook) { w.URL = "http:///hook" }},
		"userinfo":           {"url", func(w *postrider.Webhook) { w.URL = "https://user:pw@example.com" }},
		"broken escape":      {"url", func(w *postrider.Webhook) { w.URL = "https://example.com/%zz" }},
		"no events":          {"events", func(w *postrider.Webhook) { w.Events = nil }},
		"101 events":         {"events", func(w *postrider.Webhook) { w.Events = make([]string, 101) }},
		"inner wildcard":     {"events[1]", func(w *postrider.Webhook) { w.Events = []string{"a", "a.*.b"} }},
		"empty event":        {"events[0]", func(w *postrider.Webhook) { w.Events = []string{""} }},
		"long event":         {"events[0]", func(w *postrider.Webhook) { w.Events = []string{long[:129]} }},
		"long name":          {"name", func(w *postrider.Webhook) { w.Name = &long }},
		"long description":   {"description", func(w *postrider.Webhook) { w.Description = &long }},
		"unknown method":     {"signing_method", func(w *postrider.Webhook) { w.SigningMethod = "md5" }},
		"unknown ordering":   {"ordering", func(w *postrider.Webhook) { w.Ordering = "lifo" }},
		"unknown outcome":    {"on_exhausted", func(w *postrider.Webhook) { w.OnExhausted = "" }},
		"unknown scope":      {"scope_type", func(w *postrider.Webhook) { w.ScopeType = "team" }},
		"persona without id": {"persona_id", func(w *postrider.Webhook) { w.ScopeType = postrider.ScopePersona }},
		"id without persona": {"persona_id", func(w *postrider.Webhook) { w.PersonaID = &long }},
		"timeout too short":  {"timeout_ms", func(w *postrider.Webhook) { w.TimeoutMS = 999 }},
		"timeout too long":   {"timeout_ms", func(w *postrider.Webhook) { w.TimeoutMS = 30001 }},
		"negative retries":   {"max_retries", func(w *postrider.Webhook) { w.MaxRetries = -1 }},
		"too many retries":   {"max_retries", func(w *postrider.Webhook) { w.MaxRetries = 11 }},
		"backoff too short":  {"backoff_ms", func(w *postrider.Webhook) { w.BackoffMS = 99 }},
		"reserved header":    {"headers.webhook-ID", func(w *postrider.Webhook) { w.Headers = map[string]string{"webhook-ID": "x"} }},
		"authorization header": {"headers.Authorization", func(w *postrider.Webhook) {
			w.Headers = map[string]string{"Authorization": "x"}
		}},
		"malformed header":          {"headers.a b", func(w *postrider.Webhook) { w.Headers = map[string]string{"a b": "x"} }},
		"header value with newline": {"headers.X-A", func(w *postrider.Webhook) { w.Headers = map[string]string{"X-A": "a\r\nb"} }},
		"header twice":              {"headers.x-a", func(w *postrider.Webhook) { w.Headers = map[string]string{"X-A": "1", "x-a": "2"} }},
		"rate of none":              {"rate_limit", func(w *postrider.Webhook) { w.RateLimit = &zero }},
		"none in flight":            {"max_in_flight", func(w *postrider.Webhook) { w.MaxInFlight = 0 }},
		"disabled too late":         {"disable_after_seconds", func(w *postrider.Webhook) { w.DisableAfterSeconds = 2592001 }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := validWebhook()
			c.change(&w)
			broken := w.Validate(methods())
			require.NotEmpty(t, broken)
			require.Equal(t, c.field, broken[0].Field)
			err := postrider.Invalid(broken)
			require.Equal(t, postrider.CodeInvalid, postrider.CodeOf(err))
			require.ErrorContains(t, err, c.field+" "+broken[0].Message)
		})
	}
}

// TestLengthsAreInCharacters guards that the rules count as the API's document and its readers do. Only
// what an index must hold is bounded in bytes as well.
func TestLengthsAreInCharacters(t *testing.T) {
	t.Parallel()
	for field, c := range map[string]struct {
		most   int
		change func(w *postrider.Webhook, value string)
	}{
		"url":         {postrider.MaxURLLength - 9, func(w *postrider.Webhook, value string) { w.URL = "http://h/" + value }},
		"name":        {postrider.MaxNameLength, func(w *postrider.Webhook, value string) { w.Name = &value }},
		"description": {postrider.MaxTextLength, func(w *postrider.Webhook, value string) { w.Description = &value }},
		"persona_id": {postrider.MaxTextLength, func(w *postrider.Webhook, value string) {
			w.ScopeType, w.PersonaID = postrider.ScopePersona, &value
		}},
	} {
		longest := strings.Repeat("é", c.most)
		w := validWebhook()
		c.change(&w, longest)
		require.Empty(t, w.Validate(methods()), field)
		c.change(&w, longest+"é")
		broken := w.Validate(methods())
		require.Len(t, broken, 1)
		require.Equal(t, field, broken[0].Field)
		require.Contains(t, broken[0].Message, " characters")
	}
	wide := strings.Repeat("€", postrider.MaxPersonaBytes/3)
	require.Empty(t, postrider.CheckPersonaID(&wide))
	wide += "€"
	require.Equal(t, "must have at most 2048 bytes in UTF-8", postrider.CheckPersonaID(&wide))
	require.Empty(t, postrider.CheckPersonaID(nil))
}

func TestHeaderRuleDoesNotRepeatTheValue(t *testing.T) {
	t.Parallel()
	w := validWebhook()
	w.Headers = map[string]string{"Cookie\n": "token"}
	require.Nil(t, w.Validate(methods())[0].Value)
}

func TestPatternsFor(t *testing.T) {
	t.Parallel()
	require.Equal(t, []string{"*", "call"}, postrider.PatternsFor("call"))
	require.Equal(t, []string{"*", "call.*", "call.leg.*", "call.leg.ended"}, postrider.PatternsFor("call.leg.ended"))
	require.Equal(t, []string{"*", "postrider"}, postrider.PatternsFor("postrider"))
	require.Equal(t, []string{"postrider.*", "postrider.webhook.*", postrider.EventWebhookFailing},
		postrider.PatternsFor(postrider.EventWebhookFailing), "* does not ask for the engine's own")
}

// TestPatternsForAreSubscriptions guards that publishing finds a webhook by each pattern that a
// webhook may subscribe to, and by no pattern that Validate refuses.
func TestPatternsForAreSubscriptions(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		words := rapid.SliceOfN(rapid.StringMatching(`[A-Za-z0-9_]{1,9}`), 1, 10).Draw(t, "words")
		eventType := strings.Join(words, ".")
		require.True(t, postrider.ValidEventType(eventType))
		patterns := postrider.PatternsFor(eventType)
		require.Len(t, patterns, len(words)+1)
		w := validWebhook()
		w.Events = patterns
		require.Empty(t, w.Validate(methods()))
		for _, pattern := range patterns {
			prefix, wildcard := strings.CutSuffix(pattern, "*")
			require.True(t, pattern == eventType || wildcard && strings.HasPrefix(eventType, prefix), pattern)
		}
	})
}

func TestReservedHeadersHaveNoCase(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		"Webhook-Anything", "postrider-x", "X-Hub-Signature-256", "Proxy-Authorization", "AUTHORIZATION", "Host", "te",
		"Content-Length", "traceparent", "TraceState", "User-Agent",
	} {
		require.True(t, postrider.ReservedHeader(name), name)
	}
	for _, name := range []string{"X-Tenant", "Cookie", "Accept", "Idempotency-Key", "X-Webhook-Id"} {
		require.False(t, postrider.ReservedHeader(name), name)
	}
}

func TestHeaderRules(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("v", postrider.MaxHeaderLength+1)
	for rule, headers := range map[string]map[string]string{
		"headers.x-tenant is given twice, in different cases":                          {"X-Tenant": "a", "x-tenant": "b"},
		"headers.X-Long must have a value of at most 4096 printable ASCII characters":  {"X-Long": long},
		"headers.X-Emoji must have a value of at most 4096 printable ASCII characters": {"X-Emoji": "\U0001F40E"},
		"headers.X Space is not a valid header name (RFC 9110)":                        {"X Space": "v"},
	} {
		w := validWebhook()
		w.Headers = headers
		require.EqualError(t, postrider.Invalid(w.Validate(methods())), "validation failed; "+rule)
	}
	w := validWebhook()
	w.Headers = map[string]string{"X-Longest": strings.Repeat("v", postrider.MaxHeaderLength)}
	require.Empty(t, w.Validate(methods()))
}

func TestSuccessRate(t *testing.T) {
	t.Parallel()
	require.InDelta(t, 1.0, postrider.WebhookStats{}.SuccessRate(), 0)
	require.InDelta(t, 0.75, postrider.WebhookStats{TotalDeliveries: 4, FailedDeliveries: 1}.SuccessRate(), 0)
}
