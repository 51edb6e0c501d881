package workflows_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	temporallog "go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"

	"postrider.dev/postrider"
	"postrider.dev/postrider/activities"
	"postrider.dev/postrider/workflows"
)

var errDatabaseAway = errors.New("database away")

// bench is a workflow environment whose activities follow a script with one answer for each
// attempt.
type bench struct {
	*testsuite.TestWorkflowEnvironment
	t         *testing.T
	in        workflows.DeliveryInput
	answers   []answer
	made      []time.Time // the time of each attempt
	cancelled int
}

// answer is the result of one run of an activity.
type answer struct {
	state  postrider.DeliveryState // after the attempt
	status int
	wait   time.Duration // before the next attempt
	err    error         // an internal failure: no attempt was made
}

func setup(t *testing.T, policy postrider.Policy, answers ...answer) *bench {
	t.Helper()
	var suite testsuite.WorkflowTestSuite
	suite.SetLogger(temporallog.NewStructuredLogger(slog.New(slog.DiscardHandler)))
	b := &bench{
		TestWorkflowEnvironment: suite.NewTestWorkflowEnvironment(), t: t, answers: answers,
		in: workflows.DeliveryInput{DeliveryID: "dlv_1", WebhookID: "wh_1", EventType: "call.ended", Policy: policy},
	}
	workflows.Register(b)
	b.RegisterActivityWithOptions(b.deliver, activity.RegisterOptions{Name: "Deliver"})
	b.RegisterActivityWithOptions(b.retry, activity.RegisterOptions{Name: "Retry"})
	b.RegisterActivityWithOptions(b.cancel, activity.RegisterOptions{Name: "Cancel"})
	return b
}

func (b *bench) run() error {
	b.ExecuteWorkflow("Delivery", b.in)
	require.True(b.t, b.IsWorkflowCompleted())
	return b.GetWorkflowError()
}

func (b *bench) history() postrider.History {
	b.t.Helper()
	value, err := b.QueryWorkflow("history")
	require.NoError(b.t, err)
	var history postrider.History
	require.NoError(b.t, value.Get(&history))
	return history
}

func (b *bench) next() (activities.Report, error) {
	require.NotEmpty(b.t, b.answers, "more attempts than the script has answers")
	a := b.answers[0]
	b.answers = b.answers[1:]
	if a.err != nil {
		return activities.Report{}, a.err
	}
	b.made = append(b.made, b.Now())
	reason := "the receiver said no"
	attempt := postrider.Attempt{
		Number: len(b.made), StartedAt: b.Now().UTC(), StatusCode: &a.status, Result: postrider.ResultServerError, Error: &reason,
	}
	switch {
	case a.state == postrider.StateSucceeded:
		attempt.Result, attempt.Error = postrider.ResultSuccess, nil
	case a == skipped:
		attempt.Result = postrider.ResultCancelled
	}
	report := activities.Report{DeliveryID: b.in.DeliveryID, State: a.state, Attempts: []postrider.Attempt{attempt}}
	if a.state == postrider.StateRetrying {
		at := b.Now().UTC().Add(a.wait)
		report.NextAttemptAt = &at
	}
	return report, nil
}

func (b *bench) deliver(_ context.Context, in activities.DeliverInput) (activities.Reports, error) {
	require.Equal(b.t, []string{b.in.DeliveryID}, in.DeliveryIDs)
	report, err := b.next()
	return activities.Reports{report}, err
}

// retry behaves as the real activity: a refused try is an error with the report and the wait.
func (b *bench) retry(_ context.Context, in activities.RetryInput) (activities.Reports, error) {
	require.Len(b.t, in.Members, 1)
	require.Equal(b.t, b.in.DeliveryID, in.Members[0].DeliveryID)
	report, err := b.next()
	if err != nil || report.State == postrider.StateSucceeded || report.State == postrider.StateCancelled {
		return activities.Reports{report}, err
	}
	cancelled := report.Attempts[0].Result == postrider.ResultCancelled
	options := temporal.ApplicationErrorOptions{
		Details: []any{activities.Reports{report}}, NonRetryable: report.Attempts[0].Gone() || cancelled,
	}
	if report.NextAttemptAt != nil {
		options.NextRetryDelay = report.NextAttemptAt.Sub(b.Now())
		b.SignalWorkflow("attempt-report", activities.Reports{report})
	}
	return nil, temporal.NewApplicationErrorWithOptions("attempt failed", activities.ErrorAttemptFailed, options)
}

func (b *bench) cancel(_ context.Context, id string) error {
	require.Equal(b.t, b.in.DeliveryID, id)
	b.cancelled++
	return nil
}

var policy = postrider.Policy{TimeoutMS: 5000, MaxRetries: 3, BackoffMS: 1000}

func retrying(wait time.Duration) answer {
	return answer{state: postrider.StateRetrying, status: 500, wait: wait}
}

var (
	succeeded = answer{state: postrider.StateSucceeded, status: 204}
	failed    = answer{state: postrider.StateFailed, status: 500}
	skipped   = answer{state: postrider.StateFailed}
)

// waits returns the time between attempts.
func (b *bench) waits() []time.Duration {
	var waits []time.Duration
	for i := range len(b.made) - 1 {
		waits = append(waits, b.made[i+1].Sub(b.made[i]).Round(100*time.Millisecond))
	}
	return waits
}

func TestDeliverySucceedsAtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t, policy, succeeded)
	require.NoError(t, b.run())
	history := b.history()
	require.Equal(t, postrider.StateSucceeded, history.State)
	require.Len(t, history.Attempts, 1)
	require.Equal(t, policy, history.Policy)
	require.NotEmpty(t, history.RunID)
	require.Nil(t, history.NextAttemptAt)
}

func TestDeliveryWaitsAsTheReportsSay(t *testing.T) {
	t.Parallel()
	b := setup(t, policy, retrying(time.Second), retrying(2*time.Second), succeeded)
	require.NoError(t, b.run())
	require.Equal(t, []time.Duration{time.Second, 2 * time.Second}, b.waits())
	require.Equal(t, postrider.StateSucceeded, b.history().State)
	require.Len(t, b.history().Attempts, 3)
}

func TestExhaustedDeliveryFailsWithATypedError(t *testing.T) {
	t.Parallel()
	b := setup(t, policy, retrying(time.Second), retrying(2*time.Second), retrying(4*time.Second), failed)
	err := b.run()
	var typed *temporal.ApplicationError
	require.ErrorAs(t, err, &typed)
	require.Equal(t, workflows.ErrorExhausted, typed.Type())
	var details workflows.Failure
	require.NoError(t, typed.Details(&details))
	want := workflows.Failure{
		DeliveryID: "dlv_1", WebhookID: "wh_1", EventType: "call.ended", Attempts: 4, LastResult: postrider.ResultServerError,
		StatusCode: new(500),
	}
	require.Equal(t, want, details)
	require.Equal(t, postrider.StateFailed, b.history().State)
	require.Len(t, b.history().Attempts, 4)
}

func TestDeliveryWithoutRetriesFailsAtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t, postrider.Policy{TimeoutMS: 1000, BackoffMS: 1000}, failed)
	var typed *temporal.ApplicationError
	require.ErrorAs(t, b.run(), &typed)
	require.Equal(t, workflows.ErrorExhausted, typed.Type())
	require.Len(t, b.made, 1)
}

func TestGoneEndsTheRetries(t *testing.T) {
	t.Parallel()
	gone := answer{state: postrider.StateFailed, status: 410}
	for name, answers := range map[string][]answer{
		"at the first attempt": {gone},
		"at a retry":           {retrying(time.Second), gone},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, policy, answers...)
			var typed *temporal.ApplicationError
			require.ErrorAs(t, b.run(), &typed)
			require.Equal(t, workflows.ErrorGone, typed.Type())
			require.Len(t, b.made, len(answers))
		})
	}
}

func TestQueryIsAnsweredDuringWaits(t *testing.T) {
	t.Parallel()
	b := setup(t, policy, retrying(time.Second), retrying(10*time.Second), succeeded)
	b.RegisterDelayedCallback(func() { // inside the first wait, the workflow's own timer
		history := b.history()
		require.Equal(t, postrider.StateRetrying, history.State)
		require.Len(t, history.Attempts, 1)
		require.NotNil(t, history.NextAttemptAt)
		require.WithinDuration(t, b.made[0].Add(time.Second), *history.NextAttemptAt, time.Millisecond)
	}, 500*time.Millisecond)
	b.RegisterDelayedCallback(func() { // inside the second, the activity's backoff
		history := b.history()
		require.Equal(t, postrider.StateRetrying, history.State)
		require.Len(t, history.Attempts, 2)
		require.NotNil(t, history.NextAttemptAt)
		require.WithinDuration(t, b.made[1].Add(10*time.Second), *history.NextAttemptAt, time.Millisecond)
	}, 5*time.Second)
	require.NoError(t, b.run())
}

func TestCancelIsRecorded(t *testing.T) {
	t.Parallel()
	b := setup(t, policy, retrying(time.Hour))
	b.RegisterDelayedCallback(b.CancelWorkflow, time.Minute)
	require.True(t, temporal.IsCanceledError(b.run()))
	require.Equal(t, 1, b.cancelled)
	require.Equal(t, postrider.StateCancelled, b.history().State)
}

func TestDeliveryCancelledInTheDatabaseEndsAsCancelled(t *testing.T) {
	t.Parallel()
	b := setup(t, policy, retrying(time.Second), answer{state: postrider.StateCancelled})
	require.True(t, temporal.IsCanceledError(b.run()))
	require.Equal(t, postrider.StateCancelled, b.history().State)
}

// Guards against a delivery that is cancelled because its worker was stopped.
func TestStoppedWorkerCancelsNothing(t *testing.T) {
	t.Parallel()
	b := setup(t, policy, answer{err: temporal.NewCanceledError()}, succeeded)
	require.NoError(t, b.run())
	require.Zero(t, b.cancelled)
	require.Equal(t, postrider.StateSucceeded, b.history().State)
}

func TestUnknownDeliveryEndsItsWorkflow(t *testing.T) {
	t.Parallel()
	unknown := answer{err: temporal.NewNonRetryableApplicationError("gone", activities.ErrorUnknownDelivery, nil)}
	b := setup(t, policy, unknown, unknown)
	var typed *temporal.ApplicationError
	require.ErrorAs(t, b.run(), &typed)
	require.Equal(t, activities.ErrorUnknownDelivery, typed.Type())
}

// Guards against an internal failure that uses up the receiver's retries.
func TestInternalFailureUsesUpNoAttempt(t *testing.T) {
	t.Parallel()
	outage := answer{err: errDatabaseAway}
	answers := []answer{outage} // the local activity
	for range 50 {
		answers = append(answers, outage)
	}
	answers = append(answers, retrying(time.Second), outage, retrying(2*time.Second), outage, outage, retrying(4*time.Second), failed)
	b := setup(t, policy, answers...)
	b.SetTestTimeout(time.Minute)
	var typed *temporal.ApplicationError
	require.ErrorAs(t, b.run(), &typed)
	require.Equal(t, workflows.ErrorExhausted, typed.Type())
	require.Len(t, b.made, 4)
	require.Empty(t, b.answers)
}

// A signal may arrive after a later report. Guards against a history that goes back.
func TestLateReportChangesNothing(t *testing.T) {
	t.Parallel()
	b := setup(t, policy, retrying(time.Second), retrying(time.Minute), succeeded)
	b.RegisterDelayedCallback(func() {
		first := b.history().Attempts[0]
		b.SignalWorkflow("attempt-report", activities.Report{ // a single report, as earlier versions sent
			DeliveryID: b.in.DeliveryID, State: postrider.StateDelivering, Attempts: []postrider.Attempt{first},
		})
	}, 10*time.Second)
	b.RegisterDelayedCallback(func() {
		require.Equal(t, postrider.StateRetrying, b.history().State)
		require.Len(t, b.history().Attempts, 2)
		require.NotNil(t, b.history().NextAttemptAt)
	}, 20*time.Second)
	require.NoError(t, b.run())
}

// Guards the type by which operators tell a delivery whose attempt was skipped from one whose
// attempts failed.
func TestSkippedAttemptFailsWithItsOwnError(t *testing.T) {
	t.Parallel()
	b := setup(t, policy, retrying(time.Second), skipped)
	var typed *temporal.ApplicationError
	require.ErrorAs(t, b.run(), &typed)
	require.Equal(t, workflows.ErrorCalledOff, typed.Type())
	require.Equal(t, "dlv_1: the receiver said no", typed.Message())
	require.True(t, typed.NonRetryable())
	var details workflows.Failure
	require.NoError(t, typed.Details(&details))
	require.Equal(t, postrider.ResultCancelled, details.LastResult)
}

// A delivery may have failed before its workflow knew any attempt.
func TestFailureWithoutKnownAttemptsSaysSo(t *testing.T) {
	t.Parallel()
	b := setupCarrier(t, nil)
	b.RegisterActivityWithOptions(func(context.Context, activities.DeliverInput) (activities.Reports, error) {
		require.Empty(t, b.history("").Attempts)
		require.NotNil(t, b.history("").Attempts, "the answer is a list, also in JSON")
		return activities.Reports{{DeliveryID: "dlv_1", State: postrider.StateFailed}}, nil
	}, activity.RegisterOptions{Name: "Deliver"})
	b.ExecuteWorkflow("Delivery", workflows.DeliveryInput{DeliveryID: "dlv_1", Policy: policy})
	var typed *temporal.ApplicationError
	require.ErrorAs(t, b.GetWorkflowError(), &typed)
	require.Equal(t, workflows.ErrorExhausted, typed.Type())
	require.Contains(t, typed.Message(), "unknown")
}

// Guards schedules with waits beyond an hour: Temporal refuses a retry policy whose first interval is over its longest.
func TestDeliveryGoesByItsSchedule(t *testing.T) {
	t.Parallel()
	policy := postrider.Policy{TimeoutMS: 5000, RetrySchedule: postrider.RetryScheduleOf(1000, 86400000, 7200000)}.Scheduled()
	b := setup(t, policy,
		answer{state: postrider.StateRetrying, status: 500, wait: time.Second},
		answer{state: postrider.StateRetrying, status: 500, wait: 24 * time.Hour},
		answer{state: postrider.StateRetrying, status: 500, wait: 2 * time.Hour},
		answer{state: postrider.StateSucceeded, status: 200},
	)
	require.NoError(t, b.run())
	require.Len(t, b.made, 4)
	require.Equal(t, policy, b.history().Policy)
	for i, wait := range []time.Duration{time.Second, 24 * time.Hour, 2 * time.Hour} {
		require.WithinDuration(t, b.made[i].Add(wait), b.made[i+1], time.Second)
	}
}
