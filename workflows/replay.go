package workflows

import (
	"context"
	"errors"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"postrider.dev/postrider"
	"postrider.dev/postrider/activities"
)

// Times of a replay job.
const (
	replayLongest    = time.Minute // an activity makes steps for 20 s
	replayHeartbeat  = 15 * time.Second
	replayRetryWait  = time.Second // after a failure of ours; it doubles
	replayRetryMost  = 30 * time.Second
	replayIdleWait   = 10 * time.Second // while its webhook is not active, or its deliveries are being retried
	replayActivities = 200              // of a run, before it continues as new
)

// ReplayInput is the input of [Replay]: the job, and how far it has come.
type ReplayInput struct {
	activities.ReplayInput

	Progress postrider.ReplayProgress `json:"progress"`
}

// Replay makes the deliveries of a replay job, by one activity after the other, and returns how far it came. The
// job's row in the database is what counts: the workflow ends when the job is paused, and another one goes on
// when it is resumed. Query "progress" tells how far it has come.
func Replay(ctx workflow.Context, in ReplayInput) (postrider.ReplayProgress, error) {
	err := workflow.SetQueryHandler(ctx, queryProgress, func() (postrider.ReplayProgress, error) { return in.Progress, nil })
	if err != nil {
		return in.Progress, err
	}
	var replays *activities.Replays
	for range replayActivities {
		var report activities.ReplayReport
		if err := workflow.ExecuteActivity(withReplayOptions(ctx), replays.Advance, in.ReplayInput).Get(ctx, &report); err != nil {
			return in.Progress, stopIfCancelled(ctx, in, err)
		}
		in.Progress = report.ReplayProgress
		if report.Over {
			return in.Progress, nil
		}
		if report.Idle {
			if err := workflow.Sleep(ctx, replayIdleWait); err != nil {
				return in.Progress, stopIfCancelled(ctx, in, err)
			}
		}
	}
	return in.Progress, workflow.NewContinueAsNewError(ctx, nameReplay, in)
}

func withReplayOptions(ctx workflow.Context) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: replayLongest,
		HeartbeatTimeout:    replayHeartbeat,
		RetryPolicy:         &temporal.RetryPolicy{InitialInterval: replayRetryWait, MaximumInterval: replayRetryMost},
	})
}

// stopIfCancelled ends the job of a workflow that was cancelled: in Temporal's web interface, since nothing else
// cancels it. It returns the workflow's error.
func stopIfCancelled(ctx workflow.Context, in ReplayInput, cause error) error {
	if !temporal.IsCanceledError(cause) {
		return cause
	}
	ctx, _ = workflow.NewDisconnectedContext(ctx)
	var replays *activities.Replays
	if err := workflow.ExecuteActivity(withReplayOptions(ctx), replays.Stop, in.ReplayInput).Get(ctx, nil); err != nil {
		return err
	}
	return cause
}

// StartReplay starts the workflow of a replay job. It returns [ErrAlreadyStarted] while one runs.
func (c *Client) StartReplay(ctx context.Context, job postrider.DueReplay) error {
	found := findBy([]activities.Subject{{WorkspaceID: job.WorkspaceID, WebhookID: job.WebhookID}})
	_, err := c.temporal.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID:                                       postrider.ReplayWorkflowID(job.ID),
		TypedSearchAttributes:                    temporal.NewSearchAttributes(found...),
		StaticSummary:                            "replay to " + job.WebhookID,
		TaskQueue:                                c.taskQueue,
		WorkflowIDReusePolicy:                    enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
		WorkflowExecutionErrorWhenAlreadyStarted: true,
	}, nameReplay, ReplayInput{ReplayInput: activities.ReplayInput{ReplayID: job.ID}})
	var started *serviceerror.WorkflowExecutionAlreadyStarted
	if errors.As(err, &started) {
		return ErrAlreadyStarted
	}
	return err
}
