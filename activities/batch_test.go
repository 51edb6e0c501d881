package activities_test

import (
	"context"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider"
	"postrider/activities"
)

const batchID = "batch/bat_1"

// publishBatch accepts events and claims their deliveries for one workflow.
func (b *bench) publishBatch(n int) []postrider.Dispatch {
	b.t.Helper()
	return b.publishBatchTraced(make([]string, n)...)
}

// publishBatchTraced is publishBatch with a publish for each trace.
func (b *bench) publishBatchTraced(traceContexts ...string) []postrider.Dispatch {
	b.t.Helper()
	now := postrider.Timestamp(time.Now())
	for _, traceContext := range traceContexts {
		key := b.ids.New(postrider.PrefixEvent)
		_, err := b.db.Publish(b.t.Context(), postrider.Publication{WorkspaceID: "ws_1", TraceContext: traceContext, Events: []postrider.PublishedEvent{{
			Event: postrider.Event{Key: key, ID: key, WorkspaceID: "ws_1", Type: "call.ended", Timestamp: now, Body: []byte(`{}`), CreatedAt: now},
		}}})
		require.NoError(b.t, err)
	}
	n := len(traceContexts)
	claimed, err := b.db.Claim(b.t.Context(), postrider.ClaimRequest{Limit: n, Lease: time.Minute, BatchID: batchID, BatchMin: 1})
	require.NoError(b.t, err)
	require.Len(b.t, claimed, n)
	return claimed
}

func together(claimed []postrider.Dispatch) activities.DeliverInput {
	in := activities.DeliverInput{WorkflowID: batchID}
	for _, d := range claimed {
		in.DeliveryIDs = append(in.DeliveryIDs, d.DeliveryID)
	}
	return in
}

func TestDeliverMany(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	b.answer(http.StatusOK)
	fine := b.publishBatch(20)
	reports, err := b.acts.Deliver(t.Context(), together(fine))
	require.NoError(t, err)
	for i, report := range reports {
		require.Equal(t, fine[i].DeliveryID, report.DeliveryID, "in the order asked")
		require.Equal(t, postrider.StateSucceeded, report.State)
		require.Equal(t, batchID, b.delivery(report.DeliveryID).WorkflowID)
	}
	require.Len(t, b.requests, 20)
	require.Len(t, b.done, 20)
	_, waits, err := b.db.NextDue(t.Context())
	require.NoError(t, err)
	require.False(t, waits, "nothing is left in the outbox")
}

// Guards against a refusal waiting for the slowest of its batch: it is back with the
// dispatchers as soon as it is recorded, for a workflow of its own.
func TestWhatFailsInABatchGoesOnByItself(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	b.answer(http.StatusBadGateway)
	claimed := b.publishBatch(2)
	_, err := b.acts.Deliver(t.Context(), together(claimed))
	require.NoError(t, err)
	again, err := b.db.Claim(t.Context(), postrider.ClaimRequest{Limit: 10, Lease: time.Minute, BatchID: "batch/bat_2", BatchMin: 1})
	require.NoError(t, err)
	require.Len(t, again, 2)
	for _, d := range again {
		require.True(t, d.Attempted)
		require.True(t, d.Alone())
		require.Nil(t, d.Target)
	}
	id := again[0].DeliveryID
	report := b.deliver(id) // what the new workflow does first
	require.Equal(t, postrider.StateRetrying, report.State)
	require.Len(t, report.Attempts, 1)
	require.Len(t, b.requests, 2, "the attempt is not made again")
	require.NoError(t, b.db.HandedOver(t.Context(), []string{id}))
	report, _ = b.retry(id)
	require.Equal(t, 2, report.Attempts[0].Number)
}

// Guards against duplicates after a crash: of two workflows that were given a
// delivery, the later one makes the attempt.
func TestAttemptsOfAnotherWorkflowAreLeftToIt(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	claimed := b.publishBatch(1)
	id := claimed[0].DeliveryID
	report := b.deliver(id)
	require.Equal(t, postrider.StateDelivering, report.State)
	require.Empty(t, report.Attempts)
	value, err := b.env.ExecuteActivity(b.acts.Retry, activities.RetryInput{DeliveryID: id})
	require.NoError(t, err)
	require.NoError(t, value.Get(&report))
	require.Equal(t, postrider.StateDelivering, report.State)
	require.Empty(t, b.requests)

	_, err = b.acts.Deliver(t.Context(), together(claimed))
	require.NoError(t, err)
	require.Len(t, b.requests, 1)
	require.Equal(t, postrider.StateSucceeded, b.deliver(id).State)
	require.Len(t, b.requests, 1)
}

// Guards against the slow receivers of a batch making the others wait.
func TestDeliverWaitsForNoSlowReceiver(t *testing.T) {
	t.Parallel()
	b := setup(t, func(w *postrider.Webhook) { w.MaxInFlight = 100 })
	release := make(chan struct{})
	var came atomic.Int64
	b.respond = func(http.ResponseWriter, *http.Request) {
		if came.Add(1) <= 64 {
			<-release
		}
	}
	claimed := b.publishBatch(70)
	ended := make(chan error, 1)
	go func() {
		_, err := b.acts.Deliver(t.Context(), together(claimed))
		ended <- err
	}()
	require.Eventually(t, func() bool { return came.Load() == 70 }, 20*time.Second, time.Millisecond)
	close(release)
	require.NoError(t, <-ended)
}

// nothingToRead is a store that must not be asked for targets.
type nothingToRead struct {
	activities.Store
	t *testing.T
}

func (n nothingToRead) Targets(context.Context, []string) ([]postrider.Target, error) {
	require.Fail(n.t, "the claim carried what is asked for")
	return nil, nil
}

func TestDeliverTakesWhatTheClaimCarried(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	claimed := b.publishBatch(3)
	b.carried = map[string]*postrider.Target{}
	for _, d := range claimed {
		b.carried[d.DeliveryID] = d.Target()
	}
	b.acts.Store = nothingToRead{b.db, t}
	_, err := b.acts.Deliver(t.Context(), together(claimed))
	require.NoError(t, err)
	require.Len(t, b.requests, 3)
}
