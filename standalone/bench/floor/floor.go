package main

import (
	"context"
	"errors"
	"log/slog"
	mathrand "math/rand/v2"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"postrider"
	"postrider/activities"
	"postrider/store"
)

// Attempts that go on at once, and deliveries in a claim: the product's.
const (
	places   = 2000
	maxClaim = 512
	lease    = 45 * time.Second
)

// floor delivers.
type floor struct {
	store      *store.Store
	activities *activities.Activities
	places     chan struct{} // a token for each delivery whose attempt goes on
	freed      chan struct{} // told when tokens came back
	carried    sync.Map      // what claims brought along, by delivery
	ids        *postrider.IDs
	logger     *slog.Logger
}

func newFloor(db *store.Store, poster activities.Poster, ids *postrider.IDs, logger *slog.Logger) *floor {
	f := &floor{store: db, ids: ids, places: make(chan struct{}, places), freed: make(chan struct{}, 1), logger: logger}
	f.activities = activities.New(activities.Config{
		Store: db, Poster: poster, Reporter: nobody{}, Metrics: activities.NewMetrics(prometheus.NewRegistry()), Logger: logger,
		Now: time.Now, Random: mathrand.Float64, Carried: f.unload, FirstAttemptDone: f.done,
	})
	return f
}

// nobody is told about retries, which are not made here.
type nobody struct{}

// Report implements [activities.Reporter].
func (nobody) Report(context.Context, string, string, activities.Report) error {
	return errors.New("there are no workflows")
}

// unload returns what a claim brought along for a delivery.
func (f *floor) unload(deliveryID string) *postrider.Target {
	target, found := f.carried.LoadAndDelete(deliveryID)
	if !found {
		return nil
	}
	return target.(func() *postrider.Target)() //nolint:errcheck,forcetypeassert // nothing else is stored
}

// done gives a delivery's place back.
func (f *floor) done(string) {
	<-f.places
	select {
	case f.freed <- struct{}{}:
	default:
	}
}

// run claims and delivers until ctx is done.
func (f *floor) run(ctx context.Context) error {
	var delivering sync.WaitGroup
	defer delivering.Wait()
	for ctx.Err() == nil {
		batch := postrider.BatchWorkflowID(f.ids.New(postrider.PrefixBatch))
		claimed, err := f.store.Claim(ctx, postrider.ClaimRequest{
			Limit: min(cap(f.places)-len(f.places), maxClaim), Lease: lease, BatchID: batch, BatchMin: 1,
		})
		if err != nil {
			return err
		}
		if len(claimed) == 0 {
			f.wait(ctx)
			continue
		}
		in := activities.DeliverInput{WorkflowID: batch, DeliveryIDs: make([]string, len(claimed))}
		for i, c := range claimed {
			f.places <- struct{}{}
			in.DeliveryIDs[i] = c.DeliveryID
			if c.Target != nil { // an attempt is to be made
				f.carried.Store(c.DeliveryID, c.Target)
			}
		}
		delivering.Go(func() {
			if _, err := f.activities.Deliver(ctx, in); err != nil && ctx.Err() == nil {
				f.logger.LogAttrs(ctx, slog.LevelError, "deliveries are lost until their lease ends", slog.Any("error", err))
			}
		})
	}
	return nil
}

// wait returns when there may be something to claim.
func (f *floor) wait(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	select {
	case <-ctx.Done():
	case <-f.freed:
	case <-f.store.Wake():
	}
}
