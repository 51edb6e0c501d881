package workflows_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	temporallog "go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"

	"postrider.dev/postrider"
	"postrider.dev/postrider/activities"
	"postrider.dev/postrider/workflows"
)

// replayEnv is the workflow of a job in an environment that skips time.
type replayEnv struct {
	*testsuite.TestWorkflowEnvironment

	began   time.Time
	calls   []time.Duration // of Advance, by when they came
	stopped []string
}

// newReplayEnv returns an environment whose calls of Advance are answered in turn, the last answer again and again.
func newReplayEnv(answer func(call int) (activities.ReplayReport, error)) *replayEnv {
	var suite testsuite.WorkflowTestSuite
	suite.SetLogger(temporallog.NewStructuredLogger(slog.New(slog.DiscardHandler)))
	e := &replayEnv{TestWorkflowEnvironment: suite.NewTestWorkflowEnvironment()}
	workflows.Register(e.TestWorkflowEnvironment)
	var replays *activities.Replays
	e.RegisterActivity(replays)
	e.began = e.Now()
	e.OnActivity(replays.Advance, mock.Anything, mock.Anything).Return(
		func(context.Context, activities.ReplayInput) (activities.ReplayReport, error) {
			e.calls = append(e.calls, e.Now().Sub(e.began))
			return answer(len(e.calls))
		})
	e.OnActivity(replays.Stop, mock.Anything, mock.Anything).Return(func(_ context.Context, in activities.ReplayInput) error {
		e.stopped = append(e.stopped, in.ReplayID)
		return nil
	})
	return e
}

func (e *replayEnv) run() {
	e.ExecuteWorkflow(workflows.Replay, workflows.ReplayInput{ReplayInput: activities.ReplayInput{ReplayID: "rpl_1"}})
}

func reportOf(sent int, over, idle bool) activities.ReplayReport {
	report := activities.ReplayReport{Over: over, Idle: idle}
	report.State, report.Sent = postrider.ReplayRunning, sent
	return report
}

func TestReplayGoesOnUntilItIsOver(t *testing.T) {
	t.Parallel()
	e := newReplayEnv(func(call int) (activities.ReplayReport, error) {
		switch call {
		case 2:
			return activities.ReplayReport{}, errors.New("the database is away")
		case 4:
			return reportOf(call, false, true), nil
		}
		return reportOf(call, call == 6, false), nil
	})
	e.run()
	var progress postrider.ReplayProgress
	require.NoError(t, e.GetWorkflowResult(&progress))
	require.Equal(t, 6, progress.Sent)
	require.Len(t, e.calls, 6)
	require.GreaterOrEqual(t, e.calls[4]-e.calls[3], 10*time.Second, "it rests while there is nothing to do")
	require.Less(t, e.calls[5]-e.calls[4], time.Second)
	answer, err := e.QueryWorkflow("progress")
	require.NoError(t, err)
	require.NoError(t, answer.Get(&progress))
	require.Equal(t, 6, progress.Sent)
	require.Empty(t, e.stopped)
}

// Guards Temporal's limit of a history.
func TestReplayContinuesAsNew(t *testing.T) {
	t.Parallel()
	e := newReplayEnv(func(call int) (activities.ReplayReport, error) { return reportOf(call, false, false), nil })
	e.run()
	var again *workflow.ContinueAsNewError
	require.ErrorAs(t, e.GetWorkflowError(), &again)
	require.Len(t, e.calls, 200)
}

func TestReplayStopsWithItsWorkflow(t *testing.T) {
	t.Parallel()
	e := newReplayEnv(func(call int) (activities.ReplayReport, error) { return reportOf(call, false, true), nil })
	e.RegisterDelayedCallback(e.CancelWorkflow, 25*time.Second)
	e.run()
	require.True(t, temporal.IsCanceledError(e.GetWorkflowError()))
	require.Equal(t, []string{"rpl_1"}, e.stopped)
}

func TestReplayOfAnUnknownJobFails(t *testing.T) {
	t.Parallel()
	e := newReplayEnv(func(int) (activities.ReplayReport, error) {
		return activities.ReplayReport{}, temporal.NewNonRetryableApplicationError("the replay is unknown", "ReplayUnknown", nil)
	})
	e.run()
	require.ErrorContains(t, e.GetWorkflowError(), "unknown")
	require.Len(t, e.calls, 1)
}
