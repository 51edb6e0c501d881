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

// subject is a process that is measured, with the database that it has to itself.
type subject struct {
	*instance.Instance

	mode      mode
	options   instance.Options // what it was started with
	database  string           // name; "" for SQLite
	address   string           // URL of the database
	processes map[string]int   // by name, whose CPU time is counted
	end       []func() error   // last one first
}

// setup says what a subject is started on. The zero value is an empty database in
// PostgreSQL.
type setup struct {
	sqlite  bool
	from    string // name of the database to copy
	address string // URL of a database that is there
	env     []string
}

// startTimeout is how long a subject may take to become ready.
const startTimeout = 2 * time.Minute

// start starts a subject.
func (b *bench) start(ctx context.Context, m mode, on setup) (_ *subject, err error) {
	s, err := b.newSubject(ctx, m, on)
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
	s.options.Binary, s.options.Env = m.binary(b.Standalone, b.own), append(m.env(), on.env...)
	if s.address != "" {
		s.options.Env = append(s.options.Env, "POSTRIDER_DATABASE_URL="+s.address)
	}
	return s, s.run(ctx)
}

// run starts the process, again when it has ended, and returns when it is ready.
func (s *subject) run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	started, err := instance.Start(ctx, s.options)
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", s.mode, err, s.logged())
	}
	s.watch(started)
	return nil
}

// watch makes a process the subject's.
func (s *subject) watch(i *instance.Instance) {
	s.Instance = i
	s.end = append(s.end, i.Kill) // everything was checked by then, and stopping takes time
	s.processes[serverProcess] = i.PID()
}

// newSubject makes a subject's database and its folder. What goes with the subject
// goes with what is returned beside an error, too.
func (b *bench) newSubject(ctx context.Context, m mode, on setup) (*subject, error) {
	s := &subject{mode: m, address: on.address, processes: map[string]int{}}
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
	s.end = append(s.end, func() error { return os.RemoveAll(dir) })
	log, err := os.Create(filepath.Join(dir, "log")) //nolint:gosec // our own temporary folder
	if err != nil {
		return s, err
	}
	s.end = append(s.end, log.Close)
	s.options = instance.Options{DataDir: dir, Log: log}
	return s, nil
}

// createDatabase makes a database that goes with the subject.
func (b *bench) createDatabase(ctx context.Context, s *subject, from string) (err error) {
	b.made++
	s.database = fmt.Sprintf("bench_%d", b.made)
	s.end = append(s.end, func() (err error) {
		for _, suffix := range []string{"", "_temporal", "_temporal_visibility"} {
			err = errors.Join(err, b.postgres.Drop(context.WithoutCancel(ctx), s.database+suffix))
		}
		return err
	})
	s.address, err = b.postgres.Create(ctx, s.database, from)
	return err
}

// close ends the process and removes what it had.
func (s *subject) close() (err error) {
	for i := len(s.end) - 1; i >= 0; i-- {
		err = errors.Join(err, s.end[i]())
	}
	s.end = nil
	return err
}

// logged returns the end of what the process wrote, for whom it failed.
func (s *subject) logged() string {
	const most = 2000
	text, _ := os.ReadFile(filepath.Join(s.options.DataDir, "log"))
	return string(text[max(len(text)-most, 0):])
}

// setting returns NAME=value of the process's environment, "" where it is not set.
func (s *subject) setting(name string) string {
	for _, setting := range s.options.Env {
		if strings.HasPrefix(setting, name+"=") {
			return setting
		}
	}
	return ""
}

// cpu is what the subject's processes have taken so far.
func (s *subject) cpu() (map[string]time.Duration, error) {
	taken := make(map[string]time.Duration, len(s.processes))
	for name, pid := range s.processes {
		var err error
		if taken[name], err = cpuTime(pid); err != nil {
			return nil, err
		}
	}
	return taken, nil
}
