package cmd

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.temporal.io/sdk/client"

	"postrider"
	"postrider/store"
	"postrider/worker"
	"postrider/workflows"
)

// Shape is what differs between processes: which parts run in them, and with
// what around them.
type Shape struct {
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
	shape      Shape
	store      *store.Store
	tracing    tracing
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

// NewServer opens the database and wires the parts. It takes no work yet. The
// database must answer; Temporal may come later.
func NewServer(ctx context.Context, settings Settings, shape Shape) (*Server, error) {
	s := &Server{settings: settings, shape: shape, registry: newRegistry(), ids: newIDs()}
	if err := s.open(ctx); err != nil {
		s.close(ctx)
		return nil, err
	}
	if err := s.wire(); err != nil { //nolint:contextcheck // requests bring their own contexts
		s.close(ctx)
		return nil, err
	}
	return s, nil
}

// owner reports whether the process has the database to itself.
func (s *Server) owner() bool { return s.shape.DataDir != "" }

// open connects to everything that is outside of the process's own code.
func (s *Server) open(ctx context.Context) (err error) {
	if s.tracing, err = s.settings.tracing(ctx, s.shape.Logger); err != nil {
		return fmt.Errorf("traces: %w", err)
	}
	interceptors, err := s.tracing.interceptors()
	if err != nil {
		return err
	}
	if s.temporal, err = s.shape.Temporal.dial(s.settings.Logger(slog.LevelWarn), newSDKMetrics(s.registry), interceptors); err != nil {
		return err
	}
	keys := s.settings.EncryptionKeys
	if keys == "" && s.owner() {
		if keys, err = encryptionKeys(s.shape.DataDir); err != nil {
			return err
		}
	}
	if s.store, err = openStore(ctx, s.shape.Database, keys, store.Options{IDs: s.ids, Logger: s.shape.Logger, Alone: s.owner()}); err != nil {
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
	s.apiKeyPath, err = takeOver(ctx, s.store, s.shape.DataDir, s.ids, time.Now)
	return err
}

// close gives back what open took.
func (s *Server) close(ctx context.Context) {
	if s.temporal != nil {
		s.temporal.Close()
	}
	if s.store != nil {
		if err := s.store.Close(); err != nil {
			s.shape.Logger.LogAttrs(ctx, slog.LevelWarn, "database did not close cleanly", slog.Any("error", err))
		}
	}
	s.tracing.close(ctx)
}
