package activities

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"postrider.dev/postrider"
)

// Times of a round of retries. Together with the longest POST they fit into [RetryTimeout],
// the time that the workflow gives the activity.
const (
	// roundSpan is how far apart the attempts of a round may be due. For waits up to 5 s,
	// jitter spreads deliveries that failed together no further.
	roundSpan = 2 * time.Second
	// earliness is how much too early an attempt may come, since the clocks of Temporal's
	// machine and of this one may differ.
	earliness = time.Second
	// maxSlotWait is how long an attempt waits for its slot and its permit.
	maxSlotWait = 10 * time.Second
	// maxRateWait is how long an attempt with a permit waits for its time under the webhook's
	// rate limit.
	maxRateWait = 5 * time.Second
	// permitInterval spaces the requests for a permit.
	permitInterval = 250 * time.Millisecond
	// leaveMargin is how long before its next attempt a delivery leaves a round that goes on.
	// A dispatcher needs about this long to hand it over.
	leaveMargin = 150 * time.Millisecond
	recordGrace = 5 * time.Second // for the attempt's record, after its deadline
	// permitGrace is how much longer than its attempt a permit may last. The attempt's record
	// ends it, and shares a transaction with other records that may take this long.
	permitGrace    = 30 * time.Second
	cleanUpTimeout = 5 * time.Second
	// minPostponement and maxPostponement bound the wait of deliveries that got no slot or no
	// permit.
	minPostponement = 250 * time.Millisecond
	maxPostponement = 5 * time.Minute
)

// RetryTimeout returns the most that a round takes if each attempt takes up to timeout.
func RetryTimeout(timeout time.Duration) time.Duration {
	return roundSpan + earliness + maxSlotWait + maxRateWait + timeout + recordGrace + cleanUpTimeout
}

// round is one try of [Activities.Retry].
type round struct {
	a          *Activities
	workflowID string
	runID      string
	try        int // 1 is the first
	started    time.Time
	known      map[string]int // attempts that the workflow knew when it scheduled the activity, by delivery
	policies   []postrider.Policy

	changed     []string           // deliveries whose policy is not the workflow's any more
	due         []postrider.Target // deliveries to attempt, in the order of their times
	reports     Reports
	index       map[string]int     // of a delivery's report
	attempted   map[string]bool    // deliveries whose attempt was made
	cannotLeave bool               // a request to leave failed
	postponed   []postrider.Target // deliveries that got no slot or no permit
	internalErr error              // the latest internal failure
	lastError   string             // of the latest attempt
	failure     string             // the last error of the latest delivery that failed for good
}

// classify makes a report for each member, and finds the members whose attempt is due.
func (r *round) classify(in RetryInput, targets []postrider.Target) {
	byID := map[string]postrider.Target{}
	for _, target := range targets {
		byID[target.Delivery.ID] = target
	}
	for _, m := range in.members() {
		target, found := byID[m.DeliveryID]
		d := target.Delivery
		report := Report{DeliveryID: m.DeliveryID, State: d.State, NextAttemptAt: d.NextAttemptAt, Expired: d.HasExpired()}
		switch {
		case !found, d.WorkflowID != r.workflowID && !d.State.Finished():
			report.Left = true
		case d.State == postrider.StateFailed:
			r.failure = "it had failed before"
		case d.State.Finished():
		case in.Policy != nil && d.Policy != *in.Policy:
			r.changed, report.Left = append(r.changed, d.ID), true
		default:
			r.policies = append(r.policies, d.Policy)
			// A delivery that is due much later was attempted by a round that died.
			early := d.NextAttemptAt != nil && d.NextAttemptAt.Sub(r.started) > roundSpan+earliness
			if r.attempted[m.DeliveryID] = early; !early {
				r.due = append(r.due, target)
			}
		}
		r.index[m.DeliveryID] = len(r.reports)
		r.reports = append(r.reports, report.about(d))
	}
	slices.SortStableFunc(r.due, func(a, b postrider.Target) int { return dueAt(a.Delivery).Compare(dueAt(b.Delivery)) })
}

// letGo gives deliveries with another policy than the workflow's to the dispatchers.
func (r *round) letGo(ctx context.Context) error {
	if len(r.changed) == 0 {
		return nil
	}
	return r.a.Store.Leave(ctx, r.workflowID, r.changed)
}

// dueAt returns when the delivery's next attempt is due.
func dueAt(d postrider.Delivery) time.Time {
	if d.NextAttemptAt != nil {
		return *d.NextAttemptAt
	}
	return d.DueAt
}

// result is the result of one member's attempt.
type result struct {
	target    postrider.Target
	report    Report
	err       error
	postponed bool // it got no slot or no permit
}

// run makes the attempts that are due. While an attempt is in flight, it lets members leave
// whose next attempt is due soon.
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
		case res := <-results:
			pending--
			r.add(res)
		case <-until.Done():
			if ctx.Err() == nil {
				soon := r.a.Now().Add(leaveMargin)
				r.leave(ctx, func(due time.Time) bool { return !due.After(soon) })
				break
			}
			r.add(<-results)
			pending--
		}
		cancel()
	}
}

// untilNext returns a context that ends shortly before the next attempt of a member is due.
func (r *round) untilNext(ctx context.Context) (context.Context, context.CancelFunc) {
	next := r.next()
	if next == nil || r.cannotLeave {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, next.Sub(r.a.Now())-leaveMargin)
}

// add adds the result of an attempt to the round's.
func (r *round) add(res result) {
	id := res.target.Delivery.ID
	report := &r.reports[r.index[id]]
	switch {
	case res.err != nil:
		r.internalErr = res.err
	case res.postponed:
		r.postponed = append(r.postponed, res.target)
	default:
		r.attempted[id] = true
		res.report.Attempts = postrider.MergeAttempts(report.Attempts, res.report.Attempts...)
		*report = res.report.about(res.target.Delivery)
		if report.State == postrider.StateRetrying && !report.Left || report.State == postrider.StateFailed {
			r.lastError = describe(res.report)
		}
		if report.State == postrider.StateFailed {
			r.failure = r.lastError
		}
	}
}

// attempt makes one member's attempt at its time, when it has its slot and its permit.
func (r *round) attempt(ctx context.Context, target postrider.Target) result {
	res := result{target: target, err: obstacle(target)}
	if res.err != nil {
		return res
	}
	pause(ctx, dueAt(target.Delivery).Sub(r.a.Now()))
	if makesRequest(target) && !target.Delivery.ExpiredBy(r.a.Now()) { // otherwise it needs neither
		bound, cancel := context.WithTimeout(ctx, maxSlotWait)
		defer cancel()
		if r.a.Process.Reserve(bound, target) != nil {
			res.postponed, res.err = ctx.Err() == nil, ctx.Err()
			return res
		}
		defer r.a.Process.Done(target.Delivery.ID)
		permit, err := r.permit(ctx, bound, target)
		switch {
		case err != nil:
			res.err = err
			return res
		case permit.Elsewhere:
			res.report = Report{DeliveryID: target.Delivery.ID, State: target.Delivery.State, Left: true}
			return res
		case !permit.Granted:
			res.postponed = true
			return res
		}
		r.a.Process.Began(target.Delivery.ID)
	}
	res.report, res.err = r.a.attempt(ctx, target, r.workflowID, func(bool) string { return "" })
	if res.err != nil {
		r.releasePermit(ctx, target.Delivery.ID)
	}
	return res
}

// permit waits for a permit until bound is done, and then for the attempt's time under the
// webhook's rate limit.
func (r *round) permit(ctx, bound context.Context, target postrider.Target) (postrider.Permit, error) {
	request := postrider.PermitRequest{
		DeliveryID: target.Delivery.ID, WebhookID: target.Delivery.WebhookID, WorkflowID: r.workflowID,
		Hold: target.Delivery.Policy.Timeout() + permitGrace, MaxWait: maxRateWait,
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
		pause(bound, max(permit.Wait, r.jitter(permitInterval)))
		if bound.Err() != nil {
			return permit, ctx.Err()
		}
	}
}

// jitter returns the duration, give or take a quarter of it.
func (r *round) jitter(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (0.75 + r.a.Random()/2))
}

// releasePermit ends a permit early. When that fails, the permit expires.
func (r *round) releasePermit(ctx context.Context, deliveryID string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTimeout)
	defer cancel()
	if err := r.a.Store.ReleasePermit(ctx, deliveryID); err != nil {
		r.a.Logger.LogAttrs(ctx, slog.LevelWarn, "could not release a permit; it will expire",
			slog.String("delivery_id", deliveryID), slog.Any("error", err))
	}
}

// next returns when the next attempt of a waiting member is due; nil when no member waits.
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

// waits reports whether the member was attempted in this round and waits for another attempt
// of this workflow.
func (r *round) waits(report *Report) bool {
	return r.attempted[report.DeliveryID] && report.State == postrider.StateRetrying && !report.Left && report.NextAttemptAt != nil
}

// leave lets waiting members leave if their next attempt's time matches. When the database
// refuses, they stay.
func (r *round) leave(ctx context.Context, matches func(due time.Time) bool) {
	var leaving []string
	for i := range r.reports {
		if report := &r.reports[i]; r.waits(report) && matches(*report.NextAttemptAt) {
			leaving = append(leaving, report.DeliveryID)
		}
	}
	if len(leaving) == 0 {
		return
	}
	if err := r.a.Store.Leave(ctx, r.workflowID, leaving); err != nil {
		r.internalErr, r.cannotLeave = err, true
		return
	}
	for _, id := range leaving {
		r.reports[r.index[id]].Left = true
	}
}

// keepPostponed keeps postponed members in the workflow, and returns when to try them again; 0
// when no member was postponed. The wait is about half of the time that they are late: if
// thousands wait for one slow receiver, they must not keep the database busy with requests.
func (r *round) keepPostponed(ctx context.Context) time.Duration {
	if len(r.postponed) == 0 {
		return 0
	}
	now := r.a.Now()
	late := time.Duration(0)
	waiting := make([]string, len(r.postponed))
	for i, target := range r.postponed {
		waiting[i] = target.Delivery.ID
		late = max(late, now.Sub(dueAt(target.Delivery)))
	}
	postponedFor := r.jitter(min(max(late/2, minPostponement), maxPostponement))
	if err := r.a.Store.Keep(ctx, r.workflowID, waiting, now.Add(postponedFor)); err != nil {
		r.internalErr = err
	}
	return postponedFor
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
