package client_test

import (
	"crypto/rand"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	_ "modernc.org/sqlite"

	"postrider.dev/postrider"
	"postrider.dev/postrider/api"
	"postrider.dev/postrider/client"
	"postrider.dev/postrider/store"
	"postrider.dev/postrider/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// newAPI starts the API on a real database and returns a client of it, with a key of every scope. wrap may
// stand between the two.
func newAPI(t *testing.T, wrap ...func(http.Handler) http.Handler) *client.Client {
	t.Helper()
	ids := postrider.NewIDs(time.Now, rand.Reader)
	encryptionKey, err := store.NewEncryptionKey(rand.Reader)
	require.NoError(t, err)
	keys, err := store.ParseKeyring(encryptionKey)
	require.NoError(t, err)
	logger := slog.New(slog.DiscardHandler)
	db, err := store.Open(t.Context(), storetest.NewFile(t), store.Options{Keys: keys, Now: time.Now, IDs: ids, Logger: logger})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })

	workspace := postrider.Workspace{ID: ids.New(postrider.PrefixWorkspace), Name: "test", CreatedAt: postrider.Timestamp(time.Now())}
	require.NoError(t, db.CreateWorkspace(t.Context(), workspace))
	key := postrider.APIKey{WorkspaceID: workspace.ID, Name: "test", Scopes: postrider.Scopes()}
	key, secret, err := key.Issue(ids, rand.Reader, time.Now())
	require.NoError(t, err)
	require.NoError(t, db.CreateAPIKey(t.Context(), key))

	handler := api.New(api.Config{
		Store: db, CheckURL: func(string) error { return nil }, Now: time.Now, IDs: ids, Entropy: rand.Reader, Logger: logger,
		Version: "test", TemporalNamespace: "default",
	})
	for _, w := range wrap {
		handler = w(handler)
	}
	return serve(t, handler, secret)
}

// serve returns a client of a handler.
func serve(t *testing.T, handler http.Handler, key string) *client.Client {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return client.New(client.Config{URL: server.URL + "/", APIKey: key, HTTPClient: server.Client()})
}
