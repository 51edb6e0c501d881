package worker

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
	"postrider.dev/postrider/activities"
)

// Guards against a slot that is lost when it is granted in the moment in which its retry stops
// waiting: either the retry has the slot, or the slot is free.
func TestGrantedSlotIsNotLostToACancelledWait(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 100 { // the select of two ready channels chooses at random
		table := newInflight(10, 0, newClock().now)
		require.NoError(t, table.reserve(ctx, target("w", "r")))
		require.Equal(t, 1, table.receivers["w"].inFlight())
		table.done("r")
		require.Equal(t, table.total, table.available())
	}
}

// Guards against slots that are counted twice when a lease expired and a second claim returns
// the delivery while the first slot is still taken.
func TestReclaimedDeliveryHasOneSlot(t *testing.T) {
	t.Parallel()
	for name, ahead := range map[string]bool{"with a permit": false, "claimed ahead": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			table := newInflight(10, 0, newClock().now)
			claimed := []postrider.Dispatch{{Delivery: target("w", "d").Delivery, Ahead: ahead}}
			first, second := newBatch("batch/1", table.now()), newBatch("batch/2", table.now())
			first.pending = 1
			table.take(first, claimed)
			claimed[0].Ahead = false
			kept, excess := table.take(second, claimed)
			require.Len(t, kept, 1)
			require.Empty(t, excess)
			require.Equal(t, 1, table.receivers["w"].inFlight())
			require.Equal(t, table.total-1, table.available())
			require.Zero(t, table.ahead)
			if ahead {
				require.Zero(t, first.pending, "the first batch does not wait for it")
			}
			table.drop("d", first.workflowID)
			require.Equal(t, table.total-1, table.available(), "the slot is the second batch's")
			table.drop("d", second.workflowID)
			require.Equal(t, table.total, table.available())
		})
	}
}

// Guards against a first attempt's slot that another workflow's activity marks as begun.
func TestAttemptBeginsOnlyInItsOwnBatch(t *testing.T) {
	t.Parallel()
	table := newInflight(10, 0, newClock().now)
	firsts(table, "w", 1)
	arrivals := []activities.Arrival{{DeliveryID: "w_first_0"}, {DeliveryID: "unknown"}}
	table.beganFirst(newBatch("batch/other", table.now()), arrivals)
	require.Empty(t, table.receivers["w"].begunAt)
	table.beganFirst(table.slots["w_first_0"].batch, arrivals)
	require.Len(t, table.receivers["w"].begunAt, 1)
}

// Guards against slots that are freed although no other worker can have made the attempt: it
// has begun here, it waits for its permit, or its workflow is not started yet.
func TestRemoteAttemptsAreToldFromOwn(t *testing.T) {
	t.Parallel()
	c := newClock()
	table := newInflight(10, 0, c.now)
	b := newBatch("batch/1", c.now())
	var claimed []postrider.Dispatch
	for _, id := range []string{"begun", "ahead", "remote", "recorded"} {
		claimed = append(claimed, postrider.Dispatch{Delivery: target("w", id).Delivery, Ahead: id == "ahead"})
	}
	table.take(b, claimed)
	table.take(newBatch("batch/2", c.now()), []postrider.Dispatch{{Delivery: target("w", "not started").Delivery}})
	table.started(b)
	table.beganFirst(b, []activities.Arrival{{DeliveryID: "begun"}})
	c.advance(reapInterval)
	require.Empty(t, table.startedElsewhere(reapInterval), "Temporal gets the time to give the workflow to this process")
	c.advance(time.Millisecond)
	require.ElementsMatch(t, []string{"remote", "recorded"}, table.startedElsewhere(reapInterval))

	table.dropUnleased([]string{"begun", "remote", "recorded"}, []string{"remote"})
	require.Contains(t, table.slots, "begun", "it began while the database was read")
	require.Contains(t, table.slots, "remote")
	require.NotContains(t, table.slots, "recorded")
}

// A retry has no lease: it frees its slot itself, however long it waits for its permit.
func TestRetryKeepsItsSlotWhenLeasesExpire(t *testing.T) {
	t.Parallel()
	c := newClock()
	table := newInflight(10, 0, c.now)
	require.True(t, received(table.enqueue(target("w", "r"))))
	c.advance(2 * Lease)
	table.expire()
	require.Contains(t, table.slots, "r")
}

// Guards against claims that pause although a permit was passed on and capacity is free.
func TestPassedPermitWakesTheClaimOfASaturatedReceiver(t *testing.T) {
	t.Parallel()
	for name, saturated := range map[string]bool{"saturated": true, "not saturated": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			table, _ := claimedAhead(t, newClock(), 2, 3)
			table.receivers["w"].saturated = saturated
			received(table.capacityFreed)
			received(table.slotFreed)
			require.Equal(t, "d2", table.answered("d0", true))
			require.True(t, received(table.slotFreed))
			require.Equal(t, saturated, received(table.capacityFreed))
		})
	}
}

// Guards max_in_flight, and the window that a slow answer has narrowed: no permit is passed on
// while the receiver has more attempts than it may have.
func TestPermitIsNotPassedOnBeyondTheAllowance(t *testing.T) {
	t.Parallel()
	table, _ := claimedAhead(t, newClock(), 4, 1)
	table.setMaxInFlight([]postrider.Target{limitedTo(3, "any"), {Delivery: target("unknown", "any").Delivery, MaxInFlight: 1}})
	require.NotContains(t, table.receivers, "unknown")
	require.Empty(t, table.answered("d0", true), "four attempts are in flight")
	table.done("d0")
	require.Equal(t, "d4", table.answered("d1", true))
}

// Guards against claims that never use capacity again after they left some, and against claims
// that follow each other without a pause when nothing is due.
func TestReceiverIsSaturatedUntilAClaimLeavesCapacity(t *testing.T) {
	t.Parallel()
	table := newInflight(100, 0, newClock().now)
	claim := func(n, limit int) (more bool) {
		capacity := table.capacity(true)
		claimed := make([]postrider.Dispatch, n)
		for i := range claimed {
			claimed[i].Delivery = target("w", fmt.Sprint("d", len(table.slots), i)).Delivery
		}
		more = table.noteClaim(claimed, postrider.ClaimRequest{Limit: limit, Capacity: &capacity})
		table.take(newBatch("batch/1", table.now()), claimed)
		return more
	}
	require.False(t, claim(initialWindow-1, 100), "the receiver had capacity for one more")
	require.True(t, claim(1, 100), "it has used up its capacity")
	require.True(t, table.receivers["w"].saturated)
	require.False(t, claim(0, 100))
	require.True(t, table.receivers["w"].saturated, "it had no capacity that the claim could leave")
	for id := range table.slots {
		table.done(id)
	}
	require.True(t, claim(2, 2), "the claim had its limit")
	require.True(t, table.receivers["w"].saturated)
	require.False(t, claim(0, 100), "the claim left capacity")
	require.False(t, table.receivers["w"].saturated)
}

// A claim that only claimed ahead says nothing about the capacity for attempts that begin.
func TestClaimAheadAloneSaturatesNoReceiver(t *testing.T) {
	t.Parallel()
	table, _ := claimedAhead(t, newClock(), 2, 0)
	capacity := table.capacity(true)
	ahead := []postrider.Dispatch{{Delivery: target("w", "d9").Delivery, Ahead: true}}
	require.False(t, table.noteClaim(ahead, postrider.ClaimRequest{Limit: 10, Capacity: &capacity}))
	require.False(t, table.receivers["w"].saturated)
}

// Guards the limit by host against URLs that changed and URLs that do not parse.
func TestHostFollowsTheWebhooksURL(t *testing.T) {
	t.Parallel()
	table := newInflight(100, 1, newClock().now)
	require.Equal(t, "a.example.com:8443", table.limitOf("w", "https://user:secret@a.example.com:8443/hook").host)
	require.Equal(t, "b.example.com", table.limitOf("w", "https://b.example.com/hook").host)
	require.Equal(t, "b.example.com", table.limitOf("w", "").host, "the claim did not read the URL")
	require.Equal(t, "https://%zz", table.limitOf("odd", "https://%zz").host)
}

// Guards against a delivery that is claimed long before its workflow can be started, and
// against a start that is made after the shutdown.
func TestStartWaitsForAToken(t *testing.T) {
	t.Parallel()
	d := NewDispatcher(DispatcherConfig{InFlight: 1, Now: newClock().now})
	ended, release := make(chan error), make(chan struct{})
	began := make(chan struct{}, maxStarting)
	for range maxStarting {
		go func() {
			ended <- d.start(t.Context(), func(ctx context.Context) error {
				if _, bounded := ctx.Deadline(); !bounded {
					return errors.New("the start has no timeout")
				}
				began <- struct{}{}
				<-release
				return nil
			})
		}()
	}
	for range maxStarting {
		<-began
	}
	require.Zero(t, d.queued.Load())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := d.start(ctx, func(context.Context) error {
		t.Error("it was started")
		return nil
	})
	require.ErrorIs(t, err, context.Canceled)
	require.Zero(t, d.queued.Load())
	close(release)
	for range maxStarting {
		require.NoError(t, <-ended)
	}
	require.Empty(t, d.starting)
}

func TestClaimAsksForNoMoreThanItsWorkflowsCarry(t *testing.T) {
	t.Parallel()
	c := newClock()
	d := NewDispatcher(DispatcherConfig{InFlight: 1000, Now: c.now, IDs: postrider.NewIDs(c.now, rand.Reader)})
	alone := d.claimRequest(nil)
	require.Equal(t, maxOwn, alone.Limit)
	require.Empty(t, alone.WorkflowID)

	b := newBatch("batch/1", c.now())
	request := d.claimRequest(b)
	require.Equal(t, maxBatch, request.Limit)
	require.Equal(t, "batch/1", request.WorkflowID)
	require.True(t, postrider.FirstAttemptsOnly(request.SlowWorkflowID))
	require.NotEqual(t, request.WorkflowID, request.SlowWorkflowID)
	b.size = maxBatch - 3
	require.Equal(t, 3, d.claimRequest(b).Limit)

	firsts(d.inflight, "w", 998)
	require.Equal(t, 2, d.claimRequest(nil).Limit, "two slots are free")
}

// Deliveries of one workflow stay in the order of the claim, which is fair across webhooks.
func TestClaimedDeliveriesKeepTheirOrderInTheirWorkflow(t *testing.T) {
	t.Parallel()
	var claimed []postrider.Dispatch
	for _, pair := range [][2]string{{"a", "1"}, {"b", "2"}, {"a", "3"}, {"b", "4"}, {"c", "5"}} {
		claimed = append(claimed, postrider.Dispatch{Delivery: postrider.Delivery{WorkflowID: pair[0], ID: pair[1]}})
	}
	var ids [][]string
	for _, group := range byWorkflow(claimed) {
		var members []string
		for _, d := range group {
			require.Equal(t, group[0].WorkflowID, d.WorkflowID)
			members = append(members, d.ID)
		}
		ids = append(ids, members)
	}
	require.Equal(t, [][]string{{"1", "3"}, {"2", "4"}, {"5"}}, ids)
}

func TestRateForgetsWithTime(t *testing.T) {
	t.Parallel()
	c := newClock()
	var r rate
	require.Zero(t, r.add(0, c.now()))
	require.InDelta(t, 10, r.add(10, c.now()), 0)
	c.advance(time.Second)
	require.InDelta(t, 3.68, r.add(0, c.now()), 0.01)
	c.advance(-time.Hour)
	require.InDelta(t, 3.68, r.add(0, c.now()), 0.01, "a clock that was set back changes nothing")
	c.advance(time.Minute)
	require.Less(t, r.add(0, c.now()), 0.001)
}

// Guards the latency of single deliveries: claims linger only at high rates, and briefly.
func TestClaimsLingerAtHighRates(t *testing.T) {
	t.Parallel()
	for claimed, want := range map[int]time.Duration{0: -time.Millisecond, 100: 0, 200: time.Millisecond, 5000: longestLinger} {
		c := newClock()
		d := NewDispatcher(DispatcherConfig{InFlight: 1, Now: c.now})
		d.claims.add(claimed, c.now())
		require.InDelta(t, float64(want), float64(d.linger()), float64(time.Microsecond), claimed)
	}
}
