package worker_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
	"postrider.dev/postrider/worker"
)

// Guards against workflows that wait for deliveries which an operator took from them: they are told,
// although Temporal was away when the operator acted.
func TestWorkflowsHearOfActions(t *testing.T) {
	t.Parallel()
	b := setup(t, 10, worker.BatchingAuto)
	failed := b.fail(b.webhook, 2)
	b.temporal.tell = func(_ context.Context, notice int) error {
		if notice == 0 {
			return errors.New("temporal is away")
		}
		return nil
	}
	b.run()
	eventually(t, func() bool { return len(b.temporal.handedOver()) == 1 })
	carrier := b.temporal.handedOver()[0].WorkflowID
	results, err := b.db.Act(t.Context(), postrider.ActionRequest{
		WorkspaceID: b.webhook.WorkspaceID, Actor: "key_1", Kind: postrider.ActionCancel, DeliveryIDs: failed,
	})
	require.NoError(t, err)
	require.NoError(t, errors.Join(results[0].Err, results[1].Err))
	eventually(t, func() bool { return len(b.temporal.toldOf()) == 2 })
	told := b.temporal.toldOf()
	require.Equal(t, told[0], told[1], "again, after it could not be told")
	require.Equal(t, carrier, told[0].WorkflowID)
	require.Len(t, told[0].Acted, 2, "together")
	require.True(t, told[0].Acted[0].Left)
	eventually(t, func() bool {
		notices, err := b.db.ClaimNotices(t.Context(), 10, 0)
		return err == nil && len(notices) == 0
	})
}
