package worker

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
)

func of(webhookID, deliveryID string) postrider.Target {
	return postrider.Target{
		Delivery: postrider.Delivery{ID: deliveryID, WebhookID: webhookID}, URL: "https://" + webhookID + ".example.com",
		MaxInFlight: postrider.MaxMaxInFlight,
	}
}

// prove lets a receiver answer quickly so often.
func prove(t *testing.T, table *inflight, webhookID string, answers int) {
	t.Helper()
	for range answers {
		require.True(t, hasTurn(table.queue(of(webhookID, "proof"))))
		table.began("proof")
		table.done("proof")
	}
}

func hasTurn(turn <-chan struct{}) bool {
	select {
	case <-turn:
		return true
	default:
		return false
	}
}

// firsts lets so many first attempts of a webhook have places, as a claim did that left more.
func firsts(table *inflight, webhookID string, n int) {
	capacity := table.capacity(true)
	claimed := make([]postrider.Dispatch, n)
	for i := range claimed {
		claimed[i].Delivery = of(webhookID, fmt.Sprint(webhookID, "_first_", i)).Delivery
		claimed[i].URL = of(webhookID, "").URL
	}
	table.took(claimed, postrider.ClaimRequest{Limit: n, Capacity: &capacity})
	table.take(newBatch("batch/1", table.now()), claimed)
}

func TestRetriesWaitInTheirOrder(t *testing.T) {
	t.Parallel()
	table := newInflight(1000, 0, newClock().now)
	var turns []chan struct{}
	for i := range firstWindow + 3 {
		turns = append(turns, table.queue(of("w", fmt.Sprint("r", i))))
	}
	for i, turn := range turns {
		require.Equal(t, i < firstWindow, hasTurn(turn), i)
	}
	table.began("r1")
	table.done("r1") // its place, and one more for the quick answer
	for i, turn := range turns {
		require.Equal(t, i < firstWindow+2, hasTurn(turn), i)
	}
	table.done("r_of_another_process")
	require.False(t, hasTurn(turns[firstWindow+2]))
}

func TestRetryThatIsGivenUpLeavesTheQueue(t *testing.T) {
	t.Parallel()
	table := newInflight(1000, 0, newClock().now)
	for i := range firstWindow {
		require.NoError(t, table.reserve(t.Context(), of("w", fmt.Sprint("r", i))))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, table.reserve(ctx, of("w", "given up")), context.Canceled)
	next := table.queue(of("w", "next"))
	require.False(t, hasTurn(next))
	require.Len(t, table.receivers["w"].retryQueue, 1)
	table.done("r0")
	require.True(t, hasTurn(next))
	require.NotContains(t, table.slots, "given up")
	require.Empty(t, table.waiting)
}

// Guards against a place that two tries of a retry hold, of which one is never freed.
func TestRetryHasOnePlace(t *testing.T) {
	t.Parallel()
	table := newInflight(1000, 0, newClock().now)
	require.True(t, hasTurn(table.queue(of("w", "r"))))
	require.True(t, hasTurn(table.queue(of("w", "r"))))
	require.Equal(t, 1, table.receivers["w"].under())
	table.done("r")
	table.done("r")
	require.Zero(t, table.receivers["w"].under())
	require.Equal(t, table.total, table.free())
}

func TestRetriesKeepToTheWebhooksLimit(t *testing.T) {
	t.Parallel()
	table := newInflight(1000, 0, newClock().now)
	prove(t, table, "w", 10)
	limited := func(id string) postrider.Target {
		target := of("w", id)
		target.MaxInFlight = 2
		return target
	}
	require.True(t, hasTurn(table.queue(limited("r0"))))
	require.True(t, hasTurn(table.queue(limited("r1"))))
	require.False(t, hasTurn(table.queue(limited("r2"))))
}

func TestFirstAttemptsAndRetriesLeaveEachOtherHalf(t *testing.T) {
	t.Parallel()
	const window = firstWindow + 6
	t.Run("first attempts that want more", func(t *testing.T) {
		t.Parallel()
		table := newInflight(1000, 0, newClock().now)
		prove(t, table, "w", window-firstWindow)
		firsts(table, "w", 1)
		for i := range window {
			require.Equal(t, i < window/2, hasTurn(table.queue(of("w", fmt.Sprint("r", i)))), i)
		}
		require.Equal(t, window/2-1, table.capacity(true).Receivers["w"].Room)
	})
	t.Run("retries that wait", func(t *testing.T) {
		t.Parallel()
		table := newInflight(1000, 0, newClock().now)
		prove(t, table, "w", window-firstWindow)
		firsts(table, "w", window)
		var turns []chan struct{}
		for i := range window {
			turns = append(turns, table.queue(of("w", fmt.Sprint("r", i))))
		}
		require.Zero(t, table.capacity(true).Receivers["w"].Room)
		for i := range window / 2 { // what comes free is theirs
			table.done(fmt.Sprint("w_first_", i))
		}
		for i, turn := range turns[:window/2] {
			require.True(t, hasTurn(turn), i)
		}
		require.False(t, hasTurn(turns[window-1]))
	})
	t.Run("neither", func(t *testing.T) {
		t.Parallel()
		table := newInflight(1000, 0, newClock().now)
		prove(t, table, "w", window-firstWindow)
		for i := range window {
			require.True(t, hasTurn(table.queue(of("w", fmt.Sprint("r", i)))), i)
		}
	})
}

// Guards against retries that wait for good since the place they need was another's.
func TestRetriesWaitForPlacesOfOthers(t *testing.T) {
	t.Parallel()
	table := newInflight(8, 0, newClock().now)
	for _, id := range []string{"a", "b", "c"} {
		prove(t, table, id, 10)
	}
	firsts(table, "a", 8)
	require.Zero(t, table.free())
	b, c := table.queue(of("b", "b_retry")), table.queue(of("c", "c_retry"))
	require.False(t, hasTurn(b) || hasTurn(c))
	table.done("a_first_0")
	require.NotEqual(t, hasTurn(b), hasTurn(c), "one place, one of them")
	table.drop("a_first_1", "batch/1")
	require.True(t, hasTurn(b) && hasTurn(c))
}

func TestUnprovenReceiversShareAQuarter(t *testing.T) {
	t.Parallel()
	table := newInflight(32, 0, newClock().now)
	var turns []chan struct{}
	for i := range 6 {
		turns = append(turns, table.queue(of(fmt.Sprint("w", i/2), fmt.Sprint("r", i))))
	}
	firsts(table, "other", 2)
	for i, turn := range turns {
		require.True(t, hasTurn(turn), i)
	}
	require.Zero(t, table.capacity(true).Unproven)
	late := table.queue(of("late", "late"))
	require.False(t, hasTurn(late))
	table.began("r0")
	table.done("r0") // w0 is proven now, and its attempts are no part of the quarter
	require.True(t, hasTurn(late))
	require.Equal(t, 1, table.capacity(true).Unproven)
}

func TestReceiverIsSlow(t *testing.T) {
	t.Parallel()
	c := newClock()
	table := newInflight(1000, 0, c.now)
	prove(t, table, "w", 8)
	require.Equal(t, postrider.ReceiverCapacity{Room: firstWindow + 8}, table.capacity(true).Receivers["w"])
	firsts(table, "w", 4)
	c.advance(slowAfter + time.Second)
	require.False(t, table.capacity(true).Receivers["w"].Slow, "none of them has begun")

	for i := range 6 {
		require.True(t, hasTurn(table.queue(of("w", fmt.Sprint("r", i)))))
		table.began(fmt.Sprint("r", i))
	}
	c.advance(slowAfter + 2*time.Second)
	require.True(t, table.capacity(true).Receivers["w"].Slow, "they take long")
	for i := range 6 {
		table.done(fmt.Sprint("r", i))
	}
	known := table.capacity(true).Receivers["w"]
	require.True(t, known.Slow, "it took long")
	require.True(t, known.Unproven)
	require.Equal(t, firstWindow, table.receivers["w"].window)
	for i := range 4 {
		table.drop(fmt.Sprint("w_first_", i), "batch/1")
	}
	prove(t, table, "w", 5)
	require.False(t, table.capacity(true).Receivers["w"].Slow, "it recovered")
}

func TestHostsAreLimited(t *testing.T) {
	t.Parallel()
	table := newInflight(1000, 2, newClock().now)
	at := func(webhookID, deliveryID string) postrider.Target {
		target := of(webhookID, deliveryID)
		target.URL = "https://example.com/" + webhookID
		return target
	}
	require.Equal(t, 2, table.capacity(true).Unknown)
	require.True(t, hasTurn(table.queue(at("a", "a1"))))
	require.True(t, hasTurn(table.queue(at("b", "b1"))))
	a := table.queue(at("a", "a2"))
	require.False(t, hasTurn(a))
	require.Zero(t, table.capacity(true).Receivers["b"].Room)
	claimed := postrider.Dispatch{Delivery: postrider.Delivery{ID: "c1", WebhookID: "c"}, URL: "https://example.com/c"}
	other := postrider.Dispatch{Delivery: postrider.Delivery{ID: "d1", WebhookID: "d"}, URL: "https://example.com:8443/d"}
	kept, over := table.take(newBatch("batch/1", table.now()), []postrider.Dispatch{claimed, other})
	require.Equal(t, []postrider.Dispatch{other}, kept)
	require.Equal(t, []postrider.Dispatch{claimed}, over)
	table.done("b1")
	require.True(t, hasTurn(a))
}

// Guards against places that are gone for good with the process that had the delivery.
func TestPlacesEndWithTheirLeases(t *testing.T) {
	t.Parallel()
	c := newClock()
	table := newInflight(10, 0, c.now)
	firsts(table, "w", 3)
	require.Equal(t, 7, table.free())
	c.advance(Lease)
	table.expire()
	require.Equal(t, 7, table.free())
	c.advance(time.Second)
	table.expire()
	require.Equal(t, 10, table.free())
	require.Zero(t, table.receivers["w"].under())
}

// Guards against a table that grows with every webhook there ever was.
func TestIdleReceiversAreForgotten(t *testing.T) {
	t.Parallel()
	table := newInflight(10, 0, newClock().now)
	firsts(table, "busy", 1)
	for i := range 2 * maxReceivers {
		table.receiverOf(fmt.Sprint("w", i), "")
	}
	require.LessOrEqual(t, len(table.receivers), maxReceivers)
	require.Contains(t, table.receivers, "busy")
}
