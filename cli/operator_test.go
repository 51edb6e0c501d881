package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
	"postrider.dev/postrider/server"
	"postrider.dev/postrider/store"
)

// operatorCommands are the commands on the database.
type operatorCommands struct {
	Migrate   MigrateCommand   `cmd:""`
	Workspace WorkspaceCommand `cmd:""`
	Key       KeyCommand       `cmd:""`
	Secrets   SecretsCommand   `cmd:""`
}

// console runs commands on one database, as a shell does. Commands print to the standard output
// of the process, so tests with a console cannot run in parallel.
type console struct {
	t   *testing.T
	url string
}

func (c console) try(args ...string) (string, error) {
	c.t.Helper()
	var cli operatorCommands
	parser, err := kong.New(&cli, kong.Exit(func(int) {}), kong.BindTo(c.t.Context(), (*context.Context)(nil)))
	require.NoError(c.t, err)
	c.t.Setenv("POSTRIDER_DATABASE_URL", c.url)
	parsed, err := parser.Parse(args)
	if err != nil {
		return "", err
	}
	return printed(c.t, parsed.Run)
}

// printed runs a command and returns its standard output.
func printed[A any](t *testing.T, command func(...A) error) (string, error) {
	t.Helper()
	read, write, err := os.Pipe()
	require.NoError(t, err)
	stdout := os.Stdout
	os.Stdout = write
	output := make(chan []byte, 1)
	go func() {
		text, _ := io.ReadAll(read)
		output <- text
	}()
	err = command()
	os.Stdout = stdout
	require.NoError(t, write.Close())
	return string(<-output), err
}

func (c console) run(args ...string) string {
	c.t.Helper()
	text, err := c.try(args...)
	require.NoError(c.t, err, args)
	return text
}

func TestOperatorCommands(t *testing.T) { //nolint:paralleltest // standard output is the process's
	c := console{t: t, url: "sqlite:" + filepath.Join(t.TempDir(), "test.db")}
	_, err := c.try("workspace", "list")
	require.ErrorContains(t, err, "postrider migrate up")
	require.Contains(t, c.run("migrate", "status"), "-\n", "nothing is applied yet")
	c.run("migrate", "up")
	require.Contains(t, c.run("migrate", "status"), time.Now().UTC().Format("2006-01-02"))

	workspace := strings.TrimSpace(c.run("workspace", "create", "acme"))
	require.True(t, strings.HasPrefix(workspace, postrider.PrefixWorkspace+"_"))
	require.Contains(t, c.run("workspace", "list"), "acme")
	_, err = c.try("workspace", "create", "")
	require.ErrorContains(t, err, "name must be from 1 to 255 characters")

	c.run("workspace", "create", "\x1b]0;title\x07\u009b2J") // an operator's terminal must not obey it
	require.Contains(t, c.run("workspace", "list"), `\u001b]0;title\u0007\u009b2J`)
	require.Contains(t, c.run("workspace", "list", "--json"), `"name":"\u001b]0;title\u0007\u009b2J"`)

	secret := strings.TrimSpace(c.run("key", "create", "--workspace", workspace, "--name", "publisher",
		"--scope", "publish", "--scope", "read", "--expires", "90d"))
	db, err := (&OperatorSettings{DatabaseSettings: server.DatabaseSettings{DatabaseURL: c.url}}).open(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	key, err := db.APIKeyByHash(t.Context(), postrider.HashAPIKey(secret))
	require.NoError(t, err)
	require.Equal(t, []postrider.Scope{postrider.ScopePublish, postrider.ScopeRead}, key.Scopes)
	require.WithinDuration(t, time.Now().AddDate(0, 0, 90), *key.ExpiresAt, 2*time.Hour)

	listed := c.run("key", "list", "--workspace", workspace, "--json")
	require.NotContains(t, listed, secret)
	var shown map[string]any
	require.NoError(t, json.NewDecoder(bytes.NewBufferString(listed)).Decode(&shown))
	require.Equal(t, key.ID, shown["id"])
	require.Contains(t, c.run("key", "list", "--workspace", workspace), "publish read")

	c.run("key", "revoke", key.ID)
	key, err = db.APIKeyByHash(t.Context(), key.Hash)
	require.NoError(t, err)
	require.NotNil(t, key.RevokedAt)

	for _, bad := range []struct {
		args []string
		rule string
	}{
		{[]string{"key", "revoke", "key_unknown"}, "key_unknown"},
		{[]string{"key", "list", "--workspace", "ws_unknown"}, "--workspace ws_unknown"},
		{[]string{"key", "create", "--workspace", "ws_unknown", "--name", "k", "--scope", "read"}, "--workspace ws_unknown"},
		{[]string{"key", "create", "--workspace", workspace, "--name", "k", "--scope", "root"}, "scopes[0] must be one of"},
		{[]string{"key", "create", "--workspace", workspace, "--name", "k", "--scope", "read", "--expires", "soon"}, "--expires"},
		{
			[]string{"key", "create", "--workspace", workspace, "--name", "k", "--scope", "read", "--expires", "2001-01-01T00:00:00Z"},
			"expires_at must be in the future",
		},
		{[]string{"migrate", "down"}, "--yes"},
		{[]string{"secrets", "reencrypt"}, "POSTRIDER_ENCRYPTION_KEYS"},
	} {
		_, err := c.try(bad.args...)
		require.ErrorContains(t, err, bad.rule)
	}
	c.run("migrate", "down", "--yes")
	_, err = c.try("workspace", "list")
	require.ErrorContains(t, err, "postrider migrate up")
}

// TestRotateEncryptionKey does the steps of docs/operations.md.
func TestRotateEncryptionKey(t *testing.T) { //nolint:paralleltest // standard output is the process's
	c := console{t: t, url: "sqlite:" + filepath.Join(t.TempDir(), "test.db")}
	c.run("migrate", "up")
	older := strings.TrimSpace(c.run("secrets", "new-key"))
	db, err := server.OpenStore(t.Context(), c.url, older, store.Options{IDs: server.NewIDs(), Logger: (&server.LogSettings{}).Logger(0)})
	require.NoError(t, err)
	workspace := strings.TrimSpace(c.run("workspace", "create", "acme"))
	w, err := db.CreateWebhook(t.Context(), postrider.Webhook{
		WorkspaceID: workspace, Policy: postrider.Policy{TimeoutMS: 1000, BackoffMS: 1000},
		WebhookSettings: postrider.WebhookSettings{
			URL: "https://example.com", Events: []string{"*"}, SigningMethod: "bearer", ScopeType: postrider.ScopeGlobal, MaxInFlight: 1,
		},
	}, "the secret")
	require.NoError(t, err)
	require.NoError(t, db.Close())

	newer := strings.TrimSpace(c.run("secrets", "new-key"))
	_, err = c.try("secrets", "reencrypt", "--encryption-keys", newer)
	require.ErrorContains(t, err, "0 secrets, sets of headers and client keys encrypted anew, and not all: ")
	c.run("secrets", "reencrypt", "--encryption-keys", newer+","+older)
	db, err = server.OpenStore(t.Context(), c.url, newer, store.Options{IDs: server.NewIDs(), Logger: (&server.LogSettings{}).Logger(0)})
	require.NoError(t, err)
	secret, err := db.Secret(t.Context(), workspace, w.ID)
	require.NoError(t, err)
	require.Equal(t, "the secret", secret.Value)
	require.NoError(t, db.Close())
}
