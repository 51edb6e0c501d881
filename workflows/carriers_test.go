package workflows_test

import (
	"context"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	temporallog "go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"

	"postrider.dev/postrider"
	"postrider.dev/postrider/activities"
	"postrider.dev/postrider/workflows"
)

// carrierBench is a workflow environment for retries of several deliveries. A script says how
// the next attempts of each end. Its activity behaves as the real one.
type carrierBench struct {
	*testsuite.TestWorkflowEnvironment
	t         *testing.T
	scripts   map[string][]answer
	outages   []error // how the first rounds end, without an attempt
	rounds    []time.Time
	tries     []int32    // Temporal's number of each round
	members   [][]string // of each round
	attempts  map[string]int
	cancelled [][]string
	found     temporal.SearchAttributes // of a batch that ended
}

// left lets a delivery leave its carrier.
var left = answer{state: "left"}

func setupCarrier(t *testing.T, scripts map[string][]answer) *carrierBench {
	t.Helper()
	var suite testsuite.WorkflowTestSuite
	suite.SetLogger(temporallog.NewStructuredLogger(slog.New(slog.DiscardHandler)))
	b := &carrierBench{TestWorkflowEnvironment: suite.NewTestWorkflowEnvironment(), t: t, scripts: scripts, attempts: map[string]int{}}
	workflows.Register(b)
	b.RegisterActivityWithOptions(b.retry, activity.RegisterOptions{Name: "Retry"})
	b.RegisterActivityWithOptions(func(_ context.Context, ids []string) error {
		b.cancelled = append(b.cancelled, ids)
		return nil
	}, activity.RegisterOptions{Name: "CancelAll"})
	b.RegisterActivityWithOptions(func(_ context.Context, id string) error {
		b.cancelled = append(b.cancelled, []string{id})
		return nil
	}, activity.RegisterOptions{Name: "Cancel"})
	return b
}

func (b *carrierBench) retry(ctx context.Context, in activities.RetryInput) (activities.Reports, error) {
	b.rounds = append(b.rounds, b.Now())
	b.tries = append(b.tries, activity.GetInfo(ctx).Attempt)
	if len(b.outages) > 0 {
		outage := b.outages[0]
		b.outages = b.outages[1:]
		return nil, outage
	}
	var reports activities.Reports
	var ids []string
	var next *time.Time
	failed := false
	for _, m := range in.Members {
		script := b.scripts[m.DeliveryID]
		if len(script) == 0 { // finished in an earlier round of the same activity
			continue
		}
		ids = append(ids, m.DeliveryID)
		b.scripts[m.DeliveryID] = script[1:]
		report := b.report(m.DeliveryID, script[0])
		reports = append(reports, report)
		failed = failed || report.State == postrider.StateFailed
		if at := report.NextAttemptAt; at != nil && (next == nil || at.Before(*next)) {
			next = at
		}
	}
	b.members = append(b.members, ids)
	options := temporal.ApplicationErrorOptions{Details: []any{reports}}
	switch {
	case next != nil:
		b.SignalWorkflow("attempt-report", reports)
		options.NextRetryDelay = max(next.Sub(b.Now()), 1)
		return nil, temporal.NewApplicationErrorWithOptions("attempt failed", activities.ErrorAttemptFailed, options)
	case failed:
		options.NonRetryable = true
		return nil, temporal.NewApplicationErrorWithOptions("attempt failed", activities.ErrorAttemptFailed, options)
	}
	return reports, nil
}

func (b *carrierBench) report(id string, a answer) activities.Report {
	if a.state == left.state {
		return activities.Report{DeliveryID: id, State: postrider.StateRetrying, Left: true}
	}
	if a.state == postrider.StateCancelled { // cancelled in the database, so no attempt is made
		return activities.Report{DeliveryID: id, State: a.state}
	}
	b.attempts[id]++
	reason := "the receiver said no"
	made := postrider.Attempt{
		Number: 1 + b.attempts[id], StartedAt: b.Now().UTC(), StatusCode: &a.status, Result: postrider.ResultServerError, Error: &reason,
	}
	if a.state == postrider.StateSucceeded {
		made.Result, made.Error = postrider.ResultSuccess, nil
	}
	report := activities.Report{DeliveryID: id, State: a.state, Attempts: []postrider.Attempt{made}}
	if a.state == postrider.StateRetrying {
		at := b.Now().UTC().Add(a.wait)
		report.NextAttemptAt = &at
	}
	return report
}

// run runs a workflow that carries every delivery with a script, all due a second later.
func (b *carrierBench) run(policy postrider.Policy) error {
	in := workflows.DeliveryInput{WebhookID: "wh_1", Policy: policy}
	for id := range b.scripts {
		due := b.Now().UTC().Add(time.Second)
		in.Retries = append(in.Retries, workflows.Retried{
			DeliveryID: id, Attempts: []postrider.Attempt{{Number: 1, Result: postrider.ResultTimeout}}, NextAttemptAt: &due,
		})
	}
	slices.SortFunc(in.Retries, func(x, y workflows.Retried) int {
		return slices.Compare([]string{x.DeliveryID}, []string{y.DeliveryID})
	})
	b.ExecuteWorkflow("Delivery", in)
	require.True(b.t, b.IsWorkflowCompleted())
	return b.GetWorkflowError()
}

func (b *carrierBench) history(id string) postrider.History {
	b.t.Helper()
	value, err := b.QueryWorkflow("history", id)
	require.NoError(b.t, err)
	var history postrider.History
	require.NoError(b.t, value.Get(&history))
	return history
}

func TestEachMemberEndsByItself(t *testing.T) {
	t.Parallel()
	b := setupCarrier(t, map[string][]answer{
		"dlv_fine": {succeeded},
		"dlv_left": {retrying(2 * time.Second), left},
		"dlv_lost": {retrying(2 * time.Second), retrying(4 * time.Second), failed},
	})
	b.RegisterDelayedCallback(func() { // inside the timer
		history := b.history("dlv_fine")
		require.Equal(t, postrider.StateRetrying, history.State)
		require.Len(t, history.Attempts, 1, "the attempt before the workflow began")
		require.NotNil(t, history.NextAttemptAt)
		require.Equal(t, policy, history.Policy)
	}, 500*time.Millisecond)
	b.RegisterDelayedCallback(func() { // inside the activity's first backoff
		require.Equal(t, postrider.StateSucceeded, b.history("dlv_fine").State)
		lost := b.history("dlv_lost")
		require.Len(t, lost.Attempts, 2)
		require.NotNil(t, lost.NextAttemptAt)
	}, 2*time.Second)
	err := b.run(policy)
	var typed *temporal.ApplicationError
	require.ErrorAs(t, err, &typed)
	require.Equal(t, workflows.ErrorExhausted, typed.Type())
	require.Contains(t, typed.Message(), "dlv_lost")
	var details []workflows.Failure
	require.NoError(t, typed.Details(&details))
	require.Equal(t, []workflows.Failure{
		{DeliveryID: "dlv_lost", WebhookID: "wh_1", Attempts: 4, LastResult: postrider.ResultServerError, StatusCode: new(500)},
	}, details)
	require.Equal(t, [][]string{{"dlv_fine", "dlv_left", "dlv_lost"}, {"dlv_left", "dlv_lost"}, {"dlv_lost"}}, b.members)
	require.Len(t, b.history("dlv_lost").Attempts, 4)
	_, err = b.QueryWorkflow("history", "dlv_unknown")
	require.ErrorContains(t, err, "does not carry delivery")
}

func TestCarrierCompletesWhenAllSucceedOrLeave(t *testing.T) {
	t.Parallel()
	b := setupCarrier(t, map[string][]answer{"dlv_1": {succeeded}, "dlv_2": {retrying(time.Second), succeeded}})
	require.NoError(t, b.run(policy))
	require.NoError(t, setupCarrier(t, map[string][]answer{"dlv_1": {left}, "dlv_2": {left}}).run(policy))
}

// Temporal enforces max_retries: it makes one round for each remaining attempt.
func TestTemporalCountsTheRounds(t *testing.T) {
	t.Parallel()
	for _, retries := range []int{1, 3, 10} {
		script := make([]answer, 0, retries)
		for range retries - 1 {
			script = append(script, retrying(time.Second))
		}
		b := setupCarrier(t, map[string][]answer{
			"dlv_1": append(slices.Clone(script), failed), "dlv_2": append(slices.Clone(script), failed),
		})
		var typed *temporal.ApplicationError
		require.ErrorAs(t, b.run(postrider.Policy{TimeoutMS: 5000, MaxRetries: retries, BackoffMS: 1000}), &typed)
		require.Len(t, b.rounds, retries)
		require.Equal(t, map[string]int{"dlv_1": retries, "dlv_2": retries}, b.attempts)
	}
}

func TestCancelledCarrierCancelsAllAtOnce(t *testing.T) {
	t.Parallel()
	b := setupCarrier(t, map[string][]answer{"dlv_1": {succeeded}, "dlv_2": {succeeded}})
	b.RegisterDelayedCallback(b.CancelWorkflow, time.Millisecond)
	require.True(t, temporal.IsCanceledError(b.run(policy)))
	require.Equal(t, [][]string{{"dlv_1", "dlv_2"}}, b.cancelled)
	require.Equal(t, postrider.StateCancelled, b.history("dlv_2").State)
	require.Empty(t, b.rounds)
}

// openBatch runs a batch whose activity returns the reports and the error.
func openBatch(t *testing.T, reports activities.Reports, err error) (*carrierBench, error) {
	t.Helper()
	b := setupCarrier(t, nil)
	b.RegisterActivityWithOptions(func(_ context.Context, in activities.DeliverInput) (activities.Reports, error) {
		require.Empty(t, in.DeliveryIDs, "they were unknown when it was started")
		require.Equal(t, "default-test-workflow-id", in.WorkflowID)
		return reports, err
	}, activity.RegisterOptions{Name: "Deliver"})
	b.OnUpsertTypedSearchAttributes(mock.MatchedBy(func(found temporal.SearchAttributes) bool {
		b.found = found
		return true
	})).Return(nil).Maybe()
	b.ExecuteWorkflow("Delivery", workflows.DeliveryInput{Batch: &workflows.BatchOfFirsts{LongestMS: 43000}})
	require.True(t, b.IsWorkflowCompleted())
	return b, b.GetWorkflowError()
}

func TestBatchAnswersForItsDeliveriesAfterItsEnd(t *testing.T) {
	t.Parallel()
	reports := bothReports()
	reports[0].Policy, reports[1].Left = &policy, true
	b, err := openBatch(t, reports, nil)
	require.NoError(t, err)
	require.Equal(t, postrider.StateSucceeded, b.history("dlv_1").State)
	require.Equal(t, policy, b.history("dlv_1").Policy)
	require.Equal(t, postrider.StateRetrying, b.history("dlv_2").State, "it left for a workflow of retries")
	_, err = b.QueryWorkflow("history", "dlv_3")
	require.ErrorContains(t, err, "does not carry delivery")
}

func TestBatchFailsWithItsFailedDeliveries(t *testing.T) {
	t.Parallel()
	reason := "410 Gone"
	reports := bothReports()
	for _, id := range []string{"3", "4"} {
		reports = append(reports, activities.Report{
			DeliveryID: "dlv_" + id, State: postrider.StateFailed,
			Attempts: []postrider.Attempt{{Number: 1, StatusCode: new(410), Result: postrider.ResultClientError, Error: &reason}},
			Subject:  &activities.Subject{WorkspaceID: "ws_1", WebhookID: "wh_" + id, EventID: "evt_1", EventType: "call.ended"},
		})
	}
	b, err := openBatch(t, reports, nil)
	var typed *temporal.ApplicationError
	require.ErrorAs(t, err, &typed)
	require.Equal(t, workflows.ErrorGone, typed.Type())
	require.Contains(t, typed.Message(), "2 deliveries failed for good, among them dlv_3 of event evt_1 (call.ended)")
	var details []workflows.Failure
	require.NoError(t, typed.Details(&details))
	failure := workflows.Failure{
		DeliveryID: "dlv_3", WebhookID: "wh_3", EventID: "evt_1", EventType: "call.ended", Attempts: 1,
		LastResult: postrider.ResultClientError, StatusCode: new(410),
	}
	other := failure
	other.DeliveryID, other.WebhookID = "dlv_4", "wh_4"
	require.Equal(t, []workflows.Failure{failure, other}, details)
	require.Equal(t, temporal.NewSearchAttributes(
		temporal.NewSearchAttributeKeyKeyword("PostriderWorkspace").ValueSet("ws_1"),
		temporal.NewSearchAttributeKeyKeywordList("PostriderWebhooks").ValueSet([]string{"wh_3", "wh_4"}),
		temporal.NewSearchAttributeKeyKeyword("PostriderEventType").ValueSet("call.ended"),
	).GetUntypedValues(), b.found.GetUntypedValues(), "it is found by what failed")
}

// Guards against a batch that makes attempts again and again when their records fail. Their
// leases expire, and another workflow carries the deliveries.
func TestBatchCompletesAfterAnInternalFailure(t *testing.T) {
	t.Parallel()
	_, err := openBatch(t, nil, errDatabaseAway)
	require.NoError(t, err)
}
