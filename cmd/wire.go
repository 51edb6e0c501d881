package cmd

import (
	"context"
	"crypto/rand"
	mathrand "math/rand/v2"
	"time"

	"postrider/activities"
	"postrider/api"
	"postrider/egress"
	"postrider/worker"
	"postrider/workflows"
)

// wire puts the parts of this process together; each sees the others through its
// own small interfaces only.
func (s *Server) wire() error {
	networks, err := s.settings.networks(s.shape.Networks)
	if err != nil {
		return err
	}
	poster := egress.New(egress.Config{AllowNetworks: networks, UserAgent: "Postrider/" + Version, Now: time.Now})
	s.flows = workflows.NewClient(s.temporal)
	if s.shape.API != nil {
		s.wireAPI(poster)
	}
	if s.shape.Worker != nil {
		s.wireWorker(poster)
	}
	s.metrics = metricsHandler(s.registry, api.Health(s.checks(), s.shape.Logger))
	return nil
}

func (s *Server) wireAPI(poster *egress.Client) {
	counts := newAPIMetrics(s.registry)
	s.api = api.New(api.Config{
		Store: s.store, Histories: s.flows, CheckURL: poster.CheckURL, Now: time.Now, IDs: s.ids, Entropy: rand.Reader, Logger: s.shape.Logger,
		Checks: s.checks(), Version: Version, TemporalUIURL: s.shape.Temporal.UIURL, TemporalNamespace: s.shape.Temporal.Namespace,
		OnAccepted: counts.accepted, OnRequest: counts.request, Tracer: s.tracing.tracer,
	})
}

func (s *Server) wireWorker(poster *egress.Client) {
	logger := s.shape.Logger
	s.dispatcher = worker.NewDispatcher(worker.DispatcherConfig{
		Queue: s.store, Starter: s.flows, InFlight: s.shape.Worker.MaxInFlight, PerHost: s.shape.Worker.MaxPerHost, Batching: worker.Batching(s.shape.Worker.Batching),
		IDs: s.ids, Logger: logger, Now: time.Now,
	})
	s.worker = worker.New(s.temporal, worker.Config{
		Activities: activities.New(activities.Config{
			Store: s.store, Poster: poster, Reporter: s.flows, Metrics: activities.NewMetrics(s.registry), Logger: logger,
			Now: time.Now, Random: mathrand.Float64, Process: s.dispatcher,
			Tracer: s.tracing.tracer, TraceReceivers: s.settings.TracesToReceivers,
		}),
		Maintenance: &activities.Maintenance{Keeper: s.store, Now: time.Now, Retention: time.Duration(s.shape.Worker.Retention)},
		Drain:       s.settings.ShutdownTimeout,
		Deployment:  s.shape.Deployment.Name, Build: s.shape.Deployment.Build(),
	})
	s.registry.MustRegister(worker.NewBacklog(s.store, time.Now, logger))
}

// checks are what readiness depends on.
func (s *Server) checks() []api.Check {
	return []api.Check{
		{Name: "database", Run: s.store.Ping},
		{Name: "temporal", Run: func(ctx context.Context) error { return checkNamespace(ctx, s.temporal, s.shape.Temporal.Namespace) }},
	}
}
