package workflows_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	temporallog "go.temporal.io/sdk/log"
	"go.temporal.io/sdk/testsuite"

	"postrider.dev/postrider"
	"postrider.dev/postrider/activities"
	"postrider.dev/postrider/workflows"
)

// keeper is a database that is away for the first calls.
type keeper struct {
	away  int
	calls int
	until time.Time
}

func (k *keeper) EnsurePartitions(context.Context, time.Time) error {
	k.calls++
	if k.calls <= k.away {
		return errors.New("the database is away")
	}
	return nil
}

func (k *keeper) CompactStats(context.Context, func(int64)) error { return nil }

func (k *keeper) RetainStats(context.Context, time.Time, func(int64)) error { return nil }

func (k *keeper) RetainAudit(context.Context, time.Time, func(int64)) error { return nil }

func (k *keeper) RetainReplays(context.Context, time.Time, func(int64)) error { return nil }

func (k *keeper) Retain(_ context.Context, before time.Time, progress func(postrider.Removed)) (postrider.Removed, error) {
	k.until = before
	removed := postrider.Removed{Days: []string{"2026-08-03"}}
	progress(removed)
	return removed, nil
}

// maintain runs the workflow on a keeper, in an environment that skips time.
func maintain(t *testing.T, k *keeper, retention time.Duration) (postrider.Removed, error) {
	t.Helper()
	var suite testsuite.WorkflowTestSuite
	suite.SetLogger(temporallog.NewStructuredLogger(slog.New(slog.DiscardHandler)))
	env := suite.NewTestWorkflowEnvironment()
	workflows.Register(env)
	env.RegisterActivity(&activities.Maintenance{Keeper: k, Now: func() time.Time { return time.Unix(1_000_000, 0) }, Retention: retention})
	env.ExecuteWorkflow(workflows.Maintenance)
	require.True(t, env.IsWorkflowCompleted())
	var removed postrider.Removed
	if err := env.GetWorkflowError(); err != nil {
		return removed, err
	}
	return removed, env.GetWorkflowResult(&removed)
}

func TestMaintenanceIsRetriedUntilItGivesUp(t *testing.T) {
	t.Parallel()
	k := &keeper{away: 3}
	removed, err := maintain(t, k, time.Hour)
	require.NoError(t, err)
	require.Equal(t, []string{"2026-08-03"}, removed.Days)
	require.Equal(t, time.Unix(1_000_000, 0).Add(-time.Hour), k.until)
	require.Equal(t, 4, k.calls)

	k = &keeper{}
	removed, err = maintain(t, k, 0)
	require.NoError(t, err)
	require.Zero(t, removed)
	require.Zero(t, k.until, "events are kept for ever")

	_, err = maintain(t, &keeper{away: 100}, time.Hour)
	require.Error(t, err, "operators see that it failed")
}
