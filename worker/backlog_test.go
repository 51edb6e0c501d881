package worker_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
	"postrider.dev/postrider/worker"
)

func TestBacklogMetrics(t *testing.T) {
	t.Parallel()
	b := setup(t, 10, worker.BatchingNever)
	now := time.Now().Add(time.Minute)
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(worker.NewBacklog(b.db, func() time.Time { return now }, slog.New(slog.DiscardHandler)))
	count, err := testutil.GatherAndCount(registry)
	require.NoError(t, err)
	require.Equal(t, 3, count)

	b.publish(3)
	families, err := registry.Gather()
	require.NoError(t, err)
	values := map[string]float64{}
	for _, family := range families {
		values[family.GetName()] = family.GetMetric()[0].GetGauge().GetValue()
	}
	require.InDelta(t, 3, values["postrider_backlog_pending"], 0)
	require.InDelta(t, 60, values["postrider_backlog_oldest_age_seconds"], 30)
}

// backlogOf is a reader that a test provides.
type backlogOf func() (postrider.Backlog, error)

func (read backlogOf) Backlog(context.Context) (postrider.Backlog, error) { return read() }

// Guards against a scrape that fails as a whole, and against zeros that look like an empty
// queue, while the database is away.
func TestBacklogIsMissingWhileTheDatabaseIsAway(t *testing.T) {
	t.Parallel()
	read := backlogOf(func() (postrider.Backlog, error) { return postrider.Backlog{}, errors.New("the database is away") })
	registry, logged := prometheus.NewPedanticRegistry(), &logs{}
	other := prometheus.NewCounter(prometheus.CounterOpts{Name: "other_total"})
	registry.MustRegister(other, worker.NewBacklog(read, time.Now, slog.New(slog.NewTextHandler(logged, nil))))
	families, err := registry.Gather()
	require.NoError(t, err)
	require.Len(t, families, 1)
	require.Equal(t, "other_total", families[0].GetName())
	require.Contains(t, logged.String(), "could not read the backlog")
}

// The database's clock may be ahead of the process's.
func TestBacklogIsNeverNegative(t *testing.T) {
	t.Parallel()
	now := time.Now()
	later := now.Add(time.Second)
	read := backlogOf(func() (postrider.Backlog, error) { return postrider.Backlog{Pending: 1, OldestAt: &later}, nil })
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(worker.NewBacklog(read, func() time.Time { return now }, slog.New(slog.DiscardHandler)))
	families, err := registry.Gather()
	require.NoError(t, err)
	require.Len(t, families, 3)
	for _, family := range families {
		if family.GetName() == "postrider_backlog_oldest_age_seconds" {
			require.Zero(t, family.GetMetric()[0].GetGauge().GetValue())
		}
	}
}
