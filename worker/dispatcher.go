// Package worker runs what makes deliveries happen: the Temporal worker, and the
// dispatcher that hands every accepted delivery to a workflow.
//
// The hand-over cannot lose a delivery. A publish commits an outbox row with each
// delivery; a dispatcher leases rows for a workflow, and a row goes in the transaction
// that finishes its delivery. A crash in between leaves the row, whose lease runs out:
// then another workflow gets the delivery, and what the first still does for it counts
// for nothing, since the row does not name it.
//
// There are two queues, and none waits for the other: first attempts ([Dispatcher.Run]
// and batches.go), and what failed and is to be carried on by a workflow (handover.go).
// Attempts of both kinds have their places in one table of what is under way
// (inflight.go), under what this process gives each receiver (limiter.go).
package worker

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"postrider.dev/postrider"
	"postrider.dev/postrider/workflows"
)

// Queue is what the dispatcher needs of the database.
type Queue interface {
	// Claim leases deliveries whose first attempt is due, fair across workspaces and
	// webhooks and under their limits. They come back to the queue when the lease is over.
	Claim(ctx context.Context, request postrider.ClaimRequest) ([]postrider.Dispatch, error)
	// TargetsOf returns what an attempt of each delivery needs, in their order.
	TargetsOf(ctx context.Context, deliveries []postrider.Delivery) ([]postrider.Target, error)
	// NextDue returns when the next delivery that is held or paced becomes due.
	NextDue(ctx context.Context) (time.Time, bool, error)
	// Release gives claimed deliveries back at once.
	Release(ctx context.Context, deliveryIDs []string) error
	// Leased returns those of the deliveries that are leased for a first attempt.
	Leased(ctx context.Context, deliveryIDs []string) ([]string, error)
	// Wake gets a value when this process made something due.
	Wake() <-chan struct{}

	// ClaimRetries returns deliveries that failed, with the workflows that are to carry
	// their retries.
	ClaimRetries(ctx context.Context, request postrider.HandoverRequest) ([]postrider.Handover, error)
	// ClaimCancellations returns workflows that are to be cancelled.
	ClaimCancellations(ctx context.Context, limit int, lease time.Duration) ([]postrider.Cancellation, error)
	// Cancelled drops the requests to cancel the workflows of these deliveries.
	Cancelled(ctx context.Context, deliveryIDs []string) error
	// WakeRetries gets a value when this process left something to be handed over.
	WakeRetries() <-chan struct{}
}

// Starter starts and cancels workflows. Each start returns
// [workflows.ErrAlreadyStarted] when there is such a workflow.
type Starter interface {
	StartOwn(ctx context.Context, d postrider.Dispatch) error
	StartBatch(ctx context.Context, workflowID string, known []postrider.Dispatch, longest time.Duration) error
	StartRetries(ctx context.Context, h postrider.Handover) error
	Cancel(ctx context.Context, workflowID string) error
}

// Timing of the dispatcher.
const (
	// Lease covers the longest first attempt, 30 s, and its recording: a row is not
	// claimed twice while its first attempt goes on, so that max_in_flight holds.
	Lease = 45 * time.Second
	// pollInterval is how long the dispatcher waits for another process's publish.
	pollInterval = time.Second
	// lookAgain is after how long it looks for what became due by itself, where it has
	// just claimed something.
	lookAgain = 50 * time.Millisecond
	// backoff spaces the claims while the database or Temporal is away.
	backoff = time.Second
	// reapInterval spaces the looks at what other workers have done, and how long a
	// workflow has been started before anybody looks.
	reapInterval = time.Second
	// startTimeout bounds one start of a workflow.
	startTimeout = 10 * time.Second
	// maxStarting is how many starts for first attempts go on at once. Temporal's own work
	// for a workflow is done by as many or fewer cores; more starts than that would only
	// make all of them, and the workflow tasks that follow, late.
	maxStarting = 16
	// maxQueued is how many starts wait for their turn at most: what is claimed long before
	// its workflow can be started only uses up its lease.
	maxQueued = 64
	// queueLook spaces the looks at places and starts while there is none for anybody.
	queueLook = 5 * time.Millisecond
	// releaseTimeout bounds giving rows back while shutting down.
	releaseTimeout = 5 * time.Second
	// maxClaim is the most deliveries of a claim.
	maxClaim = 512
	// maxOwn is the most of a claim whose deliveries get a workflow each.
	maxOwn = 8
	// lingerFor is how long the dispatcher lets deliveries, or places, gather between two
	// claims for each delivery a second, up to the longest: bigger claims cost less.
	lingerFor     = 10 * time.Microsecond
	noLinger      = 100 // deliveries a second for which it does not
	longestLinger = 3 * time.Millisecond
)

// Batching says when one workflow carries many deliveries.
type Batching string

// The ways to batch.
const (
	// BatchingAuto gives each delivery a workflow of its own while there are but a few a
	// second, and else lets one carry the first attempts of all that are claimed in a
	// second. Retries of one webhook about the same time share a workflow.
	BatchingAuto   Batching = "auto"
	BatchingAlways Batching = "always"
	BatchingNever  Batching = "never" // each delivery has a workflow to itself at any time
)

// batchRate is how many deliveries a second make auto batch them.
const batchRate = 3

// DispatcherConfig is what [NewDispatcher] needs; all is required.
type DispatcherConfig struct {
	Queue    Queue
	Starter  Starter
	InFlight int // attempts that go on at once, at most
	PerHost  int // of these, to one host and port; 0 for no limit of its own
	Batching Batching
	IDs      *postrider.IDs
	Logger   *slog.Logger
	Now      func() time.Time
}

// Dispatcher hands claimed deliveries to workflows, at most InFlight at once.
type Dispatcher struct {
	DispatcherConfig
	*inflight

	batches  *batches
	claims   rate
	starting chan struct{} // a token for each start that goes on
	queued   atomic.Int64  // starts that wait for one
	trouble  chan struct{} // told when a start failed
}

// NewDispatcher returns a dispatcher.
func NewDispatcher(config DispatcherConfig) *Dispatcher {
	table := newInflight(config.InFlight, config.PerHost, config.Now)
	return &Dispatcher{
		DispatcherConfig: config, inflight: table, batches: newBatches(table, config.Now),
		starting: make(chan struct{}, maxStarting), trouble: make(chan struct{}, 1),
	}
}

// Run claims and hands over until ctx is done, then waits for the starts that are
// under way. It returns nil: everything that can go wrong is tried again.
func (d *Dispatcher) Run(ctx context.Context) error {
	var handing sync.WaitGroup
	defer handing.Wait()
	handing.Go(func() { d.reapRemote(ctx) })
	handing.Go(func() { d.handOver(ctx) })
	for ctx.Err() == nil {
		d.releaseStranded(ctx, false)
		if d.free() == 0 || d.queued.Load() > maxQueued {
			d.wait(ctx, queueLook, nil, d.freed)
			continue
		}
		claimed, more, err := d.claim(ctx, &handing)
		switch {
		case err != nil && ctx.Err() == nil:
			d.Logger.LogAttrs(ctx, slog.LevelWarn, "cannot claim deliveries, trying again", slog.Any("error", err))
			d.wait(ctx, backoff, nil, nil)
		case d.troubled():
			d.wait(ctx, backoff, nil, nil)
		case more && len(claimed) > 0:
			d.wait(ctx, d.linger(), nil, nil)
		default:
			d.wait(ctx, d.idle(ctx, claimed), d.Queue.Wake(), d.wanted)
			d.wait(ctx, d.linger(), nil, nil)
		}
	}
	d.batches.close()
	d.releaseStranded(ctx, true)
	return nil
}

// claim claims what is due and has a place, and gives it to workflows. It reports whether
// more may be waiting.
func (d *Dispatcher) claim(ctx context.Context, handing *sync.WaitGroup) (claimed []postrider.Dispatch, more bool, err error) {
	b := d.choose(ctx)
	if b != nil {
		defer b.letGo()
	}
	request := d.request(b)
	claimed, err = d.Queue.Claim(ctx, request)
	d.claims.add(len(claimed), d.Now())
	more = d.took(claimed, request)
	d.dispatch(ctx, handing, claimed, b)
	return claimed, more, err
}

// choose returns the batch that is to carry what is claimed next, nil where each delivery
// gets a workflow of its own. It waits for one that is about to be there, and holds it.
func (d *Dispatcher) choose(ctx context.Context) *batch {
	if d.Batching == BatchingNever || d.Batching != BatchingAlways && d.claims.add(0, d.Now()) < batchRate {
		return nil
	}
	if next := d.batches.wanted(); next {
		d.openBatch(ctx)
	}
	b := d.batches.current(ctx)
	if b == nil {
		b = newBatch(postrider.BatchWorkflowID(d.IDs.New(postrider.PrefixBatch)), d.Now())
		b.hold()
	}
	return b
}

// openBatch starts the next batch before the current one is full.
func (d *Dispatcher) openBatch(ctx context.Context) {
	b := newBatch(postrider.BatchWorkflowID(d.IDs.New(postrider.PrefixBatch)), d.Now())
	d.batches.opening(b)
	d.batches.starts.Go(func() {
		if err := d.start(ctx, func(ctx context.Context) error { return d.Starter.StartBatch(ctx, b.workflowID, nil, longestBatch) }); err != nil {
			d.batches.failed(b)
			d.failed(ctx, b.workflowID, 0, err)
			return
		}
		d.batches.running(b)
	})
}

// request is the claim that is made next, for a batch or for workflows of one.
func (d *Dispatcher) request(b *batch) postrider.ClaimRequest {
	capacity := d.capacity(b != nil && b.runsHere())
	request := postrider.ClaimRequest{Limit: min(d.free(), maxClaim), Lease: Lease, Capacity: &capacity}
	switch {
	case b != nil:
		request.Limit = min(request.Limit, b.room())
		request.WorkflowID = b.workflowID
		request.SlowWorkflowID = postrider.BatchWorkflowID(d.IDs.New(postrider.PrefixBatch))
	default:
		request.Limit = min(request.Limit, maxOwn)
	}
	return request
}

// dispatch gives what was claimed to the workflows that are to carry it.
func (d *Dispatcher) dispatch(ctx context.Context, handing *sync.WaitGroup, claimed []postrider.Dispatch, open *batch) {
	for _, carried := range byWorkflow(claimed) {
		b := open
		if open == nil || carried[0].WorkflowID != open.workflowID {
			b = newBatch(carried[0].WorkflowID, d.Now())
			b.only()
		}
		kept, over := d.take(b, carried)
		if len(over) > 0 {
			handing.Go(func() { d.release(ctx, b.workflowID, over) })
		}
		if len(kept) == 0 {
			continue
		}
		begun := d.batches.take(b, len(kept))
		handing.Go(func() { d.prefetch(ctx, b, kept) })
		if !begun {
			handing.Go(func() { d.startFor(ctx, b, kept) })
		}
	}
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

// startFor starts a workflow for what was claimed, and gives it back when that fails.
func (d *Dispatcher) startFor(ctx context.Context, b *batch, claimed []postrider.Dispatch) {
	err := d.start(ctx, func(ctx context.Context) error {
		if claimed[0].Alone() || !postrider.FirstAttemptsOnly(b.workflowID) {
			return d.Starter.StartOwn(ctx, claimed[0])
		}
		return d.Starter.StartBatch(ctx, b.workflowID, claimed, longestBatch)
	})
	if err == nil || errors.Is(err, workflows.ErrAlreadyStarted) {
		d.started(b)
		d.batches.running(b)
		return
	}
	d.batches.failed(b)
	d.failed(ctx, b.workflowID, len(claimed), err)
	d.release(ctx, b.workflowID, claimed)
}

// failed notes that a workflow could not be started.
func (d *Dispatcher) failed(ctx context.Context, workflowID string, deliveries int, err error) {
	if ctx.Err() == nil {
		d.Logger.LogAttrs(ctx, slog.LevelWarn, "cannot start a workflow, trying again",
			slog.String("workflow_id", workflowID), slog.Int("deliveries", deliveries), slog.Any("error", err))
		signal(d.trouble)
	}
}

// start starts a workflow when it is its turn.
func (d *Dispatcher) start(ctx context.Context, how func(context.Context) error) error {
	d.queued.Add(1)
	select {
	case d.starting <- struct{}{}:
		d.queued.Add(-1)
		defer func() { <-d.starting }()
	case <-ctx.Done():
		d.queued.Add(-1)
		return ctx.Err()
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	return how(ctx)
}

// release gives deliveries back that were not handed over, also while shutting down.
// When that fails their leases will run out, and nothing is lost.
func (d *Dispatcher) release(ctx context.Context, workflowID string, claimed []postrider.Dispatch) {
	ids := make([]string, len(claimed))
	for i, c := range claimed {
		ids[i] = c.ID
		d.drop(c.ID, workflowID)
	}
	d.releaseIDs(ctx, workflowID, ids)
}

func (d *Dispatcher) releaseIDs(ctx context.Context, workflowID string, ids []string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
	defer cancel()
	if err := d.Queue.Release(ctx, ids); err != nil {
		d.Logger.LogAttrs(ctx, slog.LevelWarn, "could not give deliveries back; their leases will expire and they will be claimed again",
			slog.String("workflow_id", workflowID), slog.Int("deliveries", len(ids)), slog.Any("error", err))
	}
}

// reapRemote frees the places of deliveries whose attempt was made by another worker,
// which happens where Temporal did not give the workflow's first task to the one that
// started it: this process is told of its own attempts only.
func (d *Dispatcher) reapRemote(ctx context.Context) {
	for ctx.Err() == nil {
		d.wait(ctx, reapInterval, nil, nil)
		d.expire()
		d.batches.forget()
		waiting := d.startedElsewhere(reapInterval)
		if len(waiting) == 0 {
			continue
		}
		leased, err := d.Queue.Leased(ctx, waiting)
		if err != nil { // the leases' ends will free them
			continue
		}
		d.dropOthers(waiting, leased)
	}
}

// idle returns how long to wait after a claim that took all it could. One that took
// something is soon followed by another, which looks again.
func (d *Dispatcher) idle(ctx context.Context, claimed []postrider.Dispatch) time.Duration {
	if len(claimed) > 0 && !slices.ContainsFunc(claimed, func(c postrider.Dispatch) bool { return c.Paced }) {
		return lookAgain
	}
	due, found, err := d.Queue.NextDue(ctx)
	if err != nil || !found {
		return pollInterval
	}
	return min(max(due.Sub(d.Now()), time.Millisecond), pollInterval)
}

// linger returns how long deliveries may gather before the next claim: the longer, the
// more of them there are.
func (d *Dispatcher) linger() time.Duration {
	return min(time.Duration(d.claims.add(0, d.Now())-noLinger)*lingerFor, longestLinger)
}

// wait returns after the time, or at once when ctx is done or one of the two channels
// gets a value. A nil one shortens nothing.
func (d *Dispatcher) wait(ctx context.Context, longest time.Duration, wake, freed <-chan struct{}) {
	if longest <= 0 {
		return
	}
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

// signal puts a token into a channel of one, unless it holds one already.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
