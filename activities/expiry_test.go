package activities_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
	"postrider.dev/postrider/activities"
)

// expiring lets events that are published from now on expire after the time.
func (b *bench) expiring(after time.Duration) {
	at := postrider.Timestamp(time.Now().Add(after))
	b.expires = &at
}

func (b *bench) requireExpired(id string, attempts int) {
	b.t.Helper()
	d := b.delivery(id)
	require.True(b.t, d.HasExpired(), "%+v", d)
	require.Equal(b.t, attempts, d.AttemptCount)
	stored, err := b.db.Attempts(b.t.Context(), id)
	require.NoError(b.t, err)
	require.Len(b.t, stored, attempts)
}

func TestNoFirstAttemptOfWhatExpired(t *testing.T) {
	t.Parallel()
	for name, in := range map[string]func(id string) activities.DeliverInput{
		"alone": alone, "in a batch": func(id string) activities.DeliverInput { return together(id) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, nil)
			b.expiring(time.Hour)
			input := in("")
			workflow := input.WorkflowID
			if name == "alone" {
				workflow = ""
			}
			id := b.claim(workflow, "")[0]
			b.advance(time.Hour)
			reports, err := b.acts.Deliver(t.Context(), in(id))
			require.NoError(t, err)
			require.NotNil(t, reports[0].Subject, "who reads Temporal's failure sees the event")
			require.Equal(t, activities.Report{DeliveryID: id, State: postrider.StateFailed, Expired: true, Subject: reports[0].Subject}, reports[0])
			require.Empty(t, b.requests)
			b.requireExpired(id, 0)
			require.InDelta(t, 1, testutil.ToFloat64(b.counter("postrider_deliveries_total", "failed")), 0)
			require.Equal(t, []string{id}, b.done, "its slot is free")

			again, err := b.acts.Deliver(t.Context(), in(id)) // after a crash
			require.NoError(t, err)
			require.Equal(t, postrider.StateFailed, again[0].State)
			require.True(t, again[0].Expired)
		})
	}
}

func TestWhatIsInTimeIsDelivered(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	b.expiring(time.Hour)
	id := b.publish()
	b.advance(59 * time.Minute)
	require.Equal(t, postrider.StateSucceeded, b.deliver(id).State)
	require.Len(t, b.requests, 1)
}

// A request that began in time may be answered after it.
func TestRequestUnderWayAtItsExpiryCounts(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	b.expiring(time.Hour)
	id := b.publish()
	b.answerBy(func(w http.ResponseWriter, _ *http.Request) {
		b.advance(2 * time.Hour)
		w.WriteHeader(http.StatusNoContent)
	})
	require.Equal(t, postrider.StateSucceeded, b.deliver(id).State)
}

// Guards against a carrier that waits for an attempt which would come too late.
func TestRetryThatWouldComeTooLateIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	for name, respond := range map[string]http.HandlerFunc{"by its backoff": status(http.StatusBadGateway), "by Retry-After": tooMany(3600)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, func(w *postrider.Webhook) {
				if name == "by its backoff" {
					w.BackoffMS = 3600000
				}
			})
			b.answerBy(respond)
			b.expiring(30 * time.Minute)
			id := b.publish()
			report := b.deliver(id)
			require.Equal(t, postrider.StateFailed, report.State)
			require.True(t, report.Expired)
			require.Nil(t, report.NextAttemptAt)
			require.Len(t, report.Attempts, 1, "it was attempted in time")
			require.Len(t, b.requests, 1)
			b.requireExpired(id, 1)
			_, waits, err := b.db.NextDue(t.Context())
			require.NoError(t, err)
			require.False(t, waits, "nothing is left in the outbox")
		})
	}
}

func TestNoRetryOfWhatExpired(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	b.answer(http.StatusBadGateway)
	b.expiring(time.Hour)
	members := b.handOver(2)
	b.reserve = func(context.Context, postrider.Target) error { t.Error("it needs no slot"); return nil }
	b.advance(time.Hour)
	reports, refused := b.round(members...)
	require.Equal(t, activities.ErrorAttemptFailed, refused.Type())
	require.True(t, refused.NonRetryable())
	require.Contains(t, refused.Message(), "expired before it was delivered")
	for _, report := range reports {
		require.Equal(t, postrider.StateFailed, report.State)
		require.True(t, report.Expired)
		b.requireExpired(report.DeliveryID, 1)
	}
	require.Len(t, b.requests, 2, "those of the first attempts")
}

// The dispatchers' steps fail what expires, and its carrier finds it failed.
func TestCarrierFindsWhatTheDispatchersFailed(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	b.answer(http.StatusBadGateway)
	b.expiring(time.Hour)
	members := b.handOver(1)
	failed, err := b.db.FailExpired(t.Context(), b.try.workflowID, members[0].DeliveryID, time.Now().Add(time.Hour))
	require.NoError(t, err)
	require.True(t, failed)
	reports, refused := b.round(members...)
	require.True(t, refused.NonRetryable())
	require.True(t, reports[0].Expired)
	require.Len(t, b.requests, 1)
}

// Guards against a delivery that two carriers believe to be theirs.
func TestWhatAnotherCarriesIsLeftToIt(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	b.expiring(time.Hour)
	id := b.publish()
	targets, err := b.db.Targets(t.Context(), []string{id})
	require.NoError(t, err)
	require.NoError(t, b.db.Release(t.Context(), []string{id}))
	_, err = b.db.Claim(t.Context(), postrider.ClaimRequest{Limit: 1, Lease: time.Minute, WorkflowID: batchID})
	require.NoError(t, err)
	b.advance(time.Hour)
	own := postrider.DeliveryWorkflowID(id)
	b.feeds = map[string]activities.Feed{own: &feed{turns: [][]activities.Arrival{{{DeliveryID: id, Target: &targets[0]}}}}}
	report := b.deliver(id)
	require.True(t, report.Left)
	require.Equal(t, postrider.StateDelivering, report.State)
	require.Empty(t, b.requests)
}

func TestEventHeadersReplaceTheWebhooks(t *testing.T) {
	t.Parallel()
	b := setup(t, func(w *postrider.Webhook) {
		w.Headers = map[string]string{"X-Tenant": "webhook", "X-Kept": "webhook"}
	})
	b.headers = map[string]string{"x-tenant": "event", "X-Own": "event"}
	id := b.publish()
	b.answer(http.StatusBadGateway)
	b.deliver(id)
	b.answer(http.StatusNoContent)
	b.advance(time.Minute)
	report, _ := b.retry(id)
	require.Equal(t, postrider.StateSucceeded, report.State)
	b.headers = nil
	b.deliver(b.publish())
	require.Equal(t, []string{"event", "event", "webhook"}, b.sent("X-Tenant"), "on every attempt, and of this event alone")
	require.Equal(t, []string{"event", "event", ""}, b.sent("X-Own"))
	require.Equal(t, []string{"webhook", "webhook", "webhook"}, b.sent("X-Kept"))
	require.Len(t, b.requests[0].header.Values("X-Tenant"), 1)
}

// The API refuses reserved names; should one be stored all the same, it changes nothing.
func TestEventHeadersReplaceNoneOfPostridersOwn(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	b.headers = map[string]string{"webhook-id": "x", "Content-Type": "text/plain", "postrider-attempt": "9", "X-Own": "event"}
	id := b.publish()
	b.deliver(id)
	require.Equal(t, []string{b.delivery(id).EventID}, b.sent("webhook-id"))
	require.Equal(t, []string{"application/json"}, b.sent("Content-Type"))
	require.Equal(t, []string{"1"}, b.sent("postrider-attempt"))
	require.Equal(t, []string{"event"}, b.sent("X-Own"))
}

// Guards other deliveries, and the receiver, against an event whose headers cannot be decrypted.
func TestEventWithoutItsHeadersIsNotSent(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	b.headers = map[string]string{"X-Own": "event"}
	id := b.publish()
	b.watched.change = func(target *postrider.Target) { target.Failure, target.EventHeaders = errAway, nil }
	_, err := b.acts.Deliver(t.Context(), alone(id))
	require.ErrorIs(t, err, errAway)
	require.Empty(t, b.requests)
	require.Zero(t, b.delivery(id).AttemptCount)
}
