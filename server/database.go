package server

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"postrider.dev/postrider"
	"postrider.dev/postrider/store"
)

// DatabaseSettings say how a production process, or an operator's command, reaches the
// database.
type DatabaseSettings struct {
	DatabaseURL string `required:"" env:"POSTRIDER_DATABASE_URL" placeholder:"URL" help:"postgres://… URL of the database. Prefer the environment to the flag: other users can see a command line."`
}

// Validate checks what flag parsing cannot. The error names the flag and the rule.
func (d *DatabaseSettings) Validate() error {
	if d.DatabaseURL == "" {
		return errors.New(databaseSetting + "must be set to the postgres://USER:PASSWORD@HOST/NAME of the database")
	}
	return CheckDatabaseURL(d.DatabaseURL)
}

const databaseSetting = "--database-url (POSTRIDER_DATABASE_URL): "

// CheckDatabaseURL returns an error that names the flag unless the URL is PostgreSQL's or empty, or
// SQLite's in a binary that has SQLite inside. The error does not repeat the URL, which may hold a
// password.
func CheckDatabaseURL(url string) error {
	inside := store.HasSQLite()
	switch isSQLite := strings.HasPrefix(url, "sqlite:"); {
	case url == "", strings.HasPrefix(url, "postgres://"), strings.HasPrefix(url, "postgresql://"), isSQLite && inside:
		return nil
	case isSQLite:
		return errors.New(databaseSetting + "must start with postgres:// or postgresql://; SQLite is only in postrider-standalone")
	case inside:
		return errors.New(databaseSetting + "must start with postgres:// or postgresql://, or be sqlite:PATH")
	}
	return errors.New(databaseSetting + "must start with postgres:// or postgresql://")
}

// NewIDs returns the source of a process's ids.
func NewIDs() *postrider.IDs { return postrider.NewIDs(time.Now, rand.Reader) }

// OpenStore opens the database. The keys have the form of POSTRIDER_ENCRYPTION_KEYS; they
// replace those of the options, and the machine's clock is used where there is none.
func OpenStore(ctx context.Context, url, encryptionKeys string, options store.Options) (*store.Store, error) {
	var err error
	if options.Keys, err = store.ParseKeyring(encryptionKeys); err != nil {
		return nil, fmt.Errorf("encryption keys (POSTRIDER_ENCRYPTION_KEYS): %w", err)
	}
	if options.Now == nil {
		options.Now = time.Now
	}
	db, err := store.Open(ctx, url, options)
	if err != nil {
		return nil, fmt.Errorf("database: %w", err)
	}
	return db, nil
}

// CheckEncryptionKeys returns an error that says what to do when the keys are missing.
func CheckEncryptionKeys(keys string) error {
	if keys == "" {
		return errors.New("POSTRIDER_ENCRYPTION_KEYS (--encryption-keys): must be set; `postrider secrets new-key` makes a key")
	}
	return nil
}
