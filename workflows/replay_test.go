package workflows_test

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	sdkworker "go.temporal.io/sdk/worker"
	"go.uber.org/goleak"

	"postrider/workflows"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestReplay runs the code as it is over histories that a real server recorded:
// workflows that started before a change must be able to go on after it. When it
// fails, put the change behind workflow.GetVersion; do not record again.
func TestReplay(t *testing.T) {
	t.Parallel()
	histories, err := filepath.Glob("testdata/*.json")
	require.NoError(t, err)
	require.NotEmpty(t, histories, "record some with make histories")
	for _, history := range histories {
		t.Run(filepath.Base(history), func(t *testing.T) {
			t.Parallel()
			replayer := sdkworker.NewWorkflowReplayer()
			workflows.Register(replayer)
			require.NoError(t, replayer.ReplayWorkflowHistoryFromJSONFile(nil, history))
		})
	}
}
