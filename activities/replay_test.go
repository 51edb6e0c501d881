package activities_test

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
)

// replayStore answers steps in turn. Each step takes a while of its clock.
type replayStore struct {
	steps     []postrider.ReplayStep
	err       error // after the steps
	made      int
	now       time.Time
	takes     time.Duration
	cancelled []string
}

func (s *replayStore) Now() time.Time { return s.now }

// StepReplay implements [activities.ReplayStore].
func (s *replayStore) StepReplay(context.Context, string) (postrider.ReplayStep, error) {
	s.now = s.now.Add(s.takes)
	if s.made == len(s.steps) && s.err != nil {
		return postrider.ReplayStep{}, s.err
	}
	step := s.steps[min(s.made, len(s.steps)-1)]
	s.made++
	return step, nil
}

// CancelAnyReplay implements [activities.ReplayStore].
func (s *replayStore) CancelAnyReplay(_ context.Context, id string) error {
	s.cancelled = append(s.cancelled, id)
	return nil
}

func stepOf(sent int, moved, over bool) postrider.ReplayStep {
	return postrider.ReplayStep{ReplayProgress: postrider.ReplayProgress{Sent: sent}, Moved: moved, Over: over}
}

func advance(t *testing.T, s *replayStore) (report activities.ReplayReport, err error) {
	t.Helper()
	var suite testsuite.WorkflowTestSuite
	suite.SetLogger(temporallog.NewStructuredLogger(slog.New(slog.DiscardHandler)))
	env := suite.NewTestActivityEnvironment()
	replays := &activities.Replays{Store: s, Now: s.Now}
	env.RegisterActivity(replays)
	value, err := env.ExecuteActivity(replays.Advance, activities.ReplayInput{ReplayID: "rpl_1"})
	if err == nil {
		require.NoError(t, value.Get(&report))
	}
	return report, err
}

func TestAdvanceMakesStepsUntilItIsOver(t *testing.T) {
	t.Parallel()
	s := &replayStore{steps: []postrider.ReplayStep{stepOf(1, true, false), stepOf(2, true, false), stepOf(2, false, true)}}
	report, err := advance(t, s)
	require.NoError(t, err)
	require.True(t, report.Over)
	require.False(t, report.Idle)
	require.Equal(t, []int{2, 3}, []int{report.Sent, s.made})
}

func TestAdvanceEndsWhenNothingMoves(t *testing.T) {
	t.Parallel()
	s := &replayStore{steps: []postrider.ReplayStep{stepOf(1, true, false), stepOf(1, false, false)}, takes: 6 * time.Second}
	report, err := advance(t, s)
	require.NoError(t, err)
	require.True(t, report.Idle)
	require.Equal(t, 3, s.made)
}

// Guards the workflow's pace: an activity does not go on for ever.
func TestAdvanceEndsAfterItsShift(t *testing.T) {
	t.Parallel()
	s := &replayStore{steps: []postrider.ReplayStep{stepOf(1, true, false)}, takes: 6 * time.Second}
	report, err := advance(t, s)
	require.NoError(t, err)
	require.False(t, report.Idle || report.Over)
	require.Equal(t, 4, s.made)
}

func TestAdvanceFails(t *testing.T) {
	t.Parallel()
	_, err := advance(t, &replayStore{steps: []postrider.ReplayStep{stepOf(1, true, false)}, err: errors.New("the database is away")})
	require.ErrorContains(t, err, "away")
	_, err = advance(t, &replayStore{err: postrider.NotFound("replay")})
	require.ErrorContains(t, err, "unknown")
}

func TestStopCancelsTheReplay(t *testing.T) {
	t.Parallel()
	s := &replayStore{}
	require.NoError(t, (&activities.Replays{Store: s}).Stop(t.Context(), activities.ReplayInput{ReplayID: "rpl_1"}))
	require.Equal(t, []string{"rpl_1"}, s.cancelled)
}
