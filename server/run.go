package server

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"
)

// Timeouts of the HTTP servers. Without them a slow client could hold a connection for ever.
// The API's bodies are small, so one minute is enough for a request.
const (
	readHeaderTimeout = 10 * time.Second
	requestTimeout    = time.Minute
	idleTimeout       = 2 * time.Minute
)

// Run serves and delivers until ctx is done, or until a part of the process fails. Then it
// stops in the order that the package's documentation gives, and closes everything.
func (s *Server) Run(ctx context.Context) error {
	end := &ending{logger: s.role.Logger}
	running, group := errgroup.WithContext(ctx)
	running.Go(func() error {
		<-group.Done()
		end.begin(ctx, context.Cause(group), s.settings.ShutdownTimeout)
		return nil
	})
	for _, task := range s.tasks() {
		running.Go(func() error {
			defer end.over(group, task.name)
			return task.run(group)
		})
	}
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
	serving := func(name string, listener net.Listener, handler http.Handler) task {
		return task{name, func(ctx context.Context) error { return s.serve(ctx, listener, handler) }}
	}
	tasks := []task{
		{"endpoints", s.publishEndpoints}, {"notifications", s.store.Listen}, serving("metrics", s.role.Ports.Metrics, s.metrics),
		{"clock", func(ctx context.Context) error { return s.clock.follow(ctx, s.store.Clock, s.role.Logger) }},
	}
	if s.role.Ports.Profile != nil {
		tasks = append(tasks, serving("profiles", s.role.Ports.Profile, profileHandler()))
	}
	if s.api != nil {
		tasks = append(tasks, serving("api_requests", s.role.Ports.API, s.api))
	}
	if s.worker != nil {
		tasks = append(tasks, task{"attempts", s.deliver}, task{"partitions", s.keepPartitions})
	}
	return tasks
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

// serve serves HTTP until ctx is done, and then lets open requests end, up to the shutdown
// timeout.
func (s *Server) serve(ctx context.Context, listener net.Listener, handler http.Handler) error {
	server := &http.Server{
		Handler: handler, ReadHeaderTimeout: readHeaderTimeout, ReadTimeout: requestTimeout, WriteTimeout: requestTimeout,
		IdleTimeout: idleTimeout, ErrorLog: slog.NewLogLogger(s.role.Logger.Handler(), slog.LevelWarn),
	}
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.settings.ShutdownTimeout)
		defer cancel()
		stopped <- server.Shutdown(bound)
	})
	err := server.Serve(listener)
	if stop() { // ctx is not done: the server has failed
		return err
	}
	if err := <-stopped; err != nil {
		s.role.Logger.LogAttrs(ctx, slog.LevelWarn, "open requests were cut off at the shutdown timeout", slog.Any("error", err))
	}
	return nil
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
