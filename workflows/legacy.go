package workflows

import (
	"errors"
	"time"

	"go.temporal.io/sdk/workflow"

	"postrider.dev/postrider"
	"postrider.dev/postrider/activities"
)

// This file serves workflows that versions up to schema 5 started. It can be removed when
// Temporal retains no such workflow any more.

// maxLegacyRetry bounds how long a Batch retries after an internal failure.
const maxLegacyRetry = 2 * time.Minute

// BatchInput starts a Batch workflow.
type BatchInput struct {
	Deliveries []DeliveryInput `json:"deliveries"`
}

// Batch carries the first attempts of many deliveries.
func Batch(ctx workflow.Context, in BatchInput) error {
	return (&legacyBatch{in: in, runID: workflow.GetInfo(ctx).WorkflowExecution.RunID}).run(ctx)
}

type legacyBatch struct {
	in     BatchInput
	runID  string
	firsts firstReports
}

func (b *legacyBatch) run(ctx workflow.Context) error {
	if err := workflow.SetQueryHandler(ctx, queryHistory, b.answer); err != nil {
		return err
	}
	in := activities.DeliverInput{WorkflowID: workflow.GetInfo(ctx).WorkflowExecution.ID}
	longest := time.Duration(0)
	for _, d := range b.in.Deliveries {
		in.DeliveryIDs = append(in.DeliveryIDs, d.DeliveryID)
		longest = max(longest, d.Policy.Timeout())
	}
	longest += attemptGrace
	var acts *activities.Activities
	local := workflow.WithLocalActivityOptions(ctx, workflow.LocalActivityOptions{StartToCloseTimeout: longest, RetryPolicy: noRetry()})
	err := workflow.ExecuteLocalActivity(local, acts.Deliver, in).Get(ctx, &b.firsts.raw)
	if err != nil && ctx.Err() == nil {
		ordinary := workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
			StartToCloseTimeout: longest, ScheduleToCloseTimeout: maxLegacyRetry,
		})
		err = workflow.ExecuteActivity(ordinary, acts.Deliver, in).Get(ctx, &b.firsts.raw)
	}
	if ctx.Err() != nil {
		return errors.Join(b.recordCancel(ctx), ctx.Err())
	}
	return err
}

func (b *legacyBatch) answer(deliveryID string) (postrider.History, error) {
	for _, d := range b.in.Deliveries {
		if d.DeliveryID == deliveryID {
			history, err := b.firsts.answer(deliveryID, b.runID)
			history.Policy = d.Policy
			return history, err
		}
	}
	return postrider.History{}, notCarried(deliveryID)
}

func (b *legacyBatch) recordCancel(ctx workflow.Context) error {
	ctx, cancel := workflow.NewDisconnectedContext(ctx)
	defer cancel()
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: attemptGrace})
	var acts *activities.Activities
	cancelled := make([]workflow.Future, len(b.in.Deliveries))
	for i, d := range b.in.Deliveries {
		cancelled[i] = workflow.ExecuteActivity(ctx, acts.Cancel, d.DeliveryID)
	}
	errs := make([]error, len(cancelled))
	for i, future := range cancelled {
		errs[i] = future.Get(ctx, nil)
	}
	return errors.Join(errs...)
}
