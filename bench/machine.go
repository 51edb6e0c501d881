package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// machine describes the machine and the versions of a measurement.
type machine struct {
	Cores    int     `json:"cores"`
	CPU      string  `json:"cpu"`
	OS       string  `json:"os"`
	Go       string  `json:"go"`
	Postgres string  `json:"postgres"`
	Commit   string  `json:"commit"`   // version of the measured binary
	SyncMS   float64 `json:"fsync_ms"` // median time of a small synced write, which every commit needs
}

// String describes the machine in one line.
func (m machine) String() string {
	return fmt.Sprintf("%d cores (%s, %s), a synced write %.2f ms, %s, PostgreSQL %s, Postrider %s",
		m.Cores, m.CPU, m.OS, m.SyncMS, m.Go, m.Postgres, m.Commit)
}

// describe describes this machine, PostgreSQL and the measured program.
func (b *bench) describe(ctx context.Context) (machine, error) {
	m := machine{Cores: runtime.NumCPU(), CPU: cpuModel(), OS: runtime.GOOS + "/" + runtime.GOARCH, Go: runtime.Version()}
	version, err := b.postgres.Version(ctx)
	if err != nil {
		return m, err
	}
	m.Postgres, _, _ = strings.Cut(version, " ")                             // the packager's version follows
	build, err := exec.CommandContext(ctx, b.Standalone, "version").Output() //nolint:gosec // the program to measure
	if err != nil {
		return m, err
	}
	m.Commit, _, _ = strings.Cut(strings.TrimPrefix(string(build), "postrider "), " ")
	m.SyncMS, err = syncTime(b.dir)
	return m, err
}

// cpuModel returns the name of the processor, or "" on a system without /proc.
func cpuModel() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	_, measureRest, _ := strings.Cut(string(text), "model name")
	name, _, _ := strings.Cut(measureRest, "\n")
	return strings.TrimSpace(strings.TrimLeft(name, "\t :"))
}

// syncTime returns the median time of a synced write, in milliseconds.
func syncTime(dir string) (ms float64, err error) {
	file, err := os.Create(filepath.Join(dir, "sync")) //nolint:gosec // our own temporary folder
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	runs := make([]metrics, 0, 100)
	for range cap(runs) {
		began := time.Now()
		if _, err := file.Write(make([]byte, 8<<10)); err != nil {
			return 0, err
		}
		if err := file.Sync(); err != nil {
			return 0, err
		}
		runs = append(runs, metrics{"sync": milliseconds(time.Since(began))})
	}
	return medians(runs)["sync"], nil
}
