package worker

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
)

// target returns the target of a delivery, with the highest max_in_flight.
func target(webhookID, deliveryID string) postrider.Target {
	return postrider.Target{
		Delivery: postrider.Delivery{ID: deliveryID, WebhookID: webhookID}, URL: "https://" + webhookID + ".example.com",
		MaxInFlight: postrider.MaxMaxInFlight,
	}
}

// prove lets a receiver give a number of quick answers.
func prove(t *testing.T, table *inflight, webhookID string, answers int) {
	t.Helper()
	for range answers {
		require.True(t, received(table.enqueue(target(webhookID, "proof"))))
		table.beganRetry("proof")
		table.done("proof")
	}
}

func received(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// firsts gives slots to n first attempts of a webhook, after a claim that left more of them.
func firsts(table *inflight, webhookID string, n int) {
	capacity := table.capacity(true)
	claimed := make([]postrider.Dispatch, n)
	for i := range claimed {
		claimed[i].Delivery = target(webhookID, fmt.Sprint(webhookID, "_first_", i)).Delivery
		claimed[i].URL = target(webhookID, "").URL
	}
	table.noteClaim(claimed, postrider.ClaimRequest{Limit: n, Capacity: &capacity})
	table.take(newBatch("batch/1", table.now()), claimed)
}

func TestRetriesGetSlotsInTheirOrder(t *testing.T) {
	t.Parallel()
	table := newInflight(1000, 0, newClock().now)
	var granted []chan struct{}
	for i := range initialWindow + 3 {
		granted = append(granted, table.enqueue(target("w", fmt.Sprint("r", i))))
	}
	for i, slot := range granted {
		require.Equal(t, i < initialWindow, received(slot), i)
	}
	table.beganRetry("r1")
	table.done("r1") // the freed slot, and one more for the quick answer
	for i, slot := range granted {
		require.Equal(t, i < initialWindow+2, received(slot), i)
	}
	table.done("r_of_another_process")
	require.False(t, received(granted[initialWindow+2]))
}

func TestAbandonedRetryLeavesTheQueue(t *testing.T) {
	t.Parallel()
	table := newInflight(1000, 0, newClock().now)
	for i := range initialWindow {
		require.NoError(t, table.reserve(t.Context(), target("w", fmt.Sprint("r", i))))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, table.reserve(ctx, target("w", "abandoned")), context.Canceled)
	next := table.enqueue(target("w", "next"))
	require.False(t, received(next))
	require.Len(t, table.receivers["w"].retryQueue, 1)
	table.done("r0")
	require.True(t, received(next))
	require.NotContains(t, table.slots, "abandoned")
	require.Empty(t, table.waiting)
}

// Guards against a retry that holds two slots after a second try, and frees only one.
func TestRetryHasOneSlot(t *testing.T) {
	t.Parallel()
	table := newInflight(1000, 0, newClock().now)
	require.True(t, received(table.enqueue(target("w", "r"))))
	require.True(t, received(table.enqueue(target("w", "r"))))
	require.Equal(t, 1, table.receivers["w"].inFlight())
	table.done("r")
	table.done("r")
	require.Zero(t, table.receivers["w"].inFlight())
	require.Equal(t, table.total, table.available())
}

func TestRetriesKeepToMaxInFlight(t *testing.T) {
	t.Parallel()
	table := newInflight(1000, 0, newClock().now)
	prove(t, table, "w", 10)
	require.True(t, received(table.enqueue(limitedTo(2, "r0"))))
	require.True(t, received(table.enqueue(limitedTo(2, "r1"))))
	require.False(t, received(table.enqueue(limitedTo(2, "r2"))))
}

func TestFirstAttemptsAndRetriesShareTheWindow(t *testing.T) {
	t.Parallel()
	const window = initialWindow + 6
	t.Run("first attempts wait", func(t *testing.T) {
		t.Parallel()
		table := newInflight(1000, 0, newClock().now)
		prove(t, table, "w", window-initialWindow)
		firsts(table, "w", 1)
		for i := range window {
			require.Equal(t, i < window/2, received(table.enqueue(target("w", fmt.Sprint("r", i)))), i)
		}
		require.Equal(t, window/2-1, table.capacity(true).Receivers["w"].Room)
	})
	t.Run("retries wait", func(t *testing.T) {
		t.Parallel()
		table := newInflight(1000, 0, newClock().now)
		prove(t, table, "w", window-initialWindow)
		firsts(table, "w", window)
		var granted []chan struct{}
		for i := range window {
			granted = append(granted, table.enqueue(target("w", fmt.Sprint("r", i))))
		}
		require.Zero(t, table.capacity(true).Receivers["w"].Room)
		for i := range window / 2 { // the retries get the freed slots
			table.done(fmt.Sprint("w_first_", i))
		}
		for i, slot := range granted[:window/2] {
			require.True(t, received(slot), i)
		}
		require.False(t, received(granted[window-1]))
	})
	t.Run("neither waits", func(t *testing.T) {
		t.Parallel()
		table := newInflight(1000, 0, newClock().now)
		prove(t, table, "w", window-initialWindow)
		for i := range window {
			require.True(t, received(table.enqueue(target("w", fmt.Sprint("r", i)))), i)
		}
	})
}

// Guards against retries that wait for ever because another receiver's attempt freed the slot.
func TestRetryGetsASlotThatAnotherReceiverFreed(t *testing.T) {
	t.Parallel()
	table := newInflight(8, 0, newClock().now)
	for _, id := range []string{"a", "b", "c"} {
		prove(t, table, id, 10)
	}
	firsts(table, "a", 8)
	require.Zero(t, table.available())
	b, c := table.enqueue(target("b", "b_retry")), table.enqueue(target("c", "c_retry"))
	require.False(t, received(b) || received(c))
	table.done("a_first_0")
	require.NotEqual(t, received(b), received(c), "one slot for one of them")
	table.drop("a_first_1", "batch/1")
	require.True(t, received(b) && received(c))
}

func TestUnprovenReceiversShareAQuarterOfTheSlots(t *testing.T) {
	t.Parallel()
	table := newInflight(32, 0, newClock().now)
	var granted []chan struct{}
	for i := range 6 {
		granted = append(granted, table.enqueue(target(fmt.Sprint("w", i/2), fmt.Sprint("r", i))))
	}
	firsts(table, "other", 2)
	for i, slot := range granted {
		require.True(t, received(slot), i)
	}
	require.Zero(t, table.capacity(true).Unproven)
	late := table.enqueue(target("late", "late"))
	require.False(t, received(late))
	table.beganRetry("r0")
	table.done("r0") // w0 is proven now, so its attempts leave the quarter
	require.True(t, received(late))
	require.Equal(t, 1, table.capacity(true).Unproven)
}

func TestSlowReceiverIsRecognised(t *testing.T) {
	t.Parallel()
	c := newClock()
	table := newInflight(1000, 0, c.now)
	prove(t, table, "w", 8)
	require.Equal(t, postrider.ReceiverCapacity{Room: initialWindow + 8}, table.capacity(true).Receivers["w"])
	firsts(table, "w", 4)
	c.advance(slowAfter + time.Second)
	require.False(t, table.capacity(true).Receivers["w"].Slow, "no attempt has begun")

	for i := range 6 {
		require.True(t, received(table.enqueue(target("w", fmt.Sprint("r", i)))))
		table.beganRetry(fmt.Sprint("r", i))
	}
	c.advance(slowAfter + 2*time.Second)
	require.True(t, table.capacity(true).Receivers["w"].Slow, "its attempts take long")
	for i := range 6 {
		table.done(fmt.Sprint("r", i))
	}
	known := table.capacity(true).Receivers["w"]
	require.True(t, known.Slow, "its answers took long")
	require.True(t, known.Unproven)
	require.Equal(t, initialWindow, table.receivers["w"].window)
	for i := range 4 {
		table.drop(fmt.Sprint("w_first_", i), "batch/1")
	}
	prove(t, table, "w", 5)
	require.False(t, table.capacity(true).Receivers["w"].Slow, "it has recovered")
}

func TestHostsAreLimited(t *testing.T) {
	t.Parallel()
	table := newInflight(1000, 2, newClock().now)
	at := func(webhookID, deliveryID string) postrider.Target {
		sameHost := target(webhookID, deliveryID)
		sameHost.URL = "https://example.com/" + webhookID
		return sameHost
	}
	require.Equal(t, 2, table.capacity(true).Unknown)
	require.True(t, received(table.enqueue(at("a", "a1"))))
	require.True(t, received(table.enqueue(at("b", "b1"))))
	a := table.enqueue(at("a", "a2"))
	require.False(t, received(a))
	require.Zero(t, table.capacity(true).Receivers["b"].Room)
	claimed := postrider.Dispatch{Delivery: postrider.Delivery{ID: "c1", WebhookID: "c"}, URL: "https://example.com/c"}
	other := postrider.Dispatch{Delivery: postrider.Delivery{ID: "d1", WebhookID: "d"}, URL: "https://example.com:8443/d"}
	kept, excess := table.take(newBatch("batch/1", table.now()), []postrider.Dispatch{claimed, other})
	require.Equal(t, []postrider.Dispatch{other}, kept)
	require.Equal(t, []postrider.Dispatch{claimed}, excess)
	table.done("b1")
	require.True(t, received(a))
}

// Guards against slots that are never freed when another process lost the delivery.
func TestSlotsEndWithTheirLeases(t *testing.T) {
	t.Parallel()
	c := newClock()
	table := newInflight(10, 0, c.now)
	firsts(table, "w", 3)
	require.Equal(t, 7, table.available())
	c.advance(Lease)
	table.expire()
	require.Equal(t, 7, table.available())
	c.advance(time.Second)
	table.expire()
	require.Equal(t, 10, table.available())
	require.Zero(t, table.receivers["w"].inFlight())
}

// Guards against a table that grows with every webhook.
func TestIdleReceiversAreForgotten(t *testing.T) {
	t.Parallel()
	table := newInflight(10, 0, newClock().now)
	firsts(table, "busy", 1)
	for i := range 2 * maxReceivers {
		table.limitOf(fmt.Sprint("w", i), "")
	}
	require.LessOrEqual(t, len(table.receivers), maxReceivers)
	require.Contains(t, table.receivers, "busy")
}
