package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
)

// The limits of files that a process writes, for the program prlimit: the soft ones only, which
// whoever runs the process may lower and raise.
const (
	fullDisk = "--fsize=0:"
	freeDisk = "--fsize=unlimited:"
)

// runner makes a command of a program, run by somebody who may change the limits of a process.
type runner func(ctx context.Context, program string, args ...string) *exec.Cmd

// limit keeps a running process from writing to any file, as a full disk does, or allows it again:
// writes fail with EFBIG. Go and PostgreSQL ignore the signal that comes with it.
func (run runner) limit(ctx context.Context, pid int, limit string) error {
	output, err := run(ctx, "prlimit", "--pid="+strconv.Itoa(pid), limit).CombinedOutput()
	if err != nil && processExists(pid) {
		return fmt.Errorf("prlimit, which is for Linux: %w: %s", err, output)
	}
	return nil
}

// limitAll is limit for a process and its children.
func (run runner) limitAll(ctx context.Context, pid int, limit string) error {
	if err := run.limit(ctx, pid, limit); err != nil { // first: who is forked from now on has it too
		return err
	}
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return err
	}
	for child := range strings.FieldsSeq(string(children)) {
		id, err := strconv.Atoi(child)
		if err = errors.Join(err, run.limit(ctx, id, limit)); err != nil {
			return err
		}
	}
	return nil
}

func processExists(pid int) bool {
	_, err := os.Stat(fmt.Sprintf("/proc/%d", pid))
	return err == nil
}
