package postrider_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"postrider.dev/postrider"
)

// TestCarriersAreToldApartByTheirIDs guards the prefixes, which are stored in the database and in
// Temporal: an older workflow must be recognised by a later build.
func TestCarriersAreToldApartByTheirIDs(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		id, want                         string
		firstAttemptsOnly, cancelledWith bool
	}{
		{postrider.DeliveryWorkflowID("dlv_1"), "delivery/dlv_1", false, true},
		{postrider.RetryWorkflowID("bat_1"), "retry/bat_1", false, true},
		{postrider.BatchWorkflowID("bat_1"), "batch/bat_1", true, false},
		{"postrider-maintenance", "postrider-maintenance", false, false},
		{"", "", false, false},
	} {
		require.Equal(t, c.want, c.id)
		require.Equal(t, c.firstAttemptsOnly, postrider.FirstAttemptsOnly(c.id), c.id)
		require.Equal(t, c.cancelledWith, postrider.CancelledWith(c.id), c.id)
	}
}

func TestDispatchIsAloneInItsOwnWorkflow(t *testing.T) {
	t.Parallel()
	dispatch := func(workflowID string) postrider.Dispatch {
		return postrider.Dispatch{Delivery: postrider.Delivery{ID: "dlv_1", WorkflowID: workflowID}}
	}
	require.True(t, dispatch(postrider.DeliveryWorkflowID("dlv_1")).Alone())
	require.False(t, dispatch(postrider.DeliveryWorkflowID("dlv_2")).Alone())
	require.False(t, dispatch(postrider.BatchWorkflowID("bat_1")).Alone())
	require.False(t, dispatch("").Alone())
}

func TestRoomAhead(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		receiver    postrider.ReceiverCapacity
		begin, want int
	}{
		"for each attempt under way":        {postrider.ReceiverCapacity{Ahead: 2, UnderWay: 3}, 0, 6},
		"for each attempt that begins, too": {postrider.ReceiverCapacity{Ahead: 2, UnderWay: 3}, 4, 14},
		"less those that wait":              {postrider.ReceiverCapacity{Ahead: 2, UnderWay: 3, Waiting: 5}, 0, 1},
		"never below zero":                  {postrider.ReceiverCapacity{Ahead: 2, UnderWay: 3, Waiting: 7}, 0, 0},
		"at most MaxAhead":                  {postrider.ReceiverCapacity{Ahead: 2, UnderWay: 1000}, 0, postrider.MaxAhead},
		"at most MaxAhead with those":       {postrider.ReceiverCapacity{Ahead: 2, UnderWay: 1000, Waiting: 56}, 0, postrider.MaxAhead - 56},
		"nothing for a receiver without it": {postrider.ReceiverCapacity{UnderWay: 10}, 10, 0},
	} {
		require.Equal(t, c.want, c.receiver.RoomAhead(c.begin), name)
	}
}

// TestClaimedAheadStaysBounded guards that repeated claims, each with the room that is left, never
// have more than MaxAhead deliveries of a webhook waiting.
func TestClaimedAheadStaysBounded(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		receiver := postrider.ReceiverCapacity{
			Ahead: rapid.IntRange(0, 8).Draw(t, "ahead"), UnderWay: rapid.IntRange(0, 2000).Draw(t, "under way"),
		}
		for range rapid.IntRange(1, 10).Draw(t, "claims") {
			begin := rapid.IntRange(0, 200).Draw(t, "begin")
			receiver.Waiting += receiver.RoomAhead(begin)
			receiver.UnderWay += begin
			require.LessOrEqual(t, receiver.Waiting, postrider.MaxAhead)
			require.LessOrEqual(t, receiver.Waiting, receiver.Ahead*receiver.UnderWay)
		}
	})
}

func TestOutcomeFinishesWithItsAttempt(t *testing.T) {
	t.Parallel()
	zone := time.FixedZone("CET", 3600)
	outcome := postrider.Outcome{Attempt: postrider.Attempt{
		StartedAt: time.Date(2026, 8, 1, 12, 0, 0, 123456789, zone), DurationMS: 1500,
	}}
	require.Equal(t, time.Date(2026, 8, 1, 11, 0, 1, 623456000, time.UTC), outcome.FinishedAt(), "UTC, in whole microseconds")
}
