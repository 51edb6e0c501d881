package worker

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
	"postrider.dev/postrider/activities"
)

// crowded is a table with a proven receiver, of whose deliveries so many have places and so
// many were claimed ahead for a batch, and the batch.
func crowded(t *testing.T, c *clock, begin, ahead int) (*inflight, *batch) {
	t.Helper()
	table := newInflight(100, 0, c.now)
	prove(t, table, "w", 10)
	table.receivers["w"].limit = firstWindow + 10
	b := newBatch("batch/1", c.now())
	var claimed []postrider.Dispatch
	var arrivals []activities.Arrival
	for i := range begin + ahead {
		id := fmt.Sprint("d", i)
		claimed = append(claimed, postrider.Dispatch{Delivery: of("w", id).Delivery, URL: of("w", "").URL, Ahead: i >= begin})
		arrivals = append(arrivals, activities.Arrival{DeliveryID: id})
	}
	kept, over := table.take(b, claimed)
	require.Equal(t, claimed, kept)
	require.Empty(t, over)
	b.pending = len(kept)
	b.arrive(table.withPlaces(b, claimed, arrivals))
	return table, b
}

func arrived(b *batch) []string {
	ids := []string{}
	for _, a := range b.arrivals {
		ids = append(ids, a.DeliveryID)
	}
	return ids
}

func TestAnAnsweredAttemptHandsItsPlaceOn(t *testing.T) {
	t.Parallel()
	clock := newClock()
	table, b := crowded(t, clock, 2, 3)
	require.Equal(t, []string{"d0", "d1"}, arrived(b))
	table.begin(b, b.arrivals)
	require.Equal(t, "d2", table.answered("d1"))
	require.Equal(t, "d3", table.answered("d0"))
	require.Equal(t, []string{"d0", "d1", "d2", "d3"}, arrived(b))
	require.Equal(t, 2, table.receivers["w"].under(), "as many as before")
	require.Equal(t, 1, b.pending)
	require.Empty(t, table.answered("d0"), "an attempt is answered once")
	table.done("d0")
	table.done("d1")
	require.Equal(t, 2, table.receivers["w"].under())

	require.Equal(t, "d4", table.answered("d2"))
	require.Empty(t, table.answered("d4"), "nobody waits")
	require.Equal(t, 2, table.receivers["w"].under(), "its place is free when it is recorded")
	table.done("d4")
	table.done("d3")
	require.Zero(t, table.receivers["w"].under())
	require.Zero(t, b.pending)
	require.Equal(t, table.total, table.free())
	require.Zero(t, table.ahead)
}

// Guards against a delivery that has its place before it was read, and arrives twice or never.
func TestAPlaceMayComeBeforeTheDeliveryIsRead(t *testing.T) {
	t.Parallel()
	clock := newClock()
	table, b := crowded(t, clock, 1, 0)
	later := []postrider.Dispatch{{Delivery: of("w", "later").Delivery, Ahead: true}}
	table.take(b, later)
	b.pending++
	require.Equal(t, "later", table.answered("d0"))
	require.Equal(t, []string{"d0"}, arrived(b))
	b.arrive(table.withPlaces(b, later, []activities.Arrival{{DeliveryID: "later"}}))
	require.Equal(t, []string{"d0", "later"}, arrived(b))
	require.Zero(t, b.pending)
}

// Guards against deliveries that wait for a place that nobody is left to hand on.
func TestWhatIsStrandedIsGivenBack(t *testing.T) {
	t.Parallel()
	t.Run("nobody is left", func(t *testing.T) {
		t.Parallel()
		table, b := crowded(t, newClock(), 1, 2)
		require.Empty(t, table.takeStranded(false))
		table.drop("d0", b.workflowID)
		require.True(t, hasTurn(table.wanted))
		require.ElementsMatch(t, []string{"d1", "d2"}, table.takeStranded(false))
		require.Zero(t, b.pending)
		require.Equal(t, table.total, table.free())
		claimed := []postrider.Dispatch{{Delivery: of("w", "d1").Delivery, Ahead: true}}
		require.Empty(t, table.withPlaces(b, claimed, []activities.Arrival{{DeliveryID: "d1"}}), "nor does it arrive, once it is read")
	})
	t.Run("the last one was answered before", func(t *testing.T) {
		t.Parallel()
		table, b := crowded(t, newClock(), 1, 0)
		require.Empty(t, table.answered("d0"))
		hasTurn(table.wanted)
		table.take(b, []postrider.Dispatch{{Delivery: of("w", "late").Delivery, Ahead: true}})
		require.True(t, hasTurn(table.wanted))
		require.Equal(t, []string{"late"}, table.takeStranded(false))
	})
	t.Run("they have waited for too long", func(t *testing.T) {
		t.Parallel()
		clock := newClock()
		table, _ := crowded(t, clock, 1, 1)
		clock.advance(aheadPatience + time.Millisecond)
		require.Equal(t, []string{"d1"}, table.takeStranded(false))
		require.Empty(t, table.answered("d0"))
	})
	t.Run("the process ends", func(t *testing.T) {
		t.Parallel()
		table, _ := crowded(t, newClock(), 1, 1)
		require.Equal(t, []string{"d1"}, table.takeStranded(true))
	})
}

// Guards against first attempts that hand their places on for ever while a retry waits.
func TestRetriesGoAheadOfWhatWasClaimedAhead(t *testing.T) {
	t.Parallel()
	table, _ := crowded(t, newClock(), 12, 2)
	table.receivers["w"].limit = 12
	turn := table.queue(limitedTo(12, "retry"))
	require.False(t, hasTurn(turn))
	require.Zero(t, table.capacity(true).Receivers["w"].Ahead)
	require.Empty(t, table.answered("d0"))
	table.done("d0")
	require.True(t, hasTurn(turn))
}

func TestOnlyQuickReceiversAreClaimedAheadFor(t *testing.T) {
	t.Parallel()
	clock := newClock()
	table, b := crowded(t, clock, 3, 2)
	require.Equal(t, postrider.ReceiverCapacity{Room: firstWindow + 10 - 3, Ahead: aheadOfEach, UnderWay: 3, Waiting: 2}, table.capacity(true).Receivers["w"])
	require.Zero(t, table.capacity(false).Receivers["w"].Ahead)
	table.begin(b, b.arrivals)
	clock.advance(time.Second)
	table.answered("d0")
	require.Zero(t, table.capacity(true).Receivers["w"].Ahead, "it took a second")
	firsts(table, "unknown", 1)
	require.Zero(t, table.capacity(true).Receivers["unknown"].Ahead)
	prove(t, table, "growing", 10)
	require.Zero(t, table.capacity(true).Receivers["growing"].Ahead, "it gets more places as it answers")
}

func limitedTo(limit int, id string) postrider.Target {
	target := of("w", id)
	target.MaxInFlight = limit
	return target
}
