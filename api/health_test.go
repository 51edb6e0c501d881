package api_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

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
	require.Equal(t, map[string]any{"status": "ok", "checks": map[string]any{"database": "ok"}}, well.do(http.MethodGet, "/readyz", "", "X-API-Key", "").object(http.StatusOK))

	ill := setup(t, func(c *api.Config) { c.Checks = checks })
	answer := ill.do(http.MethodGet, "/readyz", "")
	require.Equal(t, map[string]any{"status": "unavailable", "checks": map[string]any{"database": "ok", "temporal": "unavailable"}}, answer.object(http.StatusServiceUnavailable))
	require.NotEmpty(t, answer.Header.Get("Retry-After"))
	require.Contains(t, ill.logs.String(), "no route to host")
	require.Equal(t, "ok", ill.do(http.MethodGet, "/readyz?exclude=temporal", "").object(http.StatusOK)["status"])
	ill.do(http.MethodGet, "/readyz?exclude=database", "").object(http.StatusServiceUnavailable)
	ill.do(http.MethodGet, "/healthz", "").object(http.StatusOK)
	ill.do(http.MethodPost, "/healthz", "").problem(http.StatusMethodNotAllowed)

	alone := httptest.NewRecorder()
	api.Health(checks[:1], slog.New(slog.DiscardHandler)).ServeHTTP(alone, httptest.NewRequest(http.MethodGet, "/readyz", nil))
	require.Equal(t, http.StatusOK, alone.Code)
}
