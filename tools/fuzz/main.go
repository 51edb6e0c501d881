// Command fuzz runs the fuzz targets of a module one after another, each for an equal share of the
// time, and prints how many inputs each has tried.
//
//	fuzz [--time 10m] [folder]
//
// The folder, by default the current one, holds the module. It fails when a target does, after the
// others had their share: `go test` has written the input into testdata/fuzz beside the target then,
// where it becomes a regression test. What was interesting is kept in Go's cache for the next time.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt) //nolint:forbidigo // the root of all
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "fuzz:", err)
		os.Exit(1) //nolint:forbidigo,gocritic // the command's only exit
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("fuzz", flag.ContinueOnError)
	all := flags.Duration("time", 10*time.Minute, "how long all targets together are fuzzed; building them takes longer")
	if err := flags.Parse(args); err != nil {
		return err
	}
	folder := "."
	if flags.NArg() > 0 {
		folder = flags.Arg(0)
	}
	targets, err := find(folder)
	if err != nil {
		return err
	}
	if len(targets) == 0 {
		return fmt.Errorf("no fuzz target in %s", folder)
	}
	share := max(*all/time.Duration(len(targets)), time.Second)
	fmt.Fprintf(out, "%d targets, %s each\n", len(targets), share.Round(time.Second))
	var failed []error
	for _, t := range targets {
		fmt.Fprintf(out, "\n%s\n", t)
		if err := t.fuzz(ctx, folder, share, out); err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", t, err))
		}
	}
	printTable(out, targets)
	return errors.Join(failed...)
}

// printTable prints the executions of each target and their sum.
func printTable(out io.Writer, targets []*target) {
	sum := 0
	fmt.Fprintln(out)
	for _, t := range targets {
		fmt.Fprintf(out, "%12d  %s\n", t.executions, t)
		sum += t.executions
	}
	fmt.Fprintf(out, "%12d  executions in all\n", sum)
}
