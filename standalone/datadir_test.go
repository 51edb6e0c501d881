package main

import (
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// Guards against files that an earlier version, a restore or a umask left open, and against touching
// what is not Postrider's.
func TestDataDirIsClosedToOthers(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	require.NoError(t, os.Mkdir(dir, 0o700))
	modes := map[string]fs.FileMode{
		"api-key": 0o600, "encryption-keys": 0o600, "endpoints.json": 0o600, "lock": 0o600, "temporal.db": 0o600,
		"postrider.db": 0o600, "postrider.db-wal": 0o600, "postrider.db-shm": 0o600, "notes.txt": 0o644,
	}
	for name := range modes {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), nil, 0o600))
		require.NoError(t, os.Chmod(filepath.Join(dir, name), 0o644))
	}
	require.NoError(t, os.Chmod(dir, 0o777))
	release, err := claimDataDir(t.Context(), dir, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	defer release()
	modeOf := func(name string) fs.FileMode {
		info, err := os.Stat(filepath.Join(dir, name))
		require.NoError(t, err)
		return info.Mode().Perm()
	}
	require.Equal(t, fs.FileMode(0o700), modeOf("."))
	for name, mode := range modes {
		require.Equal(t, mode, modeOf(name), name)
	}
	_, err = claimDataDir(t.Context(), dir, slog.New(slog.DiscardHandler))
	require.ErrorContains(t, err, "another postrider is running on it")
}

func TestAFolderForEverybodyIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.Chmod(dir, 0o777|fs.ModeSticky))
	for range 2 { // the lock was given back
		_, err := claimDataDir(t.Context(), dir, slog.New(slog.DiscardHandler))
		require.ErrorContains(t, err, "--data-dir (POSTRIDER_DATA_DIR): "+dir+" is a folder for everybody")
	}
}
