package activities_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
	"postrider.dev/postrider/activities"
	"postrider.dev/postrider/signing"
)

const batchID = "batch/bat_1"

// publishBatch accepts events and claims their deliveries for one workflow.
func (b *bench) publishBatch(n int) []string {
	b.t.Helper()
	return b.claim(batchID, make([]string, n)...)
}

func together(deliveryIDs ...string) activities.DeliverInput {
	return activities.DeliverInput{WorkflowID: batchID, DeliveryIDs: deliveryIDs}
}

// feed returns the arrivals that a test gives it, one turn after the other.
type feed struct{ turns [][]activities.Arrival }

// Next implements [activities.Feed].
func (f *feed) Next(context.Context) []activities.Arrival {
	if len(f.turns) == 0 {
		return nil
	}
	turn := f.turns[0]
	f.turns = f.turns[1:]
	return turn
}

// arrivals returns deliveries with their targets, as a claim does.
func (b *bench) arrivals(deliveryIDs ...string) []activities.Arrival {
	b.t.Helper()
	targets, err := b.db.Targets(b.t.Context(), deliveryIDs)
	require.NoError(b.t, err)
	arrivals := make([]activities.Arrival, len(targets))
	for i := range targets {
		arrivals[i] = activities.Arrival{DeliveryID: targets[i].Delivery.ID, Target: &targets[i]}
	}
	return arrivals
}

func TestDeliverMakesAllFirstAttempts(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	b.answer(http.StatusOK)
	fine := b.publishBatch(20)
	reports, err := b.acts.Deliver(t.Context(), together(fine...))
	require.NoError(t, err)
	for i, report := range reports {
		require.Equal(t, fine[i], report.DeliveryID, "in the order asked")
		require.Equal(t, postrider.StateSucceeded, report.State)
		require.False(t, report.Left)
		require.Nil(t, report.Policy, "the workflow knows it")
		require.Equal(t, batchID, b.delivery(report.DeliveryID).WorkflowID)
	}
	require.Len(t, b.requests, 20)
	require.ElementsMatch(t, fine, b.done)
	_, waits, err := b.db.NextDue(t.Context())
	require.NoError(t, err)
	require.False(t, waits, "nothing is left in the outbox")
}

// handOver makes n first attempts in a batch, which fail, hands the deliveries over to a workflow
// of retries, and begins its activity.
func (b *bench) handOver(n int) []activities.RetryMember {
	b.t.Helper()
	_, err := b.acts.Deliver(b.t.Context(), together(b.publishBatch(n)...))
	require.NoError(b.t, err)
	made, err := b.db.ClaimRetries(b.t.Context(), postrider.HandoverRequest{Limit: 100, Lease: time.Minute})
	require.NoError(b.t, err)
	require.Len(b.t, made, 1)
	require.Len(b.t, made[0].Deliveries, n)
	b.begin(made[0].WorkflowID)
	members := make([]activities.RetryMember, n)
	for i, d := range made[0].Deliveries {
		members[i] = activities.RetryMember{DeliveryID: d.ID, Known: d.AttemptCount}
	}
	return members
}

// Guards against a retry that waits for the slowest attempt of its batch: a failed delivery goes
// back to the dispatchers as soon as the failure is recorded.
func TestFailedDeliveryLeavesItsBatch(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	b.answer(http.StatusBadGateway)
	claimed := b.publishBatch(2)
	reports, err := b.acts.Deliver(t.Context(), together(claimed...))
	require.NoError(t, err)
	for _, report := range reports {
		require.True(t, report.Left)
		require.Equal(t, postrider.StateRetrying, report.State)
		require.Len(t, report.Attempts, 1)
	}
	again, err := b.acts.Deliver(t.Context(), together(claimed...))
	require.NoError(t, err)
	for _, report := range again {
		require.True(t, report.Left)
		require.Equal(t, postrider.StateRetrying, report.State)
		require.Len(t, report.Attempts, 1)
	}
	require.Len(t, b.requests, 2, "the attempts are not made again")

	made, err := b.db.ClaimRetries(t.Context(), postrider.HandoverRequest{Limit: 10, Lease: time.Minute})
	require.NoError(t, err)
	require.Len(t, made, 1)
	require.Len(t, made[0].Deliveries, 2)
	b.begin(made[0].WorkflowID)
	b.advance(time.Minute)
	reports, refused := b.round(
		activities.RetryMember{DeliveryID: claimed[0], Known: 1}, activities.RetryMember{DeliveryID: claimed[1], Known: 1},
	)
	require.Equal(t, activities.ErrorAttemptFailed, refused.Type())
	for _, report := range reports {
		require.False(t, report.Left)
		require.Equal(t, 2, report.Attempts[0].Number)
	}
}

// A delivery that failed for good needs no other workflow, and a second run changes nothing.
func TestDeliveryThatFailedForGoodStaysInItsBatch(t *testing.T) {
	t.Parallel()
	b := setup(t, func(w *postrider.Webhook) { w.MaxRetries = 0 })
	b.answer(http.StatusBadGateway)
	claimed := b.publishBatch(2)
	for range 2 {
		reports, err := b.acts.Deliver(t.Context(), together(claimed...))
		require.NoError(t, err)
		require.Len(t, reports, 2)
		for _, report := range reports {
			require.Equal(t, postrider.StateFailed, report.State)
			require.False(t, report.Left)
			require.Len(t, report.Attempts, 1)
		}
	}
	require.Len(t, b.requests, 2)
}

// Guards against duplicates after a crash: when two workflows got a delivery, only the later one
// makes the attempt.
func TestAttemptIsLeftToTheLaterWorkflow(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	claimed := b.publishBatch(1)
	id := claimed[0]
	report := b.deliver(id)
	require.Equal(t, postrider.StateDelivering, report.State)
	require.True(t, report.Left)
	require.Empty(t, report.Attempts)
	report, refused := b.retryKnowing(id, 0)
	require.Nil(t, refused)
	require.Equal(t, postrider.StateDelivering, report.State)
	require.True(t, report.Left)
	require.Empty(t, b.requests)

	_, err := b.acts.Deliver(t.Context(), together(claimed...))
	require.NoError(t, err)
	require.Len(t, b.requests, 1)
	report = b.deliver(id)
	require.Equal(t, postrider.StateSucceeded, report.State)
	require.False(t, report.Left)
	require.Len(t, b.requests, 1)
}

// Guards against slow receivers that delay the rest of their batch.
func TestSlowReceiversDoNotDelayTheirBatch(t *testing.T) {
	t.Parallel()
	b := setup(t, func(w *postrider.Webhook) { w.MaxInFlight = 100 })
	release := make(chan struct{})
	var came atomic.Int64
	b.answerBy(func(http.ResponseWriter, *http.Request) {
		if came.Add(1) <= 64 {
			<-release
		}
	})
	claimed := b.publishBatch(70)
	ended := make(chan error, 1)
	go func() {
		_, err := b.acts.Deliver(t.Context(), together(claimed...))
		ended <- err
	}()
	require.Eventually(t, func() bool { return came.Load() == 70 }, 20*time.Second, time.Millisecond)
	close(release)
	require.NoError(t, <-ended)
}

// Deliver does not read targets again that arrive with their deliveries.
func TestDeliverUsesTheTargetsOfItsFeed(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	claimed := b.publishBatch(4)
	b.feeds = map[string]activities.Feed{batchID: &feed{turns: [][]activities.Arrival{
		b.arrivals(claimed[:2]...), {{DeliveryID: claimed[2]}}, b.arrivals(claimed[3]),
	}}}
	b.watched.away = func(call, id string) error {
		if call == "targets" {
			require.Equal(t, claimed[2], id, "the feed has the others")
		}
		return nil
	}
	reports, err := b.acts.Deliver(t.Context(), activities.DeliverInput{WorkflowID: batchID})
	require.NoError(t, err)
	require.Len(t, reports, 4)
	for i, report := range reports {
		require.Equal(t, claimed[i], report.DeliveryID)
		require.Equal(t, postrider.StateSucceeded, report.State)
		require.Equal(t, &b.webhook.Policy, report.Policy, "the workflow does not know it")
	}
	require.ElementsMatch(t, claimed, b.sent("postrider-delivery-id"))
	for _, got := range b.requests {
		require.NoError(t, signing.Verify(signing.HMACSHA256, []string{b.secret}, got.header, got.body, time.Now(), time.Minute))
	}
}

// A second run, in this process or another, makes the attempts that are missing.
func TestSecondRunMakesTheMissingAttempts(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	claimed := b.publishBatch(4)
	b.feeds = map[string]activities.Feed{batchID: &feed{turns: [][]activities.Arrival{b.arrivals(claimed[:2]...)}}}
	in := activities.DeliverInput{WorkflowID: batchID}
	reports, err := b.acts.Deliver(t.Context(), in)
	require.NoError(t, err)
	require.Len(t, reports, 2)
	reports, err = b.acts.Deliver(t.Context(), in)
	require.NoError(t, err)
	require.Len(t, reports, 2)
	require.ElementsMatch(t, claimed[2:], []string{reports[0].DeliveryID, reports[1].DeliveryID})
	require.ElementsMatch(t, claimed, b.sent("postrider-delivery-id"), "each once")
	reports, err = b.acts.Deliver(t.Context(), in)
	require.NoError(t, err)
	require.Empty(t, reports)
}

// Guards against an internal failure that stops the rest of a batch, or that counts as the
// receiver's.
func TestInternalFailureOfOneFirstAttemptStopsNoOther(t *testing.T) {
	t.Parallel()
	for _, call := range []string{"record", "targets"} {
		t.Run(call+" of a named delivery", func(t *testing.T) {
			t.Parallel()
			b := setup(t, nil)
			claimed := b.publishBatch(3)
			reports, err := b.deliverButOne(call, claimed[1], together(claimed...))
			require.ErrorIs(t, err, errAway)
			require.Len(t, reports, 3)
		})
		t.Run(call+" of a carried delivery", func(t *testing.T) {
			t.Parallel()
			b := setup(t, nil)
			logged := &bytes.Buffer{}
			b.acts.Logger = slog.New(slog.NewTextHandler(logged, &slog.HandlerOptions{Level: slog.LevelWarn}))
			claimed := b.publishBatch(3)
			reports, err := b.deliverButOne(call, claimed[1], activities.DeliverInput{WorkflowID: batchID})
			require.NoError(t, err)
			require.Contains(t, logged.String(), claimed[1])
			requireAllButOne(t, claimed, reports)
		})
	}
}

// requireAllButOne requires that all deliveries but the second are finished.
func requireAllButOne(t *testing.T, claimed []string, reports activities.Reports) {
	t.Helper()
	for i, report := range reports {
		require.Equal(t, claimed[i], report.DeliveryID)
		require.Equal(t, i == 1, report.Left)
		require.Equal(t, i != 1, report.State.Finished())
	}
}

var errAway = errors.New("the database is away")

// deliverButOne runs Deliver while a store's call fails for one delivery, and again after that.
// It returns the results of the first run.
func (b *bench) deliverButOne(call, broken string, in activities.DeliverInput) (activities.Reports, error) {
	b.t.Helper()
	b.watched.away = func(c, id string) error {
		if c == call && id == broken {
			return errAway
		}
		return nil
	}
	reports, failure := b.acts.Deliver(b.t.Context(), in)
	for _, report := range reports {
		d := b.delivery(report.DeliveryID)
		if d.ID == broken {
			require.Equal(b.t, postrider.StateDelivering, d.State)
			require.Zero(b.t, d.AttemptCount)
			continue
		}
		require.Equal(b.t, postrider.StateSucceeded, d.State)
	}
	b.watched.away = nil
	_, err := b.acts.Deliver(b.t.Context(), in)
	require.NoError(b.t, err)
	require.Equal(b.t, postrider.StateSucceeded, b.delivery(broken).State)
	return reports, failure
}

func TestDeliverFailsWhenItCannotReadItsDeliveries(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	b.publishBatch(1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := b.acts.Deliver(ctx, activities.DeliverInput{WorkflowID: batchID})
	require.Error(t, err)
	require.Empty(t, b.requests)
}

// A delivery's lease may expire before it arrives, and another workflow then carries it.
func TestArrivalThatAnotherWorkflowCarriesIsNotAttempted(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	theirs := b.claim("batch/bat_2", "")
	ours := b.publishBatch(1)
	b.feeds = map[string]activities.Feed{batchID: &feed{turns: [][]activities.Arrival{b.arrivals(slices.Concat(theirs, ours)...)}}}
	reports, err := b.acts.Deliver(t.Context(), activities.DeliverInput{WorkflowID: batchID})
	require.NoError(t, err)
	require.True(t, reports[0].Left)
	require.Empty(t, reports[0].Attempts)
	require.False(t, reports[1].Left)
	require.Equal(t, ours, b.sent("postrider-delivery-id"))
}
