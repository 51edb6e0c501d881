package activities_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
	"postrider.dev/postrider/activities"
)

// reportOf returns the report of a delivery.
func reportOf(t *testing.T, reports activities.Reports, id string) activities.Report {
	t.Helper()
	at := slices.IndexFunc(reports, func(r activities.Report) bool { return r.DeliveryID == id })
	require.GreaterOrEqual(t, at, 0)
	return reports[at]
}

// answerEach answers the requests of each delivery named in its way, and others with 502.
func (b *bench) answerEach(of map[string]http.HandlerFunc) {
	b.answerBy(func(w http.ResponseWriter, r *http.Request) {
		if respond := of[r.Header.Get("postrider-delivery-id")]; respond != nil {
			respond(w, r)
			return
		}
		w.WriteHeader(http.StatusBadGateway)
	})
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

// tooMany answers with a Retry-After of so many seconds.
func tooMany(seconds int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", strconv.Itoa(seconds))
		w.WriteHeader(http.StatusTooManyRequests)
	}
}

// exhaust makes rounds, each when Temporal would, until no delivery waits for another
// attempt, and returns how many it were.
func (b *bench) exhaust(members []activities.RetryMember) int {
	b.t.Helper()
	for rounds := 1; ; rounds++ {
		require.Less(b.t, rounds, 50)
		reports, refused := b.round(members...)
		require.Equal(b.t, activities.ErrorAttemptFailed, refused.Type())
		require.False(b.t, refused.NonRetryable(), "Temporal's policy is what ends it")
		waits := false
		for _, report := range reports {
			require.False(b.t, report.Left)
			waits = waits || !report.State.Finished()
		}
		if !waits {
			require.Zero(b.t, refused.NextRetryDelay())
			return rounds
		}
		require.Positive(b.t, refused.NextRetryDelay())
		b.advance(refused.NextRetryDelay())
	}
}

// max_retries is the number of attempts after the first, however many are made together.
func TestAttemptsOfADeliveryThatNeverSucceeds(t *testing.T) {
	t.Parallel()
	for _, retries := range []int{0, 3, 10} {
		for _, together := range []int{0, 1, 3} { // 0: one that stays with its own workflow
			t.Run(fmt.Sprintf("%d retries of %d", retries, together), func(t *testing.T) {
				t.Parallel()
				b := setup(t, func(w *postrider.Webhook) { w.Policy.MaxRetries, w.Policy.BackoffMS = retries, 5000 })
				b.answer(http.StatusBadGateway)
				members := b.afterFirstAttempts(together, retries)
				if retries > 0 {
					b.advance(5 * time.Second)
					require.Equal(t, retries, b.exhaust(members))
				}
				require.Len(t, b.requests, len(members)*(1+retries))
				for _, m := range members {
					d := b.delivery(m.DeliveryID)
					require.Equal(t, postrider.StateFailed, d.State)
					require.Equal(t, 1+retries, d.AttemptCount)
				}
				_, waits, err := b.db.NextDue(t.Context())
				require.NoError(t, err)
				require.False(t, waits, "nothing is left in the outbox")
			})
		}
	}
}

// afterFirstAttempts makes the first attempts of so many deliveries, or of one in its own
// workflow, and begins the activity of the retries, if there are to be any.
func (b *bench) afterFirstAttempts(n, retries int) []activities.RetryMember {
	b.t.Helper()
	switch {
	case n == 0:
		id := b.publish()
		b.deliver(id)
		b.begin(postrider.DeliveryWorkflowID(id))
		return []activities.RetryMember{{DeliveryID: id, Known: 1}}
	case retries > 0:
		return b.handOver(n)
	}
	members := make([]activities.RetryMember, n)
	for i, id := range b.publishBatch(n) {
		members[i] = activities.RetryMember{DeliveryID: id, Known: 1}
	}
	in := activities.DeliverInput{WorkflowID: batchID}
	_, err := b.acts.Deliver(b.t.Context(), in)
	require.NoError(b.t, err)
	return members
}

func TestWaitsDoubleWithJitter(t *testing.T) {
	t.Parallel()
	const backoff = 5 * time.Second
	draws := []int64{0, 1000, 300, 500, 900, 0, 1000, 100, 700, 500} // thousandths
	b := setup(t, func(w *postrider.Webhook) { w.Policy.MaxRetries, w.Policy.BackoffMS = 10, int(backoff.Milliseconds()) })
	b.answer(http.StatusBadGateway)
	id := b.publish()
	b.random.Store(draws[0])
	report := b.deliver(id)
	b.begin(postrider.DeliveryWorkflowID(id))
	for number := 1; ; number++ {
		d := b.delivery(id)
		require.Equal(t, number, d.AttemptCount)
		last := report.Attempts[len(report.Attempts)-1]
		wait := d.NextAttemptAt.Sub(last.StartedAt.Add(time.Duration(last.DurationMS) * time.Millisecond))
		middle := backoff << (number - 1)
		require.InDelta(t, float64(middle)*(0.8+0.4*float64(draws[number-1])/1000), float64(wait), float64(time.Millisecond))
		require.GreaterOrEqual(t, wait, middle*8/10-time.Millisecond)
		require.LessOrEqual(t, wait, middle*12/10+time.Millisecond)
		if number == 10 {
			break
		}
		b.advance(d.NextAttemptAt.Sub(b.now()))
		b.random.Store(draws[number])
		reports, refused := b.round(activities.RetryMember{DeliveryID: id, Known: 1})
		report = reports[0]
		next := backoff << number
		require.LessOrEqual(t, refused.NextRetryDelay(), next*12/10)
		require.Greater(t, refused.NextRetryDelay(), next/2, "from the answer on")
	}
}

// Guards Retry-After: the round's delay is what the receiver asked for, and a try that
// Temporal makes sooner makes no attempt.
func TestRetryAfterIsKept(t *testing.T) {
	t.Parallel()
	b := setup(t, func(w *postrider.Webhook) { w.Policy.BackoffMS = 1000 })
	b.answerBy(tooMany(120))
	id := b.publish()
	require.WithinDuration(t, time.Now().Add(2*time.Minute), *b.deliver(id).NextAttemptAt, 30*time.Second)
	b.advance(2 * time.Minute)
	b.begin(postrider.DeliveryWorkflowID(id))
	member := activities.RetryMember{DeliveryID: id, Known: 1}
	_, refused := b.round(member)
	require.Greater(t, refused.NextRetryDelay(), 90*time.Second)
	require.LessOrEqual(t, refused.NextRetryDelay(), 2*time.Minute)
	b.advance(time.Minute)
	reports, refused := b.round(member)
	require.Len(t, b.requests, 2)
	require.Empty(t, reports[0].Attempts)
	require.Greater(t, refused.NextRetryDelay(), 20*time.Second)
	require.LessOrEqual(t, refused.NextRetryDelay(), time.Minute)
	require.False(t, refused.NonRetryable())
}

func TestGoneEndsTheRetriesOfAll(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	b.answer(http.StatusBadGateway)
	members := b.handOver(3)
	gone := members[1].DeliveryID
	b.answerEach(map[string]http.HandlerFunc{gone: status(http.StatusGone)})
	b.advance(time.Second)
	reports, refused := b.round(members...)
	require.False(t, refused.NonRetryable(), "the others wait still")
	require.Equal(t, postrider.StateFailed, reportOf(t, reports, gone).State)
	require.Len(t, b.requests, 6)

	// The webhook is disabled by that: the others are called off, for which they need no place.
	b.reserve = noPlace
	b.watched.away = func(call, _ string) error {
		require.NotEqual(t, "permit", call)
		return nil
	}
	b.advance(refused.NextRetryDelay())
	reports, refused = b.round(members...)
	require.True(t, refused.NonRetryable(), "Temporal has tries left, and nothing is left to try")
	for _, report := range reports {
		require.Equal(t, postrider.StateFailed, report.State)
		if report.DeliveryID != gone {
			require.Equal(t, postrider.ResultCancelled, report.Attempts[0].Result)
		}
	}
	require.Len(t, b.requests, 6, "a disabled webhook gets no request")
}

func TestAllThatSucceedEndTheActivity(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	b.answer(http.StatusBadGateway)
	members := b.handOver(3)
	late := members[2].DeliveryID
	b.answerEach(map[string]http.HandlerFunc{members[0].DeliveryID: status(http.StatusOK), members[1].DeliveryID: status(http.StatusOK)})
	b.advance(time.Second)
	reports, refused := b.round(members...)
	require.Equal(t, postrider.StateRetrying, reportOf(t, reports, late).State)
	require.Equal(t, postrider.StateSucceeded, reportOf(t, reports, members[0].DeliveryID).State)
	b.answer(http.StatusOK)
	b.advance(refused.NextRetryDelay())
	reports, refused = b.round(members...)
	require.Nil(t, refused)
	for _, report := range reports {
		require.Equal(t, postrider.StateSucceeded, report.State)
	}
	require.Len(t, b.requests, 3+3+1, "who has succeeded gets no other request")
	require.Equal(t, b.sent("postrider-delivery-id")[6], late)
	require.Len(t, b.reports, 1, "the end of the activity tells the rest")
}

// The others cannot wait so long for one, nor it for so many rounds of theirs.
func TestMembersBeyondTheSpanLeave(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	b.answer(http.StatusBadGateway)
	members := b.handOver(4)
	within, beyond := members[1].DeliveryID, members[2].DeliveryID
	// The others wait for 2 s.
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
	require.Equal(t, 2, b.delivery(beyond).AttemptCount, "it is the other's")
	require.Equal(t, 3, b.delivery(members[0].DeliveryID).AttemptCount)
}

// Should they not get away, they are attempted with the others.
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

// Guards against two workflows that make the attempts of one delivery: one that another
// carries by now, before the round or since its beginning, gets no request.
func TestMemberOfAnotherWorkflowStandsBack(t *testing.T) {
	t.Parallel()
	for name, since := range map[string]bool{"before": false, "since its beginning": true} {
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
			if !since {
				moveOn()
			}
			b.watched.away = func(call, id string) error {
				if since && call == "permit" && id == theirs {
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

// Guards the catch-up: what a round told the workflow, by its own word, is not told again;
// what it could not tell, is.
func TestRoundReportsWhatTheOneBeforeCouldNot(t *testing.T) {
	t.Parallel()
	for name, deaf := range map[string]bool{"told": false, "not told": true} {
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

func numbers(report activities.Report) []int {
	var all []int
	for _, attempt := range report.Attempts {
		all = append(all, attempt.Number)
	}
	return all
}

// The word of an earlier round says nothing about the one before, which may have died.
func TestRoundBelievesOnlyTheHeartbeatOfTheOneBefore(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	b.answer(http.StatusBadGateway)
	members := b.handOver(2)
	b.advance(time.Second)
	_, refused := b.round(members...)
	b.advance(refused.NextRetryDelay())
	b.try.number++ // one that died before it made an attempt
	reports, _ := b.round(members...)
	for _, report := range reports {
		require.Equal(t, []int{2, 3}, numbers(report), "more than it knew when it scheduled the activity")
		require.Nil(t, report.Attempts[0].ResponseExcerpt, "no response text goes to Temporal")
	}
	b.watched.away = func(call, _ string) error {
		if call == "attempts" {
			return errAway
		}
		return nil
	}
	b.beat = reports // nothing that says what a round told
	b.env.SetHeartbeatDetails(b.beat)
	b.fails(members...)
}

// Guards the difference between a receiver's failure and one of ours, which is no attempt.
func TestFailureOfOursInARound(t *testing.T) {
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
			require.Equal(t, call == "record", len(b.requests) > 2, "a request only where its record failed")

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

// A shutdown is no attempt either, and leaves no place taken.
func TestShutdownInARound(t *testing.T) {
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
	b.publish() // it gets the one place
	require.Len(t, b.done, 2, "the process's is free, too")
}

// Guards against one member's failure of ours taking the others' attempts with it.
func TestFailureOfOneMemberIsItsOwn(t *testing.T) {
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
			require.Len(t, b.reports, 1, "the workflow was told of the others")

			b.watched.away = nil
			reports, refused := b.round(members...)
			require.Nil(t, refused)
			require.Equal(t, postrider.StateSucceeded, reportOf(t, reports, broken).State)
		})
	}
}

// A retry under a rate limit comes no sooner than the turn that it got.
func TestRetryWaitsForItsTurn(t *testing.T) {
	t.Parallel()
	rate := 5
	b := setup(t, func(w *postrider.Webhook) { w.RateLimit, w.Policy.BackoffMS = &rate, 100 })
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
		next = next.Add(-100 * time.Millisecond) // it came so late that the rate catches up
	}
	require.False(t, b.requests[1].at.Before(next))
}

// A retry gets the place that a first attempt held as soon as that has ended.
func TestRetryWaitsForAPlace(t *testing.T) {
	t.Parallel()
	b := setup(t, func(w *postrider.Webhook) { w.MaxInFlight, w.Policy.BackoffMS = 1, 100 })
	b.answer(http.StatusBadGateway)
	id := b.publish()
	b.deliver(id)
	b.answer(http.StatusNoContent)
	other := b.publish() // claimed, it holds the one place
	asked := 0
	b.watched.away = once(b, other, &asked)
	report, failed := b.retry(id)
	require.Nil(t, failed)
	require.Equal(t, postrider.StateSucceeded, report.State)
	require.Equal(t, 2, asked, "it asked again")
	require.Equal(t, []string{id, other, id}, b.sent("postrider-delivery-id"))
}

// once lets the other delivery's attempt be made when a place was asked for twice.
func once(b *bench, other string, asked *int) func(call, id string) error {
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
