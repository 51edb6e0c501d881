package workflows

import (
	"errors"
	"fmt"
	"time"

	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"postrider"
	"postrider/activities"
)

// batchPatience bounds how long a batch tries again what failed for reasons of ours:
// by then the leases of its deliveries have run out, and other workflows carry them.
const batchPatience = 2 * time.Minute

// BatchInput starts a Batch workflow.
type BatchInput struct {
	Deliveries []DeliveryInput `json:"deliveries"`
}

func batchInput(carried []postrider.Dispatch) BatchInput {
	in := BatchInput{Deliveries: make([]DeliveryInput, len(carried))}
	for i, d := range carried {
		in.Deliveries[i] = DeliveryInput{DeliveryID: d.DeliveryID, Policy: d.Policy}
	}
	return in
}

// Batch carries the first attempts of many deliveries: what a workflow costs is shared
// when there is more to do than single ones keep up with. A delivery that does not
// succeed goes on as a [Delivery] of its own, which a dispatcher starts as soon as the
// attempt is recorded, and not only when the slowest of the batch has ended.
func Batch(ctx workflow.Context, in BatchInput) error {
	return (&batch{in: in, runID: workflow.GetInfo(ctx).WorkflowExecution.RunID}).run(ctx)
}

// batch is the state of a Batch workflow.
type batch struct {
	in    BatchInput
	runID string
	// reports are the activity's, decoded when somebody asks: hardly anybody does, and
	// there are hundreds.
	reports converter.RawValue
}

func (b *batch) run(ctx workflow.Context) error {
	if err := workflow.SetQueryHandler(ctx, queryHistory, b.answer); err != nil {
		return err
	}
	err := firstAttempts(ctx, &b.reports, b.in.Deliveries...)
	if err != nil && ctx.Err() == nil {
		workflow.GetLogger(ctx).Warn("first attempts not made, leaving them to a retried activity", "error", err)
		err = laterAttempts(ctx, &b.reports, b.in.Deliveries...)
	}
	if ctx.Err() != nil {
		return errors.Join(b.recordCancel(ctx), ctx.Err())
	}
	return err
}

// answer is the query, which names one of the deliveries.
func (b *batch) answer(deliveryID string) (postrider.History, error) {
	for _, d := range b.in.Deliveries {
		if d.DeliveryID != deliveryID {
			continue
		}
		history := postrider.History{State: postrider.StateDelivering, Policy: d.Policy, RunID: b.runID, Attempts: []postrider.Attempt{}}
		var reports []activities.Report
		if payload := b.reports.Payload(); payload != nil {
			if err := converter.GetDefaultDataConverter().FromPayload(payload, &reports); err != nil {
				return history, err
			}
		}
		for _, r := range reports {
			if r.DeliveryID == deliveryID {
				history.State, history.NextAttemptAt = r.State, r.NextAttemptAt
				history.Attempts = append(history.Attempts, r.Attempts...)
			}
		}
		return history, nil
	}
	return postrider.History{}, fmt.Errorf("%q is none of this workflow's deliveries: give the id of one", deliveryID)
}

// recordCancel makes the database agree with a cancelled workflow, see
// [delivery.recordCancel].
func (b *batch) recordCancel(ctx workflow.Context) error {
	ctx, cancel := workflow.NewDisconnectedContext(ctx)
	defer cancel()
	cancelled := make([]workflow.Future, len(b.in.Deliveries))
	for i, d := range b.in.Deliveries {
		cancelled[i] = cancelDelivery(ctx, d.DeliveryID)
	}
	errs := make([]error, len(cancelled))
	for i, future := range cancelled {
		errs[i] = future.Get(ctx, nil)
	}
	return errors.Join(errs...)
}

// firstAttempts makes the first attempts as one local activity, whose [activities.Report]s
// it puts into reports: started eagerly, a workflow whose deliveries succeed is a single
// workflow task.
func firstAttempts(ctx workflow.Context, reports any, deliveries ...DeliveryInput) error {
	ctx = workflow.WithLocalActivityOptions(ctx, workflow.LocalActivityOptions{
		StartToCloseTimeout: longestTimeout(deliveries) + attemptGrace,
		RetryPolicy:         &temporal.RetryPolicy{MaximumAttempts: 1},
	})
	var acts *activities.Activities
	return workflow.ExecuteLocalActivity(ctx, acts.Deliver, deliverInput(ctx, deliveries)).Get(ctx, reports)
}

// laterAttempts does the same as an ordinary activity, which outlives this worker and
// is tried again; what is recorded is not attempted again.
func laterAttempts(ctx workflow.Context, reports any, deliveries ...DeliveryInput) error {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout:    longestTimeout(deliveries) + attemptGrace,
		ScheduleToCloseTimeout: batchPatience,
	})
	var acts *activities.Activities
	return workflow.ExecuteActivity(ctx, acts.Deliver, deliverInput(ctx, deliveries)).Get(ctx, reports)
}

func deliverInput(ctx workflow.Context, deliveries []DeliveryInput) activities.DeliverInput {
	in := activities.DeliverInput{WorkflowID: workflow.GetInfo(ctx).WorkflowExecution.ID, DeliveryIDs: make([]string, len(deliveries))}
	for i, d := range deliveries {
		in.DeliveryIDs[i] = d.DeliveryID
	}
	return in
}

func longestTimeout(deliveries []DeliveryInput) time.Duration {
	longest := time.Duration(0)
	for _, d := range deliveries {
		longest = max(longest, d.Policy.Timeout())
	}
	return longest
}
