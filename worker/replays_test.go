package worker_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
	"postrider.dev/postrider/worker"
)

// Guards against a replay job that nobody works at: its workflow is started although Temporal was away at first, and
// again until it makes steps.
func TestReplaysAreStarted(t *testing.T) {
	t.Parallel()
	b := setup(t, 10, worker.BatchingAuto)
	b.temporal.refusedReplays = 1
	job, err := b.db.CreateReplay(t.Context(), postrider.ReplaySpec{
		WorkspaceID: b.webhook.WorkspaceID, WebhookID: b.webhook.ID, Since: time.Now().Add(-time.Hour), Until: time.Now(),
		States: []postrider.ReplayOf{postrider.ReplayOfFailed}, EventTypes: []string{}, Rate: 1,
	})
	require.NoError(t, err)
	b.run()
	eventually(t, func() bool { return len(b.temporal.replaysOf()) >= 2 })
	require.Equal(t, []string{job.ID, job.ID}, b.temporal.replaysOf()[:2])
	eventually(t, func() bool {
		step, err := b.db.StepReplay(t.Context(), job.ID)
		return err == nil && step.Over
	})
}
