package workflows

import (
	"errors"
	"fmt"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"postrider"
	"postrider/activities"
)

// attemptGrace is what an activity may take beyond its POST's own deadline, to
// load what it needs and to record what came of it.
const attemptGrace = 10 * time.Second

// longestPause caps the waits between rounds of an activity that fails for
// reasons of ours, such as a database that is away. A round is about a dozen
// events, so Temporal's limit of 51,200 a workflow is two weeks away.
const longestPause = 5 * time.Minute

// DeliveryInput starts a Delivery workflow: ids and policy, nothing else.
type DeliveryInput struct {
	DeliveryID string           `json:"delivery_id"`
	WebhookID  string           `json:"webhook_id,omitempty"` // not in a batch
	EventType  string           `json:"event_type,omitempty"` // not in a batch
	Policy     postrider.Policy `json:"policy"`
}

// Delivery carries one event to one webhook. It ends as completed after a 2xx, as
// failed with a typed error after a failure that is final, and as cancelled when
// the delivery was cancelled.
func Delivery(ctx workflow.Context, in DeliveryInput) error {
	return (&delivery{
		in:      in,
		history: postrider.History{State: postrider.StateDelivering, Policy: in.Policy, RunID: workflow.GetInfo(ctx).WorkflowExecution.RunID},
	}).run(ctx)
}

// delivery is the state of a Delivery workflow.
type delivery struct {
	in      DeliveryInput
	history postrider.History // what the query answers
}

func (d *delivery) run(ctx workflow.Context) error {
	if err := workflow.SetQueryHandler(ctx, queryHistory, d.answer); err != nil {
		return err
	}
	d.listen(ctx)
	err := d.first(ctx)
	for round := 1; err == nil && !d.history.State.Finished(); round++ {
		if err = d.pause(ctx, round); err == nil {
			err = d.retry(ctx)
		}
	}
	if ctx.Err() != nil {
		return errors.Join(d.recordCancel(ctx), ctx.Err())
	}
	if err != nil {
		return err
	}
	return d.verdict()
}

// answer is the query: whatever the workflow waits for, it tells all it knows.
func (d *delivery) answer() (postrider.History, error) {
	answer := d.history
	if answer.Attempts == nil {
		answer.Attempts = []postrider.Attempt{}
	}
	return answer, nil
}

// listen takes in the reports of tries that failed while their activity goes on.
func (d *delivery) listen(ctx workflow.Context) {
	reports := workflow.GetSignalChannel(ctx, signalReport)
	workflow.Go(ctx, func(ctx workflow.Context) {
		for {
			var report activities.Report
			reports.Receive(ctx, &report)
			d.learn(report)
		}
	})
}

// learn brings the history up to a report. Reports can come late and twice: an
// older one adds what was missing and changes nothing else.
func (d *delivery) learn(report activities.Report) {
	before := d.attempts()
	d.history.Attempts = postrider.MergeAttempts(d.history.Attempts, report.Attempts...)
	if d.history.State.Finished() || (d.attempts() == before && !report.State.Finished()) {
		return
	}
	d.history.State = report.State
	d.history.NextAttemptAt = report.NextAttemptAt
}

// last returns the last attempt known, and the zero attempt when there is none.
func (d *delivery) last() postrider.Attempt {
	if n := len(d.history.Attempts); n > 0 {
		return d.history.Attempts[n-1]
	}
	return postrider.Attempt{}
}

// attempts returns how many attempts were made, as far as is known.
func (d *delivery) attempts() int { return d.last().Number }

// first makes the first attempt. When it fails for reasons of ours, the attempt is
// left to the ordinary activity, which outlives this worker.
func (d *delivery) first(ctx workflow.Context) error {
	var reports []activities.Report
	err := firstAttempts(ctx, &reports, d.in)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil { // also a cancelled one: its worker was stopped, not the delivery
		workflow.GetLogger(ctx).Warn("first attempt not made, leaving it to a retried activity", "error", err)
		return nil
	}
	for _, report := range reports {
		d.learn(report)
	}
	return nil
}

// pause waits for the next attempt's time, on a durable timer. Where no attempt
// was made since the last round it is we who are in trouble: wait longer each time.
func (d *delivery) pause(ctx workflow.Context, round int) error {
	wait := min(time.Duration(round)*time.Second, longestPause)
	if next := d.history.NextAttemptAt; next != nil {
		wait = next.Sub(workflow.Now(ctx))
	}
	return workflow.Sleep(ctx, wait)
}

// retry runs the ordinary activity under a retry policy of what attempts are left:
// Temporal counts, spaces and times them. It returns nil both when the delivery is
// finished and when Temporal's tries were used up by failures of ours, so that
// attempts are still left.
func (d *delivery) retry(ctx workflow.Context) error {
	policy := d.in.Policy
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: policy.Timeout() + attemptGrace,
		RetryPolicy: &temporal.RetryPolicy{
			InitialInterval:    policy.Backoff(d.attempts() + 1),
			BackoffCoefficient: 2,
			MaximumInterval:    postrider.MaxBackoff,
			MaximumAttempts:    int32(max(1+policy.MaxRetries-d.attempts(), 1)),
		},
	})
	d.history.NextAttemptAt = nil
	var acts *activities.Activities
	var report activities.Report
	err := workflow.ExecuteActivity(ctx, acts.Retry, activities.RetryInput{DeliveryID: d.in.DeliveryID, Known: d.attempts()}).Get(ctx, &report)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var refused *temporal.ApplicationError
	if errors.As(err, &refused) {
		switch refused.Type() {
		case activities.ErrorAttemptFailed:
			err = refused.Details(&report)
		case activities.ErrorUnknownDelivery:
			return d.failure(activities.ErrorUnknownDelivery, "the database has no such delivery")
		}
	}
	if err != nil {
		workflow.GetLogger(ctx).Warn("activity ended without an attempt", "error", err)
		return nil
	}
	d.learn(report)
	return nil
}

// recordCancel makes the database agree with a cancelled workflow. It outlives
// the cancellation, and does not give up.
func (d *delivery) recordCancel(ctx workflow.Context) error {
	d.history.State = postrider.StateCancelled
	d.history.NextAttemptAt = nil
	ctx, cancel := workflow.NewDisconnectedContext(ctx)
	defer cancel()
	return cancelDelivery(ctx, d.in.DeliveryID).Get(ctx, nil)
}

func cancelDelivery(ctx workflow.Context, deliveryID string) workflow.Future {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: attemptGrace})
	var acts *activities.Activities
	return workflow.ExecuteActivity(ctx, acts.Cancel, deliveryID)
}

// verdict is how the workflow ends once its delivery is finished.
func (d *delivery) verdict() error {
	d.history.NextAttemptAt = nil
	switch {
	case d.history.State == postrider.StateSucceeded:
		return nil
	case d.history.State == postrider.StateCancelled:
		return temporal.NewCanceledError("the delivery was cancelled in the database")
	case d.last().Gone():
		return d.failure(ErrorGone, "the receiver answered 410 Gone")
	}
	reason := "unknown"
	if last := d.last(); last.Error != nil {
		reason = *last.Error
	}
	if d.last().Result == postrider.ResultCancelled {
		return d.failure(ErrorCalledOff, reason)
	}
	return d.failure(ErrorExhausted, fmt.Sprintf("attempt %d of %d failed: %s", d.attempts(), 1+d.in.Policy.MaxRetries, reason))
}

// Failure is the details of the error that a Delivery workflow fails with.
type Failure struct {
	DeliveryID string           `json:"delivery_id"`
	WebhookID  string           `json:"webhook_id"`
	Attempts   int              `json:"attempts"`
	LastResult postrider.Result `json:"last_result"`
}

func (d *delivery) failure(kind, message string) error {
	return temporal.NewNonRetryableApplicationError(message, kind, nil, Failure{
		DeliveryID: d.in.DeliveryID, WebhookID: d.in.WebhookID, Attempts: d.attempts(), LastResult: d.last().Result,
	})
}
