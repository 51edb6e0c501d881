package worker

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
	"postrider.dev/postrider/activities"
)

// claimedAhead returns a table with a proven receiver w and a batch of its deliveries: the
// first have permits, and the rest were claimed ahead.
func claimedAhead(t *testing.T, c *clock, permitted, ahead int) (*inflight, *batch) {
	t.Helper()
	table := newInflight(100, 0, c.now)
	prove(t, table, "w", 10)
	table.receivers["w"].maxInFlight = initialWindow + 10
	b := newBatch("batch/1", c.now())
	var claimed []postrider.Dispatch
	var arrivals []activities.Arrival
	for i := range permitted + ahead {
		id := fmt.Sprint("d", i)
		claimed = append(claimed, postrider.Dispatch{Delivery: target("w", id).Delivery, URL: target("w", "").URL, Ahead: i >= permitted})
		arrivals = append(arrivals, activities.Arrival{DeliveryID: id})
	}
	kept, excess := table.take(b, claimed)
	require.Equal(t, claimed, kept)
	require.Empty(t, excess)
	b.pending = len(kept)
	b.arrive(table.ready(b, claimed, arrivals))
	return table, b
}

// arrived returns the deliveries that the batch's activity would get next.
func arrived(b *batch) []string {
	ids := []string{}
	for _, a := range b.arrivals {
		ids = append(ids, a.DeliveryID)
	}
	return ids
}

func TestAnsweredAttemptPassesItsPermitOn(t *testing.T) {
	t.Parallel()
	clock := newClock()
	table, b := claimedAhead(t, clock, 2, 3)
	require.Equal(t, []string{"d0", "d1"}, arrived(b))
	table.beganFirst(b, b.arrivals)
	require.Equal(t, "d2", table.answered("d1", true))
	require.Equal(t, "d3", table.answered("d0", true))
	require.Equal(t, []string{"d0", "d1", "d2", "d3"}, arrived(b))
	require.Equal(t, 2, table.receivers["w"].inFlight(), "as many as before")
	require.Equal(t, 1, b.pending)
	require.Empty(t, table.answered("d0", true), "an attempt is answered once")
	table.done("d0")
	table.done("d1")
	require.Equal(t, 2, table.receivers["w"].inFlight())

	require.Equal(t, "d4", table.answered("d2", true))
	require.Empty(t, table.answered("d4", true), "no delivery waits")
	require.Equal(t, 2, table.receivers["w"].inFlight(), "the permit ends with the record")
	table.done("d4")
	table.done("d3")
	require.Zero(t, table.receivers["w"].inFlight())
	require.Zero(t, b.pending)
	require.Equal(t, table.total, table.available())
	require.Zero(t, table.ahead)
}

// A delivery may get its permit before its target was read. Guards against one that then
// arrives twice or never.
func TestPermitMayComeBeforeTheTarget(t *testing.T) {
	t.Parallel()
	clock := newClock()
	table, b := claimedAhead(t, clock, 1, 0)
	later := []postrider.Dispatch{{Delivery: target("w", "later").Delivery, Ahead: true}}
	table.take(b, later)
	b.pending++
	require.Equal(t, "later", table.answered("d0", true))
	require.Equal(t, []string{"d0"}, arrived(b))
	b.arrive(table.ready(b, later, []activities.Arrival{{DeliveryID: "later"}}))
	require.Equal(t, []string{"d0", "later"}, arrived(b))
	require.Zero(t, b.pending)
}

// Guards against deliveries that wait for a permit when no attempt is left to pass one on.
func TestStrandedDeliveriesAreReleased(t *testing.T) {
	t.Parallel()
	t.Run("no attempt is left", func(t *testing.T) {
		t.Parallel()
		table, b := claimedAhead(t, newClock(), 1, 2)
		require.Empty(t, table.removeStranded(false))
		table.drop("d0", b.workflowID)
		require.True(t, received(table.capacityFreed))
		require.ElementsMatch(t, []string{"d1", "d2"}, table.removeStranded(false))
		require.Zero(t, b.pending)
		require.Equal(t, table.total, table.available())
		claimed := []postrider.Dispatch{{Delivery: target("w", "d1").Delivery, Ahead: true}}
		require.Empty(t, table.ready(b, claimed, []activities.Arrival{{DeliveryID: "d1"}}), "a released delivery does not arrive later")
	})
	t.Run("the last attempt was answered before the claim", func(t *testing.T) {
		t.Parallel()
		table, b := claimedAhead(t, newClock(), 1, 0)
		require.Empty(t, table.answered("d0", true))
		received(table.capacityFreed)
		table.take(b, []postrider.Dispatch{{Delivery: target("w", "late").Delivery, Ahead: true}})
		require.True(t, received(table.capacityFreed))
		require.Equal(t, []string{"late"}, table.removeStranded(false))
	})
	t.Run("they have waited too long", func(t *testing.T) {
		t.Parallel()
		clock := newClock()
		table, _ := claimedAhead(t, clock, 1, 1)
		clock.advance(maxAheadWait + time.Millisecond)
		require.Equal(t, []string{"d1"}, table.removeStranded(false))
		require.Empty(t, table.answered("d0", true))
	})
	t.Run("the process stops", func(t *testing.T) {
		t.Parallel()
		table, _ := claimedAhead(t, newClock(), 1, 1)
		require.Equal(t, []string{"d1"}, table.removeStranded(true))
	})
}

// Guards against first attempts that pass their permits on for ever while a retry waits.
func TestRetryComesBeforeDeliveriesClaimedAhead(t *testing.T) {
	t.Parallel()
	table, _ := claimedAhead(t, newClock(), 12, 2)
	table.receivers["w"].maxInFlight = 12
	granted := table.enqueue(limitedTo(12, "retry"))
	require.False(t, received(granted))
	require.Zero(t, table.capacity(true).Receivers["w"].Ahead)
	require.Empty(t, table.answered("d0", true))
	table.done("d0")
	require.True(t, received(granted))
}

func TestClaimsAheadAreForQuickReceivers(t *testing.T) {
	t.Parallel()
	clock := newClock()
	table, b := claimedAhead(t, clock, 3, 2)
	require.Equal(t, postrider.ReceiverCapacity{
		Room: initialWindow + 10 - 3, Ahead: aheadPerAttempt, UnderWay: 3, Waiting: 2,
	}, table.capacity(true).Receivers["w"])
	require.Zero(t, table.capacity(false).Receivers["w"].Ahead, "the claim is for no batch that runs here")
	table.beganFirst(b, b.arrivals)
	table.answered("d0", false)
	require.Zero(t, table.capacity(true).Receivers["w"].Ahead, "it fails")
	table.answered("d1", true)
	require.NotZero(t, table.capacity(true).Receivers["w"].Ahead)
	clock.advance(time.Second)
	table.answered("d2", true)
	require.Zero(t, table.capacity(true).Receivers["w"].Ahead, "its answer took a second")
	firsts(table, "unknown", 1)
	require.Zero(t, table.capacity(true).Receivers["unknown"].Ahead)
	prove(t, table, "growing", 10)
	require.Zero(t, table.capacity(true).Receivers["growing"].Ahead, "its window still grows with each answer")
}

// limitedTo returns a target of a webhook w with such a max_in_flight.
func limitedTo(maxInFlight int, id string) postrider.Target {
	t := target("w", id)
	t.MaxInFlight = maxInFlight
	return t
}

// Guards against a delivery that is claimed ahead and released at once, over and over: it adds
// nothing to what goes on at its host, whose limit is reached.
func TestHostLimitLeavesWhatIsClaimedAhead(t *testing.T) {
	t.Parallel()
	table := newInflight(100, 1, newClock().now)
	b := newBatch("batch/1", table.now())
	kept, excess := table.take(b, []postrider.Dispatch{
		{Delivery: target("w", "d0").Delivery, URL: target("w", "").URL},
		{Delivery: target("w", "d1").Delivery, URL: target("w", "").URL},
		{Delivery: target("w", "ahead").Delivery, URL: target("w", "").URL, Ahead: true},
	})
	require.Len(t, kept, 2)
	require.Equal(t, "ahead", kept[1].ID)
	require.Len(t, excess, 1)
	require.Equal(t, "d1", excess[0].ID)
}
