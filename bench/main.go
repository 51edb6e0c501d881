// Command bench measures Postrider: real binaries on a real PostgreSQL, with a load
// and a receiver that are processes of their own. In one run, and in turns, it also
// measures what Postrider has to be better than and what it can come near to: a
// plain Temporal design (naive) and the same work with nothing in between (floor).
// docs/performance.md says how to read what comes out.
package main

import (
	"postrider.dev/postrider/cli"
)

// commands is the command line.
type commands struct {
	Run      runCommand      `cmd:"" default:"withargs" help:"Measure (the default)."`
	Doc      docCommand      `cmd:"" help:"Write the tables of docs/performance.md from a file of results."`
	Receiver receiverCommand `cmd:"" hidden:"" help:"Receive webhooks; a run starts this itself."`
}

func main() {
	cli.Main("bench", "Measures Postrider's speed and what it costs.", &commands{}, helpOfScenarios())
}
