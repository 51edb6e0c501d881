package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"slices"

	"github.com/gofrs/flock"
)

const dataDirSetting = "--data-dir (POSTRIDER_DATA_DIR)"

// Modes of the data directory and of the files in it, whatever the umask is and whatever they were
// before: the directory holds keys, and payloads in the clear.
const (
	ownersFolder fs.FileMode = 0o700
	ownersFile   fs.FileMode = 0o600
)

// dataFiles are the patterns of the files that processes make in a data directory, SQLite's -wal and
// -shm among them. Others' files in it are left alone.
func dataFiles() []string {
	return []string{"lock", "api-key*", "encryption-keys*", "endpoints.json*", "postrider.db*", "temporal.db*"}
}

// claimDataDir creates the data directory, closes it to other users, and locks it. Two servers on one
// database file would release each other's leases.
func claimDataDir(ctx context.Context, dir string, logger *slog.Logger) (release func(), err error) {
	if err := os.MkdirAll(dir, ownersFolder); err != nil {
		return nil, fmt.Errorf("%s: %w", dataDirSetting, err)
	}
	lock := flock.New(filepath.Join(dir, "lock"), flock.SetPermissions(ownersFile))
	locked, err := lock.TryLock()
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s: %w", dataDirSetting, err)
	case !locked:
		return nil, fmt.Errorf("--data-dir %s (POSTRIDER_DATA_DIR): "+
			"another postrider is running on it; stop that one, or choose another folder", dir)
	}
	release = func() { _ = lock.Unlock() } // the end of the process unlocks it too
	if err := closeToOthers(ctx, dir, logger); err != nil {
		release()
		return nil, fmt.Errorf("%s: %w", dataDirSetting, err)
	}
	return release, nil
}

// closeToOthers takes the permissions of other users away from the data directory and its files.
func closeToOthers(ctx context.Context, dir string, logger *slog.Logger) error {
	info, err := os.Stat(dir)
	switch {
	case err != nil:
		return err
	case info.Mode()&fs.ModeSticky != 0: // /tmp and its like, which others would lose
		return fmt.Errorf("%s is a folder for everybody; choose one for Postrider alone", dir)
	}
	if err := restrict(ctx, dir, info, ownersFolder, logger); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		ours := func(pattern string) bool { match, _ := path.Match(pattern, entry.Name()); return match }
		if !entry.Type().IsRegular() || !slices.ContainsFunc(dataFiles(), ours) {
			continue
		}
		info, err := entry.Info()
		if err == nil {
			err = restrict(ctx, filepath.Join(dir, entry.Name()), info, ownersFile, logger)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// restrict gives a file or folder the mode, if others may do anything with it. What belongs to another
// user, as the root of a mounted volume does, stays as it is, with a warning.
func restrict(ctx context.Context, name string, info fs.FileInfo, mode fs.FileMode, logger *slog.Logger) error {
	if info.Mode().Perm()&^mode == 0 {
		return nil
	}
	err := os.Chmod(name, mode)
	if errors.Is(err, fs.ErrPermission) {
		logger.LogAttrs(ctx, slog.LevelWarn, "other users may reach this, and it is not this user's to close",
			slog.String("path", name), slog.String("mode", info.Mode().String()))
		return nil
	}
	return err
}
