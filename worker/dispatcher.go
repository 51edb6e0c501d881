// Package worker runs what makes deliveries happen: the Temporal worker, and the
// dispatcher that hands every accepted delivery to a workflow.
//
// The hand-over cannot lose a delivery. A publish commits an outbox row with each
// delivery; a dispatcher leases rows, starts a workflow for each, and the row goes
// in the transaction that records the first attempt. A crash in between leaves the
// row, whose lease runs out: the next claim starts the workflow again, which is
// refused where it exists already, and that is as good as started.
package worker

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"postrider"
	"postrider/workflows"
)

// Queue is what the dispatcher needs of the database.
type Queue interface {
	// Claim leases up to limit due deliveries, fair across webhooks and under
	// their limits. They come back to the queue when the lease is over.
	Claim(ctx context.Context, limit int, lease time.Duration) ([]postrider.Dispatch, error)
	// NextDue returns when the next delivery that is held or paced becomes due.
	NextDue(ctx context.Context) (time.Time, bool, error)
	// Release gives claimed deliveries back at once.
	Release(ctx context.Context, deliveryIDs []string) error
	// HandedOver takes deliveries off the queue that have their workflow.
	HandedOver(ctx context.Context, deliveryIDs []string) error
	// Wake gets a value when this process made something due.
	Wake() <-chan struct{}
}

// Starter hands deliveries to Temporal.
type Starter interface {
	// Start returns [workflows.ErrAlreadyStarted] for one that has its workflow.
	Start(ctx context.Context, d postrider.Dispatch) error
	Cancel(ctx context.Context, deliveryID string) error
}

// Timing of the dispatcher.
const (
	// Lease covers the longest first attempt, 30 s, and its recording: a row is not
	// claimed twice while its first attempt goes on, so that max_in_flight holds.
	Lease = 45 * time.Second
	// pollInterval is how long the dispatcher waits for another process's publish.
	pollInterval = time.Second
	// troubleInterval spaces the claims while the database or Temporal is away.
	troubleInterval = time.Second
	// startTimeout bounds one start of a workflow.
	startTimeout = 10 * time.Second
	// releaseTimeout bounds giving rows back while shutting down.
	releaseTimeout = 5 * time.Second
)

// Dispatcher hands claimed deliveries to workflows, at most InFlight at once.
type Dispatcher struct {
	queue   Queue
	starter Starter
	logger  *slog.Logger
	now     func() time.Time

	inFlight chan struct{} // a token for each claimed delivery whose first attempt has not ended
	freed    chan struct{} // told when a token came back
	trouble  chan struct{} // told when a start failed

	mu      sync.Mutex
	waiting map[string]context.CancelFunc // ends the wait for a delivery's first attempt
}

// NewDispatcher returns a dispatcher that keeps at most inFlight first attempts
// going at once.
func NewDispatcher(queue Queue, starter Starter, inFlight int, logger *slog.Logger, now func() time.Time) *Dispatcher {
	return &Dispatcher{
		queue: queue, starter: starter, logger: logger, now: now,
		inFlight: make(chan struct{}, inFlight),
		freed:    make(chan struct{}, 1),
		trouble:  make(chan struct{}, 1),
		waiting:  map[string]context.CancelFunc{},
	}
}

// FirstAttemptDone frees the place of a delivery whose first attempt is recorded.
// A delivery that this dispatcher does not wait for is none of its business.
func (d *Dispatcher) FirstAttemptDone(deliveryID string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if end, found := d.waiting[deliveryID]; found {
		end()
	}
}

// Run claims and hands over until ctx is done, then waits for the starts that are
// under way. It returns nil: everything that can go wrong is tried again.
func (d *Dispatcher) Run(ctx context.Context) error {
	var handing sync.WaitGroup
	defer handing.Wait()
	for ctx.Err() == nil {
		if len(d.inFlight) == cap(d.inFlight) {
			d.wait(ctx, pollInterval, d.freed)
			continue
		}
		claimed, err := d.queue.Claim(ctx, cap(d.inFlight)-len(d.inFlight), Lease)
		for _, dispatch := range claimed {
			d.inFlight <- struct{}{}
			handing.Go(func() { d.hand(ctx, dispatch) })
		}
		switch {
		case err != nil && ctx.Err() == nil:
			d.logger.LogAttrs(ctx, slog.LevelWarn, "cannot claim deliveries, trying again", slog.Any("error", err))
			d.wait(ctx, troubleInterval, nil)
		case d.troubled():
			d.wait(ctx, troubleInterval, nil)
		case len(claimed) == 0:
			d.wait(ctx, d.idle(ctx), d.queue.Wake())
		}
	}
	return nil
}

// idle returns how long to wait when nothing could be claimed.
func (d *Dispatcher) idle(ctx context.Context) time.Duration {
	due, found, err := d.queue.NextDue(ctx)
	if err != nil || !found {
		return pollInterval
	}
	return min(max(due.Sub(d.now()), time.Millisecond), pollInterval)
}

// wait returns after the time, or at once when ctx is done, a place was freed or
// wake gets a value.
func (d *Dispatcher) wait(ctx context.Context, longest time.Duration, wake <-chan struct{}) {
	ctx, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	if wake == nil { // in trouble: nothing shortens the wait
		<-ctx.Done()
		return
	}
	select {
	case <-ctx.Done():
	case <-wake:
	case <-d.freed:
	}
}

func (d *Dispatcher) troubled() bool {
	select {
	case <-d.trouble:
		return true
	default:
		return false
	}
}

// hand hands one delivery over and holds its place until its first attempt has
// ended, here or, for all we know, elsewhere.
func (d *Dispatcher) hand(ctx context.Context, dispatch postrider.Dispatch) {
	defer func() {
		<-d.inFlight
		signal(d.freed)
	}()
	done, end := context.WithTimeout(ctx, Lease)
	defer end()
	d.await(dispatch.DeliveryID, end)
	defer d.await(dispatch.DeliveryID, nil)

	err := d.start(ctx, dispatch)
	switch {
	case err == nil && !dispatch.Cancel:
		<-done.Done()
	case err == nil, errors.Is(err, workflows.ErrAlreadyStarted):
		d.settle(ctx, d.queue.HandedOver, dispatch)
	default:
		if ctx.Err() == nil {
			d.logger.LogAttrs(ctx, slog.LevelWarn, "cannot hand a delivery to its workflow, trying again",
				slog.String("delivery_id", dispatch.DeliveryID), slog.Any("error", err))
			signal(d.trouble)
		}
		d.settle(ctx, d.queue.Release, dispatch)
	}
}

func (d *Dispatcher) start(ctx context.Context, dispatch postrider.Dispatch) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if dispatch.Cancel {
		return d.starter.Cancel(ctx, dispatch.DeliveryID)
	}
	return d.starter.Start(ctx, dispatch)
}

// settle writes the end of a hand-over, also while shutting down. When it fails,
// the lease brings the row back, and nothing is lost.
func (d *Dispatcher) settle(ctx context.Context, write func(context.Context, []string) error, dispatch postrider.Dispatch) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
	defer cancel()
	if err := write(ctx, []string{dispatch.DeliveryID}); err != nil {
		d.logger.LogAttrs(ctx, slog.LevelWarn, "hand-over not settled, its lease will end it",
			slog.String("delivery_id", dispatch.DeliveryID), slog.Any("error", err))
	}
}

// await notes who to tell when the delivery's first attempt has ended; nil forgets.
func (d *Dispatcher) await(deliveryID string, end context.CancelFunc) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if end == nil {
		delete(d.waiting, deliveryID)
		return
	}
	d.waiting[deliveryID] = end
}

// signal puts a token into a channel of one, unless it holds one already.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
