// Package pgtest runs a throw-away PostgreSQL for tests and benchmarks: the real
// server's own programs, in a temporary folder, on a free port of the loopback
// interface, gone with the process that started it. For tests it is fast and not
// durable: nothing is synced to disk. [StartDurable] is for benchmarks.
//
// A package of tests starts one server in TestMain and gives every test a database of its
// own, which already has the tables:
//
//	func TestMain(m *testing.M) {
//		server, err := pgtest.Start(context.Background())
//		…
//		code := m.Run()
//		server.Stop()
//		os.Exit(code)
//	}
//
//	func TestSomething(t *testing.T) {
//		url := server.NewDatabase(t)
//		…
//	}
package pgtest

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	_ "github.com/lib/pq" // the PostgreSQL driver
	"github.com/pressly/goose/v3"
	"github.com/stretchr/testify/require"

	"postrider.dev/postrider/schema"
)

const (
	owner        = "postrider"
	template     = "postrider_template"
	startTries   = 5 // another process may take the free port first
	startTimeout = 30 * time.Second
	pollInterval = 20 * time.Millisecond
)

// Server is a running PostgreSQL.
type Server struct {
	bin      string // folder of PostgreSQL's programs
	user     account
	folder   string
	password string
	settings []string // name=value
	port     int
	process  *exec.Cmd
	exited   chan struct{}
	admin    *sql.DB
	count    atomic.Int64
}

// Start starts a server and makes the template that databases are copied from:
// with the tables, and with what prepare, given the template's URL, does to it.
// The error says what to install when there is no PostgreSQL on the machine. The
// server ends with Stop, and on Linux with the test's process, however that ends.
func Start(ctx context.Context, prepare ...func(ctx context.Context, address string) error) (*Server, error) {
	s := &Server{password: rand.Text(), settings: []string{
		"fsync=off", "synchronous_commit=off", "full_page_writes=off",
		"max_connections=500", "shared_buffers=64MB", "deadlock_timeout=100ms",
	}}
	err := s.start(ctx)
	if err == nil {
		err = s.makeTemplate(ctx, prepare)
	}
	if err != nil {
		s.Stop()
		return nil, fmt.Errorf("pgtest: %w", err)
	}
	return s, nil
}

// StartDurable starts a server like Start does, but one that has on the disk what
// it acknowledged: PostgreSQL's own settings hold, but for those given as
// name=value. There is no template; [Server.Create] makes databases.
func StartDurable(ctx context.Context, settings ...string) (*Server, error) {
	s := &Server{password: rand.Text(), settings: settings}
	if err := s.start(ctx); err != nil {
		s.Stop()
		return nil, fmt.Errorf("pgtest: %w", err)
	}
	return s, nil
}

// Command returns a command that runs as the server's user, who may do to the server's processes what
// others may not.
func (s *Server) Command(ctx context.Context, program string, args ...string) *exec.Cmd {
	command := exec.CommandContext(ctx, program, args...)
	command.Dir, command.SysProcAttr = s.folder, s.user.attributes()
	return command
}

// PID is the process id of the server's first process, the parent of all others.
func (s *Server) PID() int { return s.process.Process.Pid }

func (s *Server) start(ctx context.Context) (err error) {
	if s.bin, err = programs(); err != nil {
		return err
	}
	if s.user, err = serverUser(); err != nil {
		return err
	}
	if s.folder, err = os.MkdirTemp("", "postrider-pgtest-"); err != nil {
		return err
	}
	passwordFile := filepath.Join(s.folder, "password")
	if err := os.WriteFile(passwordFile, []byte(s.password), 0o600); err != nil {
		return err
	}
	if err := s.user.own(s.folder, passwordFile); err != nil {
		return err
	}
	initdb := s.Command(ctx, filepath.Join(s.bin, "initdb"), "--pgdata="+s.data(), "--username="+owner, "--pwfile="+passwordFile,
		"--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions")
	if output, err := initdb.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, output)
	}
	for try := 1; ; try++ {
		if s.port, err = freePort(ctx); err != nil {
			return err
		}
		if err = s.run(ctx); err == nil || try == startTries {
			return err
		}
	}
}

func (s *Server) data() string { return filepath.Join(s.folder, "data") }

// run starts the server on its port and waits until it answers.
func (s *Server) run(ctx context.Context) error {
	log, err := os.Create(filepath.Join(s.folder, "log"))
	if err != nil {
		return err
	}
	defer log.Close()
	// Not CommandContext: the server outlives ctx, and Stop ends it.
	s.process = exec.Command(filepath.Join(s.bin, "postgres"), "-D", s.data(), "-p", strconv.Itoa(s.port),
		"-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=")
	for _, setting := range s.settings {
		s.process.Args = append(s.process.Args, "-c", setting)
	}
	s.process.Dir, s.process.SysProcAttr = s.folder, s.user.attributes()
	s.process.Stdout, s.process.Stderr = log, log
	if err := s.process.Start(); err != nil {
		return err
	}
	exited := make(chan struct{})
	s.exited = exited
	go func() {
		defer close(exited)
		_ = s.process.Wait() // how it ended is in its log
	}()
	return s.await(ctx)
}

func (s *Server) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	admin, err := sql.Open("postgres", s.url("postgres"))
	if err != nil {
		return err
	}
	for {
		if err = admin.PingContext(ctx); err == nil {
			s.admin = admin
			return nil
		}
		pause, end := context.WithTimeout(ctx, pollInterval)
		select {
		case <-s.exited:
			end()
			text, _ := os.ReadFile(filepath.Join(s.folder, "log"))
			return errors.Join(fmt.Errorf("the server ended at once: %s", text), admin.Close())
		case <-pause.Done():
			end()
		}
		if ctx.Err() != nil {
			return errors.Join(fmt.Errorf("the server does not answer: %w", err), admin.Close())
		}
	}
}

// Version is PostgreSQL's own.
func (s *Server) Version(ctx context.Context) (version string, err error) {
	err = s.admin.QueryRowContext(ctx, "SHOW server_version").Scan(&version)
	return version, err
}

// Restart stops the server as an operator does, which breaks every connection, and
// starts it again on the same port with everything in it.
func (s *Server) Restart(ctx context.Context) error {
	if err := s.process.Process.Signal(syscall.SIGINT); err != nil { // PostgreSQL's fast shutdown
		return err
	}
	<-s.exited
	if err := s.admin.Close(); err != nil {
		return err
	}
	return s.run(ctx)
}

// Crash stops the server at once, as a crash does, unless it has ended by itself, and starts it
// again on the same port: it recovers from its log.
func (s *Server) Crash(ctx context.Context) error {
	// PostgreSQL's immediate shutdown.
	if err := s.process.Process.Signal(syscall.SIGQUIT); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	<-s.exited
	if err := s.admin.Close(); err != nil {
		return err
	}
	return s.run(ctx)
}

// Exec runs statements on the whole server, each a transaction of its own, in one session.
func (s *Server) Exec(ctx context.Context, statements ...string) error {
	session, err := s.admin.Conn(ctx)
	if err != nil {
		return err
	}
	for _, statement := range statements {
		if _, err = session.ExecContext(ctx, statement); err != nil {
			break
		}
	}
	return errors.Join(err, session.Close())
}

// Demote restarts the server as a standby of nobody: it answers, and takes no writes.
func (s *Server) Demote(ctx context.Context) error {
	signal := filepath.Join(s.data(), "standby.signal")
	if err := errors.Join(os.WriteFile(signal, nil, 0o600), s.user.own(signal)); err != nil {
		return err
	}
	return s.Restart(ctx)
}

// Log returns what the server has logged since it started.
func (s *Server) Log() (string, error) {
	text, err := os.ReadFile(filepath.Join(s.folder, "log"))
	return string(text), err
}

// Stop ends the server and removes its folder. More than one call does no harm.
func (s *Server) Stop() {
	if s.admin != nil {
		_ = s.admin.Close()
	}
	if s.exited != nil {
		_ = s.process.Process.Signal(syscall.SIGQUIT) // at once: nothing is worth saving
		<-s.exited
	}
	if s.folder != "" {
		_ = os.RemoveAll(s.folder)
	}
}

func (s *Server) url(database string) string {
	return (&url.URL{
		Scheme: "postgres", User: url.UserPassword(owner, s.password), Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)),
		Path: database, RawQuery: "sslmode=disable",
	}).String()
}

func (s *Server) makeTemplate(ctx context.Context, prepare []func(context.Context, string) error) error {
	if _, err := s.admin.ExecContext(ctx, "CREATE DATABASE "+template); err != nil {
		return err
	}
	db, err := sql.Open("postgres", s.url(template))
	if err != nil {
		return err
	}
	files, err := schema.Postgres()
	if err != nil {
		return errors.Join(err, db.Close())
	}
	provider, err := goose.NewProvider(goose.DialectPostgres, db, files, goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return errors.Join(err, db.Close())
	}
	_, err = provider.Up(ctx)
	if err = errors.Join(err, db.Close()); err != nil {
		return err
	}
	for _, step := range prepare {
		if err := step(ctx, s.url(template)); err != nil {
			return err
		}
	}
	return nil
}

// NewDatabase makes a database for one test, with the tables in it, and returns
// its URL. It is dropped when the test ends.
func (s *Server) NewDatabase(tb testing.TB) string {
	tb.Helper()
	return s.create(tb, template)
}

// EmptyDatabase is NewDatabase without the tables.
func (s *Server) EmptyDatabase(tb testing.TB) string {
	tb.Helper()
	return s.create(tb, "")
}

func (s *Server) create(tb testing.TB, from string) string {
	tb.Helper()
	name := "test_" + strconv.FormatInt(s.count.Add(1), 10)
	address, err := s.Create(tb.Context(), name, from)
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, s.Drop(context.WithoutCancel(tb.Context()), name)) })
	return address
}

// Create makes a database, a copy of the one named from unless that is "", and
// returns its URL. Nobody may be connected to the one that is copied. The names go
// into SQL as they are.
func (s *Server) Create(ctx context.Context, name, from string) (address string, err error) {
	statement := "CREATE DATABASE " + name
	if from != "" {
		statement += " TEMPLATE " + from
	}
	_, err = s.admin.ExecContext(ctx, statement)
	return s.url(name), err
}

// Drop drops a database, if there is one of that name, whoever is connected to it.
func (s *Server) Drop(ctx context.Context, name string) error {
	_, err := s.admin.ExecContext(ctx, "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)")
	return err
}

func freePort(ctx context.Context) (int, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	address, _ := listener.Addr().(*net.TCPAddr)
	return address.Port, listener.Close()
}
