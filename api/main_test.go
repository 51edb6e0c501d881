package api_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	_ "modernc.org/sqlite"

	"postrider.dev/postrider"
	"postrider.dev/postrider/api"
	"postrider.dev/postrider/store"
	"postrider.dev/postrider/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bundle is the API on a real database, with a workspace and a key of every scope.
type bundle struct {
	t      testing.TB
	clock  *clock
	store  *store.Store
	server *httptest.Server
	ids    *postrider.IDs
	logs   *syncBuffer
	key    string
}

// setup starts the API; change may alter its configuration.
func setup(tb testing.TB, change ...func(*api.Config)) *bundle {
	tb.Helper()
	b := &bundle{t: tb, clock: &clock{now: time.Date(2026, 8, 3, 12, 0, 0, 0, time.UTC)}, logs: new(syncBuffer)}
	b.ids = postrider.NewIDs(b.clock.Now, rand.Reader)
	encryptionKey, err := store.NewEncryptionKey(rand.Reader)
	require.NoError(tb, err)
	keys, err := store.ParseKeyring(encryptionKey)
	require.NoError(tb, err)
	logger := slog.New(slog.NewJSONHandler(b.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	options := store.Options{Keys: keys, Now: b.clock.Now, IDs: b.ids, Logger: logger}
	b.store, err = store.Open(tb.Context(), storetest.NewFile(tb), options)
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, b.store.Close()) })

	config := api.Config{
		Store:             b.store,
		CheckURL:          func(string) error { return nil },
		Now:               b.clock.Now,
		IDs:               b.ids,
		Entropy:           rand.Reader,
		Logger:            logger,
		Version:           "test",
		TemporalNamespace: "default",
	}
	for _, c := range change {
		c(&config)
	}
	b.server = httptest.NewServer(api.New(config))
	tb.Cleanup(b.server.Close)
	b.key = b.newKey(b.newWorkspace(), postrider.Scopes()...)
	return b
}

func (b *bundle) newWorkspace() string {
	b.t.Helper()
	w := postrider.Workspace{ID: b.ids.New(postrider.PrefixWorkspace), Name: "test", CreatedAt: b.clock.Now()}
	require.NoError(b.t, b.store.CreateWorkspace(b.t.Context(), w))
	return w.ID
}

func (b *bundle) newKey(workspaceID string, scopes ...postrider.Scope) string {
	b.t.Helper()
	return b.newKeyUntil(workspaceID, nil, scopes...)
}

func (b *bundle) newKeyUntil(workspaceID string, expires *time.Time, scopes ...postrider.Scope) string {
	b.t.Helper()
	secret, err := postrider.NewAPIKeySecret(rand.Reader)
	require.NoError(b.t, err)
	require.NoError(b.t, b.store.CreateAPIKey(b.t.Context(), postrider.APIKey{
		ID: b.ids.New(postrider.PrefixAPIKey), WorkspaceID: workspaceID, Name: "test",
		Hash: postrider.HashAPIKey(secret), Scopes: scopes, CreatedAt: b.clock.Now(), ExpiresAt: expires,
	}))
	return secret
}

// as returns the same bundle with another key.
func (b *bundle) as(key string) *bundle {
	other := *b
	other.key = key
	return &other
}

// answer is a response that was read to its end.
type answer struct {
	t      testing.TB
	Status int
	Header http.Header
	Body   []byte
	Closed bool // the connection, by the server
}

// do sends a request; headers are names and values in turn, and an empty value
// leaves a header out.
func (b *bundle) do(method, path, body string, headers ...string) answer {
	b.t.Helper()
	var reader io.Reader
	if body != "" {
		reader = strings.NewReader(body)
	}
	return b.send(method, path, reader, headers...)
}

func (b *bundle) send(method, path string, body io.Reader, headers ...string) answer {
	b.t.Helper()
	request, err := http.NewRequestWithContext(b.t.Context(), method, b.server.URL+path, body)
	require.NoError(b.t, err)
	request.Header.Set("X-API-Key", b.key)
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		request.Header.Del(headers[i])
		if headers[i+1] != "" {
			request.Header.Set(headers[i], headers[i+1])
		}
	}
	response, err := b.server.Client().Do(request)
	require.NoError(b.t, err)
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	require.NoError(b.t, err)
	require.NotEmpty(b.t, response.Header.Get("X-Request-Id"))
	require.Empty(b.t, response.Header.Get("Link"))
	require.NotContains(b.t, string(content), "$schema")
	return answer{t: b.t, Status: response.StatusCode, Header: response.Header, Body: content, Closed: response.Close}
}

// object returns the body as a JSON object, after checking the status.
func (a answer) object(status int) map[string]any {
	a.t.Helper()
	require.Equal(a.t, status, a.Status, string(a.Body))
	require.Equal(a.t, "application/json", a.Header.Get("Content-Type"))
	var object map[string]any
	require.NoError(a.t, json.Unmarshal(a.Body, &object))
	return object
}

// text returns a field of the body that is a string.
func (a answer) text(status int, field string) string {
	a.t.Helper()
	text, ok := a.object(status)[field].(string)
	require.True(a.t, ok, string(a.Body))
	return text
}

// items returns the data of a list, and its next cursor, "" on the last page.
func (a answer) items() ([]map[string]any, string) {
	a.t.Helper()
	var page struct {
		Data       []map[string]any `json:"data"`
		NextCursor *string          `json:"next_cursor"`
	}
	a.object(http.StatusOK)
	require.NoError(a.t, json.Unmarshal(a.Body, &page))
	require.NotNil(a.t, page.Data, "data is an array, never null")
	require.Contains(a.t, string(a.Body), `"next_cursor":`)
	if page.NextCursor == nil {
		return page.Data, ""
	}
	return page.Data, *page.NextCursor
}

// broken is one entry of a problem's errors.
type broken struct {
	Location string `json:"location"`
	Message  string `json:"message"`
	Value    any    `json:"value"`
}

// problem is an RFC 9457 document.
type problem struct {
	Type   string   `json:"type"`
	Title  string   `json:"title"`
	Status int      `json:"status"`
	Detail string   `json:"detail"`
	Errors []broken `json:"errors"`
}

// problem checks that the answer is a problem document of the status.
func (a answer) problem(status int) problem {
	a.t.Helper()
	require.Equal(a.t, status, a.Status, string(a.Body))
	require.Equal(a.t, "application/problem+json", a.Header.Get("Content-Type"))
	var p problem
	decoder := json.NewDecoder(bytes.NewReader(a.Body))
	decoder.DisallowUnknownFields()
	require.NoError(a.t, decoder.Decode(&p))
	require.Equal(a.t, status, p.Status)
	require.Equal(a.t, http.StatusText(status), p.Title)
	require.NotEmpty(a.t, p.Type)
	require.NotEmpty(a.t, p.Detail)
	require.NotContains(a.t, string(a.Body), a.Header.Get("X-Request-Id"))
	if status == http.StatusUnprocessableEntity {
		require.NotEmpty(a.t, p.Errors)
	}
	return p
}

// locations checks that the answer is a 422 and returns where its errors are.
func (a answer) locations() []string {
	a.t.Helper()
	var all []string
	for _, e := range a.problem(http.StatusUnprocessableEntity).Errors {
		require.NotEmpty(a.t, e.Message)
		all = append(all, e.Location)
	}
	return all
}

// newWebhook creates a webhook for every event and returns its id.
func (b *bundle) newWebhook(fields string) string {
	b.t.Helper()
	body := `{"url":"https://example.com/hook","events":["*"]` + fields + `}`
	return b.do(http.MethodPost, "/api/v1/webhooks", body).text(http.StatusCreated, "id")
}

// clock is a time that stands still until it is moved.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// syncBuffer is a buffer that the server may write to while a test reads.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// faultyStore is the real store until a fault is set, which its reads of webhooks
// then have.
type faultyStore struct {
	api.Store
	fault func() error
}

func (s *faultyStore) Webhook(ctx context.Context, workspaceID, id string) (postrider.Webhook, error) {
	if err := s.fault(); err != nil {
		return postrider.Webhook{}, err
	}
	return s.Store.Webhook(ctx, workspaceID, id)
}

// failing makes reads of single webhooks fail.
func failing(fault func() error) func(*api.Config) {
	return func(c *api.Config) { c.Store = &faultyStore{Store: c.Store, fault: fault} }
}
