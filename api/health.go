package api

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"postrider.dev/postrider/api/rest"
)

// checkTimeout is the time that the readiness checks have.
const checkTimeout = 2 * time.Second

// Check is a check of one thing that the service needs.
type Check struct {
	Name string // such as "database"
	Run  func(ctx context.Context) error
}

// The states of a check, and of the service.
const (
	stateOK          = "ok"
	stateUnavailable = "unavailable"
)

// health is the answer of /healthz.
type health struct {
	Status string `json:"status" enum:"ok,unavailable"`
}

// readiness is the answer of /readyz.
type readiness struct {
	Status string            `json:"status" enum:"ok,unavailable"`
	Checks map[string]string `json:"checks" doc:"Each check's state: ok or unavailable. Why one is unavailable is in the log. The check process is there while the process is stopping, and cannot be excluded."`
}

// checkProcess is the name of the check that fails while the process is stopping.
const checkProcess = "process"

// Health returns a handler of GET /healthz and GET /readyz for another listener than that of
// [New], which serves them too. A check that fails or takes over two seconds makes /readyz a
// 503, unless the query excludes it. Only the log says why it failed. While stopping says so, /readyz is a 503
// whatever the checks say.
func Health(checks []Check, stopping func() bool, logger *slog.Logger) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) {
		writeHealth(w, r, logger, http.StatusOK, health{Status: stateOK})
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		answer := ready(r.Context(), checks, r.URL.Query()["exclude"], logger)
		if stopping() {
			answer.Status, answer.Checks[checkProcess] = stateUnavailable, stateUnavailable
		}
		status := http.StatusOK
		if answer.Status != stateOK {
			status = http.StatusServiceUnavailable
			w.Header().Set("Retry-After", rest.RetryAfterSeconds)
		}
		writeHealth(w, r, logger, status, answer)
	})
	return mux
}

func writeHealth(w http.ResponseWriter, r *http.Request, logger *slog.Logger, status int, answer any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(answer); err != nil {
		logger.LogAttrs(r.Context(), slog.LevelDebug, "probe went away", slog.String("error", err.Error()))
	}
}

// ready runs the checks at the same time. An excluded check is shown, and does not change
// the status.
func ready(ctx context.Context, checks []Check, excluded []string, logger *slog.Logger) readiness {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	errs := make([]error, len(checks))
	var running sync.WaitGroup
	for i, check := range checks {
		running.Go(func() { errs[i] = check.Run(ctx) })
	}
	running.Wait()
	answer := readiness{Status: stateOK, Checks: make(map[string]string, len(checks))}
	for i, check := range checks {
		answer.Checks[check.Name] = stateOK
		if errs[i] != nil {
			answer.Checks[check.Name] = stateUnavailable
			if !slices.Contains(excluded, check.Name) {
				answer.Status = stateUnavailable
			}
			logger.LogAttrs(ctx, slog.LevelWarn, "not ready", slog.String("check", check.Name), slog.String("error", errs[i].Error()))
		}
	}
	return answer
}

func (s *server) routeHealth() {
	handler := Health(s.Checks, s.Stopping, s.Logger)
	schema := func(schema *huma.Schema) map[string]*huma.MediaType {
		return map[string]*huma.MediaType{"application/json": {Schema: schema}}
	}
	alive, able := schema(rest.SchemaOf[health](s.rest)), schema(rest.SchemaOf[readiness](s.rest))
	s.rest.HandleHTTP(&huma.Operation{
		Path: "/healthz", OperationID: "healthz", Tags: []string{rest.TagService},
		Summary: "Alive", Description: "Needs no key.",
		Responses: map[string]*huma.Response{"200": {Description: "The process is alive.", Content: alive}},
	}, handler)
	s.rest.HandleHTTP(&huma.Operation{
		Path: "/readyz", OperationID: "readyz", Tags: []string{rest.TagService},
		Summary: "Ready", Description: "Whether a publish would be accepted and delivered now: " +
			"the database answers (`database`) and takes writes (`database_writes`, tried once a second at most), " +
			"and Temporal answers (`temporal`). Needs no key. " +
			"A load balancer may ask whether it would be accepted, delivered now or later, with `?exclude=temporal`.",
		Parameters: []*huma.Param{{
			Name: "exclude", In: "query", Description: "A check that is shown and decides nothing. May be repeated.",
			Schema: &huma.Schema{Type: huma.TypeString, Examples: []any{"temporal"}},
		}},
		Responses: map[string]*huma.Response{
			"200": {Description: "Ready.", Content: able},
			"503": {Description: "A check fails; see which.", Content: able},
		},
	}, handler)
}
