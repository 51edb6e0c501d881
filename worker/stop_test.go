package worker

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	sdkworker "go.temporal.io/sdk/worker"
)

// sdkStub is a Temporal worker whose stop takes a while.
type sdkStub struct {
	sdkworker.Worker

	stopping time.Duration
	stopped  chan struct{} // closed at the end of Stop
}

// Start implements [sdkworker.Worker].
func (sdkStub) Start() error { return nil }

// Stop implements [sdkworker.Worker].
func (s sdkStub) Stop() {
	ctx, cancel := context.WithTimeout(context.Background(), s.stopping) //nolint:forbidigo // Stop is given no context
	defer cancel()
	<-ctx.Done()
	close(s.stopped)
}

// Guards against a stop that lasts until the supervisor kills the process: the SDK waits for
// Drain several times, once for each kind of task.
func TestStopTakesAtMostDrain(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ stopping, want time.Duration }{
		"attempts end":  {stopping: time.Second, want: time.Second},
		"attempts hang": {stopping: 30 * time.Second, want: 10 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				stub := sdkStub{stopping: c.stopping, stopped: make(chan struct{})}
				w := &Worker{worker: stub, drain: 10 * time.Second}
				ctx, cancel := context.WithCancel(t.Context())
				cancel()
				began := time.Now()
				require.NoError(t, w.Run(ctx))
				require.Equal(t, c.want, time.Since(began))
				<-stub.stopped
			})
		})
	}
}

// Guards against a process that looks healthy after Temporal has refused its worker.
func TestFatalErrorEndsTheWorker(t *testing.T) {
	t.Parallel()
	fatal := errors.New("the namespace was deleted")
	w := &Worker{worker: sdkStub{stopped: make(chan struct{})}, drain: time.Second, fatal: make(chan error, 1)}
	w.fatal <- fatal
	require.ErrorIs(t, w.Run(t.Context()), fatal)
}
