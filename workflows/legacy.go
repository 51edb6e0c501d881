package workflows

import (
	"errors"
	"time"

	"go.temporal.io/sdk/workflow"

	"postrider.dev/postrider"
	"postrider.dev/postrider/activities"
)

// What was started by versions up to the one with schema 5, and goes on to its end. It
// can go when no such workflow is within Temporal's retention any more.

// legacyPatience bounds how long a Batch tries again what failed for reasons of ours.
const legacyPatience = 2 * time.Minute

// BatchInput starts a Batch workflow.
type BatchInput struct {
	Deliveries []DeliveryInput `json:"deliveries"`
}

// Batch carried the first attempts of many deliveries.
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
	local := workflow.WithLocalActivityOptions(ctx, workflow.LocalActivityOptions{StartToCloseTimeout: longest, RetryPolicy: once()})
	err := workflow.ExecuteLocalActivity(local, acts.Deliver, in).Get(ctx, &b.firsts.raw)
	if err != nil && ctx.Err() == nil {
		ordinary := workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: longest, ScheduleToCloseTimeout: legacyPatience})
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
