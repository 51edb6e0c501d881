package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
)

// publishEndpoints tells people and programs the addresses of the process. In production it
// logs them. A process with a data directory prints a banner and writes endpoints.json, which
// it removes when ctx is done: clients must not find the addresses of a process that has ended.
func (s *Server) publishEndpoints(ctx context.Context) error {
	e := s.endpoints()
	if e.Profile != "" {
		s.role.Logger.LogAttrs(ctx, slog.LevelInfo, "profiles are served", slog.String("url", e.Profile))
	}
	if !s.ownsDatabase() {
		s.role.Logger.LogAttrs(ctx, slog.LevelInfo, "started", slog.String("version", Version), slog.String("api", e.API),
			slog.String("metrics", e.Metrics), slog.String("temporal", e.Temporal), slog.Bool("delivers", s.worker != nil))
		return nil
	}
	path := filepath.Join(s.role.DataDir, endpointsFile)
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
		s.role.Logger.LogAttrs(ctx, slog.LevelWarn, "cannot remove endpoints.json", slog.Any("error", err))
	}
	return nil
}

// endpoints is the content of endpoints.json.
type endpoints struct {
	API        string `json:"api"`
	Metrics    string `json:"metrics"`
	Temporal   string `json:"temporal"`
	TemporalUI string `json:"temporal_ui"`
	Profile    string `json:"profile,omitempty"`
}

// endpoints returns the addresses of the process.
func (s *Server) endpoints() endpoints {
	e := endpoints{
		Metrics:  "http://" + s.role.Ports.Metrics.Addr().String(),
		Temporal: s.role.Temporal.Address, TemporalUI: s.role.Temporal.UIURL,
	}
	if s.role.Ports.API != nil {
		e.API = "http://" + s.role.Ports.API.Addr().String()
	}
	if s.role.Ports.Profile != nil {
		e.Profile = "http://" + s.role.Ports.Profile.Addr().String() + "/debug/pprof/"
	}
	return e
}

// banner is the text that a standalone process prints when it is ready.
func (s *Server) banner(e endpoints) string {
	return fmt.Sprintf(`
Postrider %[1]s is ready.

  API          %[2]s   (reference: %[2]s/docs)
  Temporal UI  %[3]s
  Metrics      %[4]s/metrics
  API key      in %[5]s

%[6]s
Try next, in another terminal, or go through README.md, which has a receiver too:

  curl -sS %[2]s/api/v1/webhooks -H "X-API-Key: $(cat %[5]s)" -H 'Content-Type: application/json' \
    -d '{"url":"http://127.0.0.1:9000/hook","events":["*"]}'

`, Version, e.API, e.TemporalUI, e.Metrics, s.apiKeyPath, s.networksNotice())
}

// networksNotice warns about the special networks that may be delivered to, because a server
// on the internet should refuse them.
func (s *Server) networksNotice() string {
	networks, _ := s.settings.networks(s.role.Networks) // assemble has checked them
	if len(networks) == 0 {
		return ""
	}
	names := make([]string, len(networks))
	for i, network := range networks {
		names[i] = network.String()
	}
	return "Webhooks may point at these private networks: " + strings.Join(names, ", ") + "\n(--allow-networks none refuses them).\n"
}
