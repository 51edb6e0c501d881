package server

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.temporal.io/sdk/client"

	"postrider.dev/postrider"
	"postrider.dev/postrider/store"
	"postrider.dev/postrider/worker"
	"postrider.dev/postrider/workflows"
)

// Role is what differs between processes: which parts run in them, and with
// what around them.
type Role struct {
	API      *APISettings    // nil: this process serves no API
	Worker   *WorkerSettings // nil: this process delivers nothing
	Ports    *Ports
	Temporal TemporalSettings
	// Deployment is the Temporal worker deployment that the worker belongs to.
	Deployment DeploymentSettings
	Database   string // URL
	// DataDir is where a process keeps keys and endpoints.json that has the database
	// to itself: it brings the schema up to date and makes the first workspace and
	// key. "" in production, where operators do this.
	DataDir  string
	Networks []netip.Prefix // special networks that may be delivered to unless the settings say otherwise
	Logger   *slog.Logger
}

// Server is the parts of Postrider that run in one process.
type Server struct {
	settings   Settings
	role       Role
	store      *store.Store
	tracing    tracer
	temporal   client.Client
	flows      *workflows.Client
	registry   *prometheus.Registry
	ids        *postrider.IDs
	api        http.Handler
	metrics    http.Handler
	dispatcher *worker.Dispatcher
	worker     *worker.Worker
	apiKeyPath string
}

// New opens the database and wires the parts. It takes no work yet. The
// database must answer; Temporal may come later.
func New(ctx context.Context, settings Settings, role Role) (*Server, error) {
	s := &Server{settings: settings, role: role, registry: newRegistry(), ids: NewIDs()}
	if err := s.open(ctx); err != nil {
		s.close(ctx)
		return nil, err
	}
	if err := s.assemble(); err != nil { //nolint:contextcheck // requests bring their own contexts
		s.close(ctx)
		return nil, err
	}
	return s, nil
}

// owner reports whether the process has the database to itself.
func (s *Server) owner() bool { return s.role.DataDir != "" }

// open connects to everything that is outside of the process's own code.
func (s *Server) open(ctx context.Context) (err error) {
	if s.tracing, err = s.settings.tracing(ctx, s.role.Logger); err != nil {
		return fmt.Errorf("traces: %w", err)
	}
	interceptors, err := s.tracing.interceptors()
	if err != nil {
		return err
	}
	if s.temporal, err = s.role.Temporal.Dial(s.settings.Logger(slog.LevelWarn), newSDKMetrics(s.registry), interceptors); err != nil {
		return err
	}
	keys := s.settings.EncryptionKeys
	if keys == "" && s.owner() {
		if keys, err = encryptionKeys(s.role.DataDir); err != nil {
			return err
		}
	}
	if s.store, err = OpenStore(ctx, s.role.Database, keys, store.Options{IDs: s.ids, Logger: s.role.Logger, Alone: s.owner()}); err != nil {
		return err
	}
	if s.owner() {
		if err := s.store.Migrate(ctx); err != nil {
			return fmt.Errorf("database schema: %w", err)
		}
	}
	if err := checkDatabase(ctx, s.store); err != nil || !s.owner() {
		return err
	}
	s.apiKeyPath, err = releaseAndProvision(ctx, s.store, s.role.DataDir, s.ids, time.Now)
	return err
}

// close gives back what open took.
func (s *Server) close(ctx context.Context) {
	if s.temporal != nil {
		s.temporal.Close()
	}
	if s.store != nil {
		if err := s.store.Close(); err != nil {
			s.role.Logger.LogAttrs(ctx, slog.LevelWarn, "database did not close cleanly", slog.Any("error", err))
		}
	}
	s.tracing.close(ctx)
}
