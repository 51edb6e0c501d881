// Command postrider is Postrider for production. It needs a Temporal cluster and a PostgreSQL,
// and links neither a Temporal server nor SQLite.
package main

import (
	"time"

	"postrider.dev/postrider/cli"
)

// shutdownTimeout is long enough for the longest attempt, 30 s, to end and be recorded.
const shutdownTimeout = 40 * time.Second

// commands is the command line.
type commands struct {
	Serve  cli.ServeCommand  `cmd:"" group:"Server" help:"Run the API and a worker in one process."`
	API    cli.APICommand    `cmd:"" group:"Server" name:"api" help:"Run the API. Any number of processes may."`
	Worker cli.WorkerCommand `cmd:"" group:"Server" help:"Run a worker, which delivers. Any number of processes may."`

	Migrate   cli.MigrateCommand   `cmd:"" group:"Operation" help:"Look after the database's schema."`
	Temporal  cli.TemporalCommand  `cmd:"" group:"Operation" help:"Prepare a Temporal cluster."`
	Workspace cli.WorkspaceCommand `cmd:"" group:"Operation" help:"Manage workspaces."`
	Key       cli.KeyCommand       `cmd:"" group:"Operation" help:"Manage API keys."`
	Secrets   cli.SecretsCommand   `cmd:"" group:"Operation" help:"Look after the encryption of signing secrets, custom headers and client keys."`

	Health  cli.HealthCommand  `cmd:"" group:"Tools" help:"Ask a process on this machine whether it is ready."`
	Listen  cli.ListenCommand  `cmd:"" group:"Tools" help:"Receive webhooks on this machine, verify their signatures and print them."`
	Version cli.VersionCommand `cmd:"" group:"Tools" help:"Print the version."`

	Completion cli.CompletionCommand `cmd:"" group:"Tools" help:"Print what makes a shell complete these commands."`
	Complete   cli.CompleteCommand   `cmd:"" group:"Tools" hidden:"" help:"Answer a shell's question for what may come next."`
}

func main() {
	cli.Main("postrider", "Postrider delivers webhooks and does not lose them. "+
		"It needs a PostgreSQL and a Temporal cluster; postrider-standalone needs neither.",
		&commands{}, cli.Vars("none", shutdownTimeout))
}
