package activities

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"postrider.dev/postrider"
)

// Times of a round of retries. Together with the longest POST they fit into the time
// that the workflow gives the activity, see [RetryTimeout].
const (
	// roundSpan is within how long of each other the attempts of a round are due: so long
	// jitter spreads those of deliveries that failed together, up to a wait of 5 s.
	roundSpan = 2 * time.Second
	// earliness is by how much an attempt may come before its time: the clocks of
	// Temporal's machine and of this one may differ a little.
	earliness = time.Second
	// placeWait is how long an attempt waits for its place, for the process's and for
	// its webhook's.
	placeWait = 10 * time.Second
	// longestTurn is how long it waits for its turn under the webhook's rate limit.
	longestTurn = 5 * time.Second
	// askAgainAfter is after how long one asks again that waits for the webhook's.
	askAgainAfter = 250 * time.Millisecond
	// leaveAhead is how long before its next attempt is due a delivery leaves a round
	// that goes on: so long a dispatcher may take to hand it over.
	leaveAhead  = 150 * time.Millisecond
	recordGrace = 5 * time.Second // for the attempt's record, after its deadline
	// permitGrace is how much longer than its attempt a permit holds, which its record ends:
	// as long as the transaction may take that many records share.
	permitGrace   = 30 * time.Second
	cleanUpTime   = 5 * time.Second
	firstAskAgain = 250 * time.Millisecond // until a round that found no place is made again
	lastAskAgain  = 5 * time.Minute
)

// RetryTimeout is the most that a round takes of attempts that take up to timeout each.
func RetryTimeout(timeout time.Duration) time.Duration {
	return roundSpan + earliness + placeWait + longestTurn + timeout + recordGrace + cleanUpTime
}

// round is one try of [Activities.Retry].
type round struct {
	a          *Activities
	workflowID string
	runID      string
	try        int // 1 is the first
	started    time.Time
	known      map[string]int // attempts that the workflow knew of when it scheduled the activity, by delivery
	policies   []postrider.Policy

	due       []postrider.Target // that make their attempts
	reports   Reports
	at        map[string]int  // where each delivery's is
	made      map[string]bool // whose attempt was made
	stays     bool            // nobody can leave any more
	unserved  []postrider.Target
	failure   error  // of ours, the latest
	lastError string // the latest attempt's
	failed    string // how the latest of those failed that failed for good
}

// sort makes a report for each member, and finds out whose attempt is to be made.
func (r *round) sort(members []RetryMember, targets []postrider.Target) {
	of := map[string]postrider.Target{}
	for _, target := range targets {
		of[target.Delivery.ID] = target
	}
	for _, m := range members {
		target, found := of[m.DeliveryID]
		d := target.Delivery
		report := Report{DeliveryID: m.DeliveryID, State: d.State, NextAttemptAt: d.NextAttemptAt}
		switch {
		case !found, d.WorkflowID != r.workflowID && !d.State.Finished():
			report.Left = true
		case d.State == postrider.StateFailed:
			r.failed = "it had failed before"
		case d.State.Finished():
		default:
			r.policies = append(r.policies, d.Policy)
			// One that is due much later was attempted by a round that died.
			if r.made[m.DeliveryID] = d.NextAttemptAt != nil && d.NextAttemptAt.Sub(r.started) > roundSpan+earliness; !r.made[m.DeliveryID] {
				r.due = append(r.due, target)
			}
		}
		r.at[m.DeliveryID] = len(r.reports)
		r.reports = append(r.reports, report)
	}
	slices.SortStableFunc(r.due, func(a, b postrider.Target) int { return dueAt(a.Delivery).Compare(dueAt(b.Delivery)) })
}

// dueAt is when the delivery's next attempt is due.
func dueAt(d postrider.Delivery) time.Time {
	if d.NextAttemptAt != nil {
		return *d.NextAttemptAt
	}
	return d.DueAt
}

// result is what came of one member's attempt.
type result struct {
	target   postrider.Target
	report   Report
	err      error
	unserved bool // there was no place
}

// run makes the attempts that are due, and sends away whose next one is due before all
// have ended.
func (r *round) run(ctx context.Context) {
	results := make(chan result, len(r.due))
	var attempts sync.WaitGroup
	defer attempts.Wait()
	for _, target := range r.due {
		attempts.Go(func() { results <- r.attempt(ctx, target) })
	}
	for pending := len(r.due); pending > 0; {
		until, cancel := r.untilNext(ctx)
		select {
		case made := <-results:
			pending--
			r.take(made)
		case <-until.Done():
			if ctx.Err() == nil {
				soon := r.a.Now().Add(leaveAhead)
				r.leave(ctx, func(at time.Time) bool { return !at.After(soon) })
				break
			}
			r.take(<-results)
			pending--
		}
		cancel()
	}
}

// untilNext ends when somebody's next attempt is nearly due.
func (r *round) untilNext(ctx context.Context) (context.Context, context.CancelFunc) {
	next := r.next()
	if next == nil || r.stays {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, next.Sub(r.a.Now())-leaveAhead)
}

// take takes in what came of an attempt.
func (r *round) take(made result) {
	report := &r.reports[r.at[made.target.Delivery.ID]]
	switch {
	case made.err != nil:
		r.failure = made.err
	case made.unserved:
		r.unserved = append(r.unserved, made.target)
	default:
		r.made[made.target.Delivery.ID] = true
		made.report.Attempts = postrider.MergeAttempts(report.Attempts, made.report.Attempts...)
		*report = made.report
		if report.State == postrider.StateRetrying && !report.Left || report.State == postrider.StateFailed {
			r.lastError = describe(made.report)
		}
		if report.State == postrider.StateFailed {
			r.failed = r.lastError
		}
	}
}

// attempt makes one member's attempt at its time, when there is a place for it.
func (r *round) attempt(ctx context.Context, target postrider.Target) result {
	made := result{target: target}
	pause(ctx, dueAt(target.Delivery).Sub(r.a.Now()))
	if callOff(target) == "" {
		bound, cancel := context.WithTimeout(ctx, placeWait)
		defer cancel()
		if r.a.Process.Reserve(bound, target) != nil {
			made.unserved, made.err = ctx.Err() == nil, ctx.Err()
			return made
		}
		defer r.a.Process.Done(target.Delivery.ID)
		permit, err := r.permit(ctx, bound, target)
		switch {
		case err != nil:
			made.err = err
			return made
		case permit.Elsewhere:
			made.report = Report{DeliveryID: target.Delivery.ID, State: target.Delivery.State, Left: true}
			return made
		case !permit.Granted:
			made.unserved = true
			return made
		}
		r.a.Process.Began(target.Delivery.ID)
	}
	made.report, made.err = r.a.attempt(ctx, target, r.workflowID, func() string { return "" })
	if made.err != nil {
		r.releasePermit(ctx, target.Delivery.ID)
	}
	return made
}

// permit waits for a place among the webhook's attempts in all processes, until bound is
// done, and then for its time.
func (r *round) permit(ctx, bound context.Context, target postrider.Target) (postrider.Permit, error) {
	request := postrider.PermitRequest{
		DeliveryID: target.Delivery.ID, WebhookID: target.Delivery.WebhookID, WorkflowID: r.workflowID,
		Hold: target.Delivery.Policy.Timeout() + permitGrace, MaxWait: longestTurn,
	}
	for {
		permit, err := r.a.Store.AcquirePermit(ctx, request)
		if err != nil || permit.Elsewhere {
			return permit, err
		}
		if permit.Granted {
			pause(ctx, permit.Wait)
			if ctx.Err() != nil {
				r.releasePermit(ctx, target.Delivery.ID)
			}
			return permit, ctx.Err()
		}
		pause(bound, max(permit.Wait, time.Duration(float64(askAgainAfter)*(0.75+r.a.Random()/2))))
		if bound.Err() != nil {
			return permit, ctx.Err()
		}
	}
}

// releasePermit is best effort: the permit ends by itself.
func (r *round) releasePermit(ctx context.Context, deliveryID string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTime)
	defer cancel()
	if err := r.a.Store.ReleasePermit(ctx, deliveryID); err != nil {
		r.a.Logger.LogAttrs(ctx, slog.LevelWarn, "permit not released; it will end by itself",
			slog.String("delivery_id", deliveryID), slog.Any("error", err))
	}
}

// next is when the first of those is due again that are left; nil when none is.
func (r *round) next() *time.Time {
	var first *time.Time
	for i := range r.reports {
		report := &r.reports[i]
		if r.waits(report) && (first == nil || report.NextAttemptAt.Before(*first)) {
			first = report.NextAttemptAt
		}
	}
	return first
}

// waits reports whether the workflow has another attempt of the delivery to make, whose
// time is to come.
func (r *round) waits(report *Report) bool {
	return r.made[report.DeliveryID] && report.State == postrider.StateRetrying && !report.Left && report.NextAttemptAt != nil
}

// leave sends those away whose next attempt is at such a time. Should that fail they stay.
func (r *round) leave(ctx context.Context, such func(time.Time) bool) {
	var leaving []string
	for i := range r.reports {
		if report := &r.reports[i]; r.waits(report) && such(*report.NextAttemptAt) {
			leaving = append(leaving, report.DeliveryID)
		}
	}
	if len(leaving) == 0 {
		return
	}
	if err := r.a.Store.Leave(ctx, r.workflowID, leaving); err != nil {
		r.failure, r.stays = err, true
		return
	}
	for _, id := range leaving {
		r.reports[r.at[id]].Left = true
	}
}

// keep makes sure that those stay the workflow's who found no place, and returns after
// how long to try again: half of how late they are, give or take a quarter, so that
// thousands that wait for one slow receiver do not keep the database busy with asking.
// It returns 0 when there are none.
func (r *round) keep(ctx context.Context) time.Duration {
	if len(r.unserved) == 0 {
		return 0
	}
	now := r.a.Now()
	late := time.Duration(0)
	waiting := make([]string, len(r.unserved))
	for i, target := range r.unserved {
		waiting[i] = target.Delivery.ID
		late = max(late, now.Sub(dueAt(target.Delivery)))
	}
	again := time.Duration(float64(min(max(late/2, firstAskAgain), lastAskAgain)) * (0.75 + r.a.Random()/2))
	if err := r.a.Store.Keep(ctx, r.workflowID, waiting, now.Add(again)); err != nil {
		r.failure = err
	}
	return again
}

// pause waits for the time, or until ctx is done.
func pause(ctx context.Context, span time.Duration) {
	if span <= 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, span)
	defer cancel()
	<-ctx.Done()
}
