package workflows_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"

	"postrider.dev/postrider"
	"postrider.dev/postrider/activities"
	"postrider.dev/postrider/workflows"
)

// A carrier that expects an attempt in an hour, and finds at that time that its delivery has
// expired, fails with a type of its own.
func TestExpiryInABackoffFailsTheCarrier(t *testing.T) {
	t.Parallel()
	b := setupCarrier(t, map[string][]answer{"dlv_1": nil})
	expired := activities.Reports{{DeliveryID: "dlv_1", State: postrider.StateFailed, Expired: true}}
	b.outages = []error{temporal.NewApplicationErrorWithOptions("it expired before it was delivered", activities.ErrorAttemptFailed,
		temporal.ApplicationErrorOptions{NonRetryable: true, Details: []any{expired}})}
	err := b.run(policy)
	var typed *temporal.ApplicationError
	require.ErrorAs(t, err, &typed)
	require.Equal(t, workflows.ErrorExpired, typed.Type())
	require.True(t, typed.NonRetryable())
	require.Contains(t, typed.Message(), "it expired after 1 attempts")
	var details []workflows.Failure
	require.NoError(t, typed.Details(&details))
	require.Equal(t, []workflows.Failure{{DeliveryID: "dlv_1", WebhookID: "wh_1", Attempts: 1, LastResult: postrider.ResultTimeout}}, details)
	require.Len(t, b.rounds, 1)
	history := b.history("dlv_1")
	require.Equal(t, postrider.StateFailed, history.State)
	require.Nil(t, history.NextAttemptAt)
}

// The first attempt failed so late that there is no time for another: the workflow does not wait.
func TestExpiryAfterTheFirstAttemptEndsTheWorkflow(t *testing.T) {
	t.Parallel()
	for name, attempts := range map[string]int{"attempted": 1, "not attempted": 0} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setupCarrier(t, nil)
			report := activities.Report{DeliveryID: "dlv_1", State: postrider.StateFailed, Expired: true}
			if reason, status := "502 Bad Gateway", 502; attempts > 0 {
				report.Attempts = []postrider.Attempt{{Number: 1, StatusCode: &status, Result: postrider.ResultServerError, Error: &reason}}
			}
			b.RegisterActivityWithOptions(func(context.Context, activities.DeliverInput) (activities.Reports, error) {
				return activities.Reports{report}, nil
			}, activity.RegisterOptions{Name: "Deliver"})
			started := b.Now()
			b.ExecuteWorkflow("Delivery", workflows.DeliveryInput{DeliveryID: "dlv_1", WebhookID: "wh_1", Policy: policy})
			err := b.GetWorkflowError()
			var typed *temporal.ApplicationError
			require.ErrorAs(t, err, &typed)
			require.Equal(t, workflows.ErrorExpired, typed.Type())
			var failed workflows.Failure
			require.NoError(t, typed.Details(&failed))
			require.Equal(t, attempts, failed.Attempts)
			require.Less(t, b.Now().Sub(started), time.Second)
			require.Len(t, b.history("dlv_1").Attempts, attempts)
		})
	}
}

func TestBatchFailsWithWhatExpired(t *testing.T) {
	t.Parallel()
	reports := append(bothReports(), activities.Report{DeliveryID: "dlv_3", State: postrider.StateFailed, Expired: true})
	_, err := openBatch(t, reports, nil)
	var typed *temporal.ApplicationError
	require.ErrorAs(t, err, &typed)
	require.Equal(t, workflows.ErrorExpired, typed.Type())
	require.Contains(t, typed.Message(), "dlv_3")
}
