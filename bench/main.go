package main

import (
	"postrider.dev/postrider/cli"
)

// commands is the command line.
type commands struct {
	Run      runCommand      `cmd:"" default:"withargs" help:"Measure (the default)."`
	Doc      docCommand      `cmd:"" help:"Write the tables of docs/performance.md from a file of results."`
	Receiver receiverCommand `cmd:"" hidden:"" help:"Receive webhooks; 'bench run' starts this itself."`
}

func main() {
	cli.Main("bench", "Measures Postrider's speed and what it costs.", &commands{}, helpOfScenarios())
}
