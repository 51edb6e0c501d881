package activities_test

import (
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

func numbers(report activities.Report) []int {
	var all []int
	for _, attempt := range report.Attempts {
		all = append(all, attempt.Number)
	}
	return all
}

// answerEach answers each named delivery with its handler, and every other one with 502.
func (b *bench) answerEach(handlers map[string]http.HandlerFunc) {
	b.answerBy(func(w http.ResponseWriter, r *http.Request) {
		if respond := handlers[r.Header.Get("postrider-delivery-id")]; respond != nil {
			respond(w, r)
			return
		}
		w.WriteHeader(http.StatusBadGateway)
	})
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

// tooMany answers with 429 and a Retry-After.
func tooMany(seconds int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", strconv.Itoa(seconds))
		w.WriteHeader(http.StatusTooManyRequests)
	}
}

// exhaust makes rounds, each when Temporal would, until no delivery waits for another attempt. It
// returns the number of rounds.
func (b *bench) exhaust(members []activities.RetryMember) int {
	b.t.Helper()
	for rounds := 1; ; rounds++ {
		require.Less(b.t, rounds, 50)
		reports, refused := b.round(members...)
		require.Equal(b.t, activities.ErrorAttemptFailed, refused.Type())
		require.False(b.t, refused.NonRetryable(), "Temporal's policy ends the activity")
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

// max_retries counts the attempts after the first one, whatever the size of the round.
func TestMaxRetriesCountsTheAttemptsAfterTheFirst(t *testing.T) {
	t.Parallel()
	for _, retries := range []int{0, 3, 10} {
		for _, together := range []int{0, 1, 3} { // 0: a delivery with its own workflow
			t.Run(fmt.Sprintf("%d retries of %d", retries, together), func(t *testing.T) {
				t.Parallel()
				b := setup(t, func(w *postrider.Webhook) { w.MaxRetries, w.BackoffMS = retries, 5000 })
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

// afterFirstAttempts makes n first attempts in a batch, or with 0 one in its own workflow. It
// begins the activity of the retries unless the policy has no retries.
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
	b := setup(t, func(w *postrider.Webhook) { w.MaxRetries, w.BackoffMS = 10, int(backoff.Milliseconds()) })
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
		require.Greater(t, refused.NextRetryDelay(), next/2, "the wait begins with the answer")
	}
}

// Guards Retry-After: it is the round's delay, and a try before that makes no attempt.
func TestRetryAfterIsRespected(t *testing.T) {
	t.Parallel()
	b := setup(t, func(w *postrider.Webhook) { w.BackoffMS = 1000 })
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

func TestGoneEndsTheRetriesOfAllMembers(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	b.answer(http.StatusBadGateway)
	members := b.handOver(3)
	gone := members[1].DeliveryID
	recorded := func() bool {
		return b.delivery(members[0].DeliveryID).AttemptCount == 2 && b.delivery(members[2].DeliveryID).AttemptCount == 2
	}
	// The others have failed again by then: a webhook that 410 disabled parks them instead.
	b.answerEach(map[string]http.HandlerFunc{gone: func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil && !recorded() {
			continue
		}
		w.WriteHeader(http.StatusGone)
	}})
	b.advance(time.Second)
	reports, refused := b.round(members...)
	require.False(t, refused.NonRetryable(), "the others still wait")
	require.Equal(t, postrider.StateFailed, reportOf(t, reports, gone).State)
	require.Len(t, b.requests, 6)

	// That disables the webhook. The others are parked, and need no slot and no permit.
	b.reserve = noSlot
	b.watched.away = func(call, _ string) error {
		require.NotEqual(t, "permit", call)
		return nil
	}
	b.advance(refused.NextRetryDelay())
	reports, refused = b.round(members...)
	require.True(t, refused.NonRetryable(), "Temporal has tries left, but no delivery needs one")
	for _, report := range reports {
		if report.DeliveryID == gone {
			require.Equal(t, postrider.StateFailed, report.State)
			continue
		}
		require.Equal(t, postrider.StateParked, report.State)
		require.True(t, report.Left)
		require.Empty(t, report.Attempts)
	}
	require.Len(t, b.requests, 6, "a disabled webhook gets no request")
}

func TestActivityEndsWhenAllSucceed(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	b.answer(http.StatusBadGateway)
	members := b.handOver(3)
	late := members[2].DeliveryID
	b.answerEach(map[string]http.HandlerFunc{
		members[0].DeliveryID: status(http.StatusOK), members[1].DeliveryID: status(http.StatusOK),
	})
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
	require.Len(t, b.requests, 3+3+1, "a delivered event is not sent again")
	require.Equal(t, b.sent("postrider-delivery-id")[6], late)
	require.Len(t, b.reports, 1, "the activity's result reports the rest")
}

// When the worker of a first attempt died before it made the attempt, the ordinary activity makes
// it, under the number 1 and at once.
func TestRetryMakesTheMissingFirstAttempt(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	id := b.publish()
	report, refused := b.retryKnowing(id, 0)
	require.Nil(t, refused)
	require.Equal(t, postrider.StateSucceeded, report.State)
	require.Equal(t, []int{1}, numbers(report))
	require.Equal(t, []string{"1"}, b.sent("postrider-attempt"))
}

// Guards against a delivery that two workflows carry: a dispatcher replaces a carrier that it
// takes for lost, so the longest round must have ended before that.
func TestLongestRoundEndsBeforeItsCarrierCountsAsLost(t *testing.T) {
	t.Parallel()
	longest := activities.RetryTimeout(postrider.MaxTimeoutMS * time.Millisecond)
	require.Less(t, longest, postrider.CarrierGrace)
	require.Greater(t, longest, postrider.MaxTimeoutMS*time.Millisecond+10*time.Second, "it waits for a slot and a permit, too")
}
