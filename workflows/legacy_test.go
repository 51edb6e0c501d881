package workflows_test

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
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

// batchBench is a workflow environment for a batch of two deliveries.
type batchBench struct {
	*testsuite.TestWorkflowEnvironment
	runs atomic.Int64

	mu        sync.Mutex
	cancelled []string
}

func batchInput() workflows.BatchInput {
	return workflows.BatchInput{Deliveries: []workflows.DeliveryInput{
		{DeliveryID: "dlv_1", WebhookID: "wh_1", EventType: "a", Policy: policy},
		{DeliveryID: "dlv_2", WebhookID: "wh_2", EventType: "b", Policy: postrider.Policy{TimeoutMS: 30000, MaxRetries: 1, BackoffMS: 100}},
	}}
}

func setupBatch(deliver func(run int64, in activities.DeliverInput) ([]activities.Report, error)) *batchBench {
	var suite testsuite.WorkflowTestSuite
	suite.SetLogger(temporallog.NewStructuredLogger(slog.New(slog.DiscardHandler)))
	b := &batchBench{TestWorkflowEnvironment: suite.NewTestWorkflowEnvironment()}
	workflows.Register(b)
	b.RegisterActivityWithOptions(func(_ context.Context, in activities.DeliverInput) (activities.Reports, error) {
		return deliver(b.runs.Add(1), in)
	}, activity.RegisterOptions{Name: "Deliver"})
	b.RegisterActivityWithOptions(func(_ context.Context, id string) error {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.cancelled = append(b.cancelled, id)
		return nil
	}, activity.RegisterOptions{Name: "Cancel"})
	return b
}

func (b *batchBench) history(t *testing.T, deliveryID string) postrider.History {
	t.Helper()
	value, err := b.QueryWorkflow("history", deliveryID)
	require.NoError(t, err)
	var history postrider.History
	require.NoError(t, value.Get(&history))
	return history
}

func bothReports() []activities.Report {
	next := time.Date(2026, 8, 3, 12, 0, 0, 0, time.UTC)
	return []activities.Report{
		{
			DeliveryID: "dlv_1", State: postrider.StateSucceeded,
			Attempts: []postrider.Attempt{{Number: 1, Result: postrider.ResultSuccess}},
		},
		{
			DeliveryID: "dlv_2", State: postrider.StateRetrying, NextAttemptAt: &next,
			Attempts: []postrider.Attempt{{Number: 1, Result: postrider.ResultTimeout}},
		},
	}
}

func TestLegacyBatchCarriesManyDeliveries(t *testing.T) {
	t.Parallel()
	b := setupBatch(func(_ int64, in activities.DeliverInput) ([]activities.Report, error) {
		require.Equal(t, []string{"dlv_1", "dlv_2"}, in.DeliveryIDs)
		require.Equal(t, "default-test-workflow-id", in.WorkflowID)
		return bothReports(), nil
	})
	b.ExecuteWorkflow("Batch", batchInput())
	require.NoError(t, b.GetWorkflowError())
	first := b.history(t, "dlv_1")
	require.Equal(t, postrider.StateSucceeded, first.State)
	require.Len(t, first.Attempts, 1)
	require.Equal(t, policy, first.Policy)
	require.NotEmpty(t, first.RunID)
	second := b.history(t, "dlv_2")
	require.Equal(t, postrider.StateRetrying, second.State)
	require.NotNil(t, second.NextAttemptAt)
	require.Equal(t, 100, second.Policy.BackoffMS)
	_, err := b.QueryWorkflow("history", "dlv_3")
	require.ErrorContains(t, err, "does not carry delivery")
}

// Guards against a batch that ends while the database is away. An activity that outlives the
// worker goes on until the database is back.
func TestLegacyBatchOutlivesInternalFailures(t *testing.T) {
	t.Parallel()
	b := setupBatch(func(run int64, _ activities.DeliverInput) ([]activities.Report, error) {
		if run < 5 {
			return nil, errDatabaseAway
		}
		return bothReports(), nil
	})
	b.ExecuteWorkflow("Batch", batchInput())
	require.NoError(t, b.GetWorkflowError())
	require.EqualValues(t, 5, b.runs.Load())
	require.Equal(t, postrider.StateSucceeded, b.history(t, "dlv_1").State)
}

// By then its leases have expired, and other workflows carry the deliveries.
func TestLegacyBatchGivesUpInTheEnd(t *testing.T) {
	t.Parallel()
	b := setupBatch(func(int64, activities.DeliverInput) ([]activities.Report, error) { return nil, errDatabaseAway })
	begun := b.Now()
	b.ExecuteWorkflow("Batch", batchInput())
	require.Error(t, b.GetWorkflowError())
	require.Less(t, b.Now().Sub(begun), 3*time.Minute)
}

func TestCancelledLegacyBatchCancelsItsDeliveries(t *testing.T) {
	t.Parallel()
	b := setupBatch(func(int64, activities.DeliverInput) ([]activities.Report, error) { return nil, errDatabaseAway })
	b.RegisterDelayedCallback(b.CancelWorkflow, 5*time.Second)
	b.ExecuteWorkflow("Batch", batchInput())
	require.True(t, temporal.IsCanceledError(b.GetWorkflowError()))
	require.ElementsMatch(t, []string{"dlv_1", "dlv_2"}, b.cancelled)
}
