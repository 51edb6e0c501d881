// Command postrider is Postrider for production: it links no Temporal server and no
// SQLite, and runs against a Temporal cluster and a PostgreSQL that somebody runs.
package main

import "postrider/cmd"

// cli is the command line.
type cli struct {
	Listen  cmd.ListenCommand  `cmd:"" help:"Receive webhooks on this machine, verify their signatures and print them."`
	Version cmd.VersionCommand `cmd:"" help:"Print the version."`
}

func main() {
	cmd.Main("postrider", "Postrider delivers webhooks and does not lose them.", &cli{})
}
