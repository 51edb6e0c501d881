package activities_test

import (
	"bytes"
	"context"
	"log/slog"
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

// noSlot is a process without a free slot.
func noSlot(ctx context.Context, _ postrider.Target) error {
	<-ctx.Done()
	return ctx.Err()
}

// script is a poster whose receivers answer as a test says, without a network and in virtual
// time.
type script struct {
	now    func() time.Time
	takes  map[string]time.Duration // by delivery; 0 for others
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

// inVirtualTime runs a test in virtual time, on a real database and without a network.
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

// Guards rate_limit: a retry waits for the time that comes with its permit.
func TestRetryWaitsForItsTimeUnderTheRateLimit(t *testing.T) {
	t.Parallel()
	rate := 5
	b := setup(t, func(w *postrider.Webhook) { w.RateLimit, w.BackoffMS = &rate, 100 })
	b.answer(http.StatusBadGateway)
	id := b.publish()
	b.deliver(id)
	b.answer(http.StatusNoContent)
	before := time.Now()
	turn, err := b.db.AcquirePermit(t.Context(), postrider.PermitRequest{
		DeliveryID: id, WebhookID: b.webhook.ID, WorkflowID: postrider.DeliveryWorkflowID(id), Hold: time.Minute, MaxWait: time.Minute,
	})
	require.NoError(t, err)
	require.True(t, turn.Granted)
	report, failed := b.retry(id)
	require.Nil(t, failed)
	require.Equal(t, postrider.StateSucceeded, report.State)
	next := before.Add(turn.Wait + time.Second/time.Duration(rate)).Add(-time.Millisecond) // stored times are rounded
	if turn.Wait == 0 {
		next = next.Add(-100 * time.Millisecond) // the rate catches up after a late request
	}
	require.False(t, b.requests[1].at.Before(next))
}

// A retry gets the permit of a first attempt as soon as that has ended.
func TestRetryWaitsForAPermit(t *testing.T) {
	t.Parallel()
	b := setup(t, func(w *postrider.Webhook) { w.MaxInFlight, w.BackoffMS = 1, 3000 })
	b.answer(http.StatusBadGateway)
	id := b.publish()
	b.deliver(id)
	b.answer(http.StatusNoContent)
	other := b.publish() // its claim holds the only permit
	asked := 0
	b.watched.away = attemptOnSecondRequest(b, other, &asked)
	report, failed := b.retry(id)
	require.Nil(t, failed)
	require.Equal(t, postrider.StateSucceeded, report.State)
	require.Equal(t, 2, asked, "it asked again")
	require.Equal(t, []string{id, other, id}, b.sent("postrider-delivery-id"))
}

// attemptOnSecondRequest makes the other delivery's attempt during the second request for a permit.
func attemptOnSecondRequest(b *bench, other string, asked *int) func(call, id string) error {
	return func(call, _ string) error {
		if call != "permit" {
			return nil
		}
		if *asked++; *asked == 2 {
			_, err := b.acts.Deliver(b.t.Context(), alone(other))
			return err
		}
		return nil
	}
}

// A retry that gets no slot or no permit uses up no attempt, and stays in its workflow.
func TestRetryWithoutASlotOrPermitIsPostponed(t *testing.T) {
	t.Parallel()
	for name, noFreeSlot := range map[string]bool{"slot": true, "permit": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inVirtualTime(t, func(w *postrider.Webhook) { w.MaxInFlight = 1 }, func(b *bench, s *script) {
				t := b.t
				id := b.publish()
				b.deliver(id)
				var other string
				if noFreeSlot {
					b.reserve = noSlot
				} else {
					other = b.publish() // its claim holds the only permit
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
				require.Empty(t, b.reports, "no attempt was made")

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

// A postponed member is tried again before the next attempt of the others is due.
func TestPostponedMemberDoesNotWaitForTheOthers(t *testing.T) {
	t.Parallel()
	inVirtualTime(t, func(w *postrider.Webhook) { w.BackoffMS = 60000 }, func(b *bench, _ *script) {
		t := b.t
		members := b.handOver(2)
		waits := members[1].DeliveryID
		b.reserve = func(ctx context.Context, target postrider.Target) error {
			if target.Delivery.ID == waits {
				return noSlot(ctx, target)
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

// Guards the error's type, on which the workflow relies: a round without an attempt has not
// failed an attempt, even if another workflow took a member over.
func TestRoundWithoutAnAttemptSaysSo(t *testing.T) {
	t.Parallel()
	inVirtualTime(t, nil, func(b *bench, _ *script) {
		t := b.t
		members := b.handOver(2)
		theirs, waits := members[0].DeliveryID, members[1].DeliveryID
		b.reserve = func(ctx context.Context, target postrider.Target) error {
			if target.Delivery.ID == waits {
				return noSlot(ctx, target)
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

// Guards against permits that block a webhook after a shutdown: a retry that waits for its time
// under the rate limit gives its permit back.
func TestShutdownDuringTheWaitReleasesThePermit(t *testing.T) {
	t.Parallel()
	inVirtualTime(t, nil, func(b *bench, _ *script) {
		members := b.handOver(1)
		b.watched.permit = func(permit postrider.Permit) postrider.Permit {
			require.True(b.t, permit.Granted)
			permit.Wait = time.Minute
			b.stop()
			return permit
		}
		b.try.number++
		_, err := b.env.ExecuteActivity(b.acts.Retry, activities.RetryInput{Members: members})
		require.ErrorContains(b.t, err, context.Canceled.Error())
		require.Equal(b.t, []string{members[0].DeliveryID}, b.watched.released)
		require.Equal(b.t, 1, b.delivery(members[0].DeliveryID).AttemptCount)
	})
}

// Guards against an internal failure that hides another: the round fails with the first one, and
// its permit expires.
func TestPermitThatCannotBeReleasedIsLogged(t *testing.T) {
	t.Parallel()
	inVirtualTime(t, nil, func(b *bench, _ *script) {
		members := b.handOver(1)
		logged := &bytes.Buffer{}
		b.acts.Logger = slog.New(slog.NewTextHandler(logged, &slog.HandlerOptions{Level: slog.LevelWarn}))
		b.watched.away = func(call, _ string) error {
			if call == "record" || call == "release" {
				return errAway
			}
			return nil
		}
		b.fails(members...)
		require.Contains(b.t, logged.String(), "could not release a permit; it will expire")
		require.Contains(b.t, logged.String(), members[0].DeliveryID)
	})
}

// Guards against a workflow that gives a postponed delivery up when the database cannot note
// that it still carries the delivery.
func TestPostponedDeliveryIsTriedAgainAfterAFailure(t *testing.T) {
	t.Parallel()
	inVirtualTime(t, nil, func(b *bench, s *script) {
		members := b.handOver(1)
		b.reserve = noSlot
		b.watched.away = func(call, _ string) error {
			if call == "keep" {
				return errAway
			}
			return nil
		}
		_, refused := b.round(members...)
		require.Equal(b.t, activities.ErrorNoPlace, refused.Type())
		require.False(b.t, refused.NonRetryable())
		require.Positive(b.t, refused.NextRetryDelay())
		b.reserve, b.watched.away, s.status = nil, nil, http.StatusNoContent
		reports, refused := b.round(members...)
		require.Nil(b.t, refused)
		require.Equal(b.t, postrider.StateSucceeded, reports[0].State)
	})
}
