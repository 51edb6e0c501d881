package cmd

import (
	"context"
	"log/slog"
)

// The commands of production: the same server in three shapes, against a database
// and a Temporal cluster that somebody runs.

// ServeCommand runs the API and the worker in one process.
type ServeCommand struct {
	ProductionSettings

	APISettings
	WorkerSettings
	DeploymentSettings
}

// Run implements the command.
func (c *ServeCommand) Run(ctx context.Context) error {
	return c.run(ctx, Shape{API: &c.APISettings, Worker: &c.WorkerSettings, Deployment: c.DeploymentSettings})
}

// APICommand runs the API alone; any number may run.
type APICommand struct {
	ProductionSettings

	APISettings
}

// Run implements the command.
func (c *APICommand) Run(ctx context.Context) error { return c.run(ctx, Shape{API: &c.APISettings}) }

// WorkerCommand runs the dispatcher and the Temporal worker; any number may run.
type WorkerCommand struct {
	ProductionSettings

	WorkerSettings
	DeploymentSettings
}

// Run implements the command.
func (c *WorkerCommand) Run(ctx context.Context) error {
	return c.run(ctx, Shape{Worker: &c.WorkerSettings, Deployment: c.DeploymentSettings})
}

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

// run runs the parts of the shape.
func (c *ProductionSettings) run(ctx context.Context, shape Shape) error {
	var err error
	if shape.Ports, err = Bind(ctx, c.Settings, shape.API); err != nil {
		return err
	}
	defer shape.Ports.Close()
	shape.Temporal, shape.Database, shape.Logger = c.TemporalSettings, c.DatabaseURL, c.Logger(slog.LevelDebug)
	server, err := NewServer(ctx, c.Settings, shape)
	if err != nil {
		return err
	}
	return server.Run(ctx)
}
