package main

import (
	"time"

	_ "modernc.org/sqlite" // the database driver "sqlite"

	"postrider.dev/postrider/cli"
	"postrider.dev/postrider/standalone/demo"
)

// commands is the command line.
type commands struct {
	Run      runCommand         `cmd:"" default:"withargs" help:"Run everything (the default)."`
	Temporal temporalCommand    `cmd:"" help:"Run Temporal and its web interface alone, for 'postrider serve' and its like to use."`
	Health   cli.HealthCommand  `cmd:"" help:"Ask a process on this machine whether it is ready."`
	Listen   cli.ListenCommand  `cmd:"" help:"Receive webhooks on this machine, verify their signatures and print them."`
	Demo     demo.Command       `cmd:"" help:"Run the whole job on real input in a temporary folder, check it, and end."`
	Version  cli.VersionCommand `cmd:"" help:"Print the version."`

	Completion cli.CompletionCommand `cmd:"" help:"Print what makes a shell complete these commands."`
	Complete   cli.CompleteCommand   `cmd:"" hidden:"" help:"Answer a shell's question for what may come next."`
}

func main() {
	cli.Main("postrider-standalone",
		"Postrider delivers webhooks and does not lose them. This binary needs no other service: Temporal and SQLite are inside.",
		&commands{}, cli.Vars("127.0.0.0/8, ::1/128 and the private ranges", 10*time.Second))
}
