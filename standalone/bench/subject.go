package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"postrider/standalone/instance"
)

// subject is a process that is measured, with the database that it has to itself.
type subject struct {
	*instance.Instance

	mode      mode
	processes map[string]int // by name, whose CPU time is counted
	end       []func() error // last one first
}

// setup says what a subject is started on. The zero value is an empty database in
// PostgreSQL.
type setup struct {
	sqlite  bool
	from    string // name of the database to copy
	address string // URL of a database that is there
	env     []string
}

// startTimeout is how long a subject may take to become ready: one on a full
// database that was just copied, too.
const startTimeout = 2 * time.Minute

// start starts a subject.
func (b *bench) start(ctx context.Context, m mode, on setup) (_ *subject, err error) {
	s := &subject{mode: m, processes: map[string]int{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	env := append(m.env(), on.env...)
	if !on.sqlite {
		if on.address == "" {
			if on.address, err = b.createDatabase(ctx, s, on.from); err != nil {
				return nil, err
			}
		}
		env = append(env, "POSTRIDER_DATABASE_URL="+on.address)
		s.processes[postgresProcess] = b.postgres.PID()
	}
	dir, log, err := b.newFolder(s, string(m))
	if err != nil {
		return nil, err
	}
	var args []string
	if m.product() && b.Profile != "" {
		args = append(args, "--profile-listen", "127.0.0.1:0")
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	s.Instance, err = instance.Start(ctx, instance.Options{
		Binary: m.binary(b.Standalone, b.own), DataDir: dir, Args: args, Env: env, Log: log,
	})
	if err != nil {
		text, _ := os.ReadFile(log.Name())
		return nil, fmt.Errorf("%s: %w\n%s", m, err, text)
	}
	s.end = append(s.end, s.Kill) // everything was checked by then, and stopping takes time
	s.processes[serverProcess] = s.PID()
	return s, nil
}

// close ends the process and removes what it had.
func (s *subject) close() (err error) {
	for i := len(s.end) - 1; i >= 0; i-- {
		err = errors.Join(err, s.end[i]())
	}
	s.end = nil
	return err
}

// createDatabase makes a database that goes with the subject.
func (b *bench) createDatabase(ctx context.Context, s *subject, from string) (address string, err error) {
	b.made++
	name := fmt.Sprintf("bench_%d", b.made)
	s.end = append(s.end, func() (err error) {
		for _, each := range []string{name, name + "_temporal", name + "_temporal_visibility"} {
			err = errors.Join(err, b.postgres.Drop(context.WithoutCancel(ctx), each))
		}
		return err
	})
	return b.postgres.Create(ctx, name, from)
}

// newFolder makes a folder that goes with the subject, and a log in it.
func (b *bench) newFolder(s *subject, name string) (dir string, log *os.File, err error) {
	if dir, err = os.MkdirTemp(b.dir, name+"-"); err != nil {
		return "", nil, err
	}
	s.end = append(s.end, func() error { return os.RemoveAll(dir) })
	if log, err = os.Create(filepath.Join(dir, "log")); err != nil { //nolint:gosec // our own temporary folder
		return "", nil, err
	}
	s.end = append(s.end, log.Close)
	return dir, log, nil
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
