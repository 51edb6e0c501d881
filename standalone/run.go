package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"

	"postrider/cmd"
	"postrider/egress"
	"postrider/standalone/embedded"
	"postrider/workflows"
)

// namespace is the Temporal namespace of the embedded server.
const namespace = "default"

// workflowRetention is how long Temporal keeps a workflow that has ended. The
// database keeps deliveries and attempts for longer.
const workflowRetention = 72 * time.Hour

// runCommand runs everything.
type runCommand struct {
	cmd.Settings
	cmd.APISettings
	cmd.WorkerSettings

	DatabaseURL      string `env:"POSTRIDER_DATABASE_URL" placeholder:"URL" help:"postgres://… URL of the database. Empty: SQLite in the data directory."`
	DataDir          string `env:"POSTRIDER_DATA_DIR" default:".postrider" help:"Folder of the databases and keys; made when it is missing. One process at a time."`
	TemporalListen   string `env:"POSTRIDER_TEMPORAL_LISTEN" default:"127.0.0.1:7233" help:"Address of the embedded Temporal server."`
	TemporalUIListen string `env:"POSTRIDER_TEMPORAL_UI_LISTEN" name:"temporal-ui-listen" default:"127.0.0.1:8233" help:"Address of Temporal's web interface."`
}

// Validate checks what flag parsing cannot.
func (c *runCommand) Validate() error { return cmd.CheckDatabaseURL(c.DatabaseURL) }

// Run implements the command: everything starts in the order of who needs whom,
// and stops in the opposite one.
func (c *runCommand) Run(ctx context.Context) error {
	logger := c.Logger(slog.LevelDebug)
	release, err := claimDataDir(c.DataDir)
	if err != nil {
		return err
	}
	defer release()

	ports, err := cmd.Bind(ctx, c.Settings, &c.APISettings)
	if err != nil {
		return err
	}
	defer ports.Close()
	temporal, err := c.startTemporal(ctx, logger)
	if err != nil {
		return err
	}
	defer stopTemporal(ctx, temporal, logger)

	server, err := cmd.NewServer(ctx, c.Settings, cmd.Shape{
		API:      &c.APISettings,
		Worker:   &c.WorkerSettings,
		Ports:    ports,
		DataDir:  c.DataDir,
		Database: cmp.Or(c.DatabaseURL, "sqlite:"+filepath.Join(c.DataDir, "postrider.db")),
		Temporal: cmd.TemporalSettings{Address: temporal.FrontendAddress(), Namespace: namespace, UIURL: temporal.UIURL()},
		Networks: egress.StandaloneNetworks(),
		Logger:   logger,
	})
	if err != nil {
		return err
	}
	return server.Run(ctx)
}

func (c *runCommand) startTemporal(ctx context.Context, logger *slog.Logger) (*embedded.Server, error) {
	server, err := embedded.Start(ctx, embedded.Config{
		Dir: c.DataDir, FrontendListen: c.TemporalListen, UIListen: c.TemporalUIListen,
		Namespace: namespace, Retention: workflowRetention, SearchAttributes: workflows.SearchAttributes(), Logger: logger,
	})
	var taken *embedded.PortTakenError
	if errors.As(err, &taken) {
		if taken.Listener == embedded.ListenerUI {
			return nil, cmd.BindError("--temporal-ui-listen", "POSTRIDER_TEMPORAL_UI_LISTEN", taken.Address, err)
		}
		return nil, cmd.BindError("--temporal-listen", "POSTRIDER_TEMPORAL_LISTEN", taken.Address, err)
	}
	return server, err
}

// stopTimeout bounds the stop of the embedded server: what it has not written by
// then it finds in its log at the next start.
const stopTimeout = 10 * time.Second

func stopTemporal(ctx context.Context, server *embedded.Server, logger *slog.Logger) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout) // ctx is done by now
	defer cancel()
	if err := server.Stop(ctx); err != nil {
		logger.LogAttrs(ctx, slog.LevelWarn, "temporal did not stop cleanly", slog.Any("error", err))
	}
}

// claimDataDir makes the data directory and keeps other processes off it: two
// servers on one database file would take each other's leases for their own.
func claimDataDir(dir string) (release func(), err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("--data-dir (POSTRIDER_DATA_DIR): %w", err)
	}
	lock := flock.New(filepath.Join(dir, "lock"))
	locked, err := lock.TryLock()
	switch {
	case err != nil:
		return nil, fmt.Errorf("--data-dir (POSTRIDER_DATA_DIR): %w", err)
	case !locked:
		return nil, fmt.Errorf("--data-dir %s (POSTRIDER_DATA_DIR): another postrider is running on it; stop that one, or choose another folder", dir)
	}
	return func() { _ = lock.Unlock() }, nil // the end of the process unlocks as well
}
