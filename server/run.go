package server

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"
)

// Timeouts of the HTTP servers: a client that dawdles must not hold a connection
// for ever. The API's bodies are small, so a minute for all of it is plenty.
const (
	readHeaderTimeout = 10 * time.Second
	requestTimeout    = time.Minute
	idleTimeout       = 2 * time.Minute
)

// Run serves until ctx is done, then stops taking requests and deliveries, lets
// what is under way end, and closes everything. When a part fails, all stop.
func (s *Server) Run(ctx context.Context) error {
	defer s.close(ctx)
	parts, ctx := errgroup.WithContext(ctx)
	for _, part := range s.parts() {
		parts.Go(func() error { return part(ctx) })
	}
	return parts.Wait()
}

// parts are what this process runs.
func (s *Server) parts() []func(context.Context) error {
	parts := []func(context.Context) error{
		s.publishEndpoints, s.store.Listen,
		func(ctx context.Context) error { return s.serve(ctx, s.role.Ports.Metrics, s.metrics) },
	}
	if profile := s.role.Ports.Profile; profile != nil {
		parts = append(parts, func(ctx context.Context) error { return s.serve(ctx, profile, profileHandler()) })
	}
	if s.api != nil {
		parts = append(parts, func(ctx context.Context) error { return s.serve(ctx, s.role.Ports.API, s.api) })
	}
	if s.worker != nil {
		parts = append(parts, s.deliver, s.keepPartitions)
	}
	return parts
}

// deliver hands deliveries over and carries them out. The worker outlives the
// dispatcher, so that what was handed over last is begun here.
func (s *Server) deliver(ctx context.Context) error {
	if err := s.awaitTemporal(ctx); err != nil || ctx.Err() != nil {
		return err
	}
	if err := s.flows.ScheduleMaintenance(ctx); err != nil && ctx.Err() == nil {
		s.role.Logger.LogAttrs(ctx, slog.LevelWarn, "maintenance is not scheduled by this process", slog.Any("error", err))
	}
	parts, dispatching := errgroup.WithContext(ctx)
	working, stop := context.WithCancel(context.WithoutCancel(ctx))
	parts.Go(func() error { return s.worker.Run(working) })
	parts.Go(func() error {
		defer stop()
		return s.dispatcher.Run(dispatching)
	})
	return parts.Wait()
}

// serve answers HTTP until ctx is done.
func (s *Server) serve(ctx context.Context, listener net.Listener, handler http.Handler) error {
	server := &http.Server{
		Handler: handler, ReadHeaderTimeout: readHeaderTimeout, ReadTimeout: requestTimeout, WriteTimeout: requestTimeout, IdleTimeout: idleTimeout,
		ErrorLog: slog.NewLogLogger(s.role.Logger.Handler(), slog.LevelWarn),
	}
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.settings.ShutdownTimeout)
		defer cancel()
		stopped <- server.Shutdown(bound)
	})
	err := server.Serve(listener)
	if stop() { // it ended by itself
		return err
	}
	if err := <-stopped; err != nil {
		s.role.Logger.LogAttrs(ctx, slog.LevelWarn, "requests were cut off", slog.Any("error", err))
	}
	return nil
}

// partitionInterval is far below the week for which partitions are made ahead.
const partitionInterval = time.Hour

// keepPartitions makes the coming days' partitions until ctx is done, also while
// Temporal, whose schedule does it too, is away or paused. Without them rows go to
// the default partition, so a failure is worth a line and no more.
func (s *Server) keepPartitions(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := s.store.EnsurePartitions(ctx, time.Now()); err != nil && ctx.Err() == nil {
			s.role.Logger.LogAttrs(ctx, slog.LevelWarn, "cannot make partitions, trying again", slog.Any("error", err))
		}
		Pause(ctx, partitionInterval)
	}
	return nil
}

// Pause waits for the time, or until ctx is done.
func Pause(ctx context.Context, span time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, span)
	defer cancel()
	<-ctx.Done()
}
