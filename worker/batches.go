package worker

import (
	"context"
	"maps"
	"sync"
	"time"

	"postrider.dev/postrider/activities"
)

// Life of a batch: the workflow that makes the first attempts of the deliveries that this
// process claims while the batch is open.
const (
	maxBatch    = 512                    // deliveries; each adds about 400 bytes to the workflow's result
	openFor     = time.Second            // how long a batch is open
	openLonger  = 3 * time.Second        // how long it stays open while the next one does not run yet
	nextAfter   = 700 * time.Millisecond // the age at which the next one is opened
	nextAtSize  = maxBatch / 4           // or the size
	minForNext  = 3                      // in a smaller batch, more deliveries may never come
	minCapacity = maxBatch / 8           // with less capacity left, deliveries go to the next one
	// attachWait is how long a workflow's activity may take to begin in this process. After
	// that, Temporal is assumed to have given the workflow to another worker.
	attachWait = time.Second
	// remoteFor is how long no batch stays open after Temporal gave one to another worker.
	remoteFor = time.Minute
	// longestBatch bounds a batch: the time that it is open, the longest attempt, its record.
	longestBatch = openLonger + 30*time.Second + 10*time.Second
)

// batch is a workflow that makes first attempts, and the feed of its activity.
type batch struct {
	workflowID string
	attached   chan struct{} // closed when the activity has begun in this process
	onNext     func([]activities.Arrival)
	now        func() time.Time

	// Guarded by the mutex of batches.
	starting bool // a start of its workflow was made, or is about to be
	running  bool // Temporal has started its workflow

	mu       sync.Mutex // guards the fields below
	opened   time.Time
	size     int  // deliveries that were claimed for it
	pending  int  // deliveries and holds that keep the feed from ending
	closed   bool // no more deliveries are claimed for it
	arrivals []activities.Arrival
	wake     chan struct{}
}

func newBatch(workflowID string, now time.Time) *batch {
	return &batch{workflowID: workflowID, opened: now, attached: make(chan struct{}), wake: make(chan struct{}, 1)}
}

// seal keeps later claims from adding deliveries.
func (b *batch) seal() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
}

// capacity returns how many more deliveries the batch may carry.
func (b *batch) capacity() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maxBatch - b.size
}

// hold keeps the feed from ending during a claim, until letGo. It reports false for a closed
// batch.
func (b *batch) hold() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false
	}
	b.pending++
	return true
}

func (b *batch) letGo() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pending--
	signal(b.wake)
}

// arrive adds claimed deliveries to the feed.
func (b *batch) arrive(arrivals []activities.Arrival) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.arrivals = append(b.arrivals, arrivals...)
	b.pending -= len(arrivals)
	signal(b.wake)
}

// Next implements [activities.Feed].
func (b *batch) Next(ctx context.Context) []activities.Arrival {
	for {
		arrivals, wait := b.next()
		if len(arrivals) > 0 || wait <= 0 {
			b.onNext(arrivals)
			return arrivals
		}
		bound, cancel := context.WithTimeout(ctx, wait)
		select {
		case <-b.wake:
		case <-bound.Done():
		}
		cancel()
		if ctx.Err() != nil {
			b.end() // the activity will not call again
			return nil
		}
	}
}

// next takes the deliveries that have arrived. Without any, it returns how long to wait for
// more; 0 when the feed has ended. An open batch closes when it is old enough.
func (b *batch) next() ([]activities.Arrival, time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	arrivals := b.arrivals
	b.arrivals = nil
	left := openLonger - b.now().Sub(b.opened)
	if b.size < minForNext {
		left = openFor - b.now().Sub(b.opened)
	}
	b.closed = b.closed || left <= 0
	switch {
	case b.closed && b.pending == 0:
		return arrivals, 0
	case b.closed:
		return arrivals, openLonger
	}
	return arrivals, left
}

// runsHere reports whether the batch's activity has begun in this process.
func (b *batch) runsHere() bool {
	select {
	case <-b.attached:
		return true
	default:
		return false
	}
}

// attach wakes claims that wait for the batch. The caller holds the mutex of batches.
func (b *batch) attach() {
	if !b.runsHere() {
		close(b.attached)
	}
}

// reopen lets the batch's time begin now. It reports false when the batch was closed before.
func (b *batch) reopen(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.opened = now
	return !b.closed
}

// acceptsClaims reports whether more deliveries may be claimed for the batch. While the next
// batch does not run yet, this one accepts them for longer; once it runs, this one stops
// before it is quite full.
func (b *batch) acceptsClaims(now time.Time, next *batch) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	longest, least := openFor, 1
	switch {
	case next != nil && next.runsHere():
		least = minCapacity
	case next != nil:
		longest = openLonger - openFor // the rest is for deliveries to arrive
	}
	return !b.closed && maxBatch-b.size >= least && now.Sub(b.opened) < longest
}

// end closes the batch, and wakes its activity.
func (b *batch) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	signal(b.wake)
}

// batches are the batches of this process. Its mutex is locked before a batch's.
type batches struct {
	inflight *inflight
	now      func() time.Time
	starts   sync.WaitGroup

	mu          sync.Mutex
	open        *batch            // claims add deliveries to it
	upcoming    *batch            // it is being started, and becomes the open one
	feeds       map[string]*batch // by workflow, until its activity begins here
	remoteUntil time.Time         // Temporal is assumed to give workflows to other workers
}

func newBatches(table *inflight, now func() time.Time) *batches {
	return &batches{inflight: table, now: now, feeds: map[string]*batch{}}
}

// assign adds n claimed deliveries to the batch. It reports false when the caller has to start
// the batch's workflow.
func (s *batches) assign(b *batch, n int) (started bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.size += n
	b.pending += n
	started, b.starting = b.starting, true
	if !started {
		s.register(b)
		if !b.closed && s.now().After(s.remoteUntil) {
			s.open = b
		} else {
			b.closed = true
		}
	}
	return started
}

// register makes the batch's feed findable. The caller holds the mutex of batches.
func (s *batches) register(b *batch) {
	b.onNext = func(arrivals []activities.Arrival) { s.inflight.beganFirst(b, arrivals) }
	b.now = s.now
	s.feeds[b.workflowID] = b
}

// needsNext reports whether it is time to open the next batch.
func (s *batches) needsNext() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil || s.upcoming != nil {
		return false
	}
	s.open.mu.Lock()
	defer s.open.mu.Unlock()
	old := s.now().Sub(s.open.opened) >= nextAfter
	return !s.open.closed && s.open.runsHere() && s.open.size >= minForNext && (old || s.open.size >= nextAtSize)
}

// setUpcoming makes the batch the next one. The caller starts its workflow.
func (s *batches) setUpcoming(b *batch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b.starting = true
	s.register(b)
	s.upcoming = b
}

// current returns the open batch, with a hold on it; nil when no batch is open. It waits for
// a batch that is being started.
func (s *batches) current(ctx context.Context) *batch {
	for {
		b, awaited := s.tryCurrent()
		if awaited == nil {
			return b
		}
		bound, cancel := context.WithTimeout(ctx, attachWait)
		select {
		case <-awaited.attached:
		case <-bound.Done():
			s.abandon(awaited, ctx.Err() == nil)
		}
		cancel()
		if ctx.Err() != nil {
			return nil
		}
	}
}

// tryCurrent returns the open batch, with a hold on it, or the batch to wait for. Both are
// nil when no batch is open or being started.
func (s *batches) tryCurrent() (b, awaited *batch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open != nil && !s.open.runsHere() {
		return nil, s.open
	}
	if s.open != nil && !s.open.acceptsClaims(s.now(), s.upcoming) {
		s.open.end()
		s.open = nil
	}
	if s.open == nil && s.upcoming != nil {
		if !s.upcoming.runsHere() {
			return nil, s.upcoming
		}
		if s.upcoming.reopen(s.now()) {
			s.open = s.upcoming
		}
		s.upcoming = nil
	}
	if s.open != nil && !s.open.hold() { // it closed in this moment
		s.open = nil
	}
	return s.open, nil
}

// abandon ends a batch whose activity did not begin here. With late, the activity did not
// begin in time, which may mean that another worker has the workflow. It means nothing when
// Temporal has not started the workflow yet, or when the activity began a moment later.
func (s *batches) abandon(b *batch, late bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == b {
		s.open = nil
	}
	if s.upcoming == b {
		s.upcoming = nil
	}
	if late && b.running && !b.runsHere() {
		s.remoteUntil = s.now().Add(remoteFor)
	}
	b.end()
}

// setRunning notes that Temporal has started the batch's workflow.
func (s *batches) setRunning(b *batch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b.running = true
}

// startFailed forgets a batch whose workflow could not be started.
func (s *batches) startFailed(b *batch) {
	s.abandon(b, false)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.feeds, b.workflowID)
	b.attach()
}

// forgetFeeds forgets feeds whose activity never began here. It will not begin any more, since
// the leases of their deliveries have expired.
func (s *batches) forgetFeeds() {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.feeds, func(_ string, b *batch) bool { return s.now().Sub(b.opened) > Lease })
}

// takeFeed returns a workflow's feed, once; nil when this process has no such feed.
func (s *batches) takeFeed(workflowID string) *batch {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, found := s.feeds[workflowID]
	if !found {
		return nil
	}
	delete(s.feeds, workflowID)
	b.attach()
	return b
}

// close waits for starts and ends the batches.
func (s *batches) close() {
	s.starts.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range []*batch{s.open, s.upcoming} {
		if b != nil {
			b.end()
		}
	}
}
