package activities_test

import (
	"context"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
	"postrider.dev/postrider/activities"
	"postrider.dev/postrider/egress"
	"postrider.dev/postrider/signing"
)

// noPlace is a process that has none for an attempt.
func noPlace(ctx context.Context, _ postrider.Target) error {
	<-ctx.Done()
	return ctx.Err()
}

// script is a poster whose receivers answer as a test says, in virtual time: each
// delivery's after a while. It is asked for no network.
type script struct {
	now    func() time.Time
	takes  map[string]time.Duration // by delivery; 0 where it is not named
	status int
}

// Post implements [activities.Poster].
func (s *script) Post(ctx context.Context, request egress.Request) (postrider.Attempt, time.Duration, error) {
	made := postrider.Attempt{StartedAt: postrider.Timestamp(s.now()), Result: postrider.ResultServerError, StatusCode: &s.status}
	if s.status < http.StatusMultipleChoices {
		made.Result = postrider.ResultSuccess
	} else {
		reason := "status 502"
		made.Error = &reason
	}
	takes := s.takes[request.Header.Get(signing.HeaderDeliveryID)]
	ended, cancel := context.WithTimeout(ctx, min(takes, request.Timeout))
	defer cancel()
	<-ended.Done()
	made.DurationMS = min(takes, request.Timeout).Milliseconds()
	return made, 0, ctx.Err()
}

// inVirtualTime runs a test of a round in virtual time, on a real database, without a network.
func inVirtualTime(t *testing.T, change func(*postrider.Webhook), test func(*bench, *script)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		s := &script{now: b.now, status: http.StatusBadGateway}
		b.acts.Poster = s
		b.subscribe("https://example.com/hook", change)
		test(b, s)
	})
}

// Guards against a member that hangs holding up the others: they are with the dispatchers
// before they are due again.
func TestMembersLeaveOneThatHangs(t *testing.T) {
	t.Parallel()
	inVirtualTime(t, func(w *postrider.Webhook) { w.Policy.TimeoutMS = 30000 }, func(b *bench, s *script) {
		t := b.t
		members := b.handOver(3)
		hangs := members[0].DeliveryID
		s.takes = map[string]time.Duration{hangs: time.Minute}
		began := time.Now()
		reports, refused := b.round(members...)
		require.WithinDuration(t, began.Add(31*time.Second), time.Now(), 2*time.Second, "it takes its timeout")
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

// Those who have left are not attempted again, and those who cannot leave do not keep the
// round from its end.
func TestRoundEndsThoughNobodyCanLeave(t *testing.T) {
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

// Each attempt comes at its own time.
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

// Where there is no place, in the process or among the webhook's, the workflow keeps the
// delivery, and no attempt is used up.
func TestRetryThatFindsNoPlace(t *testing.T) {
	t.Parallel()
	for name, ofProcess := range map[string]bool{"in the process": true, "among the webhook's": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inVirtualTime(t, func(w *postrider.Webhook) { w.MaxInFlight = 1 }, func(b *bench, s *script) {
				t := b.t
				id := b.publish()
				b.deliver(id)
				var other string
				if ofProcess {
					b.reserve = noPlace
				} else {
					other = b.publish() // claimed, it holds the one place
				}
				b.begin(postrider.DeliveryWorkflowID(id))
				member := activities.RetryMember{DeliveryID: id, Known: 1}
				due := *b.delivery(id).NextAttemptAt
				for late := 10 * time.Second; late < 30*time.Second; late *= 2 {
					reports, refused := b.round(member)
					require.Equal(t, activities.ErrorNoPlace, refused.Type())
					require.False(t, refused.NonRetryable())
					require.Empty(t, reports[0].Attempts)
					require.False(t, reports[0].Left)
					half := time.Since(due) / 2
					require.InDelta(t, float64(half), float64(refused.NextRetryDelay()), float64(half)*0.26, "half of how late it is")
					kept := b.watched.kept[len(b.watched.kept)-1]
					require.Equal(t, id, kept.deliveryID)
					require.Equal(t, b.try.workflowID, kept.workflowID)
					require.WithinDuration(t, time.Now().Add(refused.NextRetryDelay()), kept.at, time.Second)
					require.Equal(t, b.try.workflowID, b.delivery(id).WorkflowID)
					require.Equal(t, 1, b.delivery(id).AttemptCount)
				}
				require.Empty(t, b.reports, "there is nothing to tell")

				s.status = http.StatusNoContent
				b.reserve = nil
				if other != "" {
					b.deliver(other)
				}
				reports, refused := b.round(member)
				require.Nil(t, refused)
				require.Equal(t, postrider.StateSucceeded, reports[0].State)
				require.Equal(t, []int{2}, numbers(reports[0]))
			})
		})
	}
}

// An attempt was made in the round, and another was not: the latter is asked for again
// before the former is due.
func TestRoundWhereNotAllFindAPlace(t *testing.T) {
	t.Parallel()
	inVirtualTime(t, func(w *postrider.Webhook) { w.Policy.BackoffMS = 60000 }, func(b *bench, _ *script) {
		t := b.t
		members := b.handOver(2)
		waits := members[1].DeliveryID
		b.reserve = func(ctx context.Context, target postrider.Target) error {
			if target.Delivery.ID == waits {
				return noPlace(ctx, target)
			}
			return nil
		}
		b.advance(time.Minute)
		reports, refused := b.round(members...)
		require.Equal(t, activities.ErrorAttemptFailed, refused.Type())
		require.Len(t, reportOf(t, reports, members[0].DeliveryID).Attempts, 1)
		require.Empty(t, reportOf(t, reports, waits).Attempts)
		require.Less(t, refused.NextRetryDelay(), 10*time.Second)
		require.Len(t, b.watched.kept, 1)
		require.Equal(t, waits, b.watched.kept[0].deliveryID)
	})
}

// What another workflow goes on with is no attempt of the round's.
func TestRoundWithoutAnAttemptFoundNoPlace(t *testing.T) {
	t.Parallel()
	inVirtualTime(t, nil, func(b *bench, _ *script) {
		t := b.t
		members := b.handOver(2)
		theirs, waits := members[0].DeliveryID, members[1].DeliveryID
		b.reserve = func(ctx context.Context, target postrider.Target) error {
			if target.Delivery.ID == waits {
				return noPlace(ctx, target)
			}
			return b.db.Leave(ctx, b.try.workflowID, []string{theirs})
		}
		reports, refused := b.round(members...)
		require.True(t, reportOf(t, reports, theirs).Left)
		require.False(t, reportOf(t, reports, waits).Left)
		require.Equal(t, activities.ErrorNoPlace, refused.Type())
		require.Equal(t, 1, b.delivery(theirs).AttemptCount)
	})
}
