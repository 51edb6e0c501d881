package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
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

// part is a process that can be killed and started again.
type part struct {
	name    string
	process *instance.Process
	start   func(ctx context.Context) (*instance.Process, error)
}

// system is what chaos is made in.
type system struct {
	*Command

	dir       string
	log       *os.File
	env       []string
	parts     []*part
	postgres  *pgtest.Server // nil on SQLite
	database  string         // URL; "" on SQLite
	namespace string         // Temporal's

	mu       sync.Mutex
	api      instance.Client
	temporal string // address
}

// newSystem starts the layout's parts.
func newSystem(ctx context.Context, c *Command) (s *system, err error) {
	s = &system{Command: c, namespace: "default"}
	if s.dir, err = os.MkdirTemp("", "postrider-chaos-"); err != nil {
		return nil, err
	}
	if s.log, err = os.Create(filepath.Join(s.dir, "log")); err != nil {
		return s, err
	}
	if c.Layout != layoutSQLite {
		if s.postgres, err = pgtest.StartDurable(ctx); err != nil {
			return s, err
		}
		if s.database, err = s.postgres.Create(ctx, "chaos", ""); err != nil {
			return s, err
		}
	}
	if c.Layout == layoutCluster {
		err = s.startCluster(ctx)
	} else {
		err = s.add(ctx, "standalone", s.startStandalone)
	}
	return s, err
}

// add starts another part.
func (s *system) add(ctx context.Context, name string, start func(context.Context) (*instance.Process, error)) error {
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

func (s *system) startStandalone(ctx context.Context) (*instance.Process, error) {
	env := []string{"POSTRIDER_ALLOW_NETWORKS=127.0.0.0/8", "POSTRIDER_DATABASE_URL=" + s.database}
	i, err := instance.Start(ctx, instance.Options{Binary: s.Standalone, DataDir: filepath.Join(s.dir, "data"), Env: env, Log: s.log})
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.api, s.temporal = i.Client, i.Temporal
	return i.Process, nil
}

// startCluster starts Temporal, an API and two workers, prepared by an operator's commands.
func (s *system) startCluster(ctx context.Context) error {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // it never fails
	var err error
	if s.temporal, err = freeAddress(ctx); err != nil {
		return err
	}
	api, err := freeAddress(ctx)
	if err != nil {
		return err
	}
	s.namespace = "postrider"
	s.api.API = "http://" + api
	s.env = []string{
		"POSTRIDER_DATABASE_URL=" + s.database, "POSTRIDER_TEMPORAL_ADDRESS=" + s.temporal, "POSTRIDER_TEMPORAL_NAMESPACE=" + s.namespace,
		"POSTRIDER_ENCRYPTION_KEYS=" + base64.StdEncoding.EncodeToString(key), "POSTRIDER_ALLOW_NETWORKS=127.0.0.0/8",
		"POSTRIDER_LISTEN=" + api, "POSTRIDER_METRICS_LISTEN=127.0.0.1:0", "POSTRIDER_LOG_FORMAT=json",
	}
	if err := s.add(ctx, "temporal", s.startTemporal); err != nil {
		return err
	}
	if err := s.provision(ctx); err != nil {
		return err
	}
	if err := s.add(ctx, "api", s.startAPI); err != nil {
		return err
	}
	for n := range 2 {
		if err := s.add(ctx, fmt.Sprintf("worker-%d", n+1), s.startWorker); err != nil {
			return err
		}
	}
	return nil
}

func (s *system) startTemporal(context.Context) (*instance.Process, error) {
	return instance.Spawn(s.Standalone, []string{
		"temporal", "--bare", "--data-dir", filepath.Join(s.dir, "temporal"), "--database-url", s.database,
		"--temporal-listen", s.temporal, "--temporal-ui-listen", "127.0.0.1:0",
	}, nil, s.log)
}

func (s *system) startAPI(ctx context.Context) (*instance.Process, error) {
	process, err := instance.Spawn(s.Postrider, []string{"api"}, s.env, s.log)
	if err != nil {
		return nil, err
	}
	client := s.client()
	for !client.Ready(ctx) {
		if pause(ctx, publishAgain); ctx.Err() != nil {
			return process, errors.New("it does not become ready")
		}
	}
	return process, nil
}

func (s *system) startWorker(context.Context) (*instance.Process, error) {
	return instance.Spawn(s.Postrider, []string{"worker"}, s.env, s.log)
}

// provision runs an operator's commands.
func (s *system) provision(ctx context.Context) error {
	for _, command := range [][]string{{"migrate", "up"}, {"temporal", "setup"}} {
		if _, err := s.operate(ctx, command...); err != nil {
			return err
		}
	}
	workspace, err := s.operate(ctx, "workspace", "create", "chaos")
	if err != nil {
		return err
	}
	s.api.Key, err = s.operate(ctx, "key", "create", "--workspace", workspace, "--name", "chaos",
		"--scope", "publish", "--scope", "manage", "--scope", "read")
	return err
}

func (s *system) operate(ctx context.Context, args ...string) (string, error) {
	return instance.Output(ctx, s.Postrider, s.env, args...)
}

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

// close stops all parts and removes what they left, unless it is to be kept.
func (s *system) close() {
	for _, p := range slices.Backward(s.parts) {
		if p.process != nil {
			_ = p.process.Kill()
		}
	}
	if s.postgres != nil {
		s.postgres.Stop()
	}
	_ = s.log.Close()
	if !s.Keep {
		_ = os.RemoveAll(s.dir)
	}
}

// freeAddress returns an address of the loopback interface whose port is free at the moment.
func freeAddress(ctx context.Context) (string, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return listener.Addr().String(), listener.Close()
}
