package e2e

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider/standalone/instance"
)

// The values of TestNothingSensitiveIsTold: whoever reads logs, metrics, errors or Temporal must not
// find them. Each is long and unlike anything else, so that to find it is to have leaked it.
const (
	hmacSecret    = "hmac-secret-3f9c1e7ab2d64c58"
	rotatedSecret = "rotated-secret-8be14d07c95a42f6"
	bearerSecret  = "bearer-secret-51d7e0a94bc3426f"
	basicSecret   = "user:basic-secret-c07f5e2d918b4a63"
	headerSecret  = "header-value-e4a6b81f3d5c4790"
	eventSecret   = "event-header-9d04c7b62e8f4a15"
	urlSecret     = "url-token-7c2f90d5e8ab4163"
	payloadText   = "payload-text-a95d3c7e1f024b86"
	answerText    = "answer-text-2e8f6b1d7a094c35"
	refusedSecret = "refused-secret-d61b8f4a0e7c4293"
)

// guarded runs an instance under the loosest umask in a folder that was open to everybody.
type guarded struct {
	*instance.Instance
	dir string
	log *os.File
}

func startGuarded(t *testing.T) *guarded {
	t.Helper()
	g := &guarded{dir: filepath.Join(t.TempDir(), "data")}
	require.NoError(t, os.Mkdir(g.dir, 0o700))
	require.NoError(t, os.Chmod(g.dir, 0o777))
	loose := filepath.Join(t.TempDir(), "loose")
	require.NoError(t, os.WriteFile(loose, []byte("#!/bin/sh\numask 0\nexec '"+binary+"' \"$@\"\n"), 0o700))
	var err error
	g.log, err = os.Create(filepath.Join(t.TempDir(), "log"))
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	g.Instance, err = instance.Start(ctx, instance.Options{
		Binary: loose, DataDir: g.dir, Log: g.log, Env: []string{"POSTRIDER_LOG_LEVEL=debug"},
	})
	require.NoError(t, err)
	t.Cleanup(func() {
		_ = g.Stop()
		_ = g.log.Close()
	})
	return g
}

// requireOwnersOnly guards that nobody but the owner can open anything in the data directory.
func (g *guarded) requireOwnersOnly(t *testing.T, files ...string) {
	t.Helper()
	var found []string
	require.NoError(t, filepath.WalkDir(g.dir, func(path string, entry fs.DirEntry, err error) error {
		require.NoError(t, err)
		info, err := entry.Info()
		require.NoError(t, err)
		want := fs.FileMode(0o600)
		if entry.IsDir() {
			want = 0o700
		} else {
			found = append(found, entry.Name())
		}
		require.Equal(t, want, info.Mode().Perm(), path)
		return nil
	}))
	require.Subset(t, found, files)
}

// sent makes a request with a key and returns the status and the body.
func (g *guarded) sent(t *testing.T, key, method, path, body string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, g.API+path, strings.NewReader(body))
	require.NoError(t, err)
	request.Header.Set("X-API-Key", key)
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response.StatusCode, string(text)
}

// read reads a file of the data directory.
func (g *guarded) read(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(g.dir, name))
	require.NoError(t, err)
	return text
}

// holds reports whether a text has the value, plainly or in base64, wherever in it the value begins.
func holds(text []byte, value string) bool {
	if bytes.Contains(text, []byte(value)) {
		return true
	}
	for offset := range 3 {
		encoded := base64.RawStdEncoding.EncodeToString([]byte(strings.Repeat("x", offset) + value))
		inner := encoded[4*((offset+2)/3) : len(encoded)-4] // without what depends on its neighbours
		if bytes.Contains(text, []byte(inner)) {
			return true
		}
	}
	return false
}

// TestNothingSensitiveIsTold guards that secrets, header values, payloads, what receivers answer, and
// keys are not in debug logs, metrics, problem documents or Temporal's database, and that the files
// which have them are their owner's only.
func TestNothingSensitiveIsTold(t *testing.T) {
	t.Parallel()
	g := startGuarded(t)
	encryptionKey := strings.TrimSpace(string(g.read(t, "encryption-keys")))
	sensitive := []string{
		hmacSecret, rotatedSecret, bearerSecret, "basic-secret-c07f5e2d918b4a63", headerSecret, eventSecret, urlSecret, payloadText, answerText,
		refusedSecret, g.Key, encryptionKey,
	}
	told := map[string][]byte{} // what somebody may read, by where
	id := deliverSensitive(t, g)
	told["history"] = []byte(g.text(t, "/api/v1/deliveries/"+id+"/history"))
	for name, body := range refusals(t, g) {
		told["problem: "+name] = []byte(body)
	}
	told["metrics"] = []byte(get(t, g.Metrics+"/metrics"))
	require.Contains(t, string(told["metrics"]), `postrider_attempts_total{result="server_error"}`)
	g.requireOwnersOnly(t, "api-key", "encryption-keys", "endpoints.json", "lock", "postrider.db", "postrider.db-wal", "postrider.db-shm",
		"temporal.db", "temporal.db-wal", "temporal.db-shm")
	require.NoError(t, g.Stop())
	g.requireOwnersOnly(t, "api-key", "encryption-keys", "lock", "postrider.db", "temporal.db")

	log, err := os.ReadFile(g.log.Name())
	require.NoError(t, err)
	require.Contains(t, string(log), "delivery_id="+id)
	require.Contains(t, string(log), "stopped Temporal")
	told["log"], told["Temporal's database"] = log, g.read(t, "temporal.db")
	require.True(t, bytes.Contains(told["Temporal's database"], []byte(id)), "histories are in plain text: the search can find something")
	for where, text := range told {
		for _, value := range sensitive {
			require.False(t, holds(text, value), "%s has %s", where, value)
		}
	}
	database := g.read(t, "postrider.db")
	require.True(t, holds(database, payloadText), "payloads are in it in the clear, as SECURITY.md says")
	require.True(t, holds(database, bearerSecret), "so are receivers' answers, and this one repeats what it was sent")
	for _, value := range []string{hmacSecret, rotatedSecret, headerSecret, eventSecret, g.Key, encryptionKey} {
		require.False(t, holds(database, value), "the database has %s", value)
	}
}

// text returns the body of an answer, which must be a 200.
func (g *guarded) text(t *testing.T, path string) string {
	t.Helper()
	status, body := g.sent(t, g.Key, http.MethodGet, path, "")
	require.Equal(t, http.StatusOK, status, body)
	return body
}

// deliverSensitive delivers a payload to webhooks of every signing method, whose receiver repeats in
// its refusal what it was sent. It returns one of the deliveries.
func deliverSensitive(t *testing.T, g *guarded) string {
	t.Helper()
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Repeated", r.Header.Get("X-Token"))
		w.WriteHeader(http.StatusBadGateway)
		fmt.Fprintln(w, answerText, r.Header.Get("Authorization"), r.URL)
		_, _ = io.Copy(w, r.Body)
	}))
	t.Cleanup(receiver.Close)
	var webhooks []string
	for method, secret := range map[string]string{
		"hmac_sha256": hmacSecret, "hmac_sha1": hmacSecret, "bearer": bearerSecret, "basic_auth": basicSecret, "none": hmacSecret,
	} {
		w := webhook(t, g, receiver.URL+"/hook?token="+urlSecret, map[string]any{
			"signing_method": method, "secret": secret, "headers": map[string]string{"X-Token": headerSecret}, "max_retries": 2,
		})
		webhooks = append(webhooks, w.ID)
		if method == "hmac_sha256" {
			require.NoError(t, g.Call(t.Context(), http.MethodPost, "/api/v1/webhooks/"+w.ID+"/secret/rotate",
				map[string]any{"secret": rotatedSecret}, nil))
		}
	}
	receipt, err := g.Publish(t.Context(), map[string]any{
		"id": "sensitive", "type": "call.ended", "data": map[string]string{"card": payloadText},
		"headers": map[string]string{"X-Own": eventSecret},
	})
	require.NoError(t, err)
	require.Equal(t, len(webhooks), receipt.Deliveries)
	var last instance.Delivery
	for _, id := range webhooks {
		last = finished(t, g, id)
		require.Equal(t, "failed", last.State)
		require.Len(t, last.Attempts, 3)
	}
	return last.ID
}

// refusals makes requests with sensitive values that are refused, and returns the answers by name.
// Among them are those of a key that may only read.
func refusals(t *testing.T, g *guarded) map[string]string {
	t.Helper()
	var workspaces struct {
		Data []struct {
			ID string `json:"id"`
		} `json:"data"`
	}
	require.NoError(t, g.Call(t.Context(), http.MethodGet, "/api/v1/admin/workspaces", nil, &workspaces))
	var reader struct {
		Key string `json:"key"`
	}
	require.NoError(t, g.Call(t.Context(), http.MethodPost, "/api/v1/admin/workspaces/"+workspaces.Data[0].ID+"/keys",
		map[string]any{"name": "reader", "scopes": []string{"read"}}, &reader))
	var webhooks struct {
		Data []instance.Webhook `json:"data"`
	}
	require.NoError(t, g.Call(t.Context(), http.MethodGet, "/api/v1/webhooks", nil, &webhooks))
	one := "/api/v1/webhooks/" + webhooks.Data[0].ID

	status, own := g.sent(t, g.Key, http.MethodGet, one, "")
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, own, headerSecret, "a key with the scope manage sees what it set")
	const event, events = `{"type":"a","data":1,`, "/api/v1/events"
	const good, create = `{"url":"http://127.0.0.1:9/","events":["*"],`, "/api/v1/webhooks"
	answers := map[string]string{}
	for name, c := range map[string]struct {
		key, method, path, body string
		status                  int
	}{
		"unknown key":         {refusedSecret, http.MethodGet, "/api/v1/webhooks", "", 401},
		"scope":               {reader.Key, http.MethodGet, one + "/secret", "", 403},
		"broken JSON":         {g.Key, http.MethodPost, "/api/v1/events", `{"type":"a","data":{"card":"` + payloadText + `"}`, 400},
		"unknown field":       {g.Key, http.MethodPost, "/api/v1/events", `{"type":"a","data":{"card":"` + payloadText + `"},"more":1}`, 422},
		"bad event type":      {g.Key, http.MethodPost, "/api/v1/events", `{"type":"a b","data":"` + payloadText + `"}`, 422},
		"bad method":          {g.Key, http.MethodPost, create, good + `"signing_method":"md5","secret":"` + refusedSecret + `"}`, 422},
		"bad basic_auth":      {g.Key, http.MethodPost, create, good + `"signing_method":"basic_auth","secret":"` + refusedSecret + `"}`, 422},
		"secret of a type":    {g.Key, http.MethodPost, create, good + `"secret":["` + refusedSecret + `"]}`, 422},
		"reserved header":     {g.Key, http.MethodPost, create, good + `"headers":{"Authorization":"` + refusedSecret + `"}}`, 422},
		"password in the URL": {g.Key, http.MethodPost, create, `{"url":"http://u:` + refusedSecret + `@h.test/","events":["*"]}`, 422},
		"bad rotation":        {g.Key, http.MethodPost, one + "/secret/rotate", `{"secret":"` + refusedSecret + `","grace_seconds":-1}`, 422},
		"reserved, of events": {g.Key, http.MethodPost, events, event + `"headers":{"Host":"` + refusedSecret + `"}}`, 422},
		"header of a type":    {g.Key, http.MethodPost, events, event + `"headers":{"A":["` + refusedSecret + `"]}}`, 422},
		"headers, masked":     {reader.Key, http.MethodGet, one, "", 200},
		"an event's, masked":  {reader.Key, http.MethodGet, "/api/v1/events/sensitive", "", 200},
	} {
		status, body := g.sent(t, c.key, c.method, c.path, c.body)
		require.Equal(t, c.status, status, "%s: %s", name, body)
		answers[name] = body
	}
	require.Contains(t, answers["headers, masked"], `"X-Token":"***"`)
	require.Contains(t, answers["an event's, masked"], `"X-Own":"***"`)
	answers["an event's, masked"] = strings.ReplaceAll(answers["an event's, masked"], payloadText, "") // its data
	// Everybody who may read a webhook sees its URL.
	answers["headers, masked"] = strings.ReplaceAll(answers["headers, masked"], urlSecret, "")
	return answers
}
