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

// Guards against members that wait for one which is due much later, and against a late one that
// is attempted too early.
func TestMemberThatIsDueMuchLaterLeaves(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	b.answer(http.StatusBadGateway)
	members := b.handOver(4)
	within, beyond := members[1].DeliveryID, members[2].DeliveryID
	// The others wait 2 s.
	b.answerEach(map[string]http.HandlerFunc{within: tooMany(3), beyond: tooMany(60)})
	b.advance(time.Second)
	reports, refused := b.round(members...)
	require.LessOrEqual(t, refused.NextRetryDelay(), 2*time.Second)
	for _, report := range reports {
		require.Equal(t, report.DeliveryID == beyond, report.Left)
		require.Equal(t, postrider.StateRetrying, report.State)
		require.Len(t, report.Attempts, 1)
	}
	require.Len(t, b.watched.left, 1)
	require.Equal(t, beyond, b.watched.left[0].deliveryID)
	require.Equal(t, b.try.workflowID, b.watched.left[0].workflowID)
	require.Equal(t, []activities.Reports{reports}, b.reports, "the workflow was told")

	made, err := b.db.ClaimRetries(t.Context(), postrider.HandoverRequest{Limit: 10, Lease: time.Minute})
	require.NoError(t, err)
	require.Len(t, made, 1)
	require.Equal(t, beyond, made[0].Deliveries[0].ID)
	require.WithinDuration(t, b.now().Add(time.Minute), *made[0].Deliveries[0].NextAttemptAt, 20*time.Second)
	b.advance(refused.NextRetryDelay())
	reports, _ = b.round(members...)
	require.True(t, reportOf(t, reports, beyond).Left)
	require.Equal(t, 2, b.delivery(beyond).AttemptCount, "another workflow makes its attempts")
	require.Equal(t, 3, b.delivery(members[0].DeliveryID).AttemptCount)
}

// When the database refuses, a member stays and is attempted with the others.
func TestMembersThatCannotLeaveStay(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	b.answer(http.StatusBadGateway)
	members := b.handOver(2)
	b.answerEach(map[string]http.HandlerFunc{members[0].DeliveryID: tooMany(60)})
	b.watched.away = func(call, _ string) error {
		if call == "leave" {
			return errAway
		}
		return nil
	}
	b.advance(time.Second)
	reports, refused := b.round(members...)
	require.False(t, reports[0].Left)
	require.False(t, reports[1].Left)
	require.LessOrEqual(t, refused.NextRetryDelay(), 2*time.Second)
}

// Guards against two workflows that attempt one delivery, whether the delivery went to the other
// one before the round or during it.
func TestMemberThatAnotherWorkflowCarriesIsNotAttempted(t *testing.T) {
	t.Parallel()
	for name, during := range map[string]bool{"before the round": false, "during the round": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, nil)
			b.answer(http.StatusBadGateway)
			members := b.handOver(2)
			b.answer(http.StatusNoContent)
			theirs := members[0].DeliveryID
			moveOn := func() {
				require.NoError(t, b.db.Leave(t.Context(), b.try.workflowID, []string{theirs}))
				made, err := b.db.ClaimRetries(t.Context(), postrider.HandoverRequest{Limit: 10, Lease: time.Minute})
				require.NoError(t, err)
				require.Len(t, made, 1)
			}
			if !during {
				moveOn()
			}
			b.watched.away = func(call, id string) error {
				if during && call == "permit" && id == theirs {
					moveOn()
				}
				return nil
			}
			b.advance(time.Second)
			reports, refused := b.round(members...)
			require.Nil(t, refused)
			report := reportOf(t, reports, theirs)
			require.True(t, report.Left)
			require.Equal(t, postrider.StateRetrying, report.State)
			require.Empty(t, report.Attempts)
			require.Equal(t, postrider.StateSucceeded, reportOf(t, reports, members[1].DeliveryID).State)
			require.Len(t, b.requests, 3)
			require.Equal(t, 1, b.delivery(theirs).AttemptCount)
			require.NotEqual(t, b.try.workflowID, b.delivery(theirs).WorkflowID)
		})
	}
}

// Guards against a hanging member that delays the others: they leave before they are due again.
func TestMembersLeaveOneThatHangs(t *testing.T) {
	t.Parallel()
	inVirtualTime(t, func(w *postrider.Webhook) { w.TimeoutMS = 30000 }, func(b *bench, s *script) {
		t := b.t
		members := b.handOver(3)
		hangs := members[0].DeliveryID
		s.takes = map[string]time.Duration{hangs: time.Minute}
		began := time.Now()
		reports, refused := b.round(members...)
		require.WithinDuration(t, began.Add(31*time.Second), time.Now(), 2*time.Second, "the hanging attempt takes its timeout")
		require.Equal(t, activities.ErrorAttemptFailed, refused.Type())
		require.LessOrEqual(t, refused.NextRetryDelay(), 2*time.Second)
		require.Len(t, b.watched.left, 2)
		for i, m := range members {
			report := reportOf(t, reports, m.DeliveryID)
			require.Len(t, report.Attempts, 1)
			require.Equal(t, postrider.StateRetrying, report.State)
			require.Equal(t, i > 0, report.Left)
		}
		for _, left := range b.watched.left {
			require.Equal(t, b.try.workflowID, left.workflowID)
			next := b.delivery(left.deliveryID).NextAttemptAt
			require.WithinDuration(t, began.Add(3*time.Second), *next, time.Second)
			require.WithinDuration(t, next.Add(-150*time.Millisecond), left.at, 50*time.Millisecond)
		}
		made, err := b.db.ClaimRetries(t.Context(), postrider.HandoverRequest{Limit: 10, Lease: time.Minute})
		require.NoError(t, err)
		require.Len(t, made, 1)
		require.Len(t, made[0].Deliveries, 2)
	})
}

// Guards against a round that asks the database again and again while an attempt hangs.
func TestRoundEndsAlthoughNoMemberCanLeave(t *testing.T) {
	t.Parallel()
	inVirtualTime(t, nil, func(b *bench, s *script) {
		t := b.t
		members := b.handOver(3)
		s.takes = map[string]time.Duration{members[0].DeliveryID: time.Minute}
		asked := 0
		b.watched.away = func(call, _ string) error {
			if call == "leave" {
				asked++
				return context.DeadlineExceeded
			}
			return nil
		}
		reports, refused := b.round(members...)
		require.Equal(t, activities.ErrorAttemptFailed, refused.Type())
		require.LessOrEqual(t, refused.NextRetryDelay(), time.Nanosecond, "the others are late")
		for _, report := range reports {
			require.False(t, report.Left)
			require.Equal(t, 2, b.delivery(report.DeliveryID).AttemptCount)
		}
		require.LessOrEqual(t, asked, 2)
	})
}

func TestAttemptsOfARoundComeAtTheirTimes(t *testing.T) {
	t.Parallel()
	inVirtualTime(t, nil, func(b *bench, s *script) {
		t := b.t
		s.takes = map[string]time.Duration{}
		claimed := b.publishBatch(3)
		for i, id := range claimed {
			s.takes[id] = time.Duration(i) * 300 * time.Millisecond
		}
		_, err := b.acts.Deliver(t.Context(), together(claimed...))
		require.NoError(t, err)
		made, err := b.db.ClaimRetries(t.Context(), postrider.HandoverRequest{Limit: 10, Lease: time.Minute})
		require.NoError(t, err)
		require.Len(t, made, 1)
		b.begin(made[0].WorkflowID)
		s.takes = nil
		reports, refused := b.round(activities.RetryMember{DeliveryID: claimed[2], Known: 1},
			activities.RetryMember{DeliveryID: claimed[0], Known: 1}, activities.RetryMember{DeliveryID: claimed[1], Known: 1})
		require.Equal(t, claimed[2], reports[0].DeliveryID, "in the order asked")
		for i, d := range made[0].Deliveries {
			require.Equal(t, claimed[i], d.ID)
			report := reportOf(t, reports, d.ID)
			require.False(t, report.Left)
			require.WithinRange(t, report.Attempts[0].StartedAt, *d.NextAttemptAt, d.NextAttemptAt.Add(50*time.Millisecond))
		}
		first := reportOf(t, reports, claimed[0]).NextAttemptAt
		require.Equal(t, time.Until(*first).Round(time.Millisecond), refused.NextRetryDelay().Round(time.Millisecond), "the shortest wait")
	})
}

// Guards against one delivery that cannot be attempted here, such as one whose secret cannot be
// decrypted, and holds up the others of its workflow. It is no attempt: nothing is recorded.
func TestTargetWithAFailureIsItsOwnTrouble(t *testing.T) {
	t.Parallel()
	broken := func(id *string) func(*postrider.Target) {
		return func(target *postrider.Target) {
			if target.Delivery.ID == *id {
				target.Failure = errAway
			}
		}
	}
	t.Run("first attempts", func(t *testing.T) {
		t.Parallel()
		b := setup(t, nil)
		b.answer(http.StatusOK)
		ids := b.publishBatch(3)
		b.watched.change = broken(&ids[1])
		_, err := b.acts.Deliver(t.Context(), together(ids...))
		require.ErrorIs(t, err, errAway)
		for i, want := range []postrider.DeliveryState{postrider.StateSucceeded, postrider.StateDelivering, postrider.StateSucceeded} {
			require.Equal(t, want, b.delivery(ids[i]).State)
		}
		require.Zero(t, b.delivery(ids[1]).AttemptCount)
		require.Len(t, b.requests, 2)
	})
	t.Run("retries", func(t *testing.T) {
		t.Parallel()
		b := setup(t, nil)
		b.answer(http.StatusBadGateway)
		members := b.handOver(3)
		b.answer(http.StatusOK)
		b.watched.change = broken(&members[1].DeliveryID)
		b.advance(2 * time.Second)
		b.fails(members...)
		for i, want := range []postrider.DeliveryState{postrider.StateSucceeded, postrider.StateRetrying, postrider.StateSucceeded} {
			require.Equal(t, want, b.delivery(members[i].DeliveryID).State)
		}
		require.Equal(t, 1, b.delivery(members[1].DeliveryID).AttemptCount)
	})
}
