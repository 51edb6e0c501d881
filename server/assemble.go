package server

import (
	"context"
	"crypto/rand"
	mathrand "math/rand/v2"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"postrider.dev/postrider/activities"
	"postrider.dev/postrider/api"
	"postrider.dev/postrider/egress"
	"postrider.dev/postrider/worker"
	"postrider.dev/postrider/workflows"
)

// assemble creates the parts of this process. Each part knows the others only by the small
// interfaces that it declares.
func (s *Server) assemble() error {
	reach, err := s.settings.egress(s.role.Networks)
	if err != nil {
		return err
	}
	reach.UserAgent, reach.Now = "Postrider/"+Version, s.clock.Now
	poster := egress.New(reach)
	s.workflows = workflows.NewClient(s.temporal, s.taskQueue)
	if s.role.API != nil {
		s.assembleAPI(poster)
	}
	if s.role.Worker != nil {
		s.assembleWorker(poster)
	}
	s.shed = newShedCounter(s.registry)
	s.registry.MustRegister(newDependencies(s.checks()))
	s.metrics = metricsHandler(s.registry, api.Health(s.checks(), s.stopping.Load, s.role.Logger))
	return nil
}

// assembleAPI creates the API's handler.
func (s *Server) assembleAPI(poster *egress.Client) {
	counts := newAPIMetrics(s.registry)
	s.api = api.New(api.Config{
		Store: s.store, Histories: s.workflows, CheckURL: poster.CheckURL, Now: s.clock.Now, IDs: s.ids, Entropy: rand.Reader,
		Logger: s.role.Logger,
		Checks: s.checks(), Version: Version, TemporalUIURL: s.role.Temporal.UIURL, TemporalNamespace: s.role.Temporal.Namespace,
		RequestsPerSecond: s.role.API.RateLimitPerKey,
		OnAccepted:        counts.accepted, OnSchemaBroken: counts.schemaBroken, OnRequest: counts.request, Tracer: s.tracing.tracer,
		OnAuthenticated: trustConnection, Stopping: s.stopping.Load,
	})
}

// assembleWorker creates dispatcher and worker, and registers the metrics of the backlog.
func (s *Server) assembleWorker(poster *egress.Client) {
	logger := s.role.Logger
	s.dispatcher = worker.NewDispatcher(worker.DispatcherConfig{
		Queue: s.store, Starter: s.workflows, InFlight: s.role.Worker.MaxInFlight, PerHost: s.role.Worker.MaxPerHost,
		Batching: worker.Batching(s.role.Worker.Batching), IDs: s.ids, Logger: logger, Now: s.clock.Now,
	})
	s.worker = worker.New(s.temporal, worker.Config{
		TaskQueue: s.taskQueue,
		Activities: activities.New(activities.Config{
			Store: s.store, Poster: poster, Reporter: s.workflows, Metrics: s.outcomes, Logger: logger,
			Now: s.clock.Now, Random: mathrand.Float64, Process: s.dispatcher,
			Tracer: s.tracing.tracer, TraceReceivers: s.settings.TracesToReceivers,
		}),
		Maintenance: &activities.Maintenance{
			Keeper: s.store, Now: s.clock.Now, Retention: time.Duration(s.role.Worker.Retention),
			AuditRetention: time.Duration(s.role.Worker.AuditRetention), StatsRetention: time.Duration(s.role.Worker.StatsRetention),
		},
		Replays:    &activities.Replays{Store: s.store, Now: s.clock.Now},
		Drain:      s.settings.ShutdownTimeout,
		Deployment: s.role.Deployment.Name, Build: s.role.Deployment.Build(),
	})
	s.registry.MustRegister(newCertificates(poster, logger), worker.NewBacklog(s.store, s.clock.Now, logger))
	s.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "postrider_recovered_deliveries_total",
		Help: "Deliveries given to another workflow because theirs was lost: terminated, forgotten by Temporal, or with a process that died.",
	}, func() float64 { return float64(s.store.Recovered()) }))
}

// checks returns the checks of readiness.
func (s *Server) checks() []api.Check {
	return []api.Check{
		{Name: "database", Run: s.store.Ping},
		{Name: "database_writes", Run: s.store.Writable},
		{Name: "temporal", Run: func(ctx context.Context) error { return checkNamespace(ctx, s.temporal, s.role.Temporal.Namespace) }},
	}
}
