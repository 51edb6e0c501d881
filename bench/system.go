package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"postrider.dev/postrider/standalone/instance"
)

// system is the system under test: a process, and the database that no other process uses.
type system struct {
	*instance.Instance

	mode      mode
	options   instance.Options // as it was started
	database  string           // name; "" for SQLite
	address   string           // URL of the database
	processes map[string]int   // process ids by name: their CPU time is counted
	cleanups  []func() error   // run in reverse order
}

// startOptions say how a system is started. The zero value starts it on an empty database
// in PostgreSQL.
type startOptions struct {
	sqlite  bool
	from    string // name of the database to copy
	address string // URL of an existing database; "" creates one
	env     []string
}

// startTimeout is how long a system may take to become ready.
const startTimeout = 2 * time.Minute

// start starts a system.
func (b *bench) start(ctx context.Context, m mode, on startOptions) (_ *system, err error) {
	s, err := b.newSystem(ctx, m, on)
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if err != nil {
		return nil, err
	}
	if m.product() && b.Profile != "" {
		s.options.Args = []string{"--profile-listen", "127.0.0.1:0"}
	}
	s.options.Binary, s.options.Env = m.binary(b.Standalone, b.programs), append(m.env(), on.env...)
	if s.address != "" {
		s.options.Env = append(s.options.Env, "POSTRIDER_DATABASE_URL="+s.address)
	}
	return s, s.launch(ctx)
}

// launch starts the process and returns when it is ready. It can be called again after the
// process has ended.
func (s *system) launch(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	started, err := instance.Start(ctx, s.options)
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", s.mode, err, s.logged())
	}
	s.adopt(started)
	return nil
}

// adopt makes a process the system's own: close kills it, and its CPU time counts.
func (s *system) adopt(i *instance.Instance) {
	s.Instance = i
	s.cleanups = append(s.cleanups, i.Kill) // everything is checked before, and a clean stop takes time
	s.processes[serverProcess] = i.PID()
}

// newSystem creates a system's database and folder. It returns the system beside an error
// too: the caller closes it to remove what was created.
func (b *bench) newSystem(ctx context.Context, m mode, on startOptions) (*system, error) {
	s := &system{mode: m, address: on.address, processes: map[string]int{}}
	if !on.sqlite {
		s.processes[postgresProcess] = b.postgres.PID()
	}
	if !on.sqlite && on.address == "" {
		if err := b.createDatabase(ctx, s, on.from); err != nil {
			return s, err
		}
	}
	dir, err := os.MkdirTemp(b.dir, string(m)+"-")
	if err != nil {
		return s, err
	}
	s.cleanups = append(s.cleanups, func() error { return os.RemoveAll(dir) })
	log, err := os.Create(filepath.Join(dir, "log")) //nolint:gosec // our own temporary folder
	if err != nil {
		return s, err
	}
	s.cleanups = append(s.cleanups, log.Close)
	s.options = instance.Options{DataDir: dir, Log: log}
	return s, nil
}

// createDatabase creates a database, which close drops.
func (b *bench) createDatabase(ctx context.Context, s *system, from string) (err error) {
	b.databases++
	s.database = fmt.Sprintf("bench_%d", b.databases)
	s.cleanups = append(s.cleanups, func() (err error) {
		for _, suffix := range []string{"", "_temporal", "_temporal_visibility"} {
			err = errors.Join(err, b.postgres.Drop(context.WithoutCancel(ctx), s.database+suffix))
		}
		return err
	})
	s.address, err = b.postgres.Create(ctx, s.database, from)
	return err
}

// close kills the process and removes its database and its folder.
func (s *system) close() (err error) {
	for i := len(s.cleanups) - 1; i >= 0; i-- {
		err = errors.Join(err, s.cleanups[i]())
	}
	s.cleanups = nil
	return err
}

// logged returns the end of the process's log, for error texts.
func (s *system) logged() string {
	const most = 2000
	text, _ := os.ReadFile(filepath.Join(s.options.DataDir, "log"))
	return string(text[max(len(text)-most, 0):])
}

// setting returns NAME=value as the process's environment sets it, or "".
func (s *system) setting(name string) string {
	for _, setting := range s.options.Env {
		if strings.HasPrefix(setting, name+"=") {
			return setting
		}
	}
	return ""
}

// cpu returns the CPU time of each process of the system so far.
func (s *system) cpu() (map[string]time.Duration, error) {
	taken := make(map[string]time.Duration, len(s.processes))
	for name, pid := range s.processes {
		var err error
		if taken[name], err = cpuTime(pid); err != nil {
			return nil, err
		}
	}
	return taken, nil
}
