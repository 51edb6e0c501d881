package activities_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
	"postrider.dev/postrider/activities"
)

// Guards the catch-up: a round reports the attempts of the round before exactly if that could not
// report them.
func TestRoundReportsForTheRoundBefore(t *testing.T) {
	t.Parallel()
	for name, deaf := range map[string]bool{"reported": false, "not reported": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, nil)
			b.answer(http.StatusBadGateway)
			members := b.handOver(2)
			b.deaf = deaf
			b.advance(time.Second)
			_, refused := b.round(members...)
			require.Len(t, b.reports, 1)
			require.Equal(t, deaf, b.beat == nil)
			b.deaf = false
			b.advance(refused.NextRetryDelay())
			reports, _ := b.round(members...)
			want := []int{3}
			if deaf {
				want = []int{2, 3}
			}
			for _, report := range reports {
				require.Equal(t, want, numbers(report))
			}
			require.NotNil(t, b.beat)
		})
	}
}

// An older heartbeat says nothing about the round before, which may have died.
func TestOnlyTheHeartbeatOfTheRoundBeforeCounts(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	b.answer(http.StatusBadGateway)
	members := b.handOver(2)
	b.advance(time.Second)
	_, refused := b.round(members...)
	b.advance(refused.NextRetryDelay())
	b.try.number++ // a round that died before it made an attempt
	reports, _ := b.round(members...)
	for _, report := range reports {
		require.Equal(t, []int{2, 3}, numbers(report), "more than the workflow knew when it scheduled the activity")
		require.Nil(t, report.Attempts[0].ResponseExcerpt, "no response text goes to Temporal")
	}
	b.watched.away = func(call, _ string) error {
		if call == "attempts" {
			return errAway
		}
		return nil
	}
	b.beat = reports // not a heartbeat of a round
	b.env.SetHeartbeatDetails(b.beat)
	b.fails(members...)
}

// Guards the difference between a receiver's failure and an internal one, which is no attempt.
func TestInternalFailureInARound(t *testing.T) {
	t.Parallel()
	for _, call := range []string{"targets", "permit", "record"} {
		t.Run(call, func(t *testing.T) {
			t.Parallel()
			b := setup(t, nil)
			b.answer(http.StatusBadGateway)
			members := b.handOver(2)
			b.answer(http.StatusNoContent)
			b.advance(time.Second)
			b.watched.away = func(c, _ string) error {
				if c == call {
					return errAway
				}
				return nil
			}
			b.fails(members...)
			require.Equal(t, 1, b.delivery(members[0].DeliveryID).AttemptCount)
			require.Equal(t, 1, b.delivery(members[1].DeliveryID).AttemptCount)
			require.Equal(t, call == "record", len(b.requests) > 2, "only a failed record comes after the request")

			b.watched.away = nil
			b.requests = nil
			reports, refused := b.round(members...)
			require.Nil(t, refused)
			for _, report := range reports {
				require.Equal(t, postrider.StateSucceeded, report.State)
				require.Equal(t, []int{2}, numbers(report))
			}
			require.Equal(t, []string{"2", "2"}, b.sent("postrider-attempt"))
		})
	}
}

// A shutdown is no attempt either, and leaves no slot and no permit taken.
func TestShutdownInARoundIsNoAttempt(t *testing.T) {
	t.Parallel()
	b := setup(t, func(w *postrider.Webhook) { w.MaxInFlight = 1 })
	b.answer(http.StatusBadGateway)
	members := b.handOver(1)
	b.answerBy(func(_ http.ResponseWriter, r *http.Request) { b.stop(); <-r.Context().Done() })
	b.advance(time.Second)
	b.try.number++
	_, err := b.env.ExecuteActivity(b.acts.Retry, activities.RetryInput{Members: members})
	require.ErrorContains(t, err, context.Canceled.Error())
	d := b.delivery(members[0].DeliveryID)
	require.Equal(t, 1, d.AttemptCount)
	require.Equal(t, b.try.workflowID, d.WorkflowID)
	require.Empty(t, b.reports)
	b.publish() // its claim gets the only permit
	require.Len(t, b.done, 2, "its slot is free, too")
}

// Guards against an internal failure for one member that stops the others.
func TestInternalFailureOfOneMemberStopsNoOther(t *testing.T) {
	t.Parallel()
	for _, call := range []string{"permit", "record"} {
		t.Run(call, func(t *testing.T) {
			t.Parallel()
			b := setup(t, nil)
			b.answer(http.StatusBadGateway)
			members := b.handOver(3)
			b.answer(http.StatusNoContent)
			broken := members[1].DeliveryID
			b.watched.away = func(c, id string) error {
				if c == call && id == broken {
					return errAway
				}
				return nil
			}
			b.advance(time.Second)
			b.fails(members...)
			require.Equal(t, postrider.StateSucceeded, b.delivery(members[0].DeliveryID).State)
			require.Equal(t, postrider.StateSucceeded, b.delivery(members[2].DeliveryID).State)
			require.Equal(t, 1, b.delivery(broken).AttemptCount)
			require.Len(t, b.reports, 1, "the others were reported")

			b.watched.away = nil
			reports, refused := b.round(members...)
			require.Nil(t, refused)
			require.Equal(t, postrider.StateSucceeded, reportOf(t, reports, broken).State)
		})
	}
}
