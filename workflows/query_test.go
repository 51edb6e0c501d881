package workflows_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"

	"postrider.dev/postrider"
	"postrider.dev/postrider/activities"
	"postrider.dev/postrider/workflows"
)

// numbers returns those of the attempts that the query tells of.
func (b *carrierBench) numbers(id string) []int {
	b.t.Helper()
	var numbers []int
	for _, attempt := range b.history(id).Attempts {
		numbers = append(numbers, attempt.Number)
	}
	return numbers
}

func TestQueryTellsTheWholeStoryOfEachMember(t *testing.T) {
	t.Parallel()
	b := setupCarrier(t, map[string][]answer{
		"dlv_1": {retrying(2 * time.Second), succeeded}, "dlv_2": {retrying(3 * time.Second), retrying(time.Second), failed},
	})
	begun := b.Now().UTC()
	told := 0
	tells := func(at time.Duration, one, two []int) {
		b.RegisterDelayedCallback(func() {
			require.Equal(t, one, b.numbers("dlv_1"))
			require.Equal(t, two, b.numbers("dlv_2"))
			for _, id := range []string{"dlv_1", "dlv_2"} {
				require.Equal(t, postrider.StateRetrying, b.history(id).State)
				require.True(t, b.history(id).NextAttemptAt.After(b.Now()))
			}
			told++
		}, at)
	}
	tells(500*time.Millisecond, []int{1, 2}, []int{1}) // inside the timer
	tells(2*time.Second, []int{1, 2, 3}, []int{1, 2})  // inside the activity's backoff
	due := begun.Add(time.Second)
	require.Error(t, b.carry(policy, tried("dlv_1", 2, due), tried("dlv_2", 1, due)))
	require.Equal(t, 2, told)
	require.Equal(t, []int{1, 2, 3, 4}, b.numbers("dlv_1"))
	require.Equal(t, postrider.StateSucceeded, b.history("dlv_1").State)
	require.Equal(t, []int{1, 2, 3, 4}, b.numbers("dlv_2"))
	require.Equal(t, postrider.StateFailed, b.history("dlv_2").State)
	require.Nil(t, b.history("dlv_2").NextAttemptAt)
}

// An open batch knows none of its deliveries, and answers for each that it delivers.
func TestBatchTellsThatItDeliversBeforeItsEnd(t *testing.T) {
	t.Parallel()
	b := setupCarrier(t, nil)
	var open postrider.History
	b.RegisterActivityWithOptions(func(context.Context, activities.DeliverInput) (activities.Reports, error) {
		open = b.history("dlv_1")
		return bothReports(), nil
	}, activity.RegisterOptions{Name: "Deliver"})
	b.ExecuteWorkflow("Delivery", workflows.DeliveryInput{Batch: &workflows.BatchOfFirsts{LongestMS: 43000}})
	require.NoError(t, b.GetWorkflowError())
	require.Equal(t, postrider.StateDelivering, open.State)
	require.NotNil(t, open.Attempts)
	require.Empty(t, open.Attempts)
	require.NotEmpty(t, open.RunID)
	require.Equal(t, postrider.StateSucceeded, b.history("dlv_1").State)
}

// Guards against a delivery that another workflow carries by now being attempted here,
// since a report from before came late; and against one of nobody's.
func TestLateReportBringsNobodyBack(t *testing.T) {
	t.Parallel()
	b := setupCarrier(t, map[string][]answer{"dlv_1": {retrying(10 * time.Second), succeeded}, "dlv_left": {left, left}})
	b.troubles = []error{errDatabaseAway} // so that the round after it is the last of its activity
	b.RegisterDelayedCallback(func() {
		b.SignalWorkflow("attempt-report", activities.Reports{
			{DeliveryID: "dlv_left", State: postrider.StateRetrying, Attempts: b.history("dlv_left").Attempts},
			{DeliveryID: "dlv_unknown", State: postrider.StateRetrying},
		})
	}, 8*time.Second)
	require.NoError(t, b.run(postrider.Policy{TimeoutMS: 5000, MaxRetries: 2, BackoffMS: 1000}))
	require.Equal(t, [][]string{{"dlv_1", "dlv_left"}, {"dlv_1"}}, b.members)
}

// Guards what operators were told: an attempt that ended meanwhile does not bring back
// what they cancelled.
func TestCancelledStaysCancelled(t *testing.T) {
	t.Parallel()
	b := setupCarrier(t, map[string][]answer{"dlv_1": {retrying(time.Hour)}, "dlv_2": {retrying(time.Hour)}, "dlv_fine": {succeeded}})
	b.RegisterDelayedCallback(b.CancelWorkflow, time.Minute) // inside the timer: the environment cannot end a backoff early
	b.SetOnActivityStartedListener(func(info *activity.Info, _ context.Context, _ converter.EncodedValues) {
		if info.ActivityType.Name == "CancelAll" {
			b.SignalWorkflow("attempt-report", activities.Reports{b.report("dlv_1", retrying(time.Hour))})
		}
	})
	b.troubles = []error{errDatabaseAway} // so that the round after it is the last of its activity
	require.True(t, temporal.IsCanceledError(b.run(postrider.Policy{TimeoutMS: 5000, MaxRetries: 2, BackoffMS: 1000})))
	require.Equal(t, [][]string{{"dlv_1", "dlv_2"}}, b.cancelled)
	require.Equal(t, postrider.StateCancelled, b.history("dlv_1").State)
	require.Nil(t, b.history("dlv_1").NextAttemptAt)
	require.Equal(t, []int{1, 2, 3}, b.numbers("dlv_1"), "it was made all the same")
	require.Equal(t, postrider.StateSucceeded, b.history("dlv_fine").State)
}
