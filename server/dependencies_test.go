package server

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"postrider.dev/postrider/api"
	"postrider.dev/postrider/egress"
)

func TestDependenciesAreExported(t *testing.T) {
	t.Parallel()
	fine := func(context.Context) error { return nil }
	away := func(context.Context) error { return errors.New("connection refused") }
	d := newDependencies([]api.Check{{Name: "database", Run: fine}, {Name: "temporal", Run: away}})
	require.NoError(t, testutil.CollectAndCompare(d, strings.NewReader(`
# HELP postrider_dependency_up Whether database, database_writes and temporal answer this process: 1 or 0, as /readyz.
# TYPE postrider_dependency_up gauge
postrider_dependency_up{dependency="database"} 1
postrider_dependency_up{dependency="temporal"} 0
`)))
}

func TestNoCertificateEndsWithoutReceivers(t *testing.T) {
	t.Parallel()
	c := newCertificates(egress.New(egress.Config{Now: time.Now}), slog.New(slog.DiscardHandler))
	require.Zero(t, testutil.ToFloat64(c))
}
