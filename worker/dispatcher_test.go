package worker_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	_ "modernc.org/sqlite"

	"postrider"
	"postrider/store"
	"postrider/store/storetest"
	"postrider/worker"
	"postrider/workflows"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 20 * time.Second

// temporal stands where Temporal's server would: it takes starts and cancels, and
// fails when it is told to.
type temporal struct {
	mu        sync.Mutex
	started   []string   // deliveries
	workflows [][]string // the deliveries of each
	slow      []string   // deliveries of receivers that were slow
	cancelled []string
	fail      func(start int) error // by the number of starts before; nil: never
}

func (f *temporal) Start(_ context.Context, carried []postrider.Dispatch) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := len(f.started)
	var ids []string
	for _, d := range carried {
		ids = append(ids, d.DeliveryID)
		if d.Slow {
			f.slow = append(f.slow, d.DeliveryID)
		}
	}
	f.started, f.workflows = append(f.started, ids...), append(f.workflows, ids)
	if f.fail != nil {
		return f.fail(n)
	}
	return nil
}

func (f *temporal) Cancel(_ context.Context, id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cancelled = append(f.cancelled, id)
	return nil
}

func (f *temporal) starts() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.started...)
}

// bench is a dispatcher on a real database.
type bench struct {
	t          *testing.T
	db         *store.Store
	temporal   *temporal
	dispatcher *worker.Dispatcher
	ids        *postrider.IDs
	webhook    postrider.Webhook
	ahead      atomic.Int64 // by how much the dispatcher's clock is, in nanoseconds
}

func setup(t *testing.T, inFlight int) *bench {
	t.Helper()
	return setupWith(t, inFlight, worker.BatchingNever)
}

func setupWith(t *testing.T, inFlight int, batching worker.Batching) *bench {
	t.Helper()
	return setupConfig(t, worker.DispatcherConfig{InFlight: inFlight, Batching: batching})
}

func setupConfig(t *testing.T, config worker.DispatcherConfig) *bench {
	t.Helper()
	db, ids := storetest.NewStore(t)
	b := &bench{t: t, db: db, temporal: &temporal{}, ids: ids}
	config.Queue, config.Starter, config.IDs, config.Logger = db, b.temporal, ids, slog.New(slog.DiscardHandler)
	config.Now = func() time.Time { return time.Now().Add(time.Duration(b.ahead.Load())) }
	b.dispatcher = worker.NewDispatcher(config)
	require.NoError(t, db.CreateWorkspace(t.Context(), postrider.Workspace{ID: "ws_1", Name: "test", CreatedAt: postrider.Timestamp(time.Now())}))
	b.webhook = b.subscribe()
	return b
}

// advance moves the dispatcher's clock on.
func (b *bench) advance(by time.Duration) { b.ahead.Add(int64(by)) }

// subscribe makes a webhook that gets every event.
func (b *bench) subscribe() postrider.Webhook {
	b.t.Helper()
	now := postrider.Timestamp(time.Now())
	w, err := b.db.CreateWebhook(b.t.Context(), postrider.Webhook{
		ID: b.ids.New(postrider.PrefixWebhook), WorkspaceID: "ws_1", URL: "https://example.com", Events: []string{"*"},
		SigningMethod: postrider.SigningNone, ScopeType: postrider.ScopeGlobal, MaxInFlight: 1000, Status: postrider.WebhookActive,
		Policy:    postrider.Policy{TimeoutMS: 1000, MaxRetries: 1, BackoffMS: 1000},
		CreatedAt: now, UpdatedAt: now,
	}, "")
	require.NoError(b.t, err)
	return w
}

// run runs the dispatcher until the returned function is called, which waits for it.
func (b *bench) run() (stop func()) {
	ctx, cancel := context.WithCancel(b.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- b.dispatcher.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(b.t, <-ended)
	})
	b.t.Cleanup(stop)
	return stop
}

func (b *bench) publish(n int) []string {
	b.t.Helper()
	var deliveries []string
	for range n {
		key, now := b.ids.New(postrider.PrefixEvent), postrider.Timestamp(time.Now())
		receipts, err := b.db.Publish(b.t.Context(), postrider.Publication{WorkspaceID: "ws_1", Events: []postrider.PublishedEvent{{
			Event: postrider.Event{Key: key, ID: key, WorkspaceID: "ws_1", Type: "call.ended", Timestamp: now, Body: []byte("{}"), CreatedAt: now},
		}}})
		require.NoError(b.t, err)
		deliveries = append(deliveries, receipts[0].DeliveryIDs...)
	}
	return deliveries
}

func (b *bench) pending() int64 {
	backlog, err := b.db.Backlog(b.t.Context())
	require.NoError(b.t, err)
	return backlog.Pending
}

func TestDispatcherHandsEverythingOverOnce(t *testing.T) {
	t.Parallel()
	b := setup(t, 100)
	before := b.publish(3)
	b.run()
	after := b.publish(3)
	require.Eventually(t, func() bool { return len(b.temporal.starts()) == 6 }, patience, time.Millisecond)
	require.ElementsMatch(t, append(before, after...), b.temporal.starts())
}

func TestDispatcherKeepsItsLimit(t *testing.T) {
	t.Parallel()
	b := setup(t, 2)
	ids := b.publish(5)
	b.run()
	require.Eventually(t, func() bool { return len(b.temporal.starts()) == 2 }, patience, time.Millisecond)
	b.dispatcher.FirstAttemptDone("dlv_of_another_process")
	for n := 3; n <= 5; n++ {
		// A place is freed, and exactly one more start follows: the order of starts is
		// the order of acceptance, so the next one tells that none came between.
		b.dispatcher.FirstAttemptDone(b.temporal.starts()[n-3])
		require.Eventually(t, func() bool { return len(b.temporal.starts()) == n }, patience, time.Millisecond)
	}
	require.ElementsMatch(t, ids, b.temporal.starts())
}

func TestDispatcherTakesAStartedWorkflowForHandedOver(t *testing.T) {
	t.Parallel()
	b := setup(t, 10)
	b.temporal.fail = func(int) error { return workflows.ErrAlreadyStarted }
	b.publish(1)
	b.run()
	require.Eventually(t, func() bool {
		_, waiting, err := b.db.NextDue(t.Context())
		return err == nil && !waiting && len(b.temporal.starts()) == 1
	}, patience, time.Millisecond)
	require.Zero(t, b.pending())
}

func TestDispatcherTriesAgainWhileTemporalIsAway(t *testing.T) {
	t.Parallel()
	b := setup(t, 10)
	b.temporal.fail = func(start int) error {
		if start < 2 {
			return errors.New("connection refused")
		}
		return nil
	}
	id := b.publish(1)[0]
	b.run()
	require.Eventually(t, func() bool { return len(b.temporal.starts()) == 3 }, patience, time.Millisecond)
	require.Equal(t, []string{id, id, id}, b.temporal.starts())
}

// Guards against waiting for a lease after a stop: what was not handed over is
// given back at once.
func TestDispatcherGivesBackWhatItCouldNotHandOver(t *testing.T) {
	t.Parallel()
	b := setup(t, 10)
	refused := make(chan struct{})
	b.temporal.fail = func(start int) error {
		if start == 0 {
			close(refused)
		}
		return errors.New("connection refused")
	}
	id := b.publish(1)[0]
	stop := b.run()
	<-refused
	stop()
	require.EqualValues(t, 1, b.pending())
	d, err := b.db.Delivery(t.Context(), "ws_1", id)
	require.NoError(t, err)
	require.Equal(t, postrider.StatePending, d.State)
}

func TestDispatcherCancelsWhatWasCalledOff(t *testing.T) {
	t.Parallel()
	b := setup(t, 10)
	id := b.publish(1)[0]
	claimed, err := b.db.Claim(t.Context(), postrider.ClaimRequest{Limit: 10, Lease: time.Minute})
	require.NoError(t, err)
	require.Len(t, claimed, 1)
	require.NoError(t, b.db.Record(t.Context(), []postrider.Outcome{retrying(id, b.webhook.ID)}))
	require.NoError(t, b.db.DeleteWebhook(t.Context(), "ws_1", b.webhook.ID))
	b.run()
	require.Eventually(t, func() bool {
		b.temporal.mu.Lock()
		defer b.temporal.mu.Unlock()
		return len(b.temporal.cancelled) == 1
	}, patience, time.Millisecond)
	require.Equal(t, []string{id}, b.temporal.cancelled)
	require.Empty(t, b.temporal.starts())
}

func TestDispatcherBatchesWhatSinglesDoNotKeepUpWith(t *testing.T) {
	t.Parallel()
	b := setupWith(t, 512, worker.BatchingAuto)
	few := b.publish(5)
	stop := b.run()
	require.Eventually(t, func() bool { return len(b.temporal.starts()) == len(few) }, patience, time.Millisecond)
	stop()
	require.Len(t, b.temporal.workflows, len(few), "each has its own")

	many := b.publish(30) // no more than a receiver gets of which little is known
	b.run()
	require.Eventually(t, func() bool { return len(b.temporal.starts()) == len(few)+len(many) }, patience, time.Millisecond)
	b.temporal.mu.Lock()
	defer b.temporal.mu.Unlock()
	require.ElementsMatch(t, many, b.temporal.workflows[len(few)], "one carries all")
	require.Len(t, b.temporal.workflows, len(few)+1)
	d, err := b.db.Delivery(t.Context(), "ws_1", many[0])
	require.NoError(t, err)
	require.Contains(t, d.WorkflowID, "batch/")
	target := b.dispatcher.Carried(many[0])
	require.NotNil(t, target)
	require.Equal(t, d.WorkflowID, target.Delivery.WorkflowID)
	require.Nil(t, b.dispatcher.Carried(many[0]), "once")
}

// Guards against one slow receiver taking the places of all others.
func TestDispatcherKeepsPlacesForQuickReceivers(t *testing.T) {
	t.Parallel()
	b := setupWith(t, 80, worker.BatchingAuto)
	hanging := b.publish(200)
	b.run()
	require.Eventually(t, func() bool { return len(b.temporal.starts()) == 32 }, patience, time.Millisecond, "what an unknown receiver gets")
	for _, id := range b.temporal.starts() {
		b.dispatcher.Carried(id) // the attempts begin
	}
	b.advance(3 * time.Second)
	quick := b.subscribe()
	ids := b.publish(1)
	require.Eventually(t, func() bool {
		d, err := b.db.Delivery(t.Context(), "ws_1", ids[1])
		return err == nil && d.State == postrider.StateDelivering && d.WebhookID == quick.ID
	}, patience, time.Millisecond)
	for _, id := range hanging[:30] { // late answers: the receiver is slow now
		b.dispatcher.FirstAttemptDone(id)
	}
	// A quarter of the places are for slow receivers, of which two are taken.
	require.Eventually(t, func() bool { return len(b.temporal.starts()) == 33+18 }, patience, time.Millisecond)
	b.temporal.mu.Lock()
	defer b.temporal.mu.Unlock()
	for _, carried := range b.temporal.workflows[len(b.temporal.workflows)-18:] {
		require.Len(t, carried, 1, "slow deliveries join no batch")
		require.Contains(t, b.temporal.slow, carried[0])
	}
}

func TestDispatcherLimitsAHost(t *testing.T) {
	t.Parallel()
	b := setupConfig(t, worker.DispatcherConfig{InFlight: 100, PerHost: 3, Batching: worker.BatchingNever})
	b.subscribe() // on the same host
	ids := b.publish(4)
	b.run()
	require.Eventually(t, func() bool { return len(b.temporal.starts()) == 3 }, patience, time.Millisecond)
	for n := 4; n <= len(ids); n++ {
		b.dispatcher.FirstAttemptDone(b.temporal.starts()[n-4])
		require.Eventually(t, func() bool { return len(b.temporal.starts()) == n }, patience, time.Millisecond)
	}
	require.Len(t, ids, 8)
}

// Guards against places held until their leases end where Temporal gives workflows to
// other workers than those that started them.
func TestDispatcherFreesWhatAnotherWorkerAttempted(t *testing.T) {
	t.Parallel()
	b := setup(t, 3)
	ids := b.publish(6)
	b.run()
	require.Eventually(t, func() bool { return len(b.temporal.starts()) == 3 }, patience, time.Millisecond)
	// One was attempted elsewhere, the others are being attempted there.
	require.NoError(t, b.db.Record(t.Context(), []postrider.Outcome{retrying(ids[0], b.webhook.ID)}))
	soon := func(starts int) {
		require.Eventually(t, func() bool {
			b.advance(10 * time.Millisecond)
			return len(b.temporal.starts()) == starts
		}, patience, 5*time.Millisecond)
	}
	soon(4)
	// A look later the second has been attempted, too; nobody else's place was freed.
	require.NoError(t, b.db.Record(t.Context(), []postrider.Outcome{retrying(ids[1], b.webhook.ID)}))
	soon(5)
	require.ElementsMatch(t, ids[:5], b.temporal.starts())
}

func TestDispatcherFreesThePlacesOfABatchOneByOne(t *testing.T) {
	t.Parallel()
	b := setupWith(t, 3, worker.BatchingAlways)
	ids := b.publish(5)
	b.run()
	require.Eventually(t, func() bool { return len(b.temporal.starts()) == 3 }, patience, time.Millisecond)
	b.dispatcher.FirstAttemptDone(ids[1])
	require.Eventually(t, func() bool { return len(b.temporal.starts()) == 4 }, patience, time.Millisecond)
	b.dispatcher.FirstAttemptDone(ids[1])
	b.dispatcher.FirstAttemptDone(ids[3])
	require.Eventually(t, func() bool { return len(b.temporal.starts()) == 5 }, patience, time.Millisecond)
	require.Equal(t, [][]string{ids[:3], ids[3:4], ids[4:]}, b.temporal.workflows)
}

func TestDispatcherGivesABatchBackThatItCouldNotHandOver(t *testing.T) {
	t.Parallel()
	b := setupWith(t, 10, worker.BatchingAlways)
	b.temporal.fail = func(start int) error {
		if start == 0 {
			return errors.New("connection refused")
		}
		return nil
	}
	ids := b.publish(4)
	b.run()
	require.Eventually(t, func() bool { return len(b.temporal.starts()) == 8 }, patience, time.Millisecond)
	require.Equal(t, [][]string{ids, ids}, b.temporal.workflows)
}

func retrying(deliveryID, webhookID string) postrider.Outcome {
	reason, next := "status 500", postrider.Timestamp(time.Now().Add(time.Hour))
	return postrider.Outcome{
		DeliveryID: deliveryID, WorkspaceID: "ws_1", WebhookID: webhookID, State: postrider.StateRetrying, NextAttempt: &next,
		WorkflowID: postrider.DeliveryWorkflowID(deliveryID),
		Attempt:    postrider.Attempt{Number: 1, StartedAt: postrider.Timestamp(time.Now()), Result: postrider.ResultServerError, Error: &reason},
	}
}

func TestBacklogMetrics(t *testing.T) {
	t.Parallel()
	b := setup(t, 10)
	now := time.Now().Add(time.Minute)
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(worker.NewBacklog(b.db, func() time.Time { return now }, slog.New(slog.DiscardHandler)))
	count, err := testutil.GatherAndCount(registry)
	require.NoError(t, err)
	require.Equal(t, 2, count)

	b.publish(3)
	families, err := registry.Gather()
	require.NoError(t, err)
	values := map[string]float64{}
	for _, family := range families {
		values[family.GetName()] = family.GetMetric()[0].GetGauge().GetValue()
	}
	require.InDelta(t, 3, values["postrider_backlog_pending"], 0)
	require.InDelta(t, 60, values["postrider_backlog_oldest_age_seconds"], 30)
}
