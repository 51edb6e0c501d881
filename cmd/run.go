package cmd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
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
	defer s.close()
	parts, ctx := errgroup.WithContext(ctx)
	parts.Go(func() error { return s.serve(ctx, s.shape.Ports.API, s.api) })
	parts.Go(func() error { return s.serve(ctx, s.shape.Ports.Metrics, s.metrics) })
	parts.Go(func() error { return s.worker.Run(ctx) })
	parts.Go(func() error { return s.dispatcher.Run(ctx) })
	parts.Go(func() error { return s.keepPartitions(ctx) })
	parts.Go(func() error { return s.announce(ctx) })
	return parts.Wait()
}

// serve answers HTTP until ctx is done.
func (s *Server) serve(ctx context.Context, listener net.Listener, handler http.Handler) error {
	server := &http.Server{
		Handler: handler, ReadHeaderTimeout: readHeaderTimeout, ReadTimeout: requestTimeout, WriteTimeout: requestTimeout, IdleTimeout: idleTimeout,
		ErrorLog: slog.NewLogLogger(s.shape.Logger.Handler(), slog.LevelWarn),
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
		s.shape.Logger.LogAttrs(ctx, slog.LevelWarn, "requests were cut off", slog.Any("error", err))
	}
	return nil
}

// partitionInterval is far below the week for which partitions are made ahead.
const partitionInterval = time.Hour

// keepPartitions makes the coming days' partitions until ctx is done. Without them
// rows go to the default partition, so a failure is worth a line and no more.
func (s *Server) keepPartitions(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := s.store.EnsurePartitions(ctx, time.Now()); err != nil && ctx.Err() == nil {
			s.shape.Logger.LogAttrs(ctx, slog.LevelWarn, "cannot make partitions, trying again", slog.Any("error", err))
		}
		pause, cancel := context.WithTimeout(ctx, partitionInterval)
		<-pause.Done()
		cancel()
	}
	return nil
}

// announce says where everything is, to people and to programs, and takes it back
// at the end.
func (s *Server) announce(ctx context.Context) error {
	e := endpoints{
		API: "http://" + s.shape.Ports.API.Addr().String(), Metrics: "http://" + s.shape.Ports.Metrics.Addr().String(),
		Temporal: s.shape.TemporalAddress, TemporalUI: s.shape.TemporalUI,
	}
	path := filepath.Join(s.shape.DataDir, endpointsFile)
	text, err := json.MarshalIndent(e, "", "  ")
	if err != nil {
		return err
	}
	if err := writeFile(path, string(text)+"\n"); err != nil {
		return fmt.Errorf("cannot write %s: %w", path, err)
	}
	fmt.Print(s.banner(e))
	<-ctx.Done()
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		s.shape.Logger.LogAttrs(ctx, slog.LevelWarn, "cannot remove a file", slog.Any("error", err))
	}
	return nil
}

// endpoints is the content of endpoints.json.
type endpoints struct {
	API        string `json:"api"`
	Metrics    string `json:"metrics"`
	Temporal   string `json:"temporal"`
	TemporalUI string `json:"temporal_ui"`
}

// banner is the block that a person reads first.
func (s *Server) banner(e endpoints) string {
	return fmt.Sprintf(`
Postrider %[1]s is ready.

  API          %[2]s   (reference: %[2]s/docs)
  Temporal UI  %[3]s
  Metrics      %[4]s/metrics
  API key      in %[5]s

%[6]s
Try next, in another terminal:

  curl -sS %[2]s/api/v1/webhooks -H "X-API-Key: $(cat %[5]s)" -H 'Content-Type: application/json' \
    -d '{"url":"http://127.0.0.1:9000/hook","events":["*"]}'

`, Version, e.API, e.TemporalUI, e.Metrics, s.apiKeyPath, s.networksNotice())
}

// networksNotice says which addresses may be delivered to that a server on the
// internet should refuse.
func (s *Server) networksNotice() string {
	networks, _ := s.settings.networks(s.shape.Networks) // wire has checked them
	if len(networks) == 0 {
		return ""
	}
	names := make([]string, len(networks))
	for i, network := range networks {
		names[i] = network.String()
	}
	return "Webhooks may point at these private networks: " + strings.Join(names, ", ") + "\n(--allow-networks none refuses them).\n"
}
