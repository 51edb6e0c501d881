// Command metrics prints how the code of each module reads in figures: the length of files
// and functions, their complexity, tests beside code, long lines and worn phrases.
//
//	metrics [--check] [--list] [folder]
//
// The folder, by default the current one, holds the modules; the first column is its own
// module. --check fails when that module is past a limit. --list names the places: lines
// over 140 columns, functions over 30 lines, and functions with a complexity over 10.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
)

// errPastLimit ends --check, which has printed the reasons.
var errPastLimit = errors.New("past a limit")

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "metrics:", err)
		os.Exit(1) //nolint:forbidigo // the command's only exit
	}
}

func run(args []string, out io.Writer) error {
	flags := flag.NewFlagSet("metrics", flag.ContinueOnError)
	check := flags.Bool("check", false, "fail when the first module is past a limit")
	list := flags.Bool("list", false, "name the places")
	if err := flags.Parse(args); err != nil {
		return err
	}
	folder := "."
	if flags.NArg() > 0 {
		folder = flags.Arg(0)
	}
	modules, err := readModules(folder)
	if err != nil {
		return err
	}
	printTable(out, modules)
	if *list {
		printPlaces(out, modules)
	}
	if *check {
		return checkLimits(out, modules[0])
	}
	return nil
}
