package worker

import (
	"context"
	"maps"
	"sync"
	"time"

	"postrider.dev/postrider"
	"postrider.dev/postrider/activities"
)

// Life of a batch: the workflow that makes the first attempts of what this process
// claims while it is open.
const (
	maxBatch  = 512                    // deliveries; a workflow's result is some 400 bytes for each
	openFor   = time.Second            // from its opening on
	openLate  = 3 * time.Second        // while the next one is not there yet
	nextFrom  = 700 * time.Millisecond // when it is so old, the next one is opened
	nextSize  = maxBatch / 4           // or when it has so many
	worthIt   = 3                      // if it has so many: else there may be nothing for the next
	leastRoom = maxBatch / 8           // with less, what is claimed goes to the next one
	// attachWait is how long a workflow's activity may take to begin in this process; if
	// it does not, Temporal gave the workflow to another.
	attachWait = time.Second
	// longestBatch is the most that a batch takes: open, then the longest attempt and its
	// record.
	longestBatch = openLate + 30*time.Second + 10*time.Second
)

// batch is a workflow that makes first attempts, and the feed of its activity. Its fields
// are guarded by its mutex.
type batch struct {
	workflowID string
	attached   chan struct{} // closed when the activity has begun here

	mu       sync.Mutex
	opened   time.Time
	size     int  // deliveries that were claimed for it
	pending  int  // of these, how many have not come yet
	closed   bool // no more are claimed for it
	begun    bool // its workflow was started, or is about to be
	running  bool // Temporal has started its workflow
	taken    bool // its activity has begun here
	arrivals []activities.Arrival
	wake     chan struct{}
	onNext   func([]activities.Arrival)
	now      func() time.Time
}

func newBatch(workflowID string, now time.Time) *batch {
	return &batch{workflowID: workflowID, opened: now, attached: make(chan struct{}), wake: make(chan struct{}, 1)}
}

// only makes it one of what is claimed with it, and no more.
func (b *batch) only() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
}

func (b *batch) room() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maxBatch - b.size
}

// hold keeps the batch from ending while something is being claimed for it, until letGo.
// It reports false for one that takes no more.
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

// arrive brings deliveries of those that were claimed.
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
			b.end() // nobody asks again
			return nil
		}
	}
}

// next takes what has arrived, and says how long to wait where that is nothing: 0 when
// nothing more will come. A batch that nobody closed closes itself when it is old.
func (b *batch) next() ([]activities.Arrival, time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	arrivals := b.arrivals
	b.arrivals = nil
	left := openLate - b.now().Sub(b.opened)
	if b.size < worthIt {
		left = openFor - b.now().Sub(b.opened)
	}
	b.closed = b.closed || left <= 0
	switch {
	case b.closed && b.pending == 0:
		return arrivals, 0
	case b.closed:
		return arrivals, openLate
	}
	return arrivals, left
}

// batches are those of this process.
type batches struct {
	table  *inflight
	now    func() time.Time
	starts sync.WaitGroup

	mu       sync.Mutex
	open     *batch            // what is claimed goes to it
	upcoming *batch            // that is being opened
	feeds    map[string]*batch // whose activity has not begun, by workflow
	remote   time.Time         // until then Temporal is taken to give workflows to others
}

func newBatches(table *inflight, now func() time.Time) *batches {
	return &batches{table: table, now: now, feeds: map[string]*batch{}}
}

// take notes that so many deliveries were claimed for the batch, and reports whether its
// workflow was started before.
func (s *batches) take(b *batch, n int) (begun bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.size += n
	b.pending += n
	begun, b.begun = b.begun, true
	if !begun {
		s.register(b)
		if !b.closed && s.now().After(s.remote) {
			s.open = b
		} else {
			b.closed = true
		}
	}
	return begun
}

// register makes the batch's feed findable. Both are locked.
func (s *batches) register(b *batch) {
	b.onNext = func(arrivals []activities.Arrival) { s.table.begin(b, arrivals) }
	b.now = s.now
	s.feeds[b.workflowID] = b
}

// wanted reports whether the next batch is to be opened.
func (s *batches) wanted() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil || s.upcoming != nil {
		return false
	}
	s.open.mu.Lock()
	defer s.open.mu.Unlock()
	old := s.now().Sub(s.open.opened) >= nextFrom
	return !s.open.closed && s.open.taken && s.open.size >= worthIt && (old || s.open.size >= nextSize)
}

// opening makes a batch the next one, whose workflow is being started.
func (s *batches) opening(b *batch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.begun = true
	s.register(b)
	s.upcoming = b
}

// current returns the batch that is open here, held, nil when there is none. It waits for
// one that is about to be.
func (s *batches) current(ctx context.Context) *batch {
	for {
		b, coming := s.look()
		if coming == nil {
			return b
		}
		bound, cancel := context.WithTimeout(ctx, attachWait)
		select {
		case <-coming.attached:
		case <-bound.Done():
			s.gone(coming, ctx.Err() == nil)
		}
		cancel()
		if ctx.Err() != nil {
			return nil
		}
	}
}

// look returns the open batch, held, if it takes more, or the one to wait for.
func (s *batches) look() (b, coming *batch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open != nil && !s.open.taken {
		return nil, s.open
	}
	if s.open != nil && !s.open.takesMore(s.now(), s.upcoming) {
		s.open.end()
		s.open = nil
	}
	if s.open == nil && s.upcoming != nil {
		if !s.upcoming.taken {
			return nil, s.upcoming
		}
		if s.upcoming.restart(s.now()) {
			s.open = s.upcoming
		}
		s.upcoming = nil
	}
	if s.open != nil && !s.open.hold() { // its time was over this moment
		s.open = nil
	}
	return s.open, nil
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

// restart lets its time begin now, and reports false if it has ended before.
func (b *batch) restart(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.opened = now
	return !b.closed
}

// takesMore reports whether more may be claimed for the batch: longer where the next one
// is not there yet, and shorter where it is and hardly any room is left.
func (b *batch) takesMore(now time.Time, next *batch) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	longest, least := openFor, 1
	switch {
	case next != nil && next.taken:
		least = leastRoom
	case next != nil:
		longest = openLate - openFor // what is claimed has to arrive
	}
	return !b.closed && maxBatch-b.size >= least && now.Sub(b.opened) < longest
}

func (b *batch) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	signal(b.wake)
}

// gone notes that a batch's activity did not begin here in time.
func (s *batches) gone(b *batch, elsewhere bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == b {
		s.open = nil
	}
	if s.upcoming == b {
		s.upcoming = nil
	}
	if elsewhere && b.running && !b.taken { // it may have been a moment late, or Temporal slow to start it
		s.remote = s.now().Add(remoteFor)
	}
	b.end()
}

// remoteFor is for how long no batch stays open once Temporal gave one to another worker.
const remoteFor = time.Minute

// running notes that Temporal has started a batch's workflow.
func (s *batches) running(b *batch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b.running = true
}

// failed forgets a batch whose workflow could not be started.
func (s *batches) failed(b *batch) {
	s.gone(b, false)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.feeds, b.workflowID)
	b.attach()
}

// forget drops the feeds of batches whose activity never began here, and no more will: what
// was claimed for them is leased no longer.
func (s *batches) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.feeds, func(_ string, b *batch) bool { return s.now().Sub(b.opened) > Lease })
}

// attach tells those who wait for the batch.
func (b *batch) attach() {
	if !b.taken {
		b.taken = true
		close(b.attached)
	}
}

// close ends the open batches and waits for starts.
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

// Feed implements [activities.Process].
func (d *Dispatcher) Feed(workflowID string) activities.Feed {
	s := d.batches
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

// Reserve implements [activities.Process].
func (d *Dispatcher) Reserve(ctx context.Context, target postrider.Target) error {
	return d.reserve(ctx, target)
}

// Began implements [activities.Process].
func (d *Dispatcher) Began(deliveryID string) { d.began(deliveryID) }

// Answered implements [activities.Process].
func (d *Dispatcher) Answered(deliveryID string) string { return d.answered(deliveryID) }

// Done implements [activities.Process].
func (d *Dispatcher) Done(deliveryID string) { d.done(deliveryID) }
