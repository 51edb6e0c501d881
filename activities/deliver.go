package activities

import (
	"context"
	"errors"
	"sync"
	"time"

	"postrider"
)

// Limits of the requests of one workflow that go on at once. They keep hundreds from
// opening a connection each where a few dozen would serve them as quickly; but nobody
// waits for a slow receiver, nor for the record of an attempt whose answer is there.
const (
	maxAtOnce    = 48
	slotPatience = 50 * time.Millisecond // when no request ends in it, all others begin
	// holdPatience is after how long they all begin anyway, so that the last one's whole
	// timeout fits into the activity's grace, and into the lease.
	holdPatience = 2 * time.Second
)

// DeliverInput names deliveries that are to make their first attempts.
type DeliverInput struct {
	// WorkflowID is the workflow that carries them. One that the database says another
	// workflow carries, since its lease ran out here, is left to that.
	WorkflowID  string   `json:"workflow_id"`
	DeliveryIDs []string `json:"delivery_ids"`
}

// Deliver makes the first attempts of deliveries side by side, records each as it ends,
// and reports on them in the order asked. It returns an error when any attempt could not be made or recorded
// for reasons of ours; the others are recorded all the same, and not made again when
// Deliver is run again.
func (a *Activities) Deliver(ctx context.Context, in DeliverInput) ([]Report, error) {
	targets, err := a.targets(ctx, in.DeliveryIDs)
	if err != nil {
		return nil, err
	}
	reports := make([]Report, len(targets))
	errs := make([]error, len(targets))
	var attempts sync.WaitGroup
	slots, quick := make(chan struct{}, maxAtOnce), true
	patience, cancel := context.WithTimeout(ctx, holdPatience)
	defer cancel()
	for i, target := range targets {
		quick = quick && takeSlot(patience, slots)
		answered := func() {}
		if quick {
			answered = sync.OnceFunc(func() { <-slots }) // there may be no request to answer
		}
		attempts.Go(func() {
			defer answered()
			reports[i], errs[i] = a.first(ctx, target, in.WorkflowID, answered)
		})
	}
	attempts.Wait()
	return reports, errors.Join(errs...)
}

// takeSlot takes a slot, or reports that none came free.
func takeSlot(ctx context.Context, slots chan<- struct{}) bool {
	select {
	case slots <- struct{}{}:
		return true
	default:
	}
	ctx, cancel := context.WithTimeout(ctx, slotPatience)
	defer cancel()
	select {
	case slots <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

// targets returns what the attempts need, from the claim where that was this process's.
func (a *Activities) targets(ctx context.Context, deliveryIDs []string) ([]postrider.Target, error) {
	targets := make([]postrider.Target, len(deliveryIDs))
	var missing []string
	var places []int
	for i, id := range deliveryIDs {
		if carried := a.Carried(id); carried != nil {
			targets[i] = *carried
		} else {
			missing, places = append(missing, id), append(places, i)
		}
	}
	if len(missing) == 0 {
		return targets, nil
	}
	read, err := a.Store.Targets(ctx, missing)
	for i, target := range read {
		targets[places[i]] = target
	}
	return targets, err
}

// first makes a delivery's first attempt for the workflow, unless that was done before,
// see attempt for answered.
func (a *Activities) first(ctx context.Context, target postrider.Target, workflowID string, answered func()) (report Report, err error) {
	switch {
	case target.Delivery.AttemptCount > 0:
		report, err = a.recorded(ctx, target)
	case target.Delivery.WorkflowID != workflowID: // whose place is another workflow's, too
		return a.recorded(ctx, target)
	default:
		report, err = a.attempt(ctx, target, answered)
	}
	if err == nil {
		a.FirstAttemptDone(target.Delivery.ID)
	}
	return report, err
}
