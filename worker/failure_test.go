package worker_test

import (
	"bytes"
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
	"postrider.dev/postrider/activities"
	"postrider.dev/postrider/worker"
)

// faultyQueue is a queue whose calls fail when a test says so. The hook is set before the
// dispatcher runs, and may be nil.
type faultyQueue struct {
	worker.Queue

	fail func(call string, deliveryIDs ...string) error
}

func (q *faultyQueue) failure(call string, deliveryIDs ...string) error {
	if q.fail == nil {
		return nil
	}
	return q.fail(call, deliveryIDs...)
}

// Claim implements [worker.Queue].
func (q *faultyQueue) Claim(ctx context.Context, request postrider.ClaimRequest) ([]postrider.Dispatch, error) {
	if err := q.failure("claim"); err != nil {
		return nil, err
	}
	return q.Queue.Claim(ctx, request)
}

// TargetsOf implements [worker.Queue].
func (q *faultyQueue) TargetsOf(ctx context.Context, deliveries []postrider.Delivery) ([]postrider.Target, error) {
	if err := q.failure("targets"); err != nil {
		return nil, err
	}
	return q.Queue.TargetsOf(ctx, deliveries)
}

// Release implements [worker.Queue].
func (q *faultyQueue) Release(ctx context.Context, deliveryIDs []string) error {
	if err := q.failure("release", deliveryIDs...); err != nil {
		return err
	}
	return q.Queue.Release(ctx, deliveryIDs)
}

// Leased implements [worker.Queue].
func (q *faultyQueue) Leased(ctx context.Context, deliveryIDs []string) ([]string, error) {
	if err := q.failure("leased", deliveryIDs...); err != nil {
		return nil, err
	}
	return q.Queue.Leased(ctx, deliveryIDs)
}

// ClaimRetries implements [worker.Queue].
func (q *faultyQueue) ClaimRetries(ctx context.Context, request postrider.HandoverRequest) ([]postrider.Handover, error) {
	if err := q.failure("retries"); err != nil {
		return nil, err
	}
	return q.Queue.ClaimRetries(ctx, request)
}

// ClaimCancellations implements [worker.Queue].
func (q *faultyQueue) ClaimCancellations(ctx context.Context, limit int, lease time.Duration) ([]postrider.Cancellation, error) {
	if err := q.failure("cancellations"); err != nil {
		return nil, err
	}
	return q.Queue.ClaimCancellations(ctx, limit, lease)
}

// failOnce lets the first call of such a name fail.
func failOnce(call string) func(string, ...string) error {
	var once sync.Once
	return func(called string, _ ...string) (err error) {
		if called == call {
			once.Do(func() { err = errRefused })
		}
		return err
	}
}

// logs collects log lines.
type logs struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements [io.Writer].
func (l *logs) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(line)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func TestDispatcherClaimsAgainAfterAFailure(t *testing.T) {
	t.Parallel()
	b := setup(t, 10, worker.BatchingNever)
	b.answering()
	b.queue.fail = failOnce("claim")
	b.publish(2)
	b.run()
	b.awaitAttempts(2)
	require.Contains(t, b.logs.String(), "could not claim deliveries")
}

// Guards against slots that stay taken, and against a second attempt under the same lease,
// when a delivery without a workflow cannot be released.
func TestDeliveryWaitsForItsLeaseWhenReleaseFails(t *testing.T) {
	t.Parallel()
	b := setup(t, 1, worker.BatchingNever)
	b.answering()
	b.temporal.fail = func(_ context.Context, start int) error {
		if start == 0 {
			return errRefused
		}
		return nil
	}
	b.queue.fail = failOnce("release")
	stuck := b.publish(1)
	b.run()
	eventually(t, func() bool { return b.temporal.startCount() == 1 })
	other := b.publish(1)
	b.awaitAttempts(1)
	require.Equal(t, other, b.temporal.attempted(), "the only slot is free again")
	leased, err := b.db.Leased(t.Context(), stuck)
	require.NoError(t, err)
	require.Equal(t, stuck, leased)
	require.Contains(t, b.logs.String(), "could not release deliveries; their leases will expire")
}

// Guards against deliveries that never arrive at their attempt when their targets could not be
// read for all at once.
func TestDeliveriesArriveWithoutTargetsWhenPrefetchFails(t *testing.T) {
	t.Parallel()
	b := setup(t, 10, worker.BatchingAlways)
	b.answering()
	succeed := b.temporal.attempt
	b.temporal.attempt = func(workflowID string, a activities.Arrival) {
		if a.Target != nil || !a.ReadAt.IsZero() {
			t.Errorf("a target came with delivery %s", a.DeliveryID)
		}
		succeed(workflowID, a)
	}
	b.queue.fail = func(call string, _ ...string) error {
		if call == "targets" {
			return errRefused
		}
		return nil
	}
	ids := b.publish(3)
	b.run()
	b.awaitAttempts(3)
	require.ElementsMatch(t, ids, b.temporal.attempted())
	require.Contains(t, b.logs.String(), "each attempt will read its own")
}

func TestDeliveriesArriveWithTheirTargets(t *testing.T) {
	t.Parallel()
	b := setup(t, 10, worker.BatchingAlways)
	b.answering()
	succeed := b.temporal.attempt
	b.temporal.attempt = func(workflowID string, a activities.Arrival) {
		switch {
		case a.Target == nil:
			t.Errorf("delivery %s came without a target", a.DeliveryID)
		case a.Target.Delivery.ID != a.DeliveryID, a.Target.Delivery.WorkflowID != workflowID, !a.ReadAt.Equal(b.base):
			t.Errorf("delivery %s came with %+v", a.DeliveryID, a)
		}
		succeed(workflowID, a)
	}
	b.publish(3)
	b.run()
	b.awaitAttempts(3)
}

// Guards against failed deliveries that are never retried after the database was away.
func TestRetriesAreClaimedAgainAfterAFailure(t *testing.T) {
	t.Parallel()
	b := setup(t, 10, worker.BatchingAuto)
	ids := b.fail(b.webhook, 2)
	b.queue.fail = failOnce("retries")
	b.run()
	eventually(t, func() bool { return len(b.temporal.handedOver()) == 1 })
	require.ElementsMatch(t, ids, membersOf(b.temporal.handedOver()[0]))
	require.Contains(t, b.logs.String(), "could not hand over failed deliveries")
}

// Guards against claimed retries that wait for their leases because a second query failed.
func TestRetriesDoNotWaitForCancellations(t *testing.T) {
	t.Parallel()
	b := setup(t, 10, worker.BatchingAuto)
	ids := b.fail(b.webhook, 2)
	b.queue.fail = func(call string, _ ...string) error {
		if call == "cancellations" {
			return errRefused
		}
		return nil
	}
	b.run()
	eventually(t, func() bool { return len(b.temporal.handedOver()) == 1 })
	require.ElementsMatch(t, ids, membersOf(b.temporal.handedOver()[0]))
}

// Guards against slots of other workers' attempts that are freed on a guess, or never, when
// the database cannot say which deliveries are leased.
func TestSlotsOfRemoteAttemptsAreFreedWhenTheDatabaseIsBack(t *testing.T) {
	t.Parallel()
	b := setup(t, 2, worker.BatchingNever)
	b.temporal.attach = func(string) bool { return false }
	b.prove(b.webhook, 3)
	asked := make(chan struct{}, 100)
	back := make(chan struct{})
	b.queue.fail = func(call string, _ ...string) error {
		if call != "leased" {
			return nil
		}
		asked <- struct{}{}
		select {
		case <-back:
			return nil
		default:
			return errRefused
		}
	}
	ids := b.publish(3)
	b.run()
	eventually(t, func() bool { return b.temporal.startCount() == 2 })
	require.NoError(t, b.db.Record(t.Context(), []postrider.Outcome{retrying(ids[0], b.webhook.ID)}))
	b.advance(2 * time.Second)
	<-asked
	<-asked // a second time, so the first answer has had its effect
	require.Equal(t, 2, b.temporal.startCount(), "both slots are taken")
	close(back)
	eventually(t, func() bool { return b.temporal.startCount() == 3 })
	require.Equal(t, ids[2:], b.temporal.started()[2].ids())
}

// proveQuick lets the receiver of a webhook widen its window to max_in_flight, so that the
// dispatcher claims ahead.
func (b *bench) proveQuick(w postrider.Webhook) { b.prove(w, w.MaxInFlight) }

// openBatch waits for an open batch whose activity runs: only for such a batch the dispatcher
// claims ahead. It returns after one delivery to another webhook.
func (b *bench) openBatch() {
	b.t.Helper()
	id := b.publish(1)[0]
	b.awaitAttempts(1)
	b.dispatcher.Done(id)
}

// Guards against deliveries that were claimed ahead and wait for their leases after a stop.
func TestStopReleasesDeliveriesClaimedAhead(t *testing.T) {
	t.Parallel()
	b := setup(t, 100, worker.BatchingAlways)
	quick := b.subscribeWith(4)
	b.proveQuick(quick)
	stop := b.run()
	b.openBatch()
	ids := b.publishTo(quick, 10)
	b.awaitAttempts(1 + 4)
	leased := func() []string {
		found, err := b.db.Leased(t.Context(), ids)
		require.NoError(t, err)
		return found
	}
	eventually(t, func() bool { return len(leased()) == 10 }, "the other six are claimed ahead")
	stop()
	require.ElementsMatch(t, b.temporal.attempted()[1:], leased(), "only attempts that have begun keep their leases")
}

// Guards the whole way of a delivery that was claimed ahead: it begins when another attempt is
// answered, in the same workflow, and before that attempt is recorded.
func TestAnsweredAttemptLetsItsSuccessorBegin(t *testing.T) {
	t.Parallel()
	b := setup(t, 100, worker.BatchingAlways)
	quick := b.subscribeWith(2)
	b.proveQuick(quick)
	b.run()
	b.openBatch()
	ids := b.publishTo(quick, 5)
	b.awaitAttempts(1 + 2)
	eventually(t, func() bool { return b.pending() == 0 }, "the other three are claimed ahead")
	for n := range 3 {
		require.Equal(t, ids[n+2], b.dispatcher.Answered(ids[n], true))
		b.awaitAttempts(1 + 3 + n)
	}
	require.Empty(t, b.dispatcher.Answered(ids[3], true), "no delivery is left")
	require.Equal(t, ids, b.temporal.attempted()[1:])
	require.Len(t, b.temporal.started(), 1, "one workflow carries all")
}
