// Package cli is the commands of the binaries, whose main functions only choose among
// them and set defaults.
package cli

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/alecthomas/kong"
)

// gcPercent is how much may be allocated between collections, in percent of what lives.
const gcPercent = 300

// Main is the main function of a binary: it reads the command line and environment
// into cli and runs the chosen command until it ends or SIGTERM or SIGINT asks it
// to stop. A second signal kills: who asks twice does not want to wait.
func Main(name, description string, cli any, options ...kong.Option) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	if os.Getenv("GOGC") == "" {
		// What lives is small beside what comes and goes with every delivery: collecting
		// less often costs some memory and saves a tenth of the CPU.
		debug.SetGCPercent(gcPercent)
	}
	log.SetOutput(io.Discard) // net/http writes bytes of receivers' answers there
	parsed := kong.Parse(cli, append(options,
		kong.Name(name), kong.Description(description), kong.UsageOnError(),
		kong.BindTo(ctx, (*context.Context)(nil)),
	)...)
	if err := parsed.Run(); err != nil {
		fmt.Fprintln(os.Stderr, name+": "+err.Error())
		os.Exit(1)
	}
}
