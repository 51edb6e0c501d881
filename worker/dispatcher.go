// Package worker runs what makes deliveries happen: the Temporal worker, and the
// dispatcher that hands every accepted delivery to a workflow.
//
// The hand-over cannot lose a delivery. A publish commits an outbox row with each
// delivery; a dispatcher leases rows, starts workflows for them, and a row goes in the
// transaction that records the first attempt. A crash in between leaves the row, whose
// lease runs out: the next claim starts the workflow again, which is refused where it
// exists already, and that is as good as started.
//
// A workflow carries one delivery, or the first attempts of all that a claim brought:
// which of the two goes by how many workflows of one are under way, see [Batching].
package worker

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"postrider"
	"postrider/workflows"
)

// Queue is what the dispatcher needs of the database.
type Queue interface {
	// Claim leases due deliveries, fair across webhooks and under their limits. They
	// come back to the queue when the lease is over. What their targets are read under is
	// ctx, so it must outlive the call.
	Claim(ctx context.Context, request postrider.ClaimRequest) ([]postrider.Dispatch, error)
	// NextDue returns when the next delivery that is held or paced becomes due.
	NextDue(ctx context.Context) (time.Time, bool, error)
	// Release gives claimed deliveries back at once.
	Release(ctx context.Context, deliveryIDs []string) error
	// HandedOver takes deliveries off the queue that have their workflow.
	HandedOver(ctx context.Context, deliveryIDs []string) error
	// Leased returns those of the deliveries that are leased for a first attempt.
	Leased(ctx context.Context, deliveryIDs []string) ([]string, error)
	// Wake gets a value when this process made something due.
	Wake() <-chan struct{}
}

// Starter hands deliveries to Temporal.
type Starter interface {
	// Start starts the one workflow that carries all of the deliveries. Returns
	// [workflows.ErrAlreadyStarted] when there is one.
	Start(ctx context.Context, carried []postrider.Dispatch) error
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
	// watchInterval spaces the looks at what other workers have done, and how long a
	// workflow has been started before anybody looks.
	watchInterval = time.Second
	// startTimeout bounds one start of a workflow.
	startTimeout = 10 * time.Second
	// maxStarting is how many starts go on at once. Temporal's own work for a workflow
	// is done by as many or fewer cores; more starts than that would only make all of
	// them, and the workflow tasks that follow, late.
	maxStarting = 16
	// releaseTimeout bounds giving rows back while shutting down.
	releaseTimeout = 5 * time.Second
)

// Batching says when one workflow carries the first attempts of many deliveries.
type Batching string

// The ways to batch.
const (
	// BatchingAuto gives each delivery a workflow of its own for as long as these keep
	// up, and batches what is claimed while there is more to do, or more than a few are
	// under way: so the size of a batch follows the load.
	BatchingAuto   Batching = "auto"
	BatchingAlways Batching = "always"
	BatchingNever  Batching = "never"
)

// Sizes of batches.
const (
	maxAlone = 8   // workflows of one delivery that go on at once before auto batches
	maxRate  = 150 // deliveries a second from which on it batches, however few are under way
	maxBatch = 512 // a workflow's input and result are some 400 bytes a delivery
	// maxQueued is how many workflows of one delivery wait to be started at most: what is
	// claimed long before it can be started is only counted again and again. They are
	// filled up when half have gone, so that claims are worth their while.
	maxQueued = 64
	// batchLinger is how long the dispatcher lets deliveries, or free places, gather after
	// a batch that was not a full one: bigger batches cost less, and there is a load to
	// share.
	batchLinger = 25 * time.Millisecond
)

// least returns the size from which a claim is a batch, with so many workflows of one
// delivery under way and so many deliveries a second.
func (b Batching) least(alone int, rate float64) int {
	switch {
	case b == BatchingAlways:
		return 1
	case b == BatchingNever:
		return math.MaxInt
	case rate > maxRate:
		return 2
	default:
		return max(maxAlone-alone+1, 2)
	}
}

// rate is how many deliveries a second were claimed lately: what was claimed counts
// less and less over the seconds that follow.
type rate struct {
	value float64
	at    time.Time
}

// add counts deliveries that were claimed now, and returns the rate.
func (r *rate) add(claimed int, now time.Time) float64 {
	r.value = r.value*math.Exp(-max(now.Sub(r.at), 0).Seconds()) + float64(claimed)
	r.at = now
	return r.value
}

// DispatcherConfig is what [NewDispatcher] needs; all is required.
type DispatcherConfig struct {
	Queue    Queue
	Starter  Starter
	InFlight int // first attempts that go on at once, at most
	PerHost  int // of these, to one host and port; 0 for no limit of its own
	Batching Batching
	IDs      *postrider.IDs
	Logger   *slog.Logger
	Now      func() time.Time
}

// Dispatcher hands claimed deliveries to workflows, at most InFlight at once.
type Dispatcher struct {
	DispatcherConfig
	places   *places
	claims   rate
	starting chan struct{} // a token for each start that goes on
	trouble  chan struct{} // told when a start failed
}

// NewDispatcher returns a dispatcher.
func NewDispatcher(config DispatcherConfig) *Dispatcher {
	return &Dispatcher{DispatcherConfig: config, places: newPlaces(config.InFlight, config.PerHost, config.Now), starting: make(chan struct{}, maxStarting), trouble: make(chan struct{}, 1)}
}

// FirstAttemptDone frees the place of a delivery whose first attempt is recorded.
// A delivery that this dispatcher does not wait for is none of its business.
func (d *Dispatcher) FirstAttemptDone(deliveryID string) { d.places.end(deliveryID) }

// Carried returns, once, what the first attempt of a delivery needs that this
// dispatcher claimed; nil when it must be read again. It waits for what is being read.
func (d *Dispatcher) Carried(deliveryID string) *postrider.Target { return d.places.unload(deliveryID) }

// Run claims and hands over until ctx is done, then waits for the starts that are
// under way. It returns nil: everything that can go wrong is tried again.
func (d *Dispatcher) Run(ctx context.Context) error {
	var handing sync.WaitGroup
	defer handing.Wait()
	handing.Go(func() { d.watch(ctx) })
	for ctx.Err() == nil {
		free, alone, queued := d.places.count()
		if free == 0 || queued > maxQueued/2 {
			d.wait(ctx, pollInterval, nil, d.places.freed)
			continue
		}
		within := d.places.roomAt(d.Now())
		request := d.request(free, alone, within)
		claimed, err := d.Queue.Claim(ctx, request)
		d.claims.add(len(claimed), d.Now())
		for _, carried := range byWorkflow(claimed) {
			f := d.places.take(carried)
			handing.Go(func() { d.hand(ctx, f) })
		}
		switch {
		case err != nil && ctx.Err() == nil:
			d.Logger.LogAttrs(ctx, slog.LevelWarn, "cannot claim deliveries, trying again", slog.Any("error", err))
			d.wait(ctx, troubleInterval, nil, nil)
		case d.troubled():
			d.wait(ctx, troubleInterval, nil, nil)
		case len(claimed) == 0 && within.tight:
			d.wait(ctx, d.idle(ctx), d.Queue.Wake(), d.places.eased)
		case len(claimed) == 0:
			d.wait(ctx, d.idle(ctx), d.Queue.Wake(), nil)
		case len(claimed) >= request.BatchMin && len(claimed) < maxBatch:
			d.wait(ctx, batchLinger, nil, nil)
		}
	}
	return nil
}

func (d *Dispatcher) request(free, alone int, within *room) postrider.ClaimRequest {
	request := postrider.ClaimRequest{Limit: min(free, maxQueued), Lease: Lease, BatchMin: d.Batching.least(alone, d.claims.add(0, d.Now())), Room: within.of}
	if d.Batching != BatchingNever {
		request.Limit = min(free, maxBatch)
		request.BatchID = postrider.BatchWorkflowID(d.IDs.New(postrider.PrefixBatch))
	}
	return request
}

// byWorkflow groups deliveries by the workflow that is to carry them, in their order.
func byWorkflow(claimed []postrider.Dispatch) [][]postrider.Dispatch {
	var groups [][]postrider.Dispatch
	at := map[string]int{}
	for _, dispatch := range claimed {
		i, found := at[dispatch.WorkflowID]
		if !found {
			i = len(groups)
			at[dispatch.WorkflowID] = i
			groups = append(groups, nil)
		}
		groups[i] = append(groups[i], dispatch)
	}
	return groups
}

// idle returns how long to wait when nothing could be claimed.
func (d *Dispatcher) idle(ctx context.Context) time.Duration {
	due, found, err := d.Queue.NextDue(ctx)
	if err != nil || !found {
		return pollInterval
	}
	return min(max(due.Sub(d.Now()), time.Millisecond), pollInterval)
}

// wait returns after the time, or at once when ctx is done or one of the two channels
// gets a value. A nil one shortens nothing.
func (d *Dispatcher) wait(ctx context.Context, longest time.Duration, wake, freed <-chan struct{}) {
	ctx, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	select {
	case <-ctx.Done():
	case <-wake:
	case <-freed:
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

// hand hands deliveries over to their workflow and holds their places until their
// first attempts have ended, here or, for all we know, elsewhere.
func (d *Dispatcher) hand(ctx context.Context, f *flight) {
	defer d.places.leave(f, f.deliveries()...)
	bound, cancel := context.WithTimeout(ctx, Lease)
	defer cancel()
	err := d.start(ctx, f)
	d.places.started(f)
	switch {
	case err == nil && f.attempts():
		select {
		case <-f.landed:
		case <-bound.Done():
		}
	case err == nil, errors.Is(err, workflows.ErrAlreadyStarted):
		d.settle(ctx, d.Queue.HandedOver, f)
	default:
		if ctx.Err() == nil {
			d.Logger.LogAttrs(ctx, slog.LevelWarn, "cannot hand deliveries to their workflow, trying again",
				slog.String("workflow_id", f.carried[0].WorkflowID), slog.Int("deliveries", len(f.carried)), slog.Any("error", err))
			signal(d.trouble)
		}
		d.settle(ctx, d.Queue.Release, f)
	}
}

// watch frees the places of deliveries whose attempt was made by another worker, which
// happens where Temporal did not give the workflow's first task to the one that started
// it: this process is told of its own attempts only.
func (d *Dispatcher) watch(ctx context.Context) {
	for ctx.Err() == nil {
		d.wait(ctx, watchInterval, nil, nil)
		waiting := d.places.elsewhere(watchInterval)
		if len(waiting) == 0 {
			continue
		}
		leased, err := d.Queue.Leased(ctx, slices.Sorted(maps.Keys(waiting)))
		if err != nil { // the leases' ends will free them
			continue
		}
		for _, id := range leased {
			delete(waiting, id)
		}
		for id, f := range waiting {
			d.places.leave(f, id)
		}
	}
}

func (d *Dispatcher) start(ctx context.Context, f *flight) error {
	select {
	case d.starting <- struct{}{}:
		defer func() { <-d.starting }()
	case <-ctx.Done():
		return ctx.Err()
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if f.carried[0].Cancel {
		return d.Starter.Cancel(ctx, f.carried[0].DeliveryID)
	}
	return d.Starter.Start(ctx, f.carried)
}

// settle writes the end of a hand-over, also while shutting down. When it fails,
// the lease brings the rows back, and nothing is lost.
func (d *Dispatcher) settle(ctx context.Context, write func(context.Context, []string) error, f *flight) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
	defer cancel()
	if err := write(ctx, f.deliveries()); err != nil {
		d.Logger.LogAttrs(ctx, slog.LevelWarn, "hand-over not settled, its lease will end it",
			slog.String("workflow_id", f.carried[0].WorkflowID), slog.Int("deliveries", len(f.carried)), slog.Any("error", err))
	}
}

// signal puts a token into a channel of one, unless it holds one already.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
