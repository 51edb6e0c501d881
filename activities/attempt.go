package activities

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"postrider.dev/postrider"
	"postrider.dev/postrider/shaping"
)

// attempt makes the delivery's next attempt for the workflow and records it. Between the two
// it calls answered with whether the attempt succeeded, which returns the attempt's successor. It
// does not call answered when no attempt was made: of a finished delivery, of one that expired, of a
// webhook that is not active, whose delivery is parked, or with an error.
func (a *Activities) attempt(
	ctx context.Context, target postrider.Target, workflowID string, answered func(succeeded bool) (successor string),
) (Report, error) {
	if target.Delivery.State.Finished() {
		return Report{DeliveryID: target.Delivery.ID, State: target.Delivery.State, Expired: target.Delivery.HasExpired()}, nil
	}
	if now := a.Now(); target.Delivery.ExpiredBy(now) {
		return a.expire(ctx, target.Delivery, workflowID, now)
	}
	if inactive(target) {
		return a.park(ctx, target.Delivery, workflowID)
	}
	if err := obstacle(target); err != nil {
		return Report{}, err
	}
	made, retryAfter, err := a.post(ctx, target)
	if err != nil { // no attempt was made, and no record would pass the permit on
		return Report{}, err
	}
	successor := answered(made.Result == postrider.ResultSuccess)
	verdict := target.Delivery.Policy.Judge(made, retryAfter, a.Random())
	outcome := outcomeOf(target.Delivery, made, retryAfter, verdict)
	outcome.WorkflowID, outcome.Successor = workflowID, successor
	outcome.Unblamed = a.outage.suspects(target.URL, made, a.Now())
	outcome.Leaves = outcome.State == postrider.StateRetrying && postrider.FirstAttemptsOnly(workflowID)
	err = a.Store.Record(ctx, []postrider.Outcome{outcome})
	if postrider.CodeOf(err) == postrider.CodeConflict {
		return a.superseded(ctx, target, outcome)
	}
	if err != nil {
		return Report{}, err
	}
	a.Metrics.observe(target.Delivery, outcome)
	if outcome.Unblamed {
		a.Metrics.unblamed.Inc()
	}
	a.log(ctx, target.Delivery, outcome)
	return Report{
		DeliveryID:    outcome.DeliveryID,
		State:         outcome.State,
		Attempts:      []postrider.Attempt{made.WithoutBody()},
		NextAttemptAt: outcome.NextAttempt,
		Left:          outcome.Leaves,
		Expired:       outcome.Expired,
	}, nil
}

// expire fails a delivery that it is too late for. It makes no attempt.
func (a *Activities) expire(ctx context.Context, d postrider.Delivery, workflowID string, now time.Time) (Report, error) {
	failed, err := a.Store.FailExpired(ctx, workflowID, d.ID, now)
	if err != nil {
		return Report{}, err
	}
	if failed {
		return Report{DeliveryID: d.ID, State: postrider.StateFailed, Expired: true}, nil
	}
	targets, err := a.Store.Targets(ctx, []string{d.ID})
	if err != nil || len(targets) == 0 {
		return Report{DeliveryID: d.ID, Left: true}, err
	}
	report, err := a.storedReport(ctx, targets[0].Delivery)
	report.Left = !report.State.Finished()
	return report, err
}

// inactive reports whether the delivery must wait for its webhook, or until it is resumed itself.
func inactive(target postrider.Target) bool {
	status := target.WebhookStatus
	return target.Delivery.HeldAt != nil || status == postrider.WebhookPaused || status == postrider.WebhookDisabled
}

// park parks a delivery. It leaves the workflow: when its webhook is active again, another
// carries it.
func (a *Activities) park(ctx context.Context, d postrider.Delivery, workflowID string) (Report, error) {
	if err := a.Store.Park(ctx, workflowID, d); err != nil {
		return Report{}, err
	}
	return Report{DeliveryID: d.ID, State: postrider.StateParked, Left: true}, nil
}

// superseded reports the stored state after an attempt that was recorded too late. An abandoned
// try has recorded its number, and the answer is ignored, as after a crash. Or the delivery was
// finished meanwhile, such as cancelled, or an operator changed or paused it: then the attempt is
// stored, and counts.
func (a *Activities) superseded(ctx context.Context, target postrider.Target, outcome postrider.Outcome) (Report, error) {
	targets, err := a.Store.Targets(ctx, []string{outcome.DeliveryID})
	if err != nil || len(targets) == 0 {
		return Report{DeliveryID: outcome.DeliveryID, Left: true}, err
	}
	delivery := targets[0].Delivery
	changed := !delivery.Terms().Equal(target.Delivery.Terms()) || delivery.State == postrider.StateParked
	report, err := a.storedReport(ctx, delivery)
	report.Left = changed && !delivery.State.Finished()
	if slices.ContainsFunc(report.Attempts, func(stored postrider.Attempt) bool { return isSame(stored, outcome.Attempt) }) {
		outcome.State = delivery.State
		if changed {
			a.Metrics.observe(delivery, outcome)
		} else {
			a.Metrics.observeAttempt(delivery, outcome.Attempt)
		}
		a.log(ctx, delivery, outcome)
	}
	return report, err
}

// isSame reports whether two attempts are one.
func isSame(a, b postrider.Attempt) bool {
	return a.Number == b.Number && a.Result == b.Result && a.StartedAt.Equal(b.StartedAt) && a.DurationMS == b.DurationMS
}

// post sends the request. If the attempt must be skipped, it returns one that says why.
func (a *Activities) post(ctx context.Context, target postrider.Target) (postrider.Attempt, time.Duration, error) {
	number := target.Delivery.AttemptCount + 1
	now := postrider.Timestamp(a.Now())
	if reason := skipReason(target); reason != "" {
		return postrider.Attempt{Number: number, StartedAt: now, Result: postrider.ResultCancelled, Error: &reason}, 0, nil
	}
	body, contentType, err := a.shaper.Body(target.Shape, target.Body)
	switch {
	case err != nil && target.Shape.Transform == "": // ours: any event that is stored has each format
		return postrider.Attempt{}, 0, err
	case err != nil: // its own words may repeat the event
		reason := "the transform fails on this event: " + shaping.Reason(err)
		return postrider.Attempt{Number: number, StartedAt: now, Result: postrider.ResultTransform, Error: &reason}, 0, nil
	}
	request, err := a.request(target, number, now, body)
	if err != nil {
		return postrider.Attempt{}, 0, err
	}
	request.Header.Set("Content-Type", contentType)
	attempt, retryAfter, err := a.send(ctx, target, number, request)
	attempt.Number = number
	return attempt, retryAfter, err
}

// obstacle returns why this process cannot make the attempt; nil when it can. Nothing is in the
// way of one that makes no request.
func obstacle(target postrider.Target) error {
	if !makesRequest(target) {
		return nil
	}
	return target.Failure
}

func makesRequest(target postrider.Target) bool { return !inactive(target) && skipReason(target) == "" }

// skipReason returns why no request may be made; "" when it may.
func skipReason(target postrider.Target) string {
	if target.EventExpired {
		return "the event's body is past its retention"
	}
	return ""
}

// outcomeOf returns the outcome to record for an attempt.
func outcomeOf(d postrider.Delivery, made postrider.Attempt, retryAfter time.Duration, verdict postrider.Verdict) postrider.Outcome {
	return postrider.Outcome{
		DeliveryID: d.ID, WorkspaceID: d.WorkspaceID, WebhookID: d.WebhookID, Attempt: made, Policy: d.Policy, RetryAfter: retryAfter,
		ExpiresAt: d.ExpiresAt,
	}.Judged(verdict)
}

// log writes the attempt's log line.
func (a *Activities) log(ctx context.Context, d postrider.Delivery, o postrider.Outcome) {
	attrs := []slog.Attr{
		slog.String("delivery_id", d.ID), slog.String("webhook_id", d.WebhookID), slog.String("event_id", d.EventID),
		slog.String("event_type", d.EventType), slog.Int("attempt", o.Attempt.Number), slog.String("result", string(o.Attempt.Result)),
		slog.Int64("duration_ms", o.Attempt.DurationMS), slog.String("state", string(o.State)),
	}
	if o.Attempt.StatusCode != nil {
		attrs = append(attrs, slog.Int("status", *o.Attempt.StatusCode))
	}
	if o.Attempt.Error != nil {
		attrs = append(attrs, slog.String("error", *o.Attempt.Error))
	}
	a.Logger.LogAttrs(ctx, slog.LevelInfo, "attempt", attrs...)
}
