package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// clockTick is the unit of CPU times in /proc: 1/100 s on every Linux (USER_HZ).
const clockTick = 10 * time.Millisecond

// cpuTime returns the CPU time of a process and its children, running and ended ones, since
// its start. PostgreSQL has a child for each connection. On a system without /proc it is 0.
func cpuTime(pid int) (time.Duration, error) {
	own, err := readStat(pid)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	sum := own.cpu
	paths, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return 0, err
	}
	for _, path := range paths {
		child, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			return 0, err
		}
		if s, err := readStat(child); err == nil && s.parent == pid { // other processes may end meanwhile
			sum += s.cpu
		}
	}
	return sum, nil
}

// stat is a part of /proc/PID/stat, see proc_pid_stat(5).
type stat struct {
	parent int
	cpu    time.Duration // of the process and its ended children
}

// readStat reads /proc/PID/stat.
func readStat(pid int) (stat, error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return stat{}, err
	}
	// The second field is a name in parentheses, which may contain spaces.
	_, measureRest, found := strings.Cut(string(text), ") ")
	fields := strings.Fields(measureRest)
	if !found || len(fields) < 15 {
		return stat{}, fmt.Errorf("/proc/%d/stat: %q", pid, text)
	}
	var s stat
	if s.parent, err = strconv.Atoi(fields[1]); err != nil {
		return s, err
	}
	for _, field := range fields[11:15] { // utime, stime, cutime, cstime
		ticks, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return s, err
		}
		s.cpu += time.Duration(ticks) * clockTick
	}
	return s, nil
}

// residentMB returns the resident memory of a process, in megabytes. On a system without
// /proc it is 0.
func residentMB(pid int) (float64, error) { return memoryMB(pid, "VmRSS:") }

// peakMB returns the most that residentMB has been since the process began.
func peakMB(pid int) (float64, error) { return memoryMB(pid, "VmHWM:") }

// memoryMB reads a field of /proc/PID/status, see proc_pid_status(5).
func memoryMB(pid int, field string) (float64, error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	_, measureRest, _ := strings.Cut(string(text), field)
	var kB float64
	_, err = fmt.Sscan(measureRest, &kB)
	return kB / 1024, err
}
