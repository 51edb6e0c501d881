package main

import (
	"context"
	"errors"
	"log/slog"
	mathrand "math/rand/v2"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"postrider.dev/postrider"
	"postrider.dev/postrider/activities"
	"postrider.dev/postrider/store"
)

// Limits of the product: attempts at once, deliveries in a claim, and a claim's lease.
const (
	slots    = 2000
	maxClaim = 512
	lease    = 45 * time.Second
)

// floor claims deliveries and makes their attempts. It is the [activities.Process] of these.
type floor struct {
	store      *store.Store
	activities *activities.Activities
	slots      chan struct{} // holds a token for each delivery under way
	slotFreed  chan struct{} // signals that a token was taken out
	feeds      sync.Map      // claimed deliveries, by workflow id
	ids        *postrider.IDs
	logger     *slog.Logger
}

// newFloor returns a floor with all slots free.
func newFloor(db *store.Store, poster activities.Poster, ids *postrider.IDs, logger *slog.Logger) *floor {
	f := &floor{store: db, ids: ids, slots: make(chan struct{}, slots), slotFreed: make(chan struct{}, 1), logger: logger}
	f.activities = activities.New(activities.Config{
		Store: db, Poster: poster, Reporter: noReporter{}, Metrics: activities.NewMetrics(prometheus.NewRegistry()), Logger: logger,
		Now: time.Now, Random: mathrand.Float64, Process: f,
	})
	return f
}

// noReporter is the reporter of retries, which floor does not make.
type noReporter struct{}

// Report implements [activities.Reporter].
func (noReporter) Report(context.Context, string, string, activities.Reports) error {
	return errors.New("there are no workflows")
}

// Feed implements [activities.Process].
func (f *floor) Feed(workflowID string) activities.Feed {
	claimed, found := f.feeds.LoadAndDelete(workflowID)
	if !found {
		return nil
	}
	return claimed.(*feed) //nolint:errcheck,forcetypeassert // nothing else is stored
}

// Reserve implements [activities.Process].
func (f *floor) Reserve(context.Context, postrider.Target) error { return nil }

// Began implements [activities.Process].
func (f *floor) Began(string) {}

// Answered implements [activities.Process]: nothing is claimed ahead.
func (f *floor) Answered(string, bool) string { return "" }

// Done implements [activities.Process]: it frees the delivery's slot.
func (f *floor) Done(string) {
	<-f.slots
	select {
	case f.slotFreed <- struct{}{}:
	default:
	}
}

// feed hands the deliveries of one claim to their activity.
type feed struct {
	store   *store.Store
	claimed []postrider.Dispatch
}

// Next implements [activities.Feed].
func (f *feed) Next(ctx context.Context) []activities.Arrival {
	arrivals := make([]activities.Arrival, len(f.claimed))
	deliveries := make([]postrider.Delivery, len(f.claimed))
	for i, c := range f.claimed {
		arrivals[i].DeliveryID, deliveries[i] = c.ID, c.Delivery
	}
	f.claimed = nil
	if targets, err := f.store.TargetsOf(ctx, deliveries); err == nil {
		for i := range targets {
			arrivals[i].Target = &targets[i]
		}
	}
	return arrivals
}

// run claims and delivers until ctx is done.
func (f *floor) run(ctx context.Context) error {
	var delivering sync.WaitGroup
	defer delivering.Wait()
	for ctx.Err() == nil {
		batch := postrider.BatchWorkflowID(f.ids.New(postrider.PrefixBatch))
		claimed, err := f.store.Claim(ctx, postrider.ClaimRequest{
			Limit: min(cap(f.slots)-len(f.slots), maxClaim), Lease: lease, WorkflowID: batch,
		})
		if err != nil {
			return err
		}
		if len(claimed) == 0 {
			f.wait(ctx)
			continue
		}
		for range claimed {
			f.slots <- struct{}{}
		}
		f.feeds.Store(batch, &feed{store: f.store, claimed: claimed})
		delivering.Go(func() {
			if _, err := f.activities.Deliver(ctx, activities.DeliverInput{WorkflowID: batch}); err != nil && ctx.Err() == nil {
				f.logger.LogAttrs(ctx, slog.LevelError,
					"could not make attempts; the leases will expire and the deliveries will be claimed again", slog.Any("error", err))
			}
		})
	}
	return nil
}

// wait returns when a delivery may be due or a slot is free, after a second at the latest.
func (f *floor) wait(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	select {
	case <-ctx.Done():
	case <-f.slotFreed:
	case <-f.store.Wake():
	}
}
