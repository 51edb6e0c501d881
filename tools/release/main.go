// Command release builds the files of a release into a folder: for each program and target
// an archive (tar.gz, zip for Windows) with the licence, the README and the changelog, a
// CycloneDX bill of materials beside it, and SHA256SUMS over all of them.
//
//	release --version v1.2.3 --time 1700000000 [--targets "linux/amd64 …"] [--programs …] [--out dist]
//
// It runs in the project's folder. The same commit and the same Go make the same bytes, in
// any folder and on any machine: nothing but --time, the commit's, dates the files.
//
//	release notes v1.2.3
//
// prints the changelog's section of a version, and fails when there is no such section.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt) //nolint:forbidigo // the first context
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1) //nolint:forbidigo // the command's only exit
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	if len(args) == 2 && args[0] == "notes" {
		return printNotes(out, args[1])
	}
	r := release{folder: ".", log: out}
	var seconds int64
	var targets, programs string
	flags := flag.NewFlagSet("release", flag.ContinueOnError)
	flags.StringVar(&r.version, "version", "", "the version, as the programs print it")
	flags.Int64Var(&seconds, "time", 0, "the time of all files, in seconds since 1970")
	flags.StringVar(&r.ldflags, "ldflags", "", "flags for the linker")
	flags.StringVar(&r.tags, "tags", "", "build tags")
	flags.StringVar(&targets, "targets", "", "system/processor pairs, or host; all by default")
	flags.StringVar(&programs, "programs", "", "names of programs; all by default")
	flags.StringVar(&r.out, "out", "dist", "the folder for the files; its earlier content goes")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if r.version == "" || seconds == 0 {
		return errors.New("--version and --time are needed")
	}
	r.time = time.Unix(seconds, 0).UTC()
	var err error
	if r.targets, err = chooseTargets(strings.Fields(targets)); err != nil {
		return err
	}
	if r.programs, err = choosePrograms(strings.Fields(programs)); err != nil {
		return err
	}
	return r.run(ctx)
}

func printNotes(out io.Writer, version string) error {
	changelog, err := os.ReadFile("CHANGELOG.md")
	if err != nil {
		return err
	}
	notes, err := notesOf(string(changelog), version)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(out, notes)
	return err
}
