package activities

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"

	"postrider"
)

// ErrorAttemptFailed is the type of the error by which Retry says that its try
// was made, recorded and refused by the receiver. Its details are a [Report].
const ErrorAttemptFailed = "AttemptFailed"

// RetryInput names the delivery to try again.
type RetryInput struct {
	DeliveryID string `json:"delivery_id"`
	// Known is how many attempts the workflow knew of when it scheduled the activity.
	Known int `json:"known"`
}

// ErrorUnknownDelivery is the type of the error, not retryable, by which Retry says
// that the database has no such delivery: nothing can ever come of it.
const ErrorUnknownDelivery = "UnknownDelivery"

// earliness is by how much an attempt may come before its time: the clocks of
// Temporal's machine and of this one may differ a little.
const earliness = time.Second

// Retry makes one more attempt; each of Temporal's tries of this activity is one.
// A failed attempt is an [ErrorAttemptFailed], so that the activity's retry policy
// counts and spaces the attempts; it carries the wait, with jitter and Retry-After
// in it, as its next retry delay. It is not retryable when the delivery ended
// before its retries did. Any other error, [ErrorNoPlace] among them, is ours, and no
// attempt was recorded for it.
func (a *Activities) Retry(ctx context.Context, in RetryInput) (Report, error) {
	targets, err := a.Store.Targets(ctx, []string{in.DeliveryID})
	if postrider.CodeOf(err) == postrider.CodeNotFound {
		return Report{}, temporal.NewNonRetryableApplicationError("no such delivery", ErrorUnknownDelivery, nil)
	}
	if err != nil {
		return Report{}, err
	}
	report, err := a.again(ctx, targets[0], in.Known)
	if err != nil {
		return Report{}, err
	}
	info := activity.GetInfo(ctx)
	switch report.State {
	case postrider.StateRetrying:
		a.report(ctx, info.WorkflowExecution.ID, info.WorkflowExecution.RunID, report)
		return Report{}, a.failed(report, false)
	case postrider.StateFailed:
		// Where retries are used up, Temporal's own policy ends the activity.
		exhausted := in.Known+int(info.Attempt) > targets[0].Delivery.Policy.MaxRetries
		return Report{}, a.failed(report, !exhausted)
	default:
		return report, nil
	}
}

// again makes the next attempt if its time has come and the delivery is this
// workflow's own to make it, and reports on it and on every
// attempt that the workflow does not know: an earlier try may have died, or been
// given up, between its commit and its report.
func (a *Activities) again(ctx context.Context, target postrider.Target, known int) (Report, error) {
	next, foreign := target.Delivery.NextAttemptAt, target.Delivery.WorkflowID != postrider.DeliveryWorkflowID(target.Delivery.ID)
	if foreign || next != nil && next.Sub(a.Now()) > earliness {
		return a.recorded(ctx, target)
	}
	if err := a.admit(ctx, target); err != nil {
		return Report{}, err
	}
	report, err := a.attempt(ctx, target, func() {})
	if err != nil {
		a.leave(ctx, target.Delivery.ID)
	}
	if err != nil || target.Delivery.AttemptCount <= known {
		return report, err
	}
	before, err := a.recorded(ctx, target)
	report.Attempts = postrider.MergeAttempts(before.Attempts, report.Attempts...)
	return report, err
}

// report is best effort: what is lost here is in the database, and the next try
// or the activity's end brings it to the workflow.
func (a *Activities) report(ctx context.Context, workflowID, runID string, report Report) {
	if err := a.Reporter.Report(ctx, workflowID, runID, report); err != nil {
		a.Logger.LogAttrs(ctx, slog.LevelWarn, "attempt not reported to its workflow",
			slog.String("delivery_id", report.DeliveryID), slog.Any("error", err))
	}
}

func (a *Activities) failed(report Report, final bool) error {
	// Benign: a receiver's refusal is no error of ours in the SDK's log and metrics.
	options := temporal.ApplicationErrorOptions{
		NonRetryable: final, Details: []any{report}, Category: temporal.ApplicationErrorCategoryBenign,
	}
	if report.NextAttemptAt != nil {
		// Temporal takes no delay of 0 for an answer: it would fall back to the policy's.
		options.NextRetryDelay = max(report.NextAttemptAt.Sub(a.Now()), 1)
	}
	message := "attempt failed"
	if n := len(report.Attempts); n > 0 && report.Attempts[n-1].Error != nil {
		message = fmt.Sprintf("attempt %d failed: %s", report.Attempts[n-1].Number, *report.Attempts[n-1].Error)
	}
	return temporal.NewApplicationErrorWithOptions(message, ErrorAttemptFailed, options)
}
