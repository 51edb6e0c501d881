package remote

import (
	"bytes"
	"context"
	"crypto/rand"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	_ "modernc.org/sqlite"

	"postrider.dev/postrider"
	"postrider.dev/postrider/api"
	"postrider.dev/postrider/store"
	"postrider.dev/postrider/store/storetest"
)

func TestMain(m *testing.M) {
	for _, name := range []string{"POSTRIDER_URL", "POSTRIDER_API_KEY"} {
		_ = os.Unsetenv(name)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		http.DefaultClient.CloseIdleConnections()
		os.Exit(code)
	}), goleak.IgnoreTopFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreTopFunction("net/http.(*persistConn).writeLoop"))
}

// bundle is a command line and the server that it calls.
type bundle struct {
	t       *testing.T
	url     string
	key     string
	keyFile string
	in      string // standard input
	streams Streams
}

// newAPI starts the API on a real database.
func newAPI(t *testing.T) *bundle {
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
	return serve(t, secret, api.New(api.Config{
		Store: db, CheckURL: func(string) error { return nil }, Now: time.Now, IDs: ids, Entropy: rand.Reader, Logger: logger,
		Version: "test", TemporalNamespace: "default",
	}))
}

// serve returns a bundle whose server is the handler.
func serve(t *testing.T, key string, handler http.Handler) *bundle {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	file := filepath.Join(t.TempDir(), "api-key")
	require.NoError(t, os.WriteFile(file, []byte(key+"\n"), 0o600))
	return &bundle{t: t, url: server.URL, key: key, keyFile: file}
}

// result is what a command printed and how it ended.
type result struct {
	out, err string
	usage    error // of a command line that was not understood
	failed   error
}

// run runs a command to its end.
func (b *bundle) run(args ...string) result {
	b.t.Helper()
	return b.runUntil(b.t.Context(), new(buffer), args...)
}

func (b *bundle) runUntil(ctx context.Context, out *buffer, args ...string) result {
	b.t.Helper()
	var remarks buffer
	b.streams.In, b.streams.Out, b.streams.Err = strings.NewReader(b.in), out, &remarks
	parser, err := kong.New(&struct{}{}, append([]kong.Option{
		kong.Name("postrider"), kong.BindTo(ctx, (*context.Context)(nil)), kong.Exit(func(int) {}), kong.Writers(out, out),
	}, Commands(b.streams, args)...)...)
	require.NoError(b.t, err)
	parsed, err := parser.Parse(append(args, "--api-url", b.url, "--api-key-file", b.keyFile))
	if err != nil {
		return result{usage: err}
	}
	failed := parsed.Run()
	r := result{out: out.String(), err: remarks.String(), failed: failed}
	require.NotContains(b.t, r.out+r.err, b.key, "the key is never printed")
	return r
}

// ok runs a command that succeeds, and returns what it printed.
func (b *bundle) ok(args ...string) string {
	b.t.Helper()
	r := b.run(args...)
	require.NoError(b.t, r.usage)
	require.NoError(b.t, r.failed)
	return r.out
}

// buffer is what a command prints to while a test reads.
type buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
