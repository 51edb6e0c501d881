package cmd

import (
	"context"
	"log/slog"
	"net/netip"
)

// The commands of production: the same server in three shapes, against a database
// and a Temporal cluster that somebody runs.

// ServeCommand runs the API and the worker in one process.
type ServeCommand struct {
	ProductionSettings

	APISettings
	WorkerSettings
}

// Run implements the command.
func (c *ServeCommand) Run(ctx context.Context) error {
	return c.run(ctx, &c.APISettings, &c.WorkerSettings)
}

// APICommand runs the API alone; any number may run.
type APICommand struct {
	ProductionSettings

	APISettings
}

// Run implements the command.
func (c *APICommand) Run(ctx context.Context) error { return c.run(ctx, &c.APISettings, nil) }

// WorkerCommand runs the dispatcher and the Temporal worker; any number may run.
type WorkerCommand struct {
	ProductionSettings

	WorkerSettings
}

// Run implements the command.
func (c *WorkerCommand) Run(ctx context.Context) error { return c.run(ctx, nil, &c.WorkerSettings) }

// ProductionSettings are what the three have in common.
type ProductionSettings struct {
	Settings
	DatabaseSettings
	TemporalSettings
}

// Validate checks what flag parsing cannot. The error names the flag and the rule.
func (c *ProductionSettings) Validate() error {
	return checkEncryptionKeys(c.EncryptionKeys)
}

func (c *ProductionSettings) run(ctx context.Context, api *APISettings, worker *WorkerSettings) error {
	ports, err := Bind(ctx, c.Settings, api)
	if err != nil {
		return err
	}
	defer ports.Close()
	server, err := NewServer(ctx, c.Settings, Shape{
		API: api, Worker: worker, Ports: ports, Temporal: c.TemporalSettings, Database: c.DatabaseURL,
		Networks: []netip.Prefix{}, Logger: c.Logger(slog.LevelDebug),
	})
	if err != nil {
		return err
	}
	return server.Run(ctx)
}
