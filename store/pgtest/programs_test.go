package pgtest

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestMissingPostgresSaysWhatToDo(t *testing.T) {
	t.Setenv(binVariable, t.TempDir())
	_, err := Start(t.Context())
	require.ErrorContains(t, err, binVariable)
	require.ErrorContains(t, errNoPostgres, "apt-get install postgresql")
}

func TestNamedFolderIsUsed(t *testing.T) {
	folder := t.TempDir()
	for _, program := range []string{"initdb", "postgres"} {
		require.NoError(t, os.WriteFile(filepath.Join(folder, program), nil, 0o600))
	}
	t.Setenv(binVariable, folder)
	found, err := programs()
	require.NoError(t, err)
	require.Equal(t, folder, found)
}

func TestServerStartsAndStops(t *testing.T) {
	t.Parallel()
	var server *Server
	t.Cleanup(func() { // after the databases are dropped
		server.Stop()
		server.Stop()
		require.NoDirExists(t, server.folder)
	})
	var err error
	server, err = Start(t.Context())
	require.NoError(t, err)
	require.Contains(t, server.NewDatabase(t), "127.0.0.1")
	require.NotEqual(t, server.EmptyDatabase(t), server.NewDatabase(t))
	port := server.port
	require.NoError(t, server.Restart(t.Context()))
	require.Equal(t, port, server.port)
	require.NotEmpty(t, server.NewDatabase(t), "the template outlives a restart")
}

func TestDurableServerKeepsToTheDisk(t *testing.T) {
	t.Parallel()
	server, err := StartDurable(t.Context(), "shared_buffers=32MB")
	require.NoError(t, err)
	t.Cleanup(server.Stop)
	require.Positive(t, server.PID())
	for name, want := range map[string]string{"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on", "shared_buffers": "32MB"} {
		var value string
		require.NoError(t, server.admin.QueryRowContext(t.Context(), "SHOW "+name).Scan(&value))
		require.Equal(t, want, value, name)
	}
	address, err := server.Create(t.Context(), "first", "")
	require.NoError(t, err)
	require.Contains(t, address, "/first?")
	_, err = server.Create(t.Context(), "second", "first")
	require.NoError(t, err)
	for range 2 { // the second time there is none
		require.NoError(t, server.Drop(t.Context(), "first"))
	}
}
