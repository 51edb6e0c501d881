package activities_test

import (
	"context"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	temporallog "go.temporal.io/sdk/log"
	"go.temporal.io/sdk/testsuite"

	"postrider.dev/postrider"
	"postrider.dev/postrider/activities"
)

// keeper is a database that removes two days, and reports its progress after each.
type keeper struct {
	away   error
	before []time.Time // times of the calls of Retain

	minutes    int64 // that are made hours
	compacted  int
	oldReplays int64

	stats, audit, replays []time.Time // times of the calls of RetainStats, RetainAudit and RetainReplays
}

// EnsurePartitions implements [activities.Keeper].
func (k *keeper) EnsurePartitions(context.Context, time.Time) error { return k.away }

// CompactStats implements [activities.Keeper].
func (k *keeper) CompactStats(_ context.Context, progress func(int64)) error {
	k.compacted++
	if k.minutes > 0 {
		progress(k.minutes)
	}
	return nil
}

// RetainStats implements [activities.Keeper].
func (k *keeper) RetainStats(_ context.Context, before time.Time, progress func(int64)) error {
	k.stats = append(k.stats, before)
	progress(3)
	return nil
}

// RetainAudit implements [activities.Keeper].
func (k *keeper) RetainAudit(_ context.Context, before time.Time, progress func(int64)) error {
	k.audit = append(k.audit, before)
	progress(2)
	return nil
}

// RetainReplays implements [activities.Keeper].
func (k *keeper) RetainReplays(_ context.Context, before time.Time, progress func(int64)) error {
	k.replays = append(k.replays, before)
	if k.oldReplays > 0 {
		progress(k.oldReplays)
	}
	return nil
}

// Retain implements [activities.Keeper].
func (k *keeper) Retain(_ context.Context, before time.Time, progress func(postrider.Removed)) (postrider.Removed, error) {
	k.before = append(k.before, before)
	progress(postrider.Removed{Days: []string{"2026-03-01"}})
	removed := postrider.Removed{Days: []string{"2026-03-01", "2026-03-02"}}
	progress(removed)
	return removed, nil
}

// maintain runs the activity, and returns what it removed and its first heartbeat.
func maintain(t *testing.T, k *keeper, change ...func(*activities.Maintenance)) (removed, beat postrider.Removed, err error) {
	t.Helper()
	var suite testsuite.WorkflowTestSuite
	suite.SetLogger(temporallog.NewStructuredLogger(slog.New(slog.DiscardHandler)))
	env := suite.NewTestActivityEnvironment()
	beats := make(chan postrider.Removed, 8)
	env.SetOnActivityHeartbeatListener(func(_ *activity.Info, details converter.EncodedValues) {
		var told postrider.Removed
		if details.Get(&told) == nil {
			beats <- told
		}
	})
	m := &activities.Maintenance{Keeper: k, Now: func() time.Time { return time.Unix(1_000_000, 0) }}
	for _, c := range change {
		c(m)
	}
	env.RegisterActivity(m)
	value, err := env.ExecuteActivity(m.Maintain)
	if err != nil {
		return removed, beat, err
	}
	require.NoError(t, value.Get(&removed))
	if len(k.before)+len(k.stats) > 0 {
		beat = <-beats
	}
	return removed, beat, nil
}

// Guards against a long removal that Temporal takes for dead: it reports its progress.
func TestMaintenanceHeartbeatsWhileItRemoves(t *testing.T) {
	t.Parallel()
	k := &keeper{}
	removed, beat, err := maintain(t, k, func(m *activities.Maintenance) { m.Retention = time.Hour })
	require.NoError(t, err)
	require.Equal(t, []string{"2026-03-01", "2026-03-02"}, removed.Days)
	require.Equal(t, []string{"2026-03-01"}, beat.Days)
	require.Equal(t, []time.Time{time.Unix(1_000_000, 0).Add(-time.Hour)}, k.before)
	require.Equal(t, k.before, k.replays, "replay jobs are kept as long")
}

// Guards against data that is removed although it is to be kept for ever, or although no
// partition takes new data.
func TestMaintenanceRemovesNothing(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		retention time.Duration
		away      error
	}{
		"without a retention":                 {},
		"when partitions are missing":         {retention: time.Hour, away: errAway},
		"without a retention and a partition": {away: errAway},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := &keeper{away: c.away}
			removed, _, err := maintain(t, k, func(m *activities.Maintenance) { m.Retention = c.retention })
			require.Equal(t, c.away != nil, err != nil)
			require.Zero(t, removed)
			require.Empty(t, slices.Concat(k.before, k.stats, k.audit, k.replays))
		})
	}
}

// Guards what has a retention of its own: stats are compacted always, and they and the audit log go at their
// own times.
func TestMaintenanceKeepsBooks(t *testing.T) {
	t.Parallel()
	k := &keeper{minutes: 700}
	removed, beat, err := maintain(t, k, func(m *activities.Maintenance) { m.StatsRetention, m.AuditRetention = time.Hour, time.Minute })
	require.NoError(t, err)
	require.Equal(t, postrider.Removed{Compacted: 700}, beat)
	require.Equal(t, postrider.Removed{Compacted: 700, Stats: 3, AuditEntries: 2}, removed)
	now := time.Unix(1_000_000, 0)
	require.Equal(t, []time.Time{now.Add(-time.Hour)}, k.stats)
	require.Equal(t, []time.Time{now.Add(-time.Minute)}, k.audit)
	require.Empty(t, k.before, "events are kept for ever")

	k.oldReplays = 1
	removed, _, err = maintain(t, k, func(m *activities.Maintenance) { m.Retention, m.AuditRetention = time.Hour, time.Minute })
	require.NoError(t, err)
	require.Len(t, k.stats, 1, "stats are kept for ever")
	require.Equal(t, 2, k.compacted)
	require.Equal(t, postrider.Removed{Compacted: 700, AuditEntries: 2, Replays: 1, Days: []string{"2026-03-01", "2026-03-02"}}, removed)
}

// Guards alerts on rates: a series that appears with the first failure has no rate.
func TestMetricsExistBeforeTheFirstAttempt(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewPedanticRegistry()
	activities.NewMetrics(registry)
	families, err := registry.Gather()
	require.NoError(t, err)
	series := map[string][]string{}
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			require.Zero(t, metric.GetCounter().GetValue())
			require.Zero(t, metric.GetHistogram().GetSampleCount())
			for _, label := range metric.GetLabel() {
				series[family.GetName()] = append(series[family.GetName()], label.GetValue())
			}
		}
	}
	var results, outcomes []string
	for _, result := range postrider.Results() {
		results = append(results, string(result))
	}
	for _, state := range postrider.DeliveryStates() {
		if state.Finished() {
			outcomes = append(outcomes, string(state))
		}
	}
	require.ElementsMatch(t, results, series["postrider_attempts_total"])
	require.ElementsMatch(t, results, series["postrider_attempt_duration_seconds"])
	require.ElementsMatch(t, outcomes, series["postrider_deliveries_total"])
	require.Len(t, families, 7)
}
