package activities

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"postrider.dev/postrider"
)

// Limits of the requests of one workflow that go on at once. They keep hundreds from
// opening a connection each where a few dozen would serve them as quickly; but nobody
// waits for a slow receiver, nor for the record of an attempt whose answer is there.
const (
	maxAtOnce    = 48
	slotPatience = 10 * time.Millisecond // when no request ends in it, others begin all the same
)

// DeliverInput names deliveries that are to make their first attempts.
type DeliverInput struct {
	// WorkflowID is the workflow that carries them. One that the database says another
	// workflow carries, since its lease ran out here, is left to that.
	WorkflowID string `json:"workflow_id"`
	// DeliveryIDs are the deliveries, where they were known when the workflow was started.
	DeliveryIDs []string `json:"delivery_ids,omitempty"`
}

// Deliver makes the first attempts of the workflow's deliveries side by side, records
// each as it ends, and reports on them. Where this process claims for the workflow, it
// takes what it claims until that is enough; elsewhere, and when it is run again, it
// takes what the database says is the workflow's. It returns an error when an attempt of
// the deliveries named could not be made or recorded for reasons of ours. Of others such
// a failure is only logged: when their lease is over, another workflow carries them.
func (a *Activities) Deliver(ctx context.Context, in DeliverInput) (Reports, error) {
	feed, err := a.feed(ctx, in)
	if err != nil {
		return nil, err
	}
	d := &firstAttempts{a: a, in: in, slots: make(chan struct{}, maxAtOnce)}
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

// feed returns what brings the workflow's deliveries.
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

// listFeed brings deliveries that are known.
type listFeed struct {
	a           *Activities
	deliveryIDs []string
}

// Next implements [Feed].
func (f *listFeed) Next(ctx context.Context) []Arrival {
	arrivals := make([]Arrival, len(f.deliveryIDs))
	at := make(map[string]int, len(f.deliveryIDs))
	for i, id := range f.deliveryIDs {
		arrivals[i].DeliveryID = id
		at[id] = i
	}
	targets, err := f.a.Store.Targets(ctx, f.deliveryIDs)
	if err != nil { // they are read one by one, and fail each for itself
		targets = nil
	}
	for i := range targets {
		arrivals[at[targets[i].Delivery.ID]].Target = &targets[i]
	}
	f.deliveryIDs = nil
	return arrivals
}

// firstAttempts is one run of [Activities.Deliver].
type firstAttempts struct {
	a        *Activities
	in       DeliverInput
	slots    chan struct{} // a token for each request that goes on, as far as they are counted
	crowded  bool          // no slot came free in time: nobody waits for one
	attempts sync.WaitGroup

	mu      sync.Mutex
	reports Reports
	errs    []error
}

// begin begins a delivery's attempt.
func (d *firstAttempts) begin(ctx context.Context, arrival Arrival) {
	freeSlot := func() {}
	if d.takeSlot(ctx) {
		freeSlot = func() { <-d.slots }
	}
	answered := sync.OnceValue(func() string { // also where there is no request to answer
		freeSlot()
		return d.a.Process.Answered(arrival.DeliveryID)
	})
	at := d.add(Report{DeliveryID: arrival.DeliveryID})
	d.attempts.Go(func() {
		defer answered()
		defer d.a.Process.Done(arrival.DeliveryID)
		report, err := d.first(ctx, arrival, answered)
		d.ended(ctx, at, report, err)
	})
}

func (d *firstAttempts) add(report Report) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.reports = append(d.reports, report)
	return len(d.reports) - 1
}

// ended takes in what came of an attempt. What failed for reasons of ours has made none.
func (d *firstAttempts) ended(ctx context.Context, at int, report Report, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err == nil {
		d.reports[at] = report
		return
	}
	d.reports[at].State, d.reports[at].Left = postrider.StateDelivering, true
	if len(d.in.DeliveryIDs) > 0 {
		d.errs = append(d.errs, err)
	} else if ctx.Err() == nil {
		d.a.Logger.LogAttrs(ctx, slog.LevelWarn, "first attempt not made or not recorded; it will be made again when its lease is over",
			slog.String("delivery_id", d.reports[at].DeliveryID), slog.Any("error", err))
	}
}

// takeSlot takes a slot, or reports that none came free in time.
func (d *firstAttempts) takeSlot(ctx context.Context) bool {
	select {
	case d.slots <- struct{}{}:
		d.crowded = false
		return true
	default:
	}
	if d.crowded {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, slotPatience)
	defer cancel()
	select {
	case d.slots <- struct{}{}:
		return true
	case <-ctx.Done():
		d.crowded = true
		return false
	}
}

// first makes a delivery's first attempt, unless that was done before or is another
// workflow's, see attempt for answered.
func (d *firstAttempts) first(ctx context.Context, arrival Arrival, answered func() string) (Report, error) {
	target := arrival.fresh(d.a.Now())
	if target == nil {
		read, err := d.a.Store.Targets(ctx, []string{arrival.DeliveryID})
		if err != nil {
			return Report{}, err
		}
		if len(read) == 0 {
			return Report{}, postrider.NotFound("delivery")
		}
		target = &read[0]
	}
	delivery := target.Delivery
	var report Report
	var err error
	switch {
	case delivery.WorkflowID != d.in.WorkflowID:
		report, err = d.a.recorded(ctx, delivery)
		report.Left = !report.State.Finished()
	case delivery.AttemptCount > 0:
		report, err = d.a.recorded(ctx, delivery)
		report.Left = !report.State.Finished() && postrider.FirstAttemptsOnly(d.in.WorkflowID)
	default:
		report, err = d.a.attempt(ctx, *target, d.in.WorkflowID, answered)
	}
	if len(d.in.DeliveryIDs) == 0 {
		report.Policy = &delivery.Policy
	}
	return report, err
}
