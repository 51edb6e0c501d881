package activities

import (
	"context"
	"fmt"
	"log/slog"

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

// Retry makes one more attempt; each of Temporal's tries of this activity is one.
// A failed attempt is an [ErrorAttemptFailed], so that the activity's retry policy
// counts and spaces the attempts; it carries the wait, with jitter and Retry-After
// in it, as its next retry delay. It is not retryable when the delivery ended
// before its retries did. Any other error is ours, and no attempt was recorded for it.
func (a *Activities) Retry(ctx context.Context, in RetryInput) (Report, error) {
	targets, err := a.Store.Targets(ctx, []string{in.DeliveryID})
	if err != nil {
		return Report{}, err
	}
	target := targets[0]
	info := activity.GetInfo(ctx)
	report, err := a.attempt(ctx, target)
	if err != nil {
		return Report{}, err
	}
	if missed := int(info.Attempt) - 1; missed > 0 || target.Delivery.State.Finished() {
		// An earlier try may have died between its commit and its report.
		before, err := a.recorded(ctx, target)
		if err != nil {
			return Report{}, err
		}
		report.Attempts = postrider.MergeAttempts(before.Attempts, report.Attempts...)
	}
	switch report.State {
	case postrider.StateRetrying:
		a.report(ctx, info.WorkflowExecution.ID, info.WorkflowExecution.RunID, report)
		return Report{}, a.failed(report, false)
	case postrider.StateFailed:
		// Where retries are used up, Temporal's own policy ends the activity.
		exhausted := !target.Delivery.State.Finished() && target.Delivery.AttemptCount >= target.Delivery.Policy.MaxRetries
		return Report{}, a.failed(report, !exhausted)
	default:
		return report, nil
	}
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
	options := temporal.ApplicationErrorOptions{NonRetryable: final, Details: []any{report}}
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
