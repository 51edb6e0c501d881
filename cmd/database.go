package cmd

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"postrider"
	"postrider/store"
)

// DatabaseSettings are how a process of production, or an operator's command,
// reaches the database.
type DatabaseSettings struct {
	DatabaseURL string `required:"" env:"POSTRIDER_DATABASE_URL" placeholder:"URL" help:"postgres://… URL of the database. Prefer the environment to the flag: other users can see a command line."`
}

// Validate checks what flag parsing cannot. The error names the flag and the rule.
func (d *DatabaseSettings) Validate() error { return CheckDatabaseURL(d.DatabaseURL) }

// CheckDatabaseURL returns an error that names the flag when the URL is of no
// database that can be used; "" is left to the caller. The error does not repeat
// the URL, which may hold a password.
func CheckDatabaseURL(url string) error {
	scheme, _, _ := strings.Cut(url, ":")
	if url != "" && !slices.Contains([]string{"postgres", "postgresql", "sqlite"}, scheme) {
		return errors.New("--database-url (POSTRIDER_DATABASE_URL): must start with postgres:// or postgresql://, or be sqlite:PATH")
	}
	return nil
}

// newIDs returns the ids of a process.
func newIDs() *postrider.IDs { return postrider.NewIDs(time.Now, rand.Reader) }

// openStore opens the database with the keys, as POSTRIDER_ENCRYPTION_KEYS has them,
// and otherwise by the options.
func openStore(ctx context.Context, url, encryptionKeys string, options store.Options) (*store.Store, error) {
	var err error
	if options.Keys, err = store.ParseKeyring(encryptionKeys); err != nil {
		return nil, fmt.Errorf("encryption keys (POSTRIDER_ENCRYPTION_KEYS): %w", err)
	}
	options.Now = time.Now
	db, err := store.Open(ctx, url, options)
	if err != nil {
		return nil, fmt.Errorf("database: %w", err)
	}
	return db, nil
}

// checkEncryptionKeys returns an error that says what to do when there are none.
func checkEncryptionKeys(keys string) error {
	if keys == "" {
		return errors.New("POSTRIDER_ENCRYPTION_KEYS (--encryption-keys): must be set; `postrider secrets new-key` makes a key")
	}
	return nil
}

// OperatorSettings are those of an operator's command on the database.
type OperatorSettings struct {
	DatabaseSettings
	LogSettings
}

// open opens a database whose secrets are left alone, whatever its schema.
func (o *OperatorSettings) open(ctx context.Context) (*store.Store, error) {
	db, err := store.Open(ctx, o.DatabaseURL, store.Options{Keys: store.NoKeys(), Now: time.Now, IDs: newIDs(), Logger: o.Logger(slog.LevelDebug)})
	if err != nil {
		return nil, fmt.Errorf("database: %w", err)
	}
	return db, nil
}

// with runs work on the database, whose schema must be this build's.
func (o *OperatorSettings) with(ctx context.Context, work func(*store.Store) error) error {
	db, err := o.open(ctx)
	if err != nil {
		return err
	}
	err = db.CheckSchema(ctx)
	if err == nil {
		err = work(db)
	}
	return errors.Join(err, db.Close())
}
