package main

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"os"
	"time"

	"golang.org/x/sync/errgroup"

	"postrider.dev/postrider"
	"postrider.dev/postrider/api"
	"postrider.dev/postrider/bench/harness"
	"postrider.dev/postrider/cli"
	"postrider.dev/postrider/egress"
	"postrider.dev/postrider/store"
)

// commands is the command line.
type commands struct {
	Run runCommand `cmd:"" default:"withargs" help:"Run everything (the default)."`
}

func main() {
	cli.Main("floor", "Accepts and delivers webhooks without Temporal, to be measured.", &commands{})
}

// runCommand runs the API and the deliveries.
type runCommand struct {
	harness.Settings

	EncryptionKeys string `env:"POSTRIDER_ENCRYPTION_KEYS" help:"Keys of a database that is there. Default: a new one."`
}

// Run implements the command.
func (c *runCommand) Run(ctx context.Context) (err error) {
	logger := slog.New(slog.NewTextHandler(os.Stderr, nil)) // as the product logs, because logging costs CPU time
	ids := postrider.NewIDs(time.Now, rand.Reader)
	db, err := c.open(ctx, ids, logger)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	key, err := provision(ctx, db, ids)
	if err != nil {
		return err
	}
	poster := egress.New(egress.Config{AllowNetworks: egress.StandaloneNetworks(), UserAgent: "Postrider/floor", Now: time.Now})
	f := newFloor(db, poster, ids, logger)
	handler := api.New(api.Config{
		Store: db, CheckURL: poster.CheckURL, Now: time.Now, IDs: ids, Entropy: rand.Reader, Logger: logger,
		Checks: []api.Check{{Name: "database", Run: db.Ping}}, Version: "floor",
		OnAccepted: func(int, int) {}, OnRequest: func(api.RequestSummary) {},
	})
	tasks, ctx := errgroup.WithContext(ctx)
	tasks.Go(func() error { return harness.Serve(ctx, c.Settings, key, handler) })
	tasks.Go(func() error { return f.run(ctx) })
	return tasks.Wait()
}

// open opens the database and migrates it.
func (c *runCommand) open(ctx context.Context, ids *postrider.IDs, logger *slog.Logger) (*store.Store, error) {
	text := c.EncryptionKeys
	if text == "" {
		var err error
		if text, err = store.NewEncryptionKey(rand.Reader); err != nil {
			return nil, err
		}
	}
	keys, err := store.ParseKeyring(text)
	if err != nil {
		return nil, err
	}
	db, err := store.Open(ctx, c.DatabaseURL, store.Options{Keys: keys, Now: time.Now, IDs: ids, Logger: logger})
	if err != nil {
		return nil, err
	}
	err = db.Migrate(ctx)
	if err == nil {
		err = db.EnsurePartitions(ctx, time.Now())
	}
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// provision creates an API key of the first workspace, and that workspace if there is none.
func provision(ctx context.Context, db *store.Store, ids *postrider.IDs) (string, error) {
	workspace, err := db.FirstWorkspace(ctx)
	if postrider.CodeOf(err) == postrider.CodeNotFound {
		workspace = postrider.Workspace{ID: ids.New(postrider.PrefixWorkspace), Name: "floor", CreatedAt: postrider.Timestamp(time.Now())}
		err = db.CreateWorkspace(ctx, workspace)
	}
	if err != nil {
		return "", err
	}
	wanted := postrider.APIKey{WorkspaceID: workspace.ID, Name: "floor", Scopes: postrider.Scopes()}
	key, secret, err := wanted.Issue(ids, rand.Reader, time.Now())
	if err != nil {
		return "", err
	}
	return secret, db.CreateAPIKey(ctx, key)
}
