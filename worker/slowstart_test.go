package worker_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider/worker"
)

// Guards against the conclusion that another worker has the workflow when Temporal is only
// slow to start it.
func TestSlowStartIsNoSignOfAnotherWorker(t *testing.T) {
	t.Parallel()
	b := setup(t, 100, worker.BatchingAlways)
	b.answering()
	b.temporal.fail = func(ctx context.Context, start int) error {
		if start == 0 {
			slow, cancel := context.WithTimeout(ctx, 1500*time.Millisecond)
			defer cancel()
			<-slow.Done()
		}
		return nil
	}
	b.run()
	b.publish(2)
	eventually(t, func() bool { return b.temporal.startCount() == 1 })
	b.publish(2)
	b.awaitAttempts(4)
	b.publish(2)
	b.awaitAttempts(6)
	b.publish(2)
	b.awaitAttempts(8)
	b.publish(2)
	b.awaitAttempts(10)
	require.LessOrEqual(t, len(b.temporal.started()), 3, "one batch stays open")
}
