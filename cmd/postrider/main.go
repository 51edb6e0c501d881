// Command postrider is Postrider for production: it links no Temporal server and no
// SQLite, and runs against a Temporal cluster and a PostgreSQL that somebody runs.
package main

import (
	"time"

	"postrider/cmd"
)

// shutdownTimeout lets the longest attempt, 30 s, end and be recorded.
const shutdownTimeout = 40 * time.Second

// cli is the command line.
type cli struct {
	Serve  cmd.ServeCommand  `cmd:"" group:"Server" help:"Run the API and a worker in one process."`
	API    cmd.APICommand    `cmd:"" group:"Server" name:"api" help:"Run the API. Any number of processes may."`
	Worker cmd.WorkerCommand `cmd:"" group:"Server" help:"Run a worker, which delivers. Any number of processes may."`

	Migrate   cmd.MigrateCommand   `cmd:"" group:"Operation" help:"Look after the database's schema."`
	Temporal  cmd.TemporalCommand  `cmd:"" group:"Operation" help:"Prepare a Temporal cluster."`
	Workspace cmd.WorkspaceCommand `cmd:"" group:"Operation" help:"Manage workspaces."`
	Key       cmd.KeyCommand       `cmd:"" group:"Operation" help:"Manage API keys."`
	Secrets   cmd.SecretsCommand   `cmd:"" group:"Operation" help:"Look after the encryption of signing secrets."`

	Health  cmd.HealthCommand  `cmd:"" group:"Tools" help:"Ask a process on this machine whether it is ready."`
	Listen  cmd.ListenCommand  `cmd:"" group:"Tools" help:"Receive webhooks on this machine, verify their signatures and print them."`
	Version cmd.VersionCommand `cmd:"" group:"Tools" help:"Print the version."`
}

func main() {
	cmd.Main("postrider", "Postrider delivers webhooks and does not lose them. It needs a PostgreSQL and a Temporal cluster; postrider-standalone needs neither.",
		&cli{}, cmd.Vars("none", shutdownTimeout))
}
