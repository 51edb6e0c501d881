package workflows_test

import (
	"context"
	"slices"
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

// tried returns a delivery whose first attempts failed and whose next attempt is due then.
func tried(id string, attempts int, due time.Time) workflows.Retried {
	r := workflows.Retried{DeliveryID: id, NextAttemptAt: &due}
	for n := range attempts {
		r.Attempts = append(r.Attempts, postrider.Attempt{Number: n + 1, Result: postrider.ResultTimeout})
	}
	return r
}

// carry runs a workflow that carries these deliveries.
func (b *carrierBench) carry(policy postrider.Policy, retries ...workflows.Retried) error {
	for _, r := range retries {
		b.attempts[r.DeliveryID] = len(r.Attempts) - 1
	}
	b.ExecuteWorkflow("Delivery", workflows.DeliveryInput{WebhookID: "wh_1", Policy: policy, Retries: retries})
	require.True(b.t, b.IsWorkflowCompleted())
	return b.GetWorkflowError()
}

// Guards against attempts that come late because other members are due later.
func TestCarrierWaitsForItsEarliestMember(t *testing.T) {
	t.Parallel()
	b := setupCarrier(t, map[string][]answer{
		"dlv_1": {retrying(9 * time.Second), succeeded}, "dlv_2": {retrying(7 * time.Second), succeeded},
	})
	begun := b.Now().UTC()
	require.NoError(t, b.carry(policy, tried("dlv_1", 1, begun.Add(3*time.Second)), tried("dlv_2", 1, begun.Add(2*time.Second))))
	var at []time.Duration
	for _, round := range b.rounds {
		at = append(at, round.Sub(begun).Round(time.Second))
	}
	require.Equal(t, []time.Duration{2 * time.Second, 9 * time.Second}, at)
}

// Guards max_retries when members have made different numbers of attempts: the member with the
// most remaining attempts decides how often Temporal tries.
func TestTemporalCountsRemainingAttempts(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		attempts map[string]int
		tries    []int32
	}{
		"alike":    {map[string]int{"dlv_1": 3, "dlv_2": 3}, []int32{1, 2, 3}},
		"unlike":   {map[string]int{"dlv_1": 1, "dlv_2": 4}, []int32{1, 2, 3, 4, 5}},
		"only one": {map[string]int{"dlv_1": 5}, []int32{1}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const retries = 5
			b := setupCarrier(t, map[string][]answer{})
			var members []workflows.Retried
			for id, n := range c.attempts {
				b.scripts[id] = append(slices.Repeat([]answer{retrying(time.Second)}, retries-n), failed)
				members = append(members, tried(id, n, b.Now().UTC()))
			}
			err := b.carry(postrider.Policy{TimeoutMS: 5000, MaxRetries: retries, BackoffMS: 1000}, members...)
			var typed *temporal.ApplicationError
			require.ErrorAs(t, err, &typed)
			var details []workflows.Failure
			require.NoError(t, typed.Details(&details))
			require.Len(t, details, len(c.attempts))
			for _, d := range details {
				require.Equal(t, 1+retries, d.Attempts)
			}
			require.Equal(t, c.tries, b.tries)
		})
	}
}

// Guards against rounds that use up the receivers' retries although they made no attempt, since
// they failed internally or got no permit.
func TestRoundWithoutAnAttemptUsesUpNoRetry(t *testing.T) {
	t.Parallel()
	noPermit := temporal.NewApplicationErrorWithOptions("no room", activities.ErrorNoPlace, temporal.ApplicationErrorOptions{
		NextRetryDelay: time.Second, Details: []any{activities.Reports{{DeliveryID: "dlv_1", State: postrider.StateRetrying}}},
	})
	for name, outage := range map[string]error{"internal failure": errDatabaseAway, "no permit": noPermit} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setupCarrier(t, map[string][]answer{
				"dlv_1": {retrying(time.Second), retrying(time.Second), failed}, "dlv_2": {retrying(time.Second), succeeded},
			})
			b.outages = slices.Repeat([]error{outage}, 7)
			var typed *temporal.ApplicationError
			require.ErrorAs(t, b.run(policy), &typed)
			require.Equal(t, workflows.ErrorExhausted, typed.Type())
			require.Equal(t, []int32{1, 2, 3, 1, 2, 3, 1, 2, 3, 1}, b.tries, "another activity follows when Temporal's tries are used up")
			require.Len(t, b.history("dlv_1").Attempts, 4)
			require.Equal(t, postrider.StateSucceeded, b.history("dlv_2").State)
		})
	}
}

func TestCarrierOfUnknownDeliveriesFails(t *testing.T) {
	t.Parallel()
	b := setupCarrier(t, map[string][]answer{"dlv_1": nil, "dlv_2": nil})
	b.outages = []error{temporal.NewNonRetryableApplicationError("gone", activities.ErrorUnknownDelivery, nil)}
	var typed *temporal.ApplicationError
	require.ErrorAs(t, b.run(policy), &typed)
	require.Equal(t, activities.ErrorUnknownDelivery, typed.Type())
	var details []workflows.Failure
	require.NoError(t, typed.Details(&details))
	require.Len(t, details, 2)
	require.Equal(t, "dlv_1", details[0].DeliveryID)
}

// Guards against a cancellation of deliveries that are finished, or that another workflow
// carries.
func TestCancelledCarrierCancelsItsUnfinishedDeliveries(t *testing.T) {
	t.Parallel()
	for name, open := range map[string][]string{"several": {"dlv_1", "dlv_2"}, "one": {"dlv_1"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setupCarrier(t, map[string][]answer{"dlv_fine": {succeeded}, "dlv_left": {left}})
			for _, id := range open {
				b.scripts[id] = []answer{retrying(time.Hour)}
			}
			b.RegisterDelayedCallback(b.CancelWorkflow, time.Minute)
			// With one try, the deliveries wait on the workflow's timer.
			require.True(t, temporal.IsCanceledError(b.run(postrider.Policy{TimeoutMS: 5000, MaxRetries: 1, BackoffMS: 1000})))
			require.Equal(t, [][]string{open}, b.cancelled)
			require.Equal(t, postrider.StateSucceeded, b.history("dlv_fine").State)
			require.Equal(t, postrider.StateRetrying, b.history("dlv_left").State)
			require.Equal(t, postrider.StateCancelled, b.history("dlv_1").State)
			require.Nil(t, b.history("dlv_1").NextAttemptAt)
		})
	}
}

// After an internal failure a batch does not know its deliveries. It answers as before its end.
func TestBatchWithoutReportsAnswersThatItDelivers(t *testing.T) {
	t.Parallel()
	b, err := openBatch(t, nil, errDatabaseAway)
	require.NoError(t, err)
	history := b.history("dlv_1")
	require.Equal(t, postrider.StateDelivering, history.State)
	require.NotNil(t, history.Attempts)
	require.Empty(t, history.Attempts)
	require.NotEmpty(t, history.RunID)
}

// Guards operators who press "query" in Temporal's web interface, which asks for no id.
func TestQueryWithoutAnIDListsTheDeliveries(t *testing.T) {
	t.Parallel()
	b := setupCarrier(t, map[string][]answer{"dlv_1": {succeeded}, "dlv_2": {left}})
	require.NoError(t, b.run(policy))
	value, err := b.QueryWorkflow("history")
	require.NoError(t, err)
	var all workflows.Overview
	require.NoError(t, value.Get(&all))
	require.NotEmpty(t, all.Hint)
	require.Len(t, all.Deliveries, 2)
	require.Equal(t, "dlv_1", all.Deliveries[0].DeliveryID)
	require.Equal(t, postrider.StateSucceeded, all.Deliveries[0].State)
	require.Equal(t, 2, all.Deliveries[0].Attempts)
	require.True(t, all.Deliveries[1].Elsewhere)

	alone := setupCarrier(t, map[string][]answer{"dlv_1": {succeeded}})
	require.NoError(t, alone.run(policy))
	value, err = alone.QueryWorkflow("history")
	require.NoError(t, err)
	var history postrider.History
	require.NoError(t, value.Get(&history))
	require.Len(t, history.Attempts, 2)
}

// Guards a database that comes back under load: carriers try less and less often, but every few
// minutes at least.
func TestCarrierWaitsLongerAfterEachInternalFailure(t *testing.T) {
	t.Parallel()
	b := setupCarrier(t, map[string][]answer{"dlv_1": {succeeded}, "dlv_2": {succeeded}})
	b.outages = slices.Repeat([]error{errDatabaseAway}, 310)
	// With one try each, the waits are the workflow's own.
	require.NoError(t, b.run(postrider.Policy{TimeoutMS: 5000, MaxRetries: 1, BackoffMS: 1000}))
	for i := range len(b.rounds) - 1 {
		want := min(time.Duration(i+2)*time.Second, 5*time.Minute)
		require.Equal(t, want, b.rounds[i+1].Sub(b.rounds[i]).Round(time.Second))
	}
}

// Guards against a repeated attempt when the signal that reported it was lost.
func TestErrorWithoutPermitReportsTheOtherMembers(t *testing.T) {
	t.Parallel()
	b := setupCarrier(t, map[string][]answer{"dlv_1": {succeeded}, "dlv_2": {failed}})
	b.outages = []error{temporal.NewApplicationErrorWithOptions("no room", activities.ErrorNoPlace, temporal.ApplicationErrorOptions{
		Details: []any{activities.Reports{{DeliveryID: "dlv_1", State: postrider.StateRetrying}, b.report("dlv_2", succeeded)}},
	})}
	require.NoError(t, b.run(postrider.Policy{TimeoutMS: 5000, MaxRetries: 1, BackoffMS: 1000}))
	require.Equal(t, [][]string{{"dlv_1"}}, b.members)
	require.Equal(t, postrider.StateSucceeded, b.history("dlv_2").State)
}

// A workflow ends as cancelled only when all its deliveries were cancelled.
func TestMemberCancelledInTheDatabaseEndsAlone(t *testing.T) {
	t.Parallel()
	cancelled := answer{state: postrider.StateCancelled}
	b := setupCarrier(t, map[string][]answer{"dlv_1": {cancelled}, "dlv_2": {retrying(time.Second), succeeded}})
	require.NoError(t, b.run(policy))
	require.Equal(t, postrider.StateCancelled, b.history("dlv_1").State)
	require.Len(t, b.history("dlv_1").Attempts, 1, "no other attempt was made")
	require.Empty(t, b.cancelled, "the database has it already")

	b = setupCarrier(t, map[string][]answer{"dlv_1": {cancelled}, "dlv_2": {cancelled}})
	require.True(t, temporal.IsCanceledError(b.run(policy)))
}

// Guards the timeout that Temporal enforces, and the catch-up of a round, which needs to know
// how many attempts the workflow knows.
func TestRoundGetsItsTimeoutAndTheKnownAttempts(t *testing.T) {
	t.Parallel()
	b := setupCarrier(t, map[string][]answer{"dlv_1": {succeeded}, "dlv_2": {succeeded}})
	var in activities.RetryInput
	var given time.Duration
	b.SetOnActivityStartedListener(func(info *activity.Info, _ context.Context, args converter.EncodedValues) {
		given = info.Deadline.Sub(info.StartedTime)
		require.NoError(t, args.Get(&in))
	})
	require.NoError(t, b.carry(policy, tried("dlv_1", 1, b.Now().UTC()), tried("dlv_2", 3, b.Now().UTC())))
	require.InDelta(t, activities.RetryTimeout(5*time.Second), given, float64(2*time.Second))
	require.Equal(t, []activities.RetryMember{{DeliveryID: "dlv_1", Known: 1}, {DeliveryID: "dlv_2", Known: 3}}, in.Members)
}

func TestFirstAttemptsGetTheirTimeout(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		in   workflows.DeliveryInput
		want time.Duration
	}{
		"of a batch": {workflows.DeliveryInput{Batch: &workflows.BatchOfFirsts{LongestMS: 43000}}, 43 * time.Second},
		"of one":     {workflows.DeliveryInput{DeliveryID: "dlv_1", Policy: policy}, 15 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setupCarrier(t, nil)
			var given time.Duration
			b.RegisterActivityWithOptions(func(ctx context.Context, _ activities.DeliverInput) (activities.Reports, error) {
				until, _ := ctx.Deadline()
				given = time.Until(until)
				return activities.Reports{b.report("dlv_1", succeeded)}, nil
			}, activity.RegisterOptions{Name: "Deliver"})
			b.ExecuteWorkflow("Delivery", c.in)
			require.NoError(t, b.GetWorkflowError())
			require.InDelta(t, c.want, given, float64(2*time.Second))
		})
	}
}
