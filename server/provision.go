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

// checkDatabase returns an error when the schema is not this build's, or when the keys cannot
// decrypt the stored secrets.
func checkDatabase(ctx context.Context, db *store.Store) error {
	if err := db.CheckSchema(ctx); err != nil {
		return err
	}
	if err := db.CheckKeys(ctx); err != nil {
		return fmt.Errorf("encryption keys (POSTRIDER_ENCRYPTION_KEYS, or the file %s in the data directory): %w", encryptionKeyFile, err)
	}
	return nil
}

// provision makes sure that the database has a workspace, and that the key in the data
// directory's file api-key has every scope in it. It creates what is missing, and returns the
// path of the file. It writes the file before the database: after a crash in between, the next
// start stores the key of the file. In the other order the stored key would be known to nobody.
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

// encryptionKeys returns the content of the data directory's file of encryption keys. It makes
// a key when the file is missing.
func encryptionKeys(dir string) (string, error) {
	return secretFile(filepath.Join(dir, encryptionKeyFile), func() (string, error) { return store.NewEncryptionKey(rand.Reader) })
}

// secretFile returns the content of a file. When the file is missing, it first writes the
// result of create into it, readable by the owner only.
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

// writeFile writes a file that only its owner can read. After a crash, the file has either its
// old content or all of the new one.
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
