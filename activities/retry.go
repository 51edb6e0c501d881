package activities

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"

	"postrider.dev/postrider"
)

// Types of the errors with which [Activities.Retry] asks for another try, or for no more. The
// values are part of Temporal's histories.
const (
	// ErrorAttemptFailed says that attempts were made and recorded, and that the receiver
	// refused them. Its details are [Reports].
	ErrorAttemptFailed = "AttemptFailed"
	// ErrorNoPlace says that the round got no slot or no permit for its attempts. It uses up
	// no attempt of the receiver's. Its details are [Reports].
	ErrorNoPlace = "NoPlace"
	// ErrorUnknownDelivery says that the database has no such delivery. It is not retryable.
	ErrorUnknownDelivery = "UnknownDelivery"
)

// RetryInput names the deliveries to try again.
type RetryInput struct {
	Members []RetryMember `json:"members,omitempty"`
	// Policy is what the workflow goes by. A delivery whose policy is another by now leaves it.
	Policy *postrider.Policy `json:"policy,omitempty"`
	// RetryMember is the only delivery of an input of earlier versions.
	RetryMember
}

// RetryMember is a delivery to try again.
type RetryMember struct {
	DeliveryID string `json:"delivery_id,omitempty"`
	// Known is how many attempts the workflow knew when it scheduled the activity.
	Known int `json:"known,omitempty"`
}

func (in RetryInput) members() []RetryMember {
	if in.DeliveryID != "" {
		return []RetryMember{in.RetryMember}
	}
	return in.Members
}

// Retry makes the next attempt of each delivery that is due and not finished, concurrently and
// each at its time. Each of Temporal's tries of this activity is one round.
//
// While a delivery is left to be attempted again, Retry fails with [ErrorAttemptFailed], so
// that the activity's retry policy counts and spaces the rounds. The error's next retry delay
// is the shortest wait of the deliveries; it includes jitter and Retry-After. The error is not
// retryable when the deliveries ended before their retries were used up.
//
// A delivery leaves the workflow when its next attempt does not fit the others' time, or when
// it is due while another member's attempt is still in flight. The dispatchers hand it over to
// another workflow. Any other error is an internal failure, for which no attempt was recorded.
func (a *Activities) Retry(ctx context.Context, in RetryInput) (Reports, error) {
	r, err := a.newRound(ctx, in)
	if err != nil {
		return nil, err
	}
	r.run(ctx)
	return r.finish(ctx)
}

// newRound reads the members' targets, and finds out which attempts the round makes.
func (a *Activities) newRound(ctx context.Context, in RetryInput) (*round, error) {
	info := activity.GetInfo(ctx)
	members := in.members()
	r := &round{
		a: a, workflowID: info.WorkflowExecution.ID, runID: info.WorkflowExecution.RunID, try: int(info.Attempt),
		started: a.Now(), index: map[string]int{}, known: map[string]int{}, attempted: map[string]bool{},
	}
	deliveryIDs := make([]string, len(members))
	for i, m := range members {
		deliveryIDs[i], r.known[m.DeliveryID] = m.DeliveryID, m.Known
	}
	targets, err := a.Store.Targets(ctx, deliveryIDs)
	if err != nil {
		return nil, err
	}
	if len(targets) == 0 {
		return nil, temporal.NewNonRetryableApplicationError("no such delivery", ErrorUnknownDelivery, nil)
	}
	r.classify(in, targets)
	if err := r.letGo(ctx); err != nil {
		return nil, err
	}
	return r, r.catchUp(ctx, targets)
}

// heartbeat is recorded by a round that has reported its attempts to the workflow.
type heartbeat struct {
	Try int `json:"try"`
}

// catchUp adds stored attempts that the workflow does not know to the reports. An earlier round
// may have died, or been abandoned, between its commit and its report.
func (r *round) catchUp(ctx context.Context, targets []postrider.Target) error {
	var last heartbeat
	if r.try > 1 && activity.HasHeartbeatDetails(ctx) && activity.GetHeartbeatDetails(ctx, &last) == nil && last.Try == r.try-1 {
		return nil
	}
	var missing []string
	for _, target := range targets {
		if target.Delivery.AttemptCount > r.known[target.Delivery.ID] {
			missing = append(missing, target.Delivery.ID)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	attempts, err := r.a.Store.AttemptsOf(ctx, missing)
	for id, stored := range attempts {
		report := &r.reports[r.index[id]]
		for _, attempt := range stored {
			if attempt.Number > r.known[id] {
				report.Attempts = append(report.Attempts, attempt)
			}
		}
	}
	return err
}

// finish lets members leave that do not fit the round's time, reports to the workflow, and
// returns the result of the activity's try.
func (r *round) finish(ctx context.Context) (Reports, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if next := r.next(); next != nil {
		r.leave(ctx, func(due time.Time) bool { return due.Sub(*next) > roundSpan })
	}
	postponedFor := r.keepPostponed(ctx)
	next := r.next()
	switch {
	case next != nil, postponedFor > 0:
		r.reportToWorkflow(ctx)
		return nil, r.tryAgain(next, postponedFor)
	case r.internalErr != nil:
		r.reportToWorkflow(ctx)
		return nil, r.internalErr
	case r.failure != "":
		return nil, applicationError(r.failure, ErrorAttemptFailed, temporal.ApplicationErrorOptions{
			NonRetryable: !r.exhausted(), // after the last try, Temporal's own policy ends the activity
			Details:      []any{r.reports},
		})
	}
	return r.reports, nil
}

// tryAgain returns the error of a round that leaves deliveries to be attempted again: at the
// given time, or after the postponement, whichever comes first.
func (r *round) tryAgain(next *time.Time, postponedFor time.Duration) error {
	kind, message := ErrorAttemptFailed, cmp.Or(r.lastError, "it was attempted before")
	if postponedFor > 0 && r.lastError == "" {
		kind, message = ErrorNoPlace, "the webhook has no capacity for another attempt now"
	}
	delay := postponedFor
	if next != nil {
		if wait := next.Sub(r.a.Now()); postponedFor == 0 || wait < postponedFor {
			delay = wait
		}
	}
	return applicationError(message, kind, temporal.ApplicationErrorOptions{
		NextRetryDelay: max(delay, 1), // with 0, Temporal would use the policy's interval
		Details:        []any{r.reports},
	})
}

// applicationError returns a benign error: the SDK does not log or count it as a failure.
func applicationError(message, kind string, options temporal.ApplicationErrorOptions) error {
	options.Category = temporal.ApplicationErrorCategoryBenign
	return temporal.NewApplicationErrorWithOptions(message, kind, options)
}

// exhausted reports whether this was the last try of the activity's retry policy.
func (r *round) exhausted() bool {
	if len(r.policies) == 0 {
		return false
	}
	least := r.policies[0].MaxRetries
	for _, known := range r.known {
		least = min(least, known)
	}
	return least+r.try > r.policies[0].MaxRetries
}

// reportToWorkflow reports the round's attempts to the workflow. When that fails, the next
// round reads them from the database and reports them.
func (r *round) reportToWorkflow(ctx context.Context) {
	var unreported Reports
	for _, report := range r.reports {
		if len(report.Attempts) > 0 || report.Left {
			unreported = append(unreported, report)
		}
	}
	if len(unreported) > 0 {
		if err := r.a.Reporter.Report(ctx, r.workflowID, r.runID, unreported); err != nil {
			r.a.Logger.LogAttrs(ctx, slog.LevelWarn, "could not report attempts to their workflow; the next round will report them",
				slog.String("workflow_id", r.workflowID), slog.Any("error", err))
			return
		}
	}
	activity.RecordHeartbeat(ctx, heartbeat{Try: r.try})
}

// describe describes the last attempt, for the error that ends its round.
func describe(report Report) string {
	if report.Expired {
		return "it expired before it was delivered"
	}
	if n := len(report.Attempts); n > 0 && report.Attempts[n-1].Error != nil {
		return fmt.Sprintf("attempt %d failed: %s", report.Attempts[n-1].Number, *report.Attempts[n-1].Error)
	}
	return "attempt failed"
}
