package worker

import (
	"context"
	"errors"
	"time"

	"postrider.dev/postrider/workflows"
)

const (
	maxReplayStarts = 16 // a claim
	// replayStartLease is when a job is started again that has made no step by then.
	replayStartLease = 3 * time.Second
)

// startReplays starts the workflows of replay jobs that have none: new ones, resumed ones, and those whose workflow
// is lost. It reports whether there may be more.
func (d *Dispatcher) startReplays(ctx context.Context) (more bool, err error) {
	jobs, err := d.Queue.ClaimReplays(ctx, maxReplayStarts, replayStartLease)
	if err != nil {
		return false, err
	}
	for _, job := range jobs {
		startErr := d.start(ctx, func(ctx context.Context) error { return d.Starter.StartReplay(ctx, job) })
		if startErr != nil && !errors.Is(startErr, workflows.ErrAlreadyStarted) {
			err = errors.Join(err, startErr)
		}
	}
	return len(jobs) == maxReplayStarts, err
}
