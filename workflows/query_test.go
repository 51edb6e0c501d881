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

// numbers returns the numbers of the attempts in the query's answer.
func (b *carrierBench) numbers(id string) []int {
	b.t.Helper()
	var numbers []int
	for _, attempt := range b.history(id).Attempts {
		numbers = append(numbers, attempt.Number)
	}
	return numbers
}

func TestQueryReturnsAllAttemptsOfEachMember(t *testing.T) {
	t.Parallel()
	b := setupCarrier(t, map[string][]answer{
		"dlv_1": {retrying(2 * time.Second), succeeded}, "dlv_2": {retrying(3 * time.Second), retrying(time.Second), failed},
	})
	begun := b.Now().UTC()
	checked := 0
	check := func(at time.Duration, one, two []int) {
		b.RegisterDelayedCallback(func() {
			require.Equal(t, one, b.numbers("dlv_1"))
			require.Equal(t, two, b.numbers("dlv_2"))
			for _, id := range []string{"dlv_1", "dlv_2"} {
				require.Equal(t, postrider.StateRetrying, b.history(id).State)
				require.True(t, b.history(id).NextAttemptAt.After(b.Now()))
			}
			checked++
		}, at)
	}
	check(500*time.Millisecond, []int{1, 2}, []int{1}) // inside the timer
	check(2*time.Second, []int{1, 2, 3}, []int{1, 2})  // inside the activity's backoff
	due := begun.Add(time.Second)
	require.Error(t, b.carry(policy, tried("dlv_1", 2, due), tried("dlv_2", 1, due)))
	require.Equal(t, 2, checked)
	require.Equal(t, []int{1, 2, 3, 4}, b.numbers("dlv_1"))
	require.Equal(t, postrider.StateSucceeded, b.history("dlv_1").State)
	require.Equal(t, []int{1, 2, 3, 4}, b.numbers("dlv_2"))
	require.Equal(t, postrider.StateFailed, b.history("dlv_2").State)
	require.Nil(t, b.history("dlv_2").NextAttemptAt)
}

// An open batch does not know its deliveries. It answers for any id.
func TestOpenBatchAnswersThatItDelivers(t *testing.T) {
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

// Guards against a late report that lets the workflow attempt a delivery which another workflow
// carries by now, and against a report on an unknown delivery.
func TestLateReportBringsNoDeliveryBack(t *testing.T) {
	t.Parallel()
	b := setupCarrier(t, map[string][]answer{"dlv_1": {retrying(10 * time.Second), succeeded}, "dlv_left": {left, left}})
	b.outages = []error{errDatabaseAway} // so the next round is the last of its activity
	b.RegisterDelayedCallback(func() {
		b.SignalWorkflow("attempt-report", activities.Reports{
			{DeliveryID: "dlv_left", State: postrider.StateRetrying, Attempts: b.history("dlv_left").Attempts},
			{DeliveryID: "dlv_unknown", State: postrider.StateRetrying},
		})
	}, 8*time.Second)
	require.NoError(t, b.run(postrider.Policy{TimeoutMS: 5000, MaxRetries: 2, BackoffMS: 1000}))
	require.Equal(t, [][]string{{"dlv_1", "dlv_left"}, {"dlv_1"}}, b.members)
}

// Guards against a cancelled delivery that a late attempt makes retrying again.
func TestCancelledDeliveryStaysCancelled(t *testing.T) {
	t.Parallel()
	b := setupCarrier(t, map[string][]answer{
		"dlv_1": {retrying(time.Hour)}, "dlv_2": {retrying(time.Hour)}, "dlv_fine": {succeeded},
	})
	b.RegisterDelayedCallback(b.CancelWorkflow, time.Minute) // inside the timer, since the environment cannot end a backoff early
	b.SetOnActivityStartedListener(func(info *activity.Info, _ context.Context, _ converter.EncodedValues) {
		if info.ActivityType.Name == "CancelAll" {
			b.SignalWorkflow("attempt-report", activities.Reports{b.report("dlv_1", retrying(time.Hour))})
		}
	})
	b.outages = []error{errDatabaseAway} // so the next round is the last of its activity
	require.True(t, temporal.IsCanceledError(b.run(postrider.Policy{TimeoutMS: 5000, MaxRetries: 2, BackoffMS: 1000})))
	require.Equal(t, [][]string{{"dlv_1", "dlv_2"}}, b.cancelled)
	require.Equal(t, postrider.StateCancelled, b.history("dlv_1").State)
	require.Nil(t, b.history("dlv_1").NextAttemptAt)
	require.Equal(t, []int{1, 2, 3}, b.numbers("dlv_1"), "the late attempt is in the history")
	require.Equal(t, postrider.StateSucceeded, b.history("dlv_fine").State)
}
