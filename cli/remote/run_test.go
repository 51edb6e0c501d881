package remote

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// id returns the id in a line of JSON.
func id(t *testing.T, line string) string {
	t.Helper()
	var answer struct{ ID string }
	require.NoError(t, json.Unmarshal([]byte(line), &answer), line)
	require.NotEmpty(t, answer.ID)
	return answer.ID
}

func (b *bundle) newWebhook(args ...string) string {
	b.t.Helper()
	return id(b.t, b.ok(append([]string{"webhook", "create", "-o", "json", "--url", "https://example.com/hook", "--events", "*"}, args...)...))
}

func TestAWebhooksLife(t *testing.T) {
	t.Parallel()
	b := newAPI(t)
	text := b.ok("webhook", "create", "--url", "https://example.com/hook", "--events", "call.ended,contact.*", "--name", "first",
		"--max-retries", "0", "--headers", "X-A=1=2,3", "--headers", "X-B=;")
	require.Regexp(t, `(?m)^name +first$`, text)
	require.Regexp(t, `(?m)^events +call\.ended,contact\.\*$`, text)
	require.Regexp(t, `(?m)^delivery_settings\.max_retries +0$`, text)
	require.Contains(t, text, `{"X-A":"1=2,3","X-B":";"}`)

	wh := b.newWebhook()
	list := b.ok("webhook", "list")
	require.Equal(t, 3, strings.Count(list, "\n"))
	require.Regexp(t, `^ID +`, list)
	require.Regexp(t, `(?m)^ID\n`+wh+`\n`, b.ok("webhook", "list", "--columns", "id"))

	require.Regexp(t, `(?m)^rate_limit +7$`, b.ok("webhook", "update", wh, "--rate-limit", "7", "--name", "n"))
	require.Regexp(t, `(?m)^name +-$`, b.ok("webhook", "update", wh, "--unset", "name,rate_limit"))
	require.Regexp(t, `(?m)^status +paused$`, b.ok("webhook", "pause", wh))
	require.Contains(t, b.ok("webhook", "get-secret", wh), "whsec_")
	require.Contains(t, b.ok("webhook", "rotate-secret", wh, "--grace-seconds", "0"), "whsec_")

	r := b.run("webhook", "delete", wh)
	require.NoError(t, r.failed)
	require.Equal(t, "Done.\n", r.err)
	require.Empty(t, r.out)
	require.ErrorContains(t, b.run("webhook", "get", wh).failed, "404 Not Found")
	require.Contains(t, b.ok("audit", "list", "--action", "webhook.delete"), wh)
}

func TestWhatIsPublishedIsWhatWasTyped(t *testing.T) {
	t.Parallel()
	b := newAPI(t)
	b.newWebhook()
	const data = `{"id":12345678901234567890123,"price":0.10}`
	event := id(t, b.ok("event", "publish", "-o", "json", "--type", "order.paid", "--data", data, "--idempotency-key", "k"))
	require.Equal(t, event, id(t, b.ok("event", "publish", "-o", "json", "--type", "order.paid", "--data", data, "--idempotency-key", "k")))
	require.Contains(t, b.ok("event", "get", event, "-o", "json"), `"data":`+data)
	require.Contains(t, b.ok("event", "get", event), data)

	file := filepath.Join(t.TempDir(), "data.json")
	require.NoError(t, os.WriteFile(file, []byte("[1.50,\n2]\n"), 0o600))
	event = id(t, b.ok("event", "publish", "-o", "json", "--type", "a.b", "--data", "@"+file))
	require.Contains(t, b.ok("event", "get", event, "-o", "json"), `"data":[1.50,2]`)
	b.in = `"text"`
	event = id(t, b.ok("event", "publish", "-o", "json", "--type", "a.b", "--data=-"))
	require.Contains(t, b.ok("event", "get", event, "-o", "json"), `"data":"text"`)
	b.in = `{"type":"a.c","data":null,"id":"mine"}`
	require.Equal(t, "mine", id(t, b.ok("event", "publish", "-o", "json", "--body=-", "--type", "a.d")))
	require.Contains(t, b.ok("event", "get", "mine", "-o", "json"), `"type":"a.d"`, "a flag goes before the body")

	table := b.ok("event", "publish-batch", "--events", `[{"type":"a","data":1},{"type":"b","data":2}]`)
	require.Regexp(t, `ID +TYPE +DELIVERIES`, table)
	require.Equal(t, 3, strings.Count(table, "\n"))
	tried := b.ok("expression", "test", "--filter", "event.data.n == 1", "--event", `{"type":"a","data":{"n":1}}`)
	require.Regexp(t, `(?m)^matches +true$`, tried)
}

func TestListsGoOn(t *testing.T) {
	t.Parallel()
	b := newAPI(t)
	for range 5 {
		b.newWebhook()
	}
	r := b.run("webhook", "list", "--limit", "2", "-o", "json")
	require.Equal(t, 2, strings.Count(r.out, "\n"))
	_, cursor, found := strings.Cut(strings.TrimSpace(r.err), "--cursor ")
	require.True(t, found, r.err)
	rest := b.run("webhook", "list", "--cursor", cursor, "-o", "json")
	require.Equal(t, 3, strings.Count(rest.out, "\n"))
	require.Empty(t, rest.err)
	require.Equal(t, r.out+rest.out, b.ok("webhook", "list", "--limit", "0", "-o", "json"))
	require.Empty(t, b.ok("delivery", "list", "--state", "failed,retrying"), "an empty list is empty")
}

func TestRefusalsNameTheFlag(t *testing.T) {
	t.Parallel()
	b := newAPI(t)
	r := b.run("webhook", "create", "--url", "https://example.com/hook", "--events", "*", "--timeout-ms", "5", "--headers", "Host=a")
	require.ErrorContains(t, r.failed, "422 Unprocessable Entity: validation failed\n  --")
	require.ErrorContains(t, r.failed, "--timeout-ms (body.timeout_ms): ")
	require.ErrorContains(t, r.failed, "(was 5)")
	require.ErrorContains(t, r.failed, "request id: req_")
	require.Empty(t, r.out)
	require.ErrorContains(t, b.run("delivery", "list", "--state", "lost").failed, "--state (query.state")
	require.ErrorContains(t, b.run("delivery", "retry", "dlv_x").failed, "404")

	b.keyFile = filepath.Join(t.TempDir(), "wrong")
	require.NoError(t, os.WriteFile(b.keyFile, []byte("wrong"), 0o600))
	require.ErrorContains(t, b.run("webhook", "list").failed, "401")
}

func TestUsageIsToldBeforeAnythingIsSent(t *testing.T) {
	t.Parallel()
	b := serve(t, "secret", nil) // a request would panic
	for want, args := range map[string][]string{
		"--url: is required":                       {"webhook", "create", "--events", "*"},
		"--data: must be JSON":                     {"event", "publish", "--type", "a", "--data", "text"},
		"--body: must be a JSON object":            {"event", "publish", "--body", "[1]"},
		"--body: open nowhere":                     {"event", "publish", "--body", "@nowhere"},
		"--max-retries: expected a valid 64 bit":   {"webhook", "create", "--max-retries", "many"},
		"unknown flag --max-retry":                 {"webhook", "create", "--max-retry", "1"},
		"expected \"<id>\"":                        {"webhook", "get"},
		"--interval: must be a time of at least":   {"delivery", "list", "--watch", "--interval", "1ms"},
		"--limit: must not be negative, but is -1": {"delivery", "list", "--limit=-1"},
		"--output must be one of":                  {"delivery", "list", "--output", "xml"},
	} {
		require.ErrorContains(t, b.run(args...).usage, want)
	}
	b.url = "localhost:8080"
	require.ErrorContains(t, b.run("webhook", "list").usage, "--api-url (POSTRIDER_URL): must be")
	b.keyFile = filepath.Join(t.TempDir(), "none")
	require.ErrorContains(t, b.run("webhook", "list").usage, "--api-key-file: ")
	require.NoError(t, os.WriteFile(b.keyFile, nil, 0o600))
	require.ErrorContains(t, b.run("webhook", "list").usage, "no API key: set POSTRIDER_API_KEY")
}

func TestWhatDestroysAsksAPerson(t *testing.T) {
	t.Parallel()
	b := newAPI(t)
	b.streams.Asks = true
	wh := b.newWebhook()
	for _, answer := range []string{"", "n\n", "what\n"} {
		b.in = answer
		r := b.run("webhook", "delete", wh)
		require.ErrorIs(t, r.failed, errNotSure)
		require.Contains(t, r.err, "webhook delete: /webhooks/"+wh+" Go on? [y/N]")
	}
	require.Contains(t, b.ok("webhook", "get", wh), wh)
	b.in = "y\n"
	b.ok("webhook", "delete", wh)

	wh = b.newWebhook()
	b.in = ""
	b.ok("webhook", "delete", wh, "--yes")
	asks := []string{}
	for _, o := range operations() {
		if o.destroys() {
			asks = append(asks, o.Noun+" "+o.Verb)
		}
	}
	require.Subset(t, asks, []string{"admin revoke-key", "delivery act", "delivery cancel", "delivery skip", "event cancel", "webhook delete"})
	require.NotContains(t, asks, "webhook create")
	require.NotContains(t, asks, "delivery retry")
}

// Guards that a secret need not stand on a command line, and keeps no end of line of its file.
func TestASecretIsReadFromAFile(t *testing.T) {
	t.Parallel()
	b := newAPI(t)
	file := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(file, []byte("user:pass word\n"), 0o600))
	wh := b.newWebhook("--signing-method", "basic_auth", "--secret", "@"+file)
	require.Contains(t, b.ok("webhook", "get-secret", wh, "-o", "json"), `"secret":"user:pass word"`)
}

// Guards a terminal against what a caller of the API, or a receiver, wrote.
func TestAnswersAreEscaped(t *testing.T) {
	t.Parallel()
	b := newAPI(t)
	wh := b.newWebhook("--name", "a\x1b[2Jb")
	for _, text := range []string{b.ok("webhook", "get", wh), b.ok("webhook", "list"), b.ok("webhook", "list", "-o", "json")} {
		require.NotContains(t, text, "\x1b")
		require.Contains(t, text, `\u001b[2J`)
	}
}
