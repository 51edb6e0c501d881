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

// Types of the errors by which Retry says that it is to be tried again, or never.
const (
	// ErrorAttemptFailed says that attempts were made, recorded and refused by the
	// receiver. Its details are [Reports].
	ErrorAttemptFailed = "AttemptFailed"
	// ErrorNoPlace says that the webhook has as many attempts under way as it allows. It
	// uses up no attempt of the receiver's. Its details are [Reports].
	ErrorNoPlace = "NoPlace"
	// ErrorUnknownDelivery, not retryable, says that the database has none of the
	// deliveries: nothing can ever come of them.
	ErrorUnknownDelivery = "UnknownDelivery"
)

// RetryInput names the deliveries to try again.
type RetryInput struct {
	Members []RetryMember `json:"members,omitempty"`
	// RetryMember is the one of an input of earlier versions.
	RetryMember
}

// RetryMember is a delivery to try again.
type RetryMember struct {
	DeliveryID string `json:"delivery_id,omitempty"`
	// Known is how many attempts the workflow knew of when it scheduled the activity.
	Known int `json:"known,omitempty"`
}

func (in RetryInput) members() []RetryMember {
	if in.DeliveryID != "" {
		return []RetryMember{in.RetryMember}
	}
	return in.Members
}

// Retry makes the next attempt of each delivery that is due and not finished, side by
// side and each at its time; each of Temporal's tries of this activity is one round.
// While any is left that is to be attempted again, it fails with [ErrorAttemptFailed],
// so that the activity's retry policy counts and spaces the rounds; the error carries the
// shortest wait, with jitter and Retry-After in it, as its next retry delay. It is not
// retryable when the deliveries ended before their retries did.
//
// A delivery whose next attempt does not fit the others' time, or whose time comes while
// one of the others is still under way, leaves the workflow: the dispatchers hand it over
// to another. Any error but those named is ours, and no attempt was recorded for it.
func (a *Activities) Retry(ctx context.Context, in RetryInput) (Reports, error) {
	t, err := a.newRound(ctx, in)
	if err != nil {
		return nil, err
	}
	t.run(ctx)
	return t.end(ctx)
}

// newRound loads what the round needs, and sorts out who has no part in it.
func (a *Activities) newRound(ctx context.Context, in RetryInput) (*round, error) {
	info := activity.GetInfo(ctx)
	members := in.members()
	r := &round{
		a: a, workflowID: info.WorkflowExecution.ID, runID: info.WorkflowExecution.RunID, try: int(info.Attempt),
		started: a.Now(), at: map[string]int{}, known: map[string]int{}, made: map[string]bool{},
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
	r.sort(members, targets)
	return r, r.catchUp(ctx, targets)
}

// reported is the heartbeat by which a round tells the next that the workflow knows of
// its attempts.
type reported struct {
	Try int `json:"try"`
}

// catchUp adds attempts that the workflow does not know to the reports: an earlier round
// may have died, or been given up, between its commit and its report.
func (r *round) catchUp(ctx context.Context, targets []postrider.Target) error {
	var last reported
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
	for id, all := range attempts {
		report := &r.reports[r.at[id]]
		for _, attempt := range all {
			if attempt.Number > r.known[id] {
				report.Attempts = append(report.Attempts, attempt)
			}
		}
	}
	return err
}

// end sends away who does not fit the round's time, tells the workflow, and returns how
// the activity's try ends.
func (r *round) end(ctx context.Context) (Reports, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if next := r.next(); next != nil {
		r.leave(ctx, func(at time.Time) bool { return at.Sub(*next) > roundSpan })
	}
	again := r.keep(ctx)
	next := r.next()
	switch {
	case next != nil, again > 0:
		r.tell(ctx)
		return nil, r.tryAgain(next, again)
	case r.failure != nil:
		r.tell(ctx)
		return nil, r.failure
	case r.failed != "":
		// Where retries are used up, Temporal's own policy ends the activity.
		return nil, applicationError(r.failed, ErrorAttemptFailed, temporal.ApplicationErrorOptions{NonRetryable: !r.exhausted(), Details: []any{r.reports}})
	}
	return r.reports, nil
}

// tryAgain is how a round ends after which some are left.
func (r *round) tryAgain(next *time.Time, again time.Duration) error {
	kind, message := ErrorAttemptFailed, cmp.Or(r.lastError, "it was attempted before")
	if again > 0 && r.lastError == "" {
		kind, message = ErrorNoPlace, "the webhook has no room for another attempt now"
	}
	if next != nil {
		if wait := next.Sub(r.a.Now()); again == 0 || wait < again {
			again = wait
		}
	}
	// Temporal takes no delay of 0 for an answer: it would fall back to the policy's.
	return applicationError(message, kind, temporal.ApplicationErrorOptions{NextRetryDelay: max(again, 1), Details: []any{r.reports}})
}

// applicationError is benign: a receiver's refusal is no error of ours in the SDK's log
// and metrics.
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

// tell reports the round's attempts to the workflow. It is best effort: what is lost
// here is in the database, and the next round brings it.
func (r *round) tell(ctx context.Context) {
	var news Reports
	for _, report := range r.reports {
		if len(report.Attempts) > 0 || report.Left {
			news = append(news, report)
		}
	}
	if len(news) > 0 {
		if err := r.a.Reporter.Report(ctx, r.workflowID, r.runID, news); err != nil {
			r.a.Logger.LogAttrs(ctx, slog.LevelWarn, "attempts not reported to their workflow; the next round will do it",
				slog.String("workflow_id", r.workflowID), slog.Any("error", err))
			return
		}
	}
	activity.RecordHeartbeat(ctx, reported{Try: r.try})
}

// describe says what came of an attempt, for the error that ends its round.
func describe(report Report) string {
	if n := len(report.Attempts); n > 0 && report.Attempts[n-1].Error != nil {
		return fmt.Sprintf("attempt %d failed: %s", report.Attempts[n-1].Number, *report.Attempts[n-1].Error)
	}
	return "attempt failed"
}
