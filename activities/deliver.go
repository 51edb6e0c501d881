package activities

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"postrider.dev/postrider"
)

// Limits of the concurrent requests of one workflow. They keep hundreds of attempts from
// opening a connection each when a few dozen connections would be as quick. Requests to slow
// receivers do not hold others up, and neither do records.
const (
	maxRequests = 48
	// maxTokenWait is how long an attempt waits for a request token. After that, attempts
	// begin without one.
	maxTokenWait = 10 * time.Millisecond
)

// DeliverInput names the deliveries of [Activities.Deliver].
type DeliverInput struct {
	// WorkflowID is the workflow that carries the deliveries. A delivery whose lease expired
	// may be another workflow's by now; the database says which workflow carries it.
	WorkflowID string `json:"workflow_id"`
	// DeliveryIDs are the deliveries, if they were known when the workflow was started.
	DeliveryIDs []string `json:"delivery_ids,omitempty"`
}

// Deliver makes the first attempts of the workflow's deliveries concurrently, records each as
// it ends, and reports on them. If this process claims for the workflow, Deliver takes the
// claimed deliveries until the feed ends. In another process, or in a second run, it takes the
// workflow's deliveries from the database.
//
// It returns an error when an internal failure kept a named delivery from being attempted or
// recorded. For other deliveries it only logs the failure: after their leases expire, another
// workflow carries them.
func (a *Activities) Deliver(ctx context.Context, in DeliverInput) (Reports, error) {
	feed, err := a.feed(ctx, in)
	if err != nil {
		return nil, err
	}
	d := &firstAttempts{a: a, in: in, requestTokens: make(chan struct{}, maxRequests)}
	for arrivals := feed.Next(ctx); len(arrivals) > 0; arrivals = feed.Next(ctx) {
		for _, arrival := range arrivals {
			d.begin(ctx, arrival)
		}
	}
	d.attempts.Wait()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return d.reports, errors.Join(d.errs...)
}

// feed returns the feed of the workflow's deliveries.
func (a *Activities) feed(ctx context.Context, in DeliverInput) (Feed, error) {
	if feed := a.Process.Feed(in.WorkflowID); feed != nil {
		return feed, nil
	}
	if len(in.DeliveryIDs) > 0 {
		return &listFeed{a: a, deliveryIDs: in.DeliveryIDs}, nil
	}
	carried, err := a.Store.Carried(ctx, in.WorkflowID)
	return &listFeed{a: a, deliveryIDs: carried}, err
}

// listFeed is the feed of a fixed list of deliveries.
type listFeed struct {
	a           *Activities
	deliveryIDs []string
}

// Next implements [Feed].
func (f *listFeed) Next(ctx context.Context) []Arrival {
	arrivals := make([]Arrival, len(f.deliveryIDs))
	index := make(map[string]int, len(f.deliveryIDs))
	for i, id := range f.deliveryIDs {
		arrivals[i].DeliveryID = id
		index[id] = i
	}
	targets, err := f.a.Store.Targets(ctx, f.deliveryIDs)
	if err != nil { // each attempt reads its own target, and fails by itself
		targets = nil
	}
	for i := range targets {
		arrivals[index[targets[i].Delivery.ID]].Target = &targets[i]
	}
	f.deliveryIDs = nil
	return arrivals
}

// firstAttempts is one run of [Activities.Deliver].
type firstAttempts struct {
	a             *Activities
	in            DeliverInput
	requestTokens chan struct{} // holds a token for each request that got one
	tokensUsedUp  bool          // no token came back in time, so attempts do not wait for one
	attempts      sync.WaitGroup

	mu      sync.Mutex
	reports Reports
	errs    []error
}

// begin begins a delivery's attempt.
func (d *firstAttempts) begin(ctx context.Context, arrival Arrival) {
	returnToken := func() {}
	if d.takeToken(ctx) {
		returnToken = func() { <-d.requestTokens }
	}
	var once sync.Once
	answered := func(succeeded bool) (successor string) {
		once.Do(func() {
			returnToken()
			successor = d.a.Process.Answered(arrival.DeliveryID, succeeded)
		})
		return successor
	}
	index := d.add(Report{DeliveryID: arrival.DeliveryID})
	d.attempts.Go(func() {
		// If no request was made, this returns the token. It runs after Done, so the attempt has
		// no slot any more and no successor is named: no record would pass the permit on.
		defer answered(false)
		defer d.a.Process.Done(arrival.DeliveryID)
		report, err := d.attempt(ctx, arrival, answered)
		d.finish(ctx, index, report, err)
	})
}

// add adds a report and returns its index.
func (d *firstAttempts) add(report Report) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.reports = append(d.reports, report)
	return len(d.reports) - 1
}

// finish stores the report of an attempt. After an internal failure the delivery leaves the
// workflow without an attempt.
func (d *firstAttempts) finish(ctx context.Context, index int, report Report, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err == nil {
		d.reports[index] = report
		return
	}
	d.reports[index].State, d.reports[index].Left = postrider.StateDelivering, true
	if len(d.in.DeliveryIDs) > 0 {
		d.errs = append(d.errs, err)
	} else if ctx.Err() == nil {
		d.a.Logger.LogAttrs(ctx, slog.LevelWarn,
			"could not make or record a first attempt; its lease will expire and it will be made again",
			slog.String("delivery_id", d.reports[index].DeliveryID), slog.Any("error", err))
	}
}

// takeToken takes a request token. It reports false when no token came back in time.
func (d *firstAttempts) takeToken(ctx context.Context) bool {
	select {
	case d.requestTokens <- struct{}{}:
		d.tokensUsedUp = false
		return true
	default:
	}
	if d.tokensUsedUp {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, maxTokenWait)
	defer cancel()
	select {
	case d.requestTokens <- struct{}{}:
		return true
	case <-ctx.Done():
		d.tokensUsedUp = true
		return false
	}
}

// attempt makes a delivery's first attempt, see [Activities.attempt] for answered. It makes
// no attempt when another workflow carries the delivery, or when the attempt was made before.
func (d *firstAttempts) attempt(ctx context.Context, arrival Arrival, answered func(succeeded bool) string) (Report, error) {
	target := arrival.freshTarget(d.a.Now())
	if target == nil {
		targets, err := d.a.Store.Targets(ctx, []string{arrival.DeliveryID})
		if err != nil {
			return Report{}, err
		}
		if len(targets) == 0 {
			return Report{}, postrider.NotFound("delivery")
		}
		target = &targets[0]
	}
	delivery := target.Delivery
	var report Report
	var err error
	switch {
	case delivery.WorkflowID != d.in.WorkflowID:
		report, err = d.a.storedReport(ctx, delivery)
		report.Left = !report.State.Finished()
	case delivery.AttemptCount > 0:
		report, err = d.a.storedReport(ctx, delivery)
		report.Left = !report.State.Finished() && postrider.FirstAttemptsOnly(d.in.WorkflowID)
	default:
		report, err = d.a.attempt(ctx, *target, d.in.WorkflowID, answered)
	}
	if len(d.in.DeliveryIDs) == 0 {
		report.Policy = &delivery.Policy
	}
	return report.about(delivery), err
}
