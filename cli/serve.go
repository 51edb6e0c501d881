package cli

import (
	"context"
	"log/slog"

	"postrider.dev/postrider/server"
)

// ServeCommand runs the API and the worker in one process.
type ServeCommand struct {
	ProductionSettings

	server.APISettings
	server.WorkerSettings
	server.DeploymentSettings
}

// Run implements the command.
func (c *ServeCommand) Run(ctx context.Context) error {
	return c.run(ctx, server.Role{API: &c.APISettings, Worker: &c.WorkerSettings, Deployment: c.DeploymentSettings})
}

// APICommand runs the API alone. Any number of its processes can run.
type APICommand struct {
	ProductionSettings

	server.APISettings
}

// Run implements the command.
func (c *APICommand) Run(ctx context.Context) error {
	return c.run(ctx, server.Role{API: &c.APISettings})
}

// WorkerCommand runs the dispatcher and the Temporal worker. Any number of its processes can run.
type WorkerCommand struct {
	ProductionSettings

	server.WorkerSettings
	server.DeploymentSettings
}

// Run implements the command.
func (c *WorkerCommand) Run(ctx context.Context) error {
	return c.run(ctx, server.Role{Worker: &c.WorkerSettings, Deployment: c.DeploymentSettings})
}

// ProductionSettings are the settings that serve, api and worker have in common.
type ProductionSettings struct {
	server.Settings
	server.DatabaseSettings
	server.TemporalSettings
}

// Validate checks what flag parsing cannot. The error names the flag and the rule.
func (c *ProductionSettings) Validate() error {
	return server.CheckEncryptionKeys(c.EncryptionKeys)
}

// run runs a server with the parts of the role.
func (c *ProductionSettings) run(ctx context.Context, role server.Role) error {
	var err error
	if role.Ports, err = server.BindPorts(ctx, c.Settings, role.API); err != nil {
		return err
	}
	defer role.Ports.Close()
	role.Temporal, role.Database, role.Logger = c.TemporalSettings, c.DatabaseURL, c.Logger(slog.LevelDebug)
	process, err := server.New(ctx, c.Settings, role)
	if err != nil {
		return err
	}
	return process.Run(ctx)
}
