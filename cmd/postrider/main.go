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
	Serve    cmd.ServeCommand    `cmd:"" help:"Run the API and a worker in one process."`
	API      cmd.APICommand      `cmd:"" name:"api" help:"Run the API. Any number of processes may."`
	Worker   cmd.WorkerCommand   `cmd:"" help:"Run a worker, which delivers. Any number of processes may."`
	Temporal cmd.TemporalCommand `cmd:"" help:"Prepare a Temporal cluster."`
	Listen   cmd.ListenCommand   `cmd:"" help:"Receive webhooks on this machine, verify their signatures and print them."`
	Version  cmd.VersionCommand  `cmd:"" help:"Print the version."`
}

func main() {
	cmd.Main("postrider", "Postrider delivers webhooks and does not lose them. It needs a PostgreSQL and a Temporal cluster; postrider-standalone needs neither.",
		&cli{}, cmd.Vars("none", shutdownTimeout))
}
