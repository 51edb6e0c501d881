package cmd

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"net/http"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	temporallog "go.temporal.io/sdk/log"

	"postrider"
	"postrider/activities"
	"postrider/api"
	"postrider/egress"
	"postrider/store"
	"postrider/worker"
	"postrider/workflows"
)

// Shape is what differs between standalone and production.
type Shape struct {
	Ports             *Ports
	DataDir           string // keys and endpoints.json are kept there; "" in production
	Database          string // used when no database URL was set
	TemporalAddress   string
	TemporalNamespace string
	TemporalUI        string         // base URL; "" when unknown
	Networks          []netip.Prefix // special networks that may be delivered to unless the settings say otherwise
	Logger            *slog.Logger
}

// Server is the API, the worker and the dispatcher in one process.
type Server struct {
	settings   Settings
	shape      Shape
	store      *store.Store
	temporal   client.Client
	registry   *prometheus.Registry
	ids        *postrider.IDs
	api        http.Handler
	metrics    http.Handler
	dispatcher *worker.Dispatcher
	worker     *worker.Worker
	apiKeyPath string
}

// NewServer connects to the database and to Temporal, brings the schema up to date
// and wires the parts. It takes no work yet.
func NewServer(ctx context.Context, settings Settings, shape Shape) (*Server, error) {
	s := &Server{settings: settings, shape: shape, registry: newRegistry(), ids: postrider.NewIDs(time.Now, rand.Reader)}
	if err := s.open(ctx); err != nil {
		s.close()
		return nil, err
	}
	if err := s.wire(); err != nil { //nolint:contextcheck // requests bring their own contexts
		s.close()
		return nil, err
	}
	return s, nil
}

// open connects to everything that is outside of the process's own code.
func (s *Server) open(ctx context.Context) error {
	keys, err := s.keyring()
	if err != nil {
		return err
	}
	url := s.settings.DatabaseURL
	if url == "" {
		url = s.shape.Database
	}
	s.store, err = store.Open(ctx, url, store.Options{Keys: keys, Now: time.Now, IDs: s.ids, Logger: s.shape.Logger})
	if err != nil {
		return fmt.Errorf("database: %w", err)
	}
	if err := s.store.Migrate(ctx); err != nil {
		return fmt.Errorf("database schema: %w", err)
	}
	if err := s.store.CheckKeys(ctx); err != nil {
		return fmt.Errorf("encryption keys (POSTRIDER_ENCRYPTION_KEYS, or the file %s in the data directory): %w", encryptionKeyFile, err)
	}
	if err := s.store.ReleaseOrphans(ctx); err != nil {
		return fmt.Errorf("database: %w", err)
	}
	s.apiKeyPath, err = provision(ctx, s.store, s.shape.DataDir, s.ids, time.Now)
	if err != nil {
		return fmt.Errorf("first workspace and key: %w", err)
	}
	s.temporal, err = client.DialContext(ctx, client.Options{
		HostPort: s.shape.TemporalAddress, Namespace: s.shape.TemporalNamespace,
		Logger: temporallog.NewStructuredLogger(s.settings.Logger(slog.LevelWarn)),
	})
	if err != nil {
		return fmt.Errorf("temporal at %s: %w", s.shape.TemporalAddress, err)
	}
	return nil
}

func (s *Server) keyring() (*store.Keyring, error) {
	text := s.settings.EncryptionKeys
	if text == "" {
		var err error
		text, err = encryptionKeys(s.shape.DataDir)
		if err != nil {
			return nil, fmt.Errorf("encryption keys: %w", err)
		}
	}
	keys, err := store.ParseKeyring(text)
	if err != nil {
		return nil, fmt.Errorf("encryption keys (POSTRIDER_ENCRYPTION_KEYS): %w", err)
	}
	return keys, nil
}

// wire puts the parts together; each sees the others through its own small
// interfaces only.
func (s *Server) wire() error {
	networks, err := s.settings.networks(s.shape.Networks)
	if err != nil {
		return err
	}
	logger := s.shape.Logger
	poster := egress.New(egress.Config{AllowNetworks: networks, UserAgent: "Postrider/" + Version, Now: time.Now})
	flows := workflows.NewClient(s.temporal)
	s.dispatcher = worker.NewDispatcher(s.store, flows, s.settings.MaxInFlight, logger, time.Now)
	s.worker = worker.New(s.temporal, activities.New(activities.Config{
		Store: s.store, Poster: poster, Reporter: flows, Metrics: activities.NewMetrics(s.registry), Logger: logger,
		Now: time.Now, Random: mathrand.Float64, FirstAttemptDone: s.dispatcher.FirstAttemptDone,
	}), s.settings.ShutdownTimeout)

	counts := newAPIMetrics(s.registry)
	config := api.Config{
		Store: s.store, Histories: flows, CheckURL: poster.CheckURL, Now: time.Now, IDs: s.ids, Entropy: rand.Reader, Logger: logger,
		Checks:  []api.Check{{Name: "database", Run: s.store.Ping}, {Name: "temporal", Run: s.checkTemporal}},
		Version: Version, TemporalUIURL: s.shape.TemporalUI, TemporalNamespace: s.shape.TemporalNamespace,
		OnAccepted: counts.accepted, OnRequest: counts.request,
	}
	s.api = api.New(config)
	s.registry.MustRegister(worker.NewBacklog(s.store, time.Now, logger))
	s.metrics = metricsHandler(s.registry, api.Health(config.Checks, logger))
	return nil
}

func (s *Server) checkTemporal(ctx context.Context) error {
	// Read from Temporal's own database, so that it is known to be there too.
	_, err := s.temporal.WorkflowService().DescribeNamespace(ctx, &workflowservice.DescribeNamespaceRequest{Namespace: s.shape.TemporalNamespace})
	return err
}

// close gives back what open took.
func (s *Server) close() {
	if s.temporal != nil {
		s.temporal.Close()
	}
	if s.store != nil {
		if err := s.store.Close(); err != nil {
			s.shape.Logger.Warn("database did not close cleanly", slog.Any("error", err))
		}
	}
}
