package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"postrider.dev/postrider/cli/remote"
)

// gcPercent is how much may be allocated between garbage collections, in percent of the memory
// in use.
const gcPercent = 300

// The exit codes of every binary, beside 0.
const (
	exitFailed = 1 // the command was understood and failed
	exitUsage  = 2 // an argument, a flag or a variable is wrong, and nothing was begun
)

const exitCodes = "Exit codes: 0 when all went well, SIGTERM and Ctrl-C included; 1 when the command failed; " +
	"2 when an argument, a flag or a variable is wrong, and nothing was begun. The last line on standard error says why."

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
		fail(exitFailed, name+": "+err.Error())
	}
	parser := kong.Must(commands, slices.Concat(options, []kong.Option{
		kong.Name(name), kong.Description(description + "\n\n" + exitCodes), kong.BindTo(ctx, (*context.Context)(nil)),
		kong.ConfigureHelp(kong.HelpOptions{NoExpandSubcommands: true}),
	}, remote.Commands(streams(), os.Args[1:]))...)
	parsed, err := parser.Parse(os.Args[1:])
	if err == nil {
		err = ValidateSettings(parsed)
	}
	if err != nil {
		fail(exitUsage, usageError(name, err))
	}
	if err := parsed.Run(); err != nil {
		fail(exitFailed, name+": "+err.Error())
	}
}

// usageError returns the one line about a command line or a setting that was not understood. Pages
// of help in front of it would hide it.
func usageError(name string, err error) string {
	command := name
	var wrong *kong.ParseError
	if errors.As(err, &wrong) && wrong.Context != nil && wrong.Context.Selected() != nil {
		command = wrong.Context.Selected().FullPath()
	}
	reason := strings.ReplaceAll(err.Error(), "\n", "; ")
	return fmt.Sprintf("%s: %s (%s --help tells more)", name, reason, command)
}

// fail ends the process with a line on standard error.
func fail(code int, line string) {
	fmt.Fprintln(os.Stderr, line)
	os.Exit(code)
}
