package api_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider/api"
)

func TestHealth(t *testing.T) {
	t.Parallel()
	checks := []api.Check{
		{Name: "database", Run: func(context.Context) error { return nil }},
		{Name: "temporal", Run: func(context.Context) error { return errors.New("no route to host") }},
	}
	well := setup(t, func(c *api.Config) { c.Checks = checks[:1] })
	require.Equal(t, map[string]any{"status": "ok"}, well.do(http.MethodGet, "/healthz", "", "X-API-Key", "").object(http.StatusOK))
	ready := well.do(http.MethodGet, "/readyz", "", "X-API-Key", "").object(http.StatusOK)
	require.Equal(t, map[string]any{"status": "ok", "checks": map[string]any{"database": "ok"}}, ready)

	ill := setup(t, func(c *api.Config) { c.Checks = checks })
	answer := ill.do(http.MethodGet, "/readyz", "")
	want := map[string]any{"status": "unavailable", "checks": map[string]any{"database": "ok", "temporal": "unavailable"}}
	require.Equal(t, want, answer.object(http.StatusServiceUnavailable))
	require.NotEmpty(t, answer.Header.Get("Retry-After"))
	require.Contains(t, ill.logs.String(), "no route to host")
	require.Equal(t, "ok", ill.do(http.MethodGet, "/readyz?exclude=temporal", "").object(http.StatusOK)["status"])
	ill.do(http.MethodGet, "/readyz?exclude=database", "").object(http.StatusServiceUnavailable)
	ill.do(http.MethodGet, "/healthz", "").object(http.StatusOK)
	ill.do(http.MethodPost, "/healthz", "").problem(http.StatusMethodNotAllowed)

	alone := httptest.NewRecorder()
	health := api.Health(checks[:1], func() bool { return false }, slog.New(slog.DiscardHandler))
	health.ServeHTTP(alone, httptest.NewRequest(http.MethodGet, "/readyz", nil))
	require.Equal(t, http.StatusOK, alone.Code)
}

func TestChecksRunAtTheSameTimeAndEnd(t *testing.T) {
	t.Parallel()
	// Each waits for the other: one after the other they would never end.
	var both sync.WaitGroup
	both.Add(2)
	meet := func(ctx context.Context) error {
		both.Done()
		both.Wait()
		return ctx.Err()
	}
	slow := func(ctx context.Context) error {
		deadline, bounded := ctx.Deadline()
		if !bounded || time.Until(deadline) > 2*time.Second {
			return errors.New("a check may take for ever")
		}
		return nil
	}
	b := setup(t, func(c *api.Config) {
		c.Checks = []api.Check{{Name: "one", Run: meet}, {Name: "two", Run: meet}, {Name: "three", Run: slow}}
	})
	require.Equal(t, map[string]any{"status": "ok", "checks": map[string]any{"one": "ok", "two": "ok", "three": "ok"}},
		b.do(http.MethodGet, "/readyz", "").object(http.StatusOK))
}

func TestSeveralChecksCanBeExcluded(t *testing.T) {
	t.Parallel()
	down := func(context.Context) error { return errors.New("down") }
	b := setup(t, func(c *api.Config) {
		c.Checks = []api.Check{{Name: "one", Run: down}, {Name: "two", Run: down}}
	})
	require.Equal(t, http.StatusServiceUnavailable, b.do(http.MethodGet, "/readyz?exclude=one", "").Status)
	got := b.do(http.MethodGet, "/readyz?exclude=one&exclude=two&exclude=three", "").object(http.StatusOK)
	require.Equal(t, map[string]any{"one": "unavailable", "two": "unavailable"}, got["checks"], "shown all the same")
}

// Guards probes against old answers of something between them and the process.
func TestHealthIsNotCached(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, path := range []string{"/healthz", "/readyz"} {
		require.Equal(t, "no-store", b.do(http.MethodGet, path, "").Header.Get("Cache-Control"), path)
	}
}
