package server

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"net/http"
	"net/netip"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"go.temporal.io/sdk/client"

	"postrider.dev/postrider"
	"postrider.dev/postrider/activities"
	"postrider.dev/postrider/store"
	"postrider.dev/postrider/worker"
	"postrider.dev/postrider/workflows"
)

// Role is the difference between processes: the parts that run, and their surroundings.
type Role struct {
	API      *APISettings    // nil in a process without an API
	Worker   *WorkerSettings // nil in a process that does not deliver
	Ports    *Ports
	Temporal TemporalSettings
	// Deployment is the Temporal worker deployment that the worker belongs to.
	Deployment DeploymentSettings
	Database   string // URL
	// DataDir is the folder for keys and endpoints.json of a process that no other shares its
	// database with. Such a process migrates the schema and creates the first workspace and
	// key. It is "" in production, where operators do this by commands.
	DataDir  string
	Networks []netip.Prefix // special networks that may be delivered to when the settings name none
	Logger   *slog.Logger
}

// Server is the parts of Postrider that run in one process.
type Server struct {
	settings   Settings
	role       Role
	ids        *postrider.IDs
	registry   *prometheus.Registry
	outcomes   *activities.Metrics
	tracing    tracer
	temporal   client.Client
	workflows  *workflows.Client
	store      *store.Store
	apiKeyPath string             // "" in a process that does not own its database
	metrics    http.Handler       // metrics and health
	shed       prometheus.Counter // connections that had to make room
	stopping   atomic.Bool        // the process has begun to stop
	api        http.Handler       // nil in a process without an API
	clock      clock
	taskQueue  string             // the installation's, which the database knows
	dispatcher *worker.Dispatcher // nil in a process that does not deliver
	worker     *worker.Worker     // nil in a process that does not deliver
}

// New opens the database and assembles the parts. They do no work before [Server.Run]. New
// returns an error when the database does not answer; Temporal may answer later.
func New(ctx context.Context, settings Settings, role Role) (*Server, error) {
	s := &Server{settings: settings, role: role, registry: newRegistry()}
	s.ids = postrider.NewIDs(s.clock.Now, rand.Reader)
	s.outcomes = activities.NewMetrics(s.registry)
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

// ownsDatabase reports whether no other process uses the database.
func (s *Server) ownsDatabase() bool { return s.role.DataDir != "" }

// open connects to everything outside of the process: traces, Temporal and the database.
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
	return s.openDatabase(ctx)
}

// openDatabase opens the database and checks that this build and its keys can serve from it. A
// process that owns the database migrates it before, and provisions it afterwards.
func (s *Server) openDatabase(ctx context.Context) (err error) {
	keys := s.settings.EncryptionKeys
	if keys == "" && s.ownsDatabase() {
		if keys, err = encryptionKeys(s.role.DataDir); err != nil {
			return err
		}
	}
	options := store.Options{
		Now: s.clock.Now, IDs: s.ids, Logger: s.role.Logger, Alone: s.ownsDatabase(), OnCancelled: s.outcomes.Cancelled,
		OnExpired: s.outcomes.Expired, OnReplayEnded: s.outcomes.ReplayEnded, Random: mathrand.Float64,
	}
	if s.role.API != nil {
		options.MaxWebhooks = s.role.API.MaxWebhooksPerWorkspace
	}
	if s.store, err = OpenStore(ctx, s.role.Database, keys, options); err != nil {
		return err
	}
	if s.ownsDatabase() {
		if err := s.store.Migrate(ctx); err != nil {
			return fmt.Errorf("database schema: %w", err)
		}
	}
	s.clock.compare(ctx, s.store.Clock, s.role.Logger)
	if err := checkDatabase(ctx, s.store); err != nil {
		return err
	}
	if s.taskQueue, err = s.store.TaskQueue(ctx); err != nil || !s.ownsDatabase() {
		return err
	}
	// No other process can hold these leases, so the deliveries need not wait for their end.
	if err := s.store.ReleaseOrphans(ctx); err != nil {
		return fmt.Errorf("database: %w", err)
	}
	if s.apiKeyPath, err = provision(ctx, s.store, s.role.DataDir, s.ids, s.clock.Now); err != nil {
		return fmt.Errorf("first workspace and key: %w", err)
	}
	return nil
}

// close closes everything that open has opened.
func (s *Server) close(ctx context.Context) {
	if s.temporal != nil {
		s.temporal.Close()
	}
	if s.store != nil {
		if err := s.store.Close(); err != nil {
			s.role.Logger.LogAttrs(ctx, slog.LevelWarn, "cannot close the database cleanly", slog.Any("error", err))
		}
	}
	s.tracing.close(ctx)
}
