package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"postrider.dev/postrider/standalone/instance"
	"postrider.dev/postrider/store/pgtest"
)

// startTimeout bounds the start of one part.
const startTimeout = 2 * time.Minute

// The parts of the layouts.
const (
	partStandalone = "standalone"
	partTemporal   = "temporal"
	partAPI        = "api"
	partWorker1    = "worker-1"
	partWorker2    = "worker-2"
)

// part is a process that can be killed and started again.
type part struct {
	name    string
	process *instance.Process
	start   starter
}

// starter starts a part's process.
type starter func(ctx context.Context) (*instance.Process, error)

// system is what chaos is made in.
type system struct {
	*Command

	links     links
	dir       string
	log       *os.File
	env       []string // of every process of Postrider
	keys      []string // encryption keys, of the cluster's
	parts     []*part
	postgres  *pgtest.Server // nil on SQLite
	database  string         // URL; "" on SQLite
	namespace string         // Temporal's

	temporalPostgres *pgtest.Server // of the cluster's Temporal

	mu       sync.Mutex
	api      instance.Client
	temporal string // address
}

// newSystem starts the layout's parts. authority is the file of who signed the receivers' certificate.
func newSystem(ctx context.Context, c *Command, l links, dir, authority string) (s *system, err error) {
	s = &system{Command: c, links: l, dir: dir, namespace: "default"}
	s.env = []string{"POSTRIDER_ALLOW_NETWORKS=127.0.0.0/8", "SSL_CERT_FILE=" + authority}
	if s.log, err = os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
		return s, err
	}
	if c.Layout != layoutSQLite {
		if s.postgres, err = pgtest.StartDurable(ctx); err != nil {
			return s, err
		}
		if s.database, err = s.postgres.Create(ctx, "chaos", ""); err != nil {
			return s, err
		}
		if err = giveClock(ctx, s.database); err != nil {
			return s, err
		}
	}
	if c.Layout == layoutCluster {
		return s, s.startCluster(ctx)
	}
	through := ""
	if s.database != "" {
		if through, err = l.throughURL(ctx, linkPostgres, s.database); err != nil {
			return s, err
		}
	}
	return s, s.add(ctx, partStandalone, s.standalone(through))
}

// add starts another part.
func (s *system) add(ctx context.Context, name string, start starter) error {
	p := &part{name: name, start: start}
	s.parts = append(s.parts, p)
	return p.restart(ctx)
}

// restart starts a part that does not run.
func (p *part) restart(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	p.process, err = p.start(ctx)
	if err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	return nil
}

// standalone starts a process with everything inside.
func (s *system) standalone(database string) starter {
	return func(ctx context.Context) (*instance.Process, error) {
		i, err := instance.Start(ctx, instance.Options{
			Binary: s.Standalone, DataDir: filepath.Join(s.dir, "data"), Log: piped{s.log},
			Env: append(slices.Clone(s.env), "POSTRIDER_DATABASE_URL="+database),
		})
		if err != nil {
			return nil, err
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.api, s.temporal = i.Client, i.Temporal
		return i.Process, nil
	}
}

// piped makes a process write to a pipe, and not to the file itself: so the log goes on while the
// process is kept from writing files.
type piped struct{ io.Writer }

// client is a client of the API that runs now.
func (s *system) client() instance.Client {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.api
}

// part returns a part by its name; nil when the layout has none of that name.
func (s *system) part(name string) *part {
	if i := slices.IndexFunc(s.parts, func(p *part) bool { return p.name == name }); i >= 0 {
		return s.parts[i]
	}
	return nil
}

// signal sends a signal to a part.
func (p *part) signal(signal syscall.Signal) error { return syscall.Kill(p.process.PID(), signal) }

// warnings returns the different warnings and errors of the log, with how often each came.
func (s *system) warnings() map[string]int {
	found := map[string]int{}
	text, err := os.ReadFile(filepath.Join(s.dir, "log"))
	if err != nil {
		return found
	}
	for line := range bytes.Lines(text) {
		var entry struct{ Level, Msg string }
		if json.Unmarshal(line, &entry) == nil && (entry.Level == "WARN" || entry.Level == "ERROR") {
			found[entry.Msg]++
		}
	}
	return found
}

// close stops all parts.
func (s *system) close() {
	for _, p := range slices.Backward(s.parts) {
		if p.process != nil {
			_ = p.process.Kill()
		}
	}
	for _, server := range []*pgtest.Server{s.postgres, s.temporalPostgres} {
		if server != nil {
			server.Stop()
		}
	}
	_ = s.log.Close()
}
