package e2e

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	temporalsdk "go.temporal.io/sdk/temporal"

	"postrider.dev/postrider/standalone/instance"
	"postrider.dev/postrider/workflows"
)

// TestBatch guards that deliveries whose first attempts one workflow carries look like any others
// to a client: the query answers for each, and failed ones are retried.
func TestBatch(t *testing.T) {
	t.Parallel()
	i := startWith(t, t.TempDir(), []string{"POSTRIDER_BATCHING=always"})
	c := temporal(t, i)
	fine, _ := answering(t, http.StatusOK)
	good := webhook(t, i, fine, map[string]any{"events": []string{"batch.*"}})
	failing, _ := answering(t, http.StatusBadGateway)
	bad := webhook(t, i, failing, map[string]any{"events": []string{"batch.*"}, "max_retries": 1})
	const events = 20
	var batch []map[string]any
	for n := range events {
		batch = append(batch, map[string]any{"type": "batch.one", "data": n})
	}
	require.NoError(t, i.Call(t.Context(), http.MethodPost, "/api/v1/events/batch", map[string]any{"events": batch}, nil))

	succeeded := allInState(t, i, good.ID, "succeeded", events)
	carriers := map[string]int{}
	for _, d := range succeeded {
		carriers[*d.WorkflowID]++
		require.Eventually(t, func() bool { // the database answers until the workflow has ended
			history, err := i.History(t.Context(), d.ID)
			return err == nil && history.Source == "workflow" && history.State == "succeeded" && len(history.Attempts) == 1 &&
				*history.WorkflowID == *d.WorkflowID && history.RunID != nil
		}, patience, tick)
	}
	require.Less(t, len(carriers), events, "%v", carriers)
	carrier := *succeeded[0].WorkflowID
	require.Contains(t, carrier, "batch/")
	require.Equal(t, enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED, statusOf(t, c, carrier))
	replay(t, c, carrier, "batch_v2")

	retries := map[string]int{}
	failed := allInState(t, i, bad.ID, "failed", events)
	for _, d := range failed {
		require.Contains(t, *d.WorkflowID, "retry/")
		retries[*d.WorkflowID]++
		require.Equal(t, 2, d.AttemptCount)
		require.Eventually(t, func() bool {
			history, err := i.History(t.Context(), d.ID)
			return err == nil && history.Source == "workflow" && history.State == "failed" && len(history.Attempts) == 2
		}, patience, tick)
		require.Equal(t, enumspb.WORKFLOW_EXECUTION_STATUS_FAILED, statusOf(t, c, *d.WorkflowID))
	}
	require.Less(t, len(retries), events, "%v", retries)
	replay(t, c, *failed[0].WorkflowID, "retry_v2")
	require.Eventually(t, func() bool { return len(exhausted(t, c)) == events }, patience, tick)
	for _, d := range failed {
		require.Contains(t, exhausted(t, c), d.ID)
	}
}

// TestFailedForGood guards that operators find deliveries that fail at their first and only
// attempt among the failed workflows, though no further workflow is started for them.
func TestFailedForGood(t *testing.T) {
	t.Parallel()
	i := startWith(t, t.TempDir(), []string{"POSTRIDER_BATCHING=always"})
	c := temporal(t, i)
	failing, _ := answering(t, http.StatusBadGateway)
	w := webhook(t, i, failing, map[string]any{"events": []string{"batch.*"}, "max_retries": 0})
	const events = 20
	var batch []map[string]any
	for n := range events {
		batch = append(batch, map[string]any{"type": "batch.one", "data": n})
	}
	require.NoError(t, i.Call(t.Context(), http.MethodPost, "/api/v1/events/batch", map[string]any{"events": batch}, nil))
	failed := allInState(t, i, w.ID, "failed", events)
	require.Eventually(t, func() bool { return len(exhausted(t, c)) == events }, patience, tick)
	found := exhausted(t, c)
	for _, d := range failed {
		require.Contains(t, *d.WorkflowID, "batch/")
		require.Equal(t, 1, found[d.ID].Attempts)
	}
	replay(t, c, *failed[0].WorkflowID, "batch_v2_exhausted")
}

// exhausted lists failed workflows, as operators do, and returns the deliveries in their errors.
func exhausted(t *testing.T, c client.Client) map[string]workflows.Failure {
	t.Helper()
	found := map[string]workflows.Failure{}
	list, err := c.ListWorkflow(t.Context(), &workflowservice.ListWorkflowExecutionsRequest{Query: "ExecutionStatus = 'Failed'"})
	require.NoError(t, err)
	for _, execution := range list.GetExecutions() {
		err := c.GetWorkflow(t.Context(), execution.GetExecution().GetWorkflowId(), "").Get(t.Context(), nil)
		var failure *temporalsdk.ApplicationError
		require.ErrorAs(t, err, &failure)
		require.Equal(t, workflows.ErrorExhausted, failure.Type())
		var details []workflows.Failure
		require.NoError(t, failure.Details(&details))
		for _, d := range details {
			found[d.DeliveryID] = d
		}
	}
	return found
}

// allInState waits until n deliveries of a webhook are in the state, and returns them.
func allInState(t *testing.T, i *instance.Instance, webhookID, state string, n int) []instance.Delivery {
	t.Helper()
	var found []instance.Delivery
	require.Eventually(t, func() bool {
		all, err := i.Deliveries(t.Context(), webhookID)
		found = nil
		for _, d := range all {
			if d.State == state {
				found = append(found, d)
			}
		}
		return err == nil && len(found) == n
	}, patience, tick)
	return found
}
