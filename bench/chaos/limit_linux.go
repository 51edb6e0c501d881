package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// limitFiles keeps a running process from writing to any file, as a full disk does, or allows it
// again. It sets the soft RLIMIT_FSIZE, which whoever runs the process may lower and raise: writes
// fail with EFBIG. The signal that comes with it is ignored by Go and by PostgreSQL.
func limitFiles(pid int, full bool) error {
	var limit unix.Rlimit
	if err := unix.Prlimit(pid, unix.RLIMIT_FSIZE, nil, &limit); err != nil {
		return fmt.Errorf("read the limit of process %d: %w", pid, err)
	}
	limit.Cur = limit.Max
	if full {
		limit.Cur = 0
	}
	return unix.Prlimit(pid, unix.RLIMIT_FSIZE, &limit, nil)
}

// limitFilesOfAll is limitFiles for a process that forks, and its children.
func limitFilesOfAll(pid int, full bool) error {
	if err := limitFiles(pid, full); err != nil { // first: who is forked from now on has it too
		return err
	}
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return err
	}
	for child := range strings.FieldsSeq(string(children)) {
		id, err := strconv.Atoi(child)
		if err != nil {
			return err
		}
		if err := limitFiles(id, full); err != nil && !errors.Is(err, unix.ESRCH) {
			return err
		}
	}
	return nil
}
