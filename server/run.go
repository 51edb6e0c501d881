package server

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"postrider.dev/postrider/api"
)

// Run serves and delivers until ctx is done, or until a part of the process fails. Then it
// stops in the order that the package's documentation gives, and closes everything.
func (s *Server) Run(ctx context.Context) error {
	end := &ending{logger: s.role.Logger}
	running, group := errgroup.WithContext(ctx)
	context.AfterFunc(group, func() { s.stopping.Store(true) })
	running.Go(func() error {
		<-group.Done()
		end.begin(ctx, context.Cause(group), s.settings.ShutdownTimeout)
		return nil
	})
	var parts sync.WaitGroup
	for _, task := range s.tasks() {
		parts.Add(1)
		running.Go(func() error {
			defer parts.Done()
			defer end.over(group, task.name)
			return task.run(group)
		})
	}
	// Probes are told that the process stops, and metrics are read, until everything else has ended.
	probed, stopProbes := context.WithCancel(context.WithoutCancel(ctx))
	running.Go(func() error {
		defer stopProbes()
		parts.Wait()
		return nil
	})
	running.Go(func() error {
		defer end.over(group, "metrics")
		return s.serve(probed, s.probes(s.role.Ports.Metrics, s.metrics))
	})
	err := running.Wait()
	s.close(ctx)
	end.log(ctx)
	return err
}

// task is a part of a process at work.
type task struct {
	name string // for the log
	run  func(context.Context) error
}

// tasks returns what Run runs at the same time. Each returns soon after its context is done.
func (s *Server) tasks() []task {
	serving := func(name string, at site) task {
		return task{name, func(ctx context.Context) error { return s.serve(ctx, at) }}
	}
	tasks := []task{
		{"endpoints", s.publishEndpoints},
		{"notifications", s.store.Listen},
		{"clock", func(ctx context.Context) error { return s.clock.follow(ctx, s.store.Clock, s.role.Logger) }},
	}
	if profile := s.role.Ports.Profile; profile != nil {
		tasks = append(tasks, serving("profiles", s.probes(profile, profileHandler())))
	}
	if s.api != nil {
		tasks = append(tasks, serving("api_requests", site{
			listener: s.role.Ports.API, handler: s.api, connections: apiConnections(descriptorLimit()), linger: s.role.API.DrainDelay,
		}))
	}
	if s.worker != nil {
		tasks = append(tasks, task{"attempts", s.deliver}, task{"partitions", s.keepPartitions})
	}
	return tasks
}

// probes returns a site that is not the API's.
func (s *Server) probes(listener net.Listener, handler http.Handler) site {
	return site{listener: listener, handler: api.Secure(handler), connections: probeConnections(descriptorLimit())}
}

// deliver runs dispatcher and worker. The worker outlives the dispatcher, so that the
// workflows that were started last run in this process.
func (s *Server) deliver(ctx context.Context) error {
	if err := s.awaitTemporal(ctx); err != nil || ctx.Err() != nil {
		return err
	}
	if err := s.workflows.ScheduleMaintenance(ctx); err != nil && ctx.Err() == nil {
		s.role.Logger.LogAttrs(ctx, slog.LevelWarn, "cannot schedule the maintenance", slog.Any("error", err))
	}
	running, dispatching := errgroup.WithContext(ctx)
	working, stopWorker := context.WithCancel(context.WithoutCancel(ctx))
	running.Go(func() error { return s.worker.Run(working) })
	running.Go(func() error {
		defer stopWorker()
		return s.dispatcher.Run(dispatching)
	})
	return running.Wait()
}

// partitionInterval is far below the week for which partitions are created ahead.
const partitionInterval = time.Hour

// keepPartitions creates the partitions of the coming days until ctx is done. The maintenance
// workflow does so too, but not while Temporal is away or the schedule is paused. Rows without
// a partition go to the default one, so a failure is logged and does not end the process.
func (s *Server) keepPartitions(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := s.store.EnsurePartitions(ctx, s.clock.Now()); err != nil && ctx.Err() == nil {
			s.role.Logger.LogAttrs(ctx, slog.LevelWarn, "cannot create partitions, trying again", slog.Any("error", err))
		}
		Pause(ctx, partitionInterval)
	}
	return nil
}

// Pause waits for the span, or until ctx is done.
func Pause(ctx context.Context, span time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, span)
	defer cancel()
	<-ctx.Done()
}
