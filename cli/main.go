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

// gcPercent is how much may be allocated between garbage collections, in percent of the memory
// in use.
const gcPercent = 300

// Main is the main function of a binary. It parses the command line and the environment into
// commands and runs the chosen command. SIGTERM or SIGINT ends the command's context; a second
// signal kills the process.
func Main(name, description string, commands any, options ...kong.Option) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	if os.Getenv("GOGC") == "" {
		// Each delivery allocates much more memory than it keeps. Collecting less often costs
		// some memory and saves a tenth of the CPU time.
		debug.SetGCPercent(gcPercent)
	}
	log.SetOutput(io.Discard) // net/http would log bytes of receivers' answers
	if err := unsetEmpty(); err != nil {
		fail(name, err)
	}
	parsed := kong.Parse(commands, append(options,
		kong.Name(name), kong.Description(description), kong.UsageOnError(),
		kong.BindTo(ctx, (*context.Context)(nil)),
	)...)
	if err := ValidateSettings(parsed); err != nil {
		fail(name, err)
	}
	if err := parsed.Run(); err != nil {
		fail(name, err)
	}
}

// fail ends the process with an error.
func fail(name string, err error) {
	fmt.Fprintln(os.Stderr, name+": "+err.Error())
	os.Exit(1)
}
