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

// Queue is the dispatcher's view of the database.
type Queue interface {
	// Claim leases deliveries whose first attempt is due, fair across workspaces and
	// webhooks and under their limits. After the lease another claim may return them.
	Claim(ctx context.Context, request postrider.ClaimRequest) ([]postrider.Dispatch, error)
	// TargetsOf returns the target of each delivery, in their order.
	TargetsOf(ctx context.Context, deliveries []postrider.Delivery) ([]postrider.Target, error)
	// NextDue returns when the next delivery becomes due that is held or rate-limited now.
	NextDue(ctx context.Context) (time.Time, bool, error)
	// Release ends the leases of claimed deliveries at once.
	Release(ctx context.Context, deliveryIDs []string) error
	// Leased returns which of the deliveries are leased for a first attempt.
	Leased(ctx context.Context, deliveryIDs []string) ([]string, error)
	// Wake gets a value when this process made a delivery due.
	Wake() <-chan struct{}

	// ClaimRetries returns failed deliveries, with the workflows that are to carry their
	// retries.
	ClaimRetries(ctx context.Context, request postrider.HandoverRequest) ([]postrider.Handover, error)
	// ClaimCancellations returns workflows that are to be cancelled.
	ClaimCancellations(ctx context.Context, limit int, lease time.Duration) ([]postrider.Cancellation, error)
	// Cancelled drops the requests to cancel the workflows of these deliveries.
	Cancelled(ctx context.Context, deliveryIDs []string) error
	// WakeRetries gets a value when this process left a delivery to be handed over.
	WakeRetries() <-chan struct{}

	// Sweep makes one step of what follows from webhooks that were changed. It reports whether
	// another step is due now.
	Sweep(ctx context.Context) (more bool, err error)
	// WakeSweeps gets a value when this process changed a webhook.
	WakeSweeps() <-chan struct{}
	// FanOut makes some of the deliveries of a large publication. It reports whether another
	// step is due now.
	FanOut(ctx context.Context) (more bool, err error)
	// WakeFanOuts gets a value when this process accepted a large publication.
	WakeFanOuts() <-chan struct{}
	// Expire fails some of the deliveries whose time is over. It reports whether another step is
	// due now.
	Expire(ctx context.Context) (more bool, err error)
	// PublishOperational publishes some events about the engine itself. It reports whether another
	// step is due now.
	PublishOperational(ctx context.Context) (more bool, err error)
	// MendLanes looks at some of the queues of deliveries that are made one at a time, and mends those
	// that have stopped. It reports whether another step is due now.
	MendLanes(ctx context.Context) (more bool, err error)
	// ClaimNotices returns operators' actions that workflows have still to be told of.
	ClaimNotices(ctx context.Context, limit int, lease time.Duration) ([]postrider.Notice, error)
	// Noticed says that the workflow of a notice was told.
	Noticed(ctx context.Context, n postrider.Notice) error
	// WakeNotices gets a value when there is something to tell.
	WakeNotices() <-chan struct{}
	// ClaimReplays returns replay jobs whose workflows are to be started. Another claim returns those after the
	// lease that made no step.
	ClaimReplays(ctx context.Context, limit int, lease time.Duration) ([]postrider.DueReplay, error)
	// WakeReplays gets a value when there is one to start.
	WakeReplays() <-chan struct{}
}

// Starter starts and cancels workflows. Each start returns [workflows.ErrAlreadyStarted] when
// the workflow exists.
type Starter interface {
	StartOwn(ctx context.Context, d postrider.Dispatch) error
	StartBatch(ctx context.Context, workflowID string, known []postrider.Dispatch, longest time.Duration) error
	StartRetries(ctx context.Context, h postrider.Handover) error
	Cancel(ctx context.Context, workflowID string) error
	// Tell tells a workflow of operators' actions.
	Tell(ctx context.Context, n postrider.Notice) error
	// StartReplay starts the workflow of a replay job.
	StartReplay(ctx context.Context, job postrider.DueReplay) error
}

// Timing of the dispatcher.
const (
	// Lease covers the longest first attempt, 30 s, and its record. A row is not claimed
	// again while its first attempt goes on, so max_in_flight holds.
	Lease = 45 * time.Second
	// pollInterval bounds the wait for other processes' publishes.
	pollInterval = time.Second
	// recheckAfter is the wait after a claim that returned deliveries, before a claim of
	// deliveries that become due with time.
	recheckAfter = 50 * time.Millisecond
	// backoff spaces claims while the database or Temporal is away.
	backoff = time.Second
	// reapInterval spaces the checks for attempts of other workers. A workflow must have
	// been started for this long before it is checked.
	reapInterval = time.Second
	// startTimeout bounds one start of a workflow.
	startTimeout = 10 * time.Second
	// startGrace bounds a start that is under way at a stop. To cut it off would be too early:
	// the workflow may have been made, and its first task, which comes with the answer, would be
	// lost until it times out.
	startGrace = 2 * time.Second
	// maxStarting is how many starts for first attempts go on at once. Temporal works on
	// workflows with as many cores or fewer; more starts would delay all of them, and the
	// workflow tasks that follow.
	maxStarting = 16
	// maxQueued is how many starts may wait. A delivery that is claimed long before its
	// workflow can be started uses up its lease.
	maxQueued = 64
	// fullRecheck spaces the checks for free slots and starts while the process is full.
	fullRecheck = 5 * time.Millisecond
	// releaseTimeout bounds a release, also during a shutdown.
	releaseTimeout = 5 * time.Second
	// maxClaim is the most deliveries of one claim.
	maxClaim = 512
	// maxOwn is the most deliveries of a claim that gives each its own workflow.
	maxOwn = 8
	// lingerFor is how long deliveries and slots gather between two claims, for each
	// delivery a second above noLinger, up to longestLinger: bigger claims cost less.
	lingerFor     = 10 * time.Microsecond
	noLinger      = 100 // deliveries a second
	longestLinger = 3 * time.Millisecond
)

// Batching says when one workflow carries many deliveries.
type Batching string

// The values of [Batching].
const (
	// BatchingAuto gives each delivery its own workflow below batchRate. Above it, one
	// workflow carries the first attempts of all deliveries claimed in a second. Retries of
	// one webhook that are due at about the same time share a workflow.
	BatchingAuto   Batching = "auto"
	BatchingAlways Batching = "always"
	BatchingNever  Batching = "never" // each delivery always has its own workflow
)

// batchRate is the rate from which BatchingAuto batches, in deliveries a second.
const batchRate = 3

// DispatcherConfig configures [NewDispatcher]. All fields are required.
type DispatcherConfig struct {
	Queue    Queue
	Starter  Starter
	InFlight int // the most attempts at once
	PerHost  int // the most attempts at once to one host and port; 0 for no limit
	Batching Batching
	IDs      *postrider.IDs
	Logger   *slog.Logger
	Now      func() time.Time
}

// Dispatcher gives due deliveries to workflows. It implements [activities.Process], through
// which attempts report their progress.
type Dispatcher struct {
	DispatcherConfig

	inflight    *inflight
	batches     *batches
	claims      rate
	starting    chan struct{} // holds a token for each start in progress
	queued      atomic.Int64  // starts that wait for a token
	startFailed chan struct{} // gets a token when a start failed
}

// NewDispatcher returns a dispatcher.
func NewDispatcher(config DispatcherConfig) *Dispatcher {
	table := newInflight(config.InFlight, config.PerHost, config.Now)
	return &Dispatcher{
		DispatcherConfig: config, inflight: table, batches: newBatches(table, config.Now),
		starting: make(chan struct{}, maxStarting), startFailed: make(chan struct{}, 1),
	}
}

// Run claims deliveries and gives them to workflows until ctx is done, then waits for starts
// in progress. It always returns nil, since it tries again after every failure.
func (d *Dispatcher) Run(ctx context.Context) error {
	var tasks sync.WaitGroup
	defer tasks.Wait()
	tasks.Go(func() { d.reapRemote(ctx) })
	tasks.Go(func() { d.handOver(ctx) })
	tasks.Go(func() {
		d.inSteps(ctx, "deliveries follow a changed webhook", d.Queue.Sweep, d.Queue.WakeSweeps())
	})
	tasks.Go(func() {
		d.inSteps(ctx, "deliveries of a large publication", d.Queue.FanOut, d.Queue.WakeFanOuts())
	})
	tasks.Go(func() { d.inSteps(ctx, "deliveries that expire", d.Queue.Expire, nil) })
	tasks.Go(func() { d.inSteps(ctx, "operational events", d.Queue.PublishOperational, nil) })
	tasks.Go(func() { d.inSteps(ctx, "queues that have stopped go on", d.Queue.MendLanes, nil) })
	tasks.Go(func() { d.inSteps(ctx, "workflows hear of operators' actions", d.tell, d.Queue.WakeNotices()) })
	tasks.Go(func() { d.inSteps(ctx, "workflows of replays", d.startReplays, d.Queue.WakeReplays()) })
	for ctx.Err() == nil {
		d.releaseStranded(ctx, false)
		if d.inflight.available() == 0 || d.queued.Load() > maxQueued {
			d.wait(ctx, fullRecheck, nil, d.inflight.slotFreed)
			continue
		}
		claimed, more, err := d.claim(ctx, &tasks)
		switch {
		case err != nil && ctx.Err() == nil:
			d.Logger.LogAttrs(ctx, slog.LevelWarn, "could not claim deliveries, trying again", slog.Any("error", err))
			d.wait(ctx, backoff, nil, nil)
		case d.aStartFailed():
			d.wait(ctx, backoff, nil, nil)
		case more && len(claimed) > 0:
			d.wait(ctx, d.linger(), nil, nil)
		default:
			d.wait(ctx, d.idle(ctx, claimed), d.Queue.Wake(), d.inflight.capacityFreed)
			d.wait(ctx, d.linger(), nil, nil)
		}
	}
	d.batches.close()
	d.releaseStranded(ctx, true)
	return nil
}

// claim claims due deliveries, within the process's capacity, and gives them to workflows. It
// reports whether more may be waiting.
func (d *Dispatcher) claim(ctx context.Context, tasks *sync.WaitGroup) (claimed []postrider.Dispatch, more bool, err error) {
	b := d.chooseBatch(ctx)
	if b != nil {
		defer b.letGo()
	}
	request := d.claimRequest(b)
	claimed, err = d.Queue.Claim(ctx, request)
	d.claims.add(len(claimed), d.Now())
	more = d.inflight.noteClaim(claimed, request)
	d.dispatch(ctx, tasks, claimed, b)
	return claimed, more, err
}

// chooseBatch returns the batch that the next claim is for, with a hold on it; nil when each
// delivery gets its own workflow. It waits for a batch that is being started.
func (d *Dispatcher) chooseBatch(ctx context.Context) *batch {
	if d.Batching == BatchingNever || d.Batching != BatchingAlways && d.claims.add(0, d.Now()) < batchRate {
		return nil
	}
	if d.batches.needsNext() {
		d.startNextBatch(ctx)
	}
	b := d.batches.current(ctx)
	if b == nil {
		b = newBatch(d.newBatchID(), d.Now())
		b.hold()
	}
	return b
}

func (d *Dispatcher) newBatchID() string {
	return postrider.BatchWorkflowID(d.IDs.New(postrider.PrefixBatch))
}

// startNextBatch starts the workflow of the next batch before the open one is full.
func (d *Dispatcher) startNextBatch(ctx context.Context) {
	b := newBatch(d.newBatchID(), d.Now())
	d.batches.setUpcoming(b)
	d.batches.starts.Go(func() {
		err := d.start(ctx, func(ctx context.Context) error {
			return d.Starter.StartBatch(ctx, b.workflowID, nil, longestBatch)
		})
		if err != nil {
			d.batches.startFailed(b)
			d.noteStartFailure(ctx, b.workflowID, 0, err)
			return
		}
		d.batches.setRunning(b)
	})
}

// claimRequest returns the next claim's request, for a batch or for workflows of one.
func (d *Dispatcher) claimRequest(b *batch) postrider.ClaimRequest {
	capacity := d.inflight.capacity(b != nil && b.runsHere())
	request := postrider.ClaimRequest{Limit: min(d.inflight.available(), maxClaim), Lease: Lease, Capacity: &capacity}
	if b == nil {
		request.Limit = min(request.Limit, maxOwn)
		return request
	}
	request.Limit = min(request.Limit, b.capacity())
	request.WorkflowID = b.workflowID
	request.SlowWorkflowID = d.newBatchID()
	return request
}

// dispatch gives claimed deliveries to the workflows that the claim named.
func (d *Dispatcher) dispatch(ctx context.Context, tasks *sync.WaitGroup, claimed []postrider.Dispatch, open *batch) {
	for _, group := range byWorkflow(claimed) {
		b := open
		if open == nil || group[0].WorkflowID != open.workflowID {
			b = newBatch(group[0].WorkflowID, d.Now())
			b.seal()
		}
		kept, excess := d.inflight.take(b, group)
		if len(excess) > 0 {
			tasks.Go(func() { d.release(ctx, b.workflowID, excess) })
		}
		if len(kept) == 0 {
			continue
		}
		started := d.batches.assign(b, len(kept))
		tasks.Go(func() { d.prefetch(ctx, b, kept) })
		if !started {
			tasks.Go(func() { d.startFor(ctx, b, kept) })
		}
	}
}

// byWorkflow groups deliveries by workflow, in their order.
func byWorkflow(claimed []postrider.Dispatch) [][]postrider.Dispatch {
	var groups [][]postrider.Dispatch
	index := map[string]int{}
	for _, dispatch := range claimed {
		i, found := index[dispatch.WorkflowID]
		if !found {
			i = len(groups)
			index[dispatch.WorkflowID] = i
			groups = append(groups, nil)
		}
		groups[i] = append(groups[i], dispatch)
	}
	return groups
}

// startFor starts the workflow of claimed deliveries. When that fails it releases them.
func (d *Dispatcher) startFor(ctx context.Context, b *batch, claimed []postrider.Dispatch) {
	err := d.start(ctx, func(ctx context.Context) error {
		if claimed[0].Alone() || !postrider.FirstAttemptsOnly(b.workflowID) {
			return d.Starter.StartOwn(ctx, claimed[0])
		}
		return d.Starter.StartBatch(ctx, b.workflowID, claimed, longestBatch)
	})
	if err == nil || errors.Is(err, workflows.ErrAlreadyStarted) {
		d.inflight.started(b)
		d.batches.setRunning(b)
		return
	}
	d.batches.startFailed(b)
	d.noteStartFailure(ctx, b.workflowID, len(claimed), err)
	d.release(ctx, b.workflowID, claimed)
}

// noteStartFailure logs that a workflow could not be started, and slows the claims down.
func (d *Dispatcher) noteStartFailure(ctx context.Context, workflowID string, deliveries int, err error) {
	if ctx.Err() == nil {
		d.Logger.LogAttrs(ctx, slog.LevelWarn, "could not start a workflow, trying again",
			slog.String("workflow_id", workflowID), slog.Int("deliveries", deliveries), slog.Any("error", err))
		signal(d.startFailed)
	}
}

// start calls startWorkflow when fewer than maxStarting starts go on.
func (d *Dispatcher) start(ctx context.Context, startWorkflow func(context.Context) error) error {
	d.queued.Add(1)
	select {
	case d.starting <- struct{}{}:
		d.queued.Add(-1)
		defer func() { <-d.starting }()
	case <-ctx.Done():
		d.queued.Add(-1)
		return ctx.Err()
	}
	ctx, cancel := startContext(ctx)
	defer cancel()
	return startWorkflow(ctx)
}

// startContext returns the context of one start, which outlasts ctx for startGrace.
func startContext(ctx context.Context) (context.Context, context.CancelFunc) {
	bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), startTimeout)
	detach := context.AfterFunc(ctx, func() { time.AfterFunc(startGrace, cancel) })
	return bound, func() {
		detach()
		cancel()
	}
}

// release frees the slots of claimed deliveries and ends their leases, also during a shutdown.
// When the database refuses, the leases expire, and nothing is lost.
func (d *Dispatcher) release(ctx context.Context, workflowID string, claimed []postrider.Dispatch) {
	ids := make([]string, len(claimed))
	for i, c := range claimed {
		ids[i] = c.ID
		d.inflight.drop(c.ID, workflowID)
	}
	d.releaseIDs(ctx, workflowID, ids)
}

func (d *Dispatcher) releaseIDs(ctx context.Context, workflowID string, ids []string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
	defer cancel()
	if err := d.Queue.Release(ctx, ids); err != nil {
		d.Logger.LogAttrs(ctx, slog.LevelWarn, "could not release deliveries; their leases will expire and they will be claimed again",
			slog.String("workflow_id", workflowID), slog.Int("deliveries", len(ids)), slog.Any("error", err))
	}
}

// reapRemote frees the slots of deliveries that another worker attempted. Temporal may give a
// workflow's first task to another worker than the process that started it, and this process
// hears of its own attempts only.
func (d *Dispatcher) reapRemote(ctx context.Context) {
	for ctx.Err() == nil {
		d.wait(ctx, reapInterval, nil, nil)
		d.inflight.expire()
		d.batches.forgetFeeds()
		waiting := d.inflight.startedElsewhere(reapInterval)
		if len(waiting) == 0 {
			continue
		}
		leased, err := d.Queue.Leased(ctx, waiting)
		if err != nil { // the slots are freed when the leases expire
			continue
		}
		d.inflight.dropUnleased(waiting, leased)
	}
}

// idle returns how long to wait after a claim that left nothing due. A claim that returned
// deliveries is soon followed by another one, which reads when the next delivery is due.
func (d *Dispatcher) idle(ctx context.Context, claimed []postrider.Dispatch) time.Duration {
	if len(claimed) > 0 && !slices.ContainsFunc(claimed, func(c postrider.Dispatch) bool { return c.Paced }) {
		return recheckAfter
	}
	due, found, err := d.Queue.NextDue(ctx)
	if err != nil || !found {
		return pollInterval
	}
	return min(max(due.Sub(d.Now()), time.Millisecond), pollInterval)
}

// linger returns how long deliveries may gather before the next claim. It grows with the rate
// of claimed deliveries.
func (d *Dispatcher) linger() time.Duration {
	return min(time.Duration(d.claims.add(0, d.Now())-noLinger)*lingerFor, longestLinger)
}

// wait returns after the time, or at once when ctx is done or a channel gets a value. Either
// channel may be nil.
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

// aStartFailed reports whether a start failed since the last call.
func (d *Dispatcher) aStartFailed() bool {
	select {
	case <-d.startFailed:
		return true
	default:
		return false
	}
}

// signal puts a token into a channel of capacity 1, unless it holds one already.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
