package activities_test

import (
	"context"
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/temporal"

	"postrider.dev/postrider"
	"postrider.dev/postrider/activities"
	"postrider.dev/postrider/signing"
)

func TestDeliverSignsPostsAndRecords(t *testing.T) {
	t.Parallel()
	b := setup(t, func(w *postrider.Webhook) { w.Headers = map[string]string{"X-Tenant": "blue"} })
	id := b.publish()
	report := b.deliver(id)

	require.Equal(t, postrider.StateSucceeded, report.State)
	require.Len(t, b.requests, 1)
	got := b.requests[0]
	require.NoError(t, signing.Verify(signing.HMACSHA256, []string{b.secret}, got.header, got.body, time.Now(), time.Minute))
	require.Equal(t, id, got.header.Get("postrider-delivery-id"))
	require.Equal(t, "1", got.header.Get("postrider-attempt"))
	require.Equal(t, "application/json", got.header.Get("Content-Type"))
	require.Equal(t, "Postrider/test", got.header.Get("User-Agent"))
	require.Equal(t, "blue", got.header.Get("X-Tenant"))
	require.Equal(t, b.delivery(id).EventID, got.header.Get("webhook-id"))

	d := b.delivery(id)
	require.Equal(t, postrider.StateSucceeded, d.State)
	require.Equal(t, 1, d.AttemptCount)
	require.NotNil(t, d.FinishedAt)
	require.Equal(t, []string{id}, b.done)
	require.InDelta(t, 1, testutil.ToFloat64(b.counter("postrider_attempts_total", "success")), 0)
	require.InDelta(t, 1, testutil.ToFloat64(b.counter("postrider_deliveries_total", "succeeded")), 0)
}

// counter returns the value of one series, as a collector.
func (b *bench) counter(name, label string) prometheus.Collector {
	b.t.Helper()
	families, err := b.registry.Gather()
	require.NoError(b.t, err)
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			if family.GetName() == name && metric.GetLabel()[0].GetValue() == label {
				gauge := prometheus.NewGauge(prometheus.GaugeOpts{Name: "found"})
				gauge.Set(metric.GetCounter().GetValue())
				return gauge
			}
		}
	}
	b.t.Fatalf("no series %s %s", name, label)
	return nil
}

// Guards against a second request after a crash between the record and the return.
func TestDeliverDoesNotRepeatARecordedAttempt(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	b.answer(http.StatusInternalServerError)
	id := b.publish()
	first := b.deliver(id)
	again := b.deliver(id)
	require.Len(t, b.requests, 1)
	require.Equal(t, first.State, again.State)
	require.Equal(t, first.NextAttemptAt.UnixMilli(), again.NextAttemptAt.UnixMilli())
	require.Len(t, again.Attempts, 1)
	require.Nil(t, again.Attempts[0].ResponseExcerpt, "no response text goes to Temporal")
}

func TestRetriesEndWhenTheyAreUsedUp(t *testing.T) {
	t.Parallel()
	b := setup(t, func(w *postrider.Webhook) { w.MaxRetries, w.BackoffMS = 2, 400 })
	b.answer(http.StatusBadGateway)
	id := b.publish()
	report := b.deliver(id)
	require.Equal(t, postrider.StateRetrying, report.State)
	require.WithinDuration(t, b.requests[0].at.Add(400*time.Millisecond), *report.NextAttemptAt, 100*time.Millisecond)
	require.Equal(t, postrider.StateRetrying, b.delivery(id).State)

	report, refused := b.retry(id)
	require.Equal(t, postrider.StateRetrying, report.State)
	require.Equal(t, 2, report.Attempts[0].Number)
	require.Equal(t, activities.ErrorAttemptFailed, refused.Type())
	require.False(t, refused.NonRetryable())
	require.Positive(t, refused.NextRetryDelay())
	require.LessOrEqual(t, refused.NextRetryDelay(), 800*time.Millisecond)
	require.Len(t, b.reports, 1, "the workflow was told")

	report, refused = b.retry(id)
	require.Equal(t, postrider.StateFailed, report.State)
	require.Equal(t, activities.ErrorAttemptFailed, refused.Type())
	require.False(t, refused.NonRetryable(), "Temporal's policy ends the activity")
	require.Equal(t, postrider.StateFailed, b.delivery(id).State)
	require.Len(t, b.reports, 1)

	report, refused = b.retryKnowing(id, 0)
	require.True(t, refused.NonRetryable(), "Temporal has tries left, but the delivery has failed")
	require.Equal(t, postrider.StateFailed, report.State)
	require.Len(t, report.Attempts, 3)
	require.Len(t, b.requests, 3)
	attempts, err := b.db.Attempts(t.Context(), id)
	require.NoError(t, err)
	require.Len(t, attempts, 3)
	require.Equal(t, "the receiver's text", *attempts[0].ResponseExcerpt)
	require.Equal(t, []string{"1", "2", "3"}, b.sent("postrider-attempt"))
}

func TestRetrySucceeds(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	b.answer(http.StatusServiceUnavailable)
	id := b.publish()
	b.deliver(id)
	b.answer(http.StatusOK)
	report, refused := b.retry(id)
	require.Nil(t, refused)
	require.Equal(t, postrider.StateSucceeded, report.State)
	require.Equal(t, b.requests[0].body, b.requests[1].body, "every attempt sends the same bytes")
	require.Equal(t, b.requests[0].header.Get("webhook-id"), b.requests[1].header.Get("webhook-id"))
}

func TestGoneDisablesTheWebhook(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	other := b.publish()
	b.answer(http.StatusInternalServerError)
	require.Equal(t, postrider.StateRetrying, b.deliver(other).State)
	b.answer(http.StatusGone)
	id := b.publish()
	report := b.deliver(id)
	require.Equal(t, postrider.StateFailed, report.State)
	require.True(t, report.Attempts[0].Gone())
	w, err := b.db.Webhook(t.Context(), "ws_1", b.webhook.ID)
	require.NoError(t, err)
	require.Equal(t, postrider.WebhookDisabled, w.Status)

	report, refused := b.retry(other)
	require.Equal(t, postrider.StateParked, report.State)
	require.True(t, report.Left)
	require.Nil(t, refused)
	require.Len(t, b.requests, 2, "a disabled webhook gets no request")
	d, err := b.db.Delivery(t.Context(), "ws_1", other)
	require.NoError(t, err)
	require.Equal(t, postrider.StateParked, d.State)
	require.Equal(t, 1, d.AttemptCount, "that makes no attempt")
}

func TestDeletedWebhookGetsNoRequest(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	id := b.publish()
	require.NoError(t, b.db.DeleteWebhook(t.Context(), "ws_1", b.webhook.ID))
	require.Equal(t, postrider.StateCancelled, b.deliver(id).State)
	report, refused := b.retry(id)
	require.Nil(t, refused)
	require.Equal(t, postrider.StateCancelled, report.State)
	require.Empty(t, b.requests)
}

// Guards against a gap in the workflow's history when its first activity died after the commit.
func TestRetryReportsAttemptsThatTheWorkflowDoesNotKnow(t *testing.T) {
	t.Parallel()
	b := setup(t, func(w *postrider.Webhook) { w.BackoffMS = 100 })
	b.answer(http.StatusInternalServerError)
	id := b.publish()
	b.deliver(id)
	b.answer(http.StatusOK)
	report, refused := b.retryKnowing(id, 0)
	require.Nil(t, refused)
	require.Len(t, report.Attempts, 2)
	require.Equal(t, postrider.StateSucceeded, report.State)
}

// Guards Retry-After: after a try that died, Temporal's own backoff may be shorter than the
// recorded wait.
func TestRetryDoesNotComeBeforeItsTime(t *testing.T) {
	t.Parallel()
	b := setup(t, func(w *postrider.Webhook) { w.BackoffMS = 3600000 })
	b.answer(http.StatusServiceUnavailable)
	id := b.publish()
	b.deliver(id)
	report, refused := b.retry(id)
	require.Len(t, b.requests, 1)
	require.Equal(t, postrider.StateRetrying, report.State)
	require.Equal(t, activities.ErrorAttemptFailed, refused.Type(), "it did not lack a permit")
	require.False(t, refused.NonRetryable())
	require.Greater(t, refused.NextRetryDelay(), 40*time.Minute)
}

// Guards against a workflow and a database that disagree on a delivery: when another try has
// recorded the attempt, the stored result counts.
func TestSupersededAttemptReportsTheStoredState(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	id := b.publish()
	b.answerBy(func(w http.ResponseWriter, r *http.Request) {
		reason, next := "status 500", postrider.Timestamp(time.Now().Add(time.Hour))
		b.late = b.db.Record(r.Context(), []postrider.Outcome{{
			DeliveryID: id, WorkspaceID: "ws_1", WebhookID: b.webhook.ID, State: postrider.StateRetrying, NextAttempt: &next,
			Attempt: postrider.Attempt{Number: 1, StartedAt: postrider.Timestamp(time.Now()), Result: postrider.ResultServerError, Error: &reason},
		}})
		w.WriteHeader(http.StatusOK)
	})
	report := b.deliver(id)
	require.NoError(t, b.late)
	require.Equal(t, postrider.StateRetrying, report.State)
	require.Len(t, report.Attempts, 1)
	require.Equal(t, postrider.ResultServerError, report.Attempts[0].Result)
	require.Equal(t, postrider.StateRetrying, b.delivery(id).State)
}

func TestRetryOfAnUnknownDeliveryIsFinal(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	unknown := postrider.IDFloor(postrider.PrefixDelivery, time.Now())
	_, err := b.env.ExecuteActivity(b.acts.Retry, activities.RetryInput{Members: []activities.RetryMember{{DeliveryID: unknown}}})
	var typed *temporal.ApplicationError
	require.ErrorAs(t, err, &typed)
	require.Equal(t, activities.ErrorUnknownDelivery, typed.Type())
	require.True(t, typed.NonRetryable())
	require.NoError(t, b.cancel(batchID, b.acts.CancelAll, []string{unknown}))
}

func TestCancelIsRecorded(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	id := b.publish()
	require.NoError(t, b.cancel("retry/another", b.acts.Cancel, id))
	require.NotEqual(t, postrider.StateCancelled, b.delivery(id).State, "another workflow carries it")
	require.NoError(t, b.cancel(postrider.DeliveryWorkflowID(id), b.acts.Cancel, id))
	require.Equal(t, postrider.StateCancelled, b.delivery(id).State)
}

// Guards the difference between a receiver's failure and an internal one.
func TestShutdownIsNoAttempt(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	id := b.publish()
	ctx, cancel := context.WithCancel(t.Context())
	b.answerBy(func(_ http.ResponseWriter, r *http.Request) { cancel(); <-r.Context().Done() })
	_, err := b.acts.Deliver(ctx, alone(id))
	require.ErrorIs(t, err, context.Canceled)
	require.Zero(t, b.delivery(id).AttemptCount)
	require.Equal(t, []string{id}, b.done, "no attempt is in flight")
}

func TestUnknownDeliveryIsAnError(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	_, err := b.acts.Deliver(t.Context(), alone(postrider.IDFloor(postrider.PrefixDelivery, time.Now())))
	require.Equal(t, postrider.CodeNotFound, postrider.CodeOf(err))
	require.Empty(t, b.requests)
}

func TestUnknownMemberDoesNotStopTheOthers(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	id := b.publish()
	b.answer(http.StatusInternalServerError)
	b.deliver(id)
	b.begin(postrider.DeliveryWorkflowID(id))
	b.advance(time.Minute)
	unknown := postrider.IDFloor(postrider.PrefixDelivery, time.Now())
	reports, _ := b.round(activities.RetryMember{DeliveryID: unknown}, activities.RetryMember{DeliveryID: id, Known: 1})
	require.Equal(t, unknown, reports[0].DeliveryID)
	require.True(t, reports[0].Left)
	require.False(t, reports[0].State.Finished())
	require.Len(t, reports[1].Attempts, 1)
}

func TestCancelAllIsRecorded(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	all := append(b.claim(batchID, "", ""), postrider.IDFloor(postrider.PrefixDelivery, time.Now()))
	require.NoError(t, b.cancel(batchID, b.acts.CancelAll, all))
	require.Equal(t, postrider.StateCancelled, b.delivery(all[0]).State)
	require.Equal(t, postrider.StateCancelled, b.delivery(all[1]).State)
	require.InDelta(t, 2, testutil.ToFloat64(b.counter("postrider_deliveries_total", "cancelled")), 0)
}

// Histories of earlier versions contain inputs and reports of a single delivery.
func TestInputsAndReportsOfEarlierVersions(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	b.answer(http.StatusInternalServerError)
	id := b.publish()
	b.deliver(id)
	b.advance(time.Minute)
	b.begin(postrider.DeliveryWorkflowID(id))
	b.try.number = 1
	var in activities.RetryInput
	require.NoError(t, json.Unmarshal([]byte(`{"delivery_id":"`+id+`","known":1}`), &in))
	_, err := b.env.ExecuteActivity(b.acts.Retry, in)
	var refused *temporal.ApplicationError
	require.ErrorAs(t, err, &refused)
	require.Equal(t, activities.ErrorAttemptFailed, refused.Type())
	var reports activities.Reports
	require.NoError(t, refused.Details(&reports))
	require.Len(t, reports, 1)
	require.Equal(t, id, reports[0].DeliveryID)
	require.Len(t, reports[0].Attempts, 1, "the first is known")
	require.Equal(t, 2, reports[0].Attempts[0].Number)

	text, err := json.Marshal(reports[0])
	require.NoError(t, err)
	for _, form := range []string{string(text), " \n" + string(text), "[" + string(text) + "]"} {
		var decoded activities.Reports
		require.NoError(t, json.Unmarshal([]byte(form), &decoded))
		require.Equal(t, reports, decoded)
	}
	for _, form := range []string{`"text"`, `{"delivery_id":1}`} {
		require.Error(t, json.Unmarshal([]byte(form), new(activities.Reports)))
	}
}

// Without a dispatcher in the process, activities read their deliveries from the database.
func TestActivitiesWithoutADispatcher(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	config := b.acts.Config
	config.Process = nil
	b.acts.Config = activities.New(config).Config
	b.answer(http.StatusInternalServerError)
	id := b.publish()
	require.Equal(t, postrider.StateRetrying, b.deliver(id).State)
	b.answer(http.StatusNoContent)
	b.advance(time.Minute)
	report, refused := b.retry(id)
	require.Nil(t, refused)
	require.Equal(t, postrider.StateSucceeded, report.State)
}
