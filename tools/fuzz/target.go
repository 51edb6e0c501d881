package main

import (
	"bufio"
	"context"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// target is a fuzz target.
type target struct {
	room       string // its package's folder, from the module's: ./api
	name       string
	executions int
}

// String implements [fmt.Stringer].
func (t *target) String() string { return t.room + " " + t.name }

var (
	declared = regexp.MustCompile(`(?m)^func (Fuzz\w+)\(\w+ \*testing\.F\)`)
	executed = regexp.MustCompile(`^fuzz: elapsed: .*, execs: (\d+) `)
)

// find returns the targets of the module in a folder, and of no module within it.
func find(folder string) ([]*target, error) {
	var found []*target
	err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir():
			if _, err := os.Stat(filepath.Join(path, "go.mod")); err == nil && path != folder {
				return fs.SkipDir
			}
			return nil
		case !strings.HasSuffix(path, "_test.go"):
			return nil
		}
		text, err := os.ReadFile(path) //nolint:gosec // a file of the module
		if err != nil {
			return err
		}
		room, err := filepath.Rel(folder, filepath.Dir(path))
		if room != "." {
			room = "./" + filepath.ToSlash(room)
		}
		for _, name := range declared.FindAllSubmatch(text, -1) {
			found = append(found, &target{room: room, name: string(name[1])})
		}
		return err
	})
	return found, err
}

// fuzz runs the target for a time, and copies what `go test` says.
func (t *target) fuzz(ctx context.Context, folder string, span time.Duration, out io.Writer) error {
	args := []string{"test", "-run", "^$", "-fuzz", "^" + t.name + "$", "-fuzztime", span.String(), t.room}
	command := exec.CommandContext(ctx, "go", args...) //nolint:gosec // names of the module's own tests
	command.Dir = folder
	stdout, err := command.StdoutPipe()
	if err != nil {
		return err
	}
	command.Stderr = command.Stdout
	if err := command.Start(); err != nil {
		return err
	}
	t.follow(stdout, out)
	return command.Wait()
}

// follow copies the output, and notes in it how many executions there were.
func (t *target) follow(output io.Reader, out io.Writer) {
	lines := bufio.NewScanner(output)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if found := executed.FindSubmatch(lines.Bytes()); found != nil {
			t.executions, _ = strconv.Atoi(string(found[1]))
		}
		_, _ = io.WriteString(out, lines.Text()+"\n")
	}
	_, _ = io.Copy(out, output) // a line that is longer than that
}
