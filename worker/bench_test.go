package worker_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	_ "modernc.org/sqlite"

	"postrider.dev/postrider"
	"postrider.dev/postrider/activities"
	"postrider.dev/postrider/store"
	"postrider.dev/postrider/store/storetest"
	"postrider.dev/postrider/worker"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 20 * time.Second

var errRefused = errors.New("connection refused")

// carrier is a workflow that the dispatcher started.
type carrier struct {
	workflowID string
	known      []postrider.Dispatch // at its start
	arrived    []string             // deliveries that its activity got in this process, after their attempts
	attached   bool                 // its activity runs here
	ended      bool                 // its feed has ended
}

func (c *carrier) ids() []string {
	var ids []string
	for _, d := range c.known {
		ids = append(ids, d.ID)
	}
	return ids
}

// temporal stands in for Temporal's server and for the activities of the workflows that it
// starts: each activity attaches to its feed, and takes deliveries until the feed ends. Tests
// set hooks before the dispatcher runs; each may be nil.
type temporal struct {
	b          *bench
	activities sync.WaitGroup

	fail           func(ctx context.Context, start int) error        // by the number of earlier starts of first attempts
	attach         func(workflowID string) bool                      // false: another worker has the workflow
	attempt        func(workflowID string, a activities.Arrival)     // nil: a test ends the attempts
	retries        func(context.Context, postrider.Handover) error   // nil: every start succeeds
	cancel         func(ctx context.Context, cancellation int) error // by the number of earlier cancellations
	refusedReplays int                                               // starts of replay jobs that fail at first

	tell func(ctx context.Context, notice int) error // by the number of earlier notices

	mu        sync.Mutex
	starts    []string // workflows, in the order of their starts
	carriers  []*carrier
	arrivals  []string // deliveries, in the order of their attempts
	handovers []postrider.Handover
	cancelled []string
	told      []postrider.Notice
	replays   []string // jobs, in the order of the starts of their workflows
}

// Tell implements [worker.Starter].
func (f *temporal) Tell(ctx context.Context, n postrider.Notice) error {
	f.mu.Lock()
	f.told = append(f.told, n)
	notice := len(f.told) - 1
	f.mu.Unlock()
	if f.tell != nil {
		return f.tell(ctx, notice)
	}
	return nil
}

// StartReplay implements [worker.Starter].
func (f *temporal) StartReplay(_ context.Context, job postrider.DueReplay) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.replays = append(f.replays, job.ID)
	if len(f.replays) <= f.refusedReplays {
		return errors.New("temporal is away")
	}
	return nil
}

// replaysOf returns the jobs whose workflows were started, or would have been.
func (f *temporal) replaysOf() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.replays)
}

// toldOf returns the notices that workflows were told, or would have been.
func (f *temporal) toldOf() []postrider.Notice {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.told)
}

func (f *temporal) StartOwn(ctx context.Context, d postrider.Dispatch) error {
	return f.start(ctx, d.WorkflowID, []postrider.Dispatch{d})
}

func (f *temporal) StartBatch(ctx context.Context, workflowID string, known []postrider.Dispatch, longest time.Duration) error {
	if longest < 30*time.Second {
		return fmt.Errorf("an attempt may take longer than %s", longest)
	}
	return f.start(ctx, workflowID, known)
}

func (f *temporal) start(ctx context.Context, workflowID string, known []postrider.Dispatch) error {
	c := &carrier{workflowID: workflowID, known: known}
	f.mu.Lock()
	n := len(f.starts)
	f.starts = append(f.starts, workflowID)
	f.mu.Unlock()
	if f.fail != nil {
		if err := f.fail(ctx, n); err != nil {
			return err
		}
	}
	f.mu.Lock()
	f.carriers = append(f.carriers, c)
	f.mu.Unlock()
	// Without ctx, since a started workflow goes on when the dispatcher ends.
	f.activities.Go(func() { f.deliver(context.WithoutCancel(ctx), c) })
	return nil
}

// deliver is the activity of a workflow.
func (f *temporal) deliver(ctx context.Context, c *carrier) {
	if f.attach != nil && !f.attach(c.workflowID) {
		return
	}
	feed := f.b.dispatcher.Feed(c.workflowID)
	if feed == nil {
		return
	}
	f.mu.Lock()
	c.attached = true
	f.mu.Unlock()
	for arrivals := feed.Next(ctx); len(arrivals) > 0; arrivals = feed.Next(ctx) {
		if f.attempt != nil {
			for _, a := range arrivals {
				f.attempt(c.workflowID, a)
			}
		}
		f.mu.Lock()
		for _, a := range arrivals {
			c.arrived, f.arrivals = append(c.arrived, a.DeliveryID), append(f.arrivals, a.DeliveryID)
		}
		f.mu.Unlock()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	c.ended = true
}

func (f *temporal) StartRetries(ctx context.Context, h postrider.Handover) error {
	f.mu.Lock()
	f.handovers = append(f.handovers, h)
	f.mu.Unlock()
	if f.retries != nil {
		return f.retries(ctx, h)
	}
	return nil
}

func (f *temporal) Cancel(ctx context.Context, id string) error {
	f.mu.Lock()
	n := len(f.cancelled)
	f.cancelled = append(f.cancelled, id)
	f.mu.Unlock()
	if f.cancel != nil {
		return f.cancel(ctx, n)
	}
	return nil
}

func (f *temporal) startCount() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.starts)
}

// attempted returns the deliveries whose attempts began here, in their order.
func (f *temporal) attempted() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.arrivals)
}

// started returns copies of the workflows that were started.
func (f *temporal) started() []carrier {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []carrier
	for _, c := range f.carriers {
		all = append(all, *c)
		all[len(all)-1].arrived = slices.Clone(c.arrived)
	}
	return all
}

func (f *temporal) handedOver() []postrider.Handover {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.handovers)
}

func (f *temporal) cancellations() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.cancelled)
}

// bench is a dispatcher on a real database. Only advance moves its clock, so a test decides
// how old batches are.
type bench struct {
	t          *testing.T
	db         *store.Store
	queue      *faultyQueue // db, as the dispatcher sees it
	logs       *logs
	temporal   *temporal
	dispatcher *worker.Dispatcher
	ids        *postrider.IDs
	webhook    postrider.Webhook
	base       time.Time
	ahead      atomic.Int64 // nanoseconds
}

func setup(t *testing.T, inFlight int, batching worker.Batching) *bench {
	t.Helper()
	return setupConfig(t, worker.DispatcherConfig{InFlight: inFlight, Batching: batching})
}

func setupConfig(t *testing.T, config worker.DispatcherConfig) *bench {
	t.Helper()
	db, ids := storetest.NewStore(t)
	b := &bench{t: t, db: db, ids: ids, base: time.Now()}
	b.temporal, b.queue, b.logs = &temporal{b: b}, &faultyQueue{Queue: db}, &logs{}
	config.Queue, config.Starter, config.IDs = b.queue, b.temporal, ids
	config.Logger = slog.New(slog.NewTextHandler(b.logs, nil))
	config.Now = func() time.Time { return b.base.Add(time.Duration(b.ahead.Load())) }
	b.dispatcher = worker.NewDispatcher(config)
	workspace := postrider.Workspace{ID: "ws_1", Name: "test", CreatedAt: postrider.Timestamp(time.Now())}
	require.NoError(t, db.CreateWorkspace(t.Context(), workspace))
	b.webhook = b.subscribe()
	return b
}

// advance moves the dispatcher's clock on.
func (b *bench) advance(by time.Duration) { b.ahead.Add(int64(by)) }

func (b *bench) subscribe() postrider.Webhook {
	b.t.Helper()
	return b.subscribeWith(1000)
}

// subscribeWith creates a webhook with such a max_in_flight.
func (b *bench) subscribeWith(maxInFlight int) postrider.Webhook {
	b.t.Helper()
	now := postrider.Timestamp(time.Now())
	w, err := b.db.CreateWebhook(b.t.Context(), postrider.Webhook{
		ID: b.ids.New(postrider.PrefixWebhook), WorkspaceID: "ws_1", Status: postrider.WebhookActive,
		WebhookSettings: postrider.WebhookSettings{
			URL: "https://example.com", Events: []string{"*"}, SigningMethod: "none", ScopeType: postrider.ScopeGlobal, MaxInFlight: maxInFlight,
		},
		Policy:    postrider.Policy{TimeoutMS: 1000, MaxRetries: 1, BackoffMS: 1000},
		CreatedAt: now, UpdatedAt: now,
	}, "")
	require.NoError(b.t, err)
	return w
}

// prove lets a webhook's receiver give quick answers; each widens its window by one.
func (b *bench) prove(w postrider.Webhook, answers int) {
	b.t.Helper()
	for range answers {
		id := b.ids.New(postrider.PrefixDelivery)
		target := postrider.Target{Delivery: postrider.Delivery{ID: id, WebhookID: w.ID}, URL: w.URL, MaxInFlight: w.MaxInFlight}
		require.NoError(b.t, b.dispatcher.Reserve(b.t.Context(), target))
		b.dispatcher.Began(id)
		b.dispatcher.Done(id)
	}
}

// answering lets every attempt succeed at once.
func (b *bench) answering() {
	b.temporal.attempt = func(workflowID string, a activities.Arrival) {
		b.succeed(workflowID, a.DeliveryID)
		b.dispatcher.Done(a.DeliveryID)
	}
}

func (b *bench) succeed(workflowID, deliveryID string) {
	// The test's context ends before its cleanup, which stops the dispatcher.
	err := b.db.Record(context.WithoutCancel(b.t.Context()), []postrider.Outcome{{
		DeliveryID: deliveryID, WorkspaceID: "ws_1", WebhookID: b.webhook.ID, State: postrider.StateSucceeded, WorkflowID: workflowID,
		Attempt: postrider.Attempt{Number: 1, StartedAt: postrider.Timestamp(time.Now()), Result: postrider.ResultSuccess},
	}})
	if err != nil {
		b.t.Errorf("record: %v", err)
	}
}

// run runs the dispatcher until stop is called. It waits for the dispatcher and for the
// activities, so it returns only when all feeds have ended.
func (b *bench) run() (stop func()) {
	ctx, cancel := context.WithCancel(b.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- b.dispatcher.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(b.t, <-ended)
		b.temporal.activities.Wait()
	})
	b.t.Cleanup(stop)
	return stop
}

// publish publishes n events, and returns their deliveries to the bench's webhook.
func (b *bench) publish(n int) []string { return b.publishTo(b.webhook, n) }

func (b *bench) publishTo(w postrider.Webhook, n int) []string {
	b.t.Helper()
	publication := postrider.Publication{WorkspaceID: "ws_1"}
	for range n {
		key, now := b.ids.New(postrider.PrefixEvent), postrider.Timestamp(time.Now())
		publication.Events = append(publication.Events, postrider.PublishedEvent{
			Event: postrider.Event{
				Key: key, ID: key, WorkspaceID: "ws_1", Type: "call.ended", Timestamp: now, Body: []byte("{}"), CreatedAt: now,
				WebhookID: &w.ID,
			},
		})
	}
	receipts, err := b.db.Publish(b.t.Context(), publication)
	require.NoError(b.t, err)
	var deliveries []string
	for _, r := range receipts {
		deliveries = append(deliveries, r.DeliveryIDs...)
	}
	require.Len(b.t, deliveries, n)
	return deliveries
}

func (b *bench) pending() int64 {
	backlog, err := b.db.Backlog(b.t.Context())
	require.NoError(b.t, err)
	return backlog.Pending
}

func (b *bench) delivery(id string) postrider.Delivery {
	b.t.Helper()
	d, err := b.db.Delivery(b.t.Context(), "ws_1", id)
	require.NoError(b.t, err)
	return d
}

func (b *bench) requireNotLeased(ids []string) {
	b.t.Helper()
	leased, err := b.db.Leased(b.t.Context(), ids)
	require.NoError(b.t, err)
	require.Empty(b.t, leased)
}

// eventually waits for an effect of the running dispatcher.
func eventually(t *testing.T, condition func() bool, msg ...any) {
	t.Helper()
	require.Eventually(t, condition, patience, 2*time.Millisecond, msg...)
}

// awaitAttempts waits until exactly n attempts have begun here.
func (b *bench) awaitAttempts(n int) {
	b.t.Helper()
	eventually(b.t, func() bool { return len(b.temporal.attempted()) >= n }, "attempts")
	require.Len(b.t, b.temporal.attempted(), n)
}

// retrying returns the outcome of a failed first attempt.
func retrying(deliveryID, webhookID string) postrider.Outcome {
	reason, next := "status 500", postrider.Timestamp(time.Now().Add(time.Hour))
	return postrider.Outcome{
		DeliveryID: deliveryID, WorkspaceID: "ws_1", WebhookID: webhookID, State: postrider.StateRetrying, NextAttempt: &next,
		WorkflowID: postrider.DeliveryWorkflowID(deliveryID),
		Attempt: postrider.Attempt{
			Number: 1, StartedAt: postrider.Timestamp(time.Now()), Result: postrider.ResultServerError, Error: &reason,
		},
	}
}
