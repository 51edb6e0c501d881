package cli

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"time"

	"postrider.dev/postrider/server"
	"postrider.dev/postrider/store"
)

// SecretsCommand looks after the encryption of signing secrets, custom headers and client keys.
type SecretsCommand struct {
	NewKey    NewKeyCommand    `cmd:"" help:"Print a new encryption key for POSTRIDER_ENCRYPTION_KEYS."`
	Reencrypt ReencryptCommand `cmd:"" help:"Encrypt with the first key of POSTRIDER_ENCRYPTION_KEYS what an older one still encrypts. Safe to repeat, and while everything runs."`
}

// NewKeyCommand makes and prints an encryption key.
type NewKeyCommand struct{}

// Run implements the command.
func (NewKeyCommand) Run() error {
	key, err := store.NewEncryptionKey(rand.Reader)
	if err != nil {
		return err
	}
	fmt.Println(key)
	notef("An installation's first key: set it as POSTRIDER_ENCRYPTION_KEYS of every process. " +
		"Beside older ones: add it last and restart every process, then put it first and restart; docs/operations.md. " +
		"Keep it: without it stored signing secrets, custom headers and client keys are lost.")
	return nil
}

// ReencryptCommand encrypts stored secrets with the newest key.
type ReencryptCommand struct {
	OperatorSettings

	EncryptionKeys string `env:"POSTRIDER_ENCRYPTION_KEYS" placeholder:"KEYS" help:"Comma-separated base64 keys of 32 bytes: the first encrypts, all decrypt. Prefer the environment to the flag: other users can see a command line."`
}

// Validate checks what flag parsing cannot. The error names the flag and the rule.
func (c *ReencryptCommand) Validate() error { return server.CheckEncryptionKeys(c.EncryptionKeys) }

// Run implements the command.
func (c *ReencryptCommand) Run(ctx context.Context) error {
	db, err := server.OpenStore(ctx, c.DatabaseURL, c.EncryptionKeys, store.Options{IDs: server.NewIDs(), Logger: c.Logger(slog.LevelDebug)})
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	if err := db.CheckSchema(ctx); err != nil {
		return err
	}
	begun := time.Now()
	n, err := db.Reencrypt(ctx, func(done int) { notef("%d secrets, sets of headers and client keys encrypted anew …", done) })
	if err != nil {
		return fmt.Errorf("%d secrets, sets of headers and client keys encrypted anew, and not all: %w", n, err)
	}
	notef("%d secrets, sets of headers and client keys encrypted anew in %s. All that is stored needs the first key only: "+
		"the others can go from POSTRIDER_ENCRYPTION_KEYS, once every process runs with the first one.",
		n, time.Since(begun).Round(time.Millisecond))
	return nil
}
