package activities

import (
	"context"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"

	"postrider.dev/postrider"
)

// ReplayStore has replay jobs.
type ReplayStore interface {
	// StepReplay makes a job's next deliveries, as many as its rate and its webhook allow now. Made again after a
	// crash, or twice at once, a step makes nothing twice. Returns [postrider.CodeNotFound] if there is no such job.
	StepReplay(ctx context.Context, id string) (postrider.ReplayStep, error)
	// CancelAnyReplay ends a job. One that has ended, or is unknown, is left alone.
	CancelAnyReplay(ctx context.Context, id string) error
}

// Replays are the Temporal activities of replay jobs.
type Replays struct {
	Store ReplayStore
	Now   func() time.Time
}

// ReplayInput names a job.
type ReplayInput struct {
	ReplayID string `json:"replay_id"`
}

// ReplayReport is how far a job has come, and how its workflow goes on.
type ReplayReport struct {
	postrider.ReplayProgress

	Over bool `json:"over,omitempty"` // it has ended, or is paused
	Idle bool `json:"idle,omitempty"` // it waits for its webhook, or its deliveries
}

// Timing of [Replays.Advance].
const (
	// replayShift is how long one call makes steps.
	replayShift = 20 * time.Second
	// stepEvery is the time between two steps, and stepRarely after some that found nothing to do.
	stepEvery  = 50 * time.Millisecond
	stepRarely = time.Second
	// idleAfter is how long nothing may happen until the call ends and the workflow waits.
	idleAfter = 10 * time.Second
)

// Advance makes steps of a job for some seconds, until it is over or has nothing to do. It heartbeats how far the
// job has come.
func (r *Replays) Advance(ctx context.Context, in ReplayInput) (ReplayReport, error) {
	began, moved, wait := r.Now(), r.Now(), stepEvery
	for stopped := false; ; {
		step, err := r.step(ctx, in)
		if err != nil {
			return ReplayReport{}, err
		}
		report := ReplayReport{ReplayProgress: step.ReplayProgress, Over: step.Over}
		activity.RecordHeartbeat(ctx, report)
		now := r.Now()
		if wait = min(2*wait, stepRarely); step.Moved {
			moved, wait = now, stepEvery
		}
		report.Idle = now.Sub(moved) >= idleAfter
		if report.Over || report.Idle || stopped || now.Sub(began) >= replayShift {
			return report, nil
		}
		if stopped = rest(ctx, wait); ctx.Err() != nil {
			return report, ctx.Err()
		}
	}
}

// step makes one step. The workflow of an unknown job fails.
func (r *Replays) step(ctx context.Context, in ReplayInput) (postrider.ReplayStep, error) {
	step, err := r.Store.StepReplay(ctx, in.ReplayID)
	if postrider.CodeOf(err) == postrider.CodeNotFound {
		err = temporal.NewNonRetryableApplicationError("the replay is unknown", "ReplayUnknown", nil)
	}
	return step, err
}

// rest waits for so long, or until the worker stops, which it reports: another worker goes on then.
func rest(ctx context.Context, wait time.Duration) (stopped bool) {
	bound, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	select {
	case <-bound.Done():
		return false
	case <-activity.GetWorkerStopChannel(ctx):
		return true
	}
}

// Stop ends a job whose workflow was cancelled.
func (r *Replays) Stop(ctx context.Context, in ReplayInput) error {
	return r.Store.CancelAnyReplay(ctx, in.ReplayID)
}
