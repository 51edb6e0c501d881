package server

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"postrider.dev/postrider"
	"postrider.dev/postrider/store"
)

// Names of the files in a data directory.
const (
	apiKeyFile        = "api-key"
	encryptionKeyFile = "encryption-keys"
	endpointsFile     = "endpoints.json"
)

// releaseAndProvision makes ready the database of a process that has it to itself: gives back
// what the process before had leased, and provisions the first workspace and key.
// It returns the path of the key's file.
func releaseAndProvision(ctx context.Context, db *store.Store, dir string, ids *postrider.IDs, now func() time.Time) (string, error) {
	if err := db.ReleaseOrphans(ctx); err != nil {
		return "", fmt.Errorf("database: %w", err)
	}
	path, err := provision(ctx, db, dir, ids, now)
	if err != nil {
		return "", fmt.Errorf("first workspace and key: %w", err)
	}
	return path, nil
}

// checkDatabase returns an error when this build and these keys cannot serve from
// what is stored.
func checkDatabase(ctx context.Context, db *store.Store) error {
	if err := db.CheckSchema(ctx); err != nil {
		return err
	}
	if err := db.CheckKeys(ctx); err != nil {
		return fmt.Errorf("encryption keys (POSTRIDER_ENCRYPTION_KEYS, or the file %s in the data directory): %w", encryptionKeyFile, err)
	}
	return nil
}

// provision makes sure that there is a workspace and that the key in the data
// directory's api-key file, made when it is missing, opens it with every scope. It
// returns the path of that file. The file is written before the database: a crash
// in between leaves a key that the next start puts to use, not one nobody knows.
func provision(ctx context.Context, db *store.Store, dir string, ids *postrider.IDs, now func() time.Time) (string, error) {
	path := filepath.Join(dir, apiKeyFile)
	key, err := secretFile(path, func() (string, error) { return postrider.NewAPIKeySecret(rand.Reader) })
	if err != nil {
		return "", err
	}
	_, err = db.APIKeyByHash(ctx, postrider.HashAPIKey(key))
	if postrider.CodeOf(err) != postrider.CodeNotFound {
		return path, err
	}
	workspace, err := db.FirstWorkspace(ctx)
	if postrider.CodeOf(err) == postrider.CodeNotFound {
		workspace = postrider.Workspace{ID: ids.New(postrider.PrefixWorkspace), Name: "default", CreatedAt: postrider.Timestamp(now())}
		err = db.CreateWorkspace(ctx, workspace)
	}
	if err != nil {
		return "", err
	}
	return path, db.CreateAPIKey(ctx, postrider.APIKey{
		ID: ids.New(postrider.PrefixAPIKey), WorkspaceID: workspace.ID, Name: "first key", Hash: postrider.HashAPIKey(key),
		Scopes: postrider.Scopes(), CreatedAt: postrider.Timestamp(now()),
	})
}

// encryptionKeys returns the text of the data directory's key file, made when it is
// missing.
func encryptionKeys(dir string) (string, error) {
	return secretFile(filepath.Join(dir, encryptionKeyFile), func() (string, error) { return store.NewEncryptionKey(rand.Reader) })
}

// secretFile returns the text of a file that only its owner may read, and makes it
// first, with what create returns, when there is none.
func secretFile(path string, create func() (string, error)) (string, error) {
	text, err := os.ReadFile(path) //nolint:gosec // the operator's own data directory
	if err == nil {
		return strings.TrimSpace(string(text)), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	secret, err := create()
	if err != nil {
		return "", err
	}
	if err := writeFile(path, secret+"\n"); err != nil {
		return "", fmt.Errorf("cannot write %s: %w", path, err)
	}
	return secret, nil
}

// writeFile puts a file in place whole or not at all, readable by its owner only.
func writeFile(path, text string) error {
	temporary, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return err
	}
	_, err = temporary.WriteString(text)
	err = errors.Join(err, temporary.Sync(), temporary.Close())
	if err == nil {
		err = os.Rename(temporary.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temporary.Name()))
	}
	return nil
}
