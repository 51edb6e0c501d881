package activities_test

import (
	"bytes"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
	"postrider.dev/postrider/activities"
)

// Guards against a request for a delivery that was cancelled, or to a webhook that was changed,
// while its target waited in the process.
func TestOldTargetIsReadAgain(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	claimed := b.publishBatch(1)
	arrivals := b.arrivals(claimed...)
	arrivals[0].ReadAt = b.now()
	require.NoError(t, b.db.DeleteWebhook(t.Context(), "ws_1", b.webhook.ID))
	b.advance(2*time.Second + time.Millisecond)
	b.feeds = map[string]activities.Feed{batchID: &feed{turns: [][]activities.Arrival{arrivals}}}
	reports, err := b.acts.Deliver(t.Context(), activities.DeliverInput{WorkflowID: batchID})
	require.NoError(t, err)
	require.Equal(t, postrider.StateCancelled, reports[0].State)
	require.Empty(t, b.requests)
}

// An attempt without its event's body cannot be made any more: its delivery fails, and says why.
func TestAttemptOfAnExpiredEventIsSkipped(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	b.watched.change = func(target *postrider.Target) { target.EventExpired, target.Body = true, nil }
	id := b.publish()
	report := b.deliver(id)
	require.Equal(t, postrider.StateFailed, report.State)
	require.Len(t, report.Attempts, 1)
	require.Equal(t, postrider.ResultCancelled, report.Attempts[0].Result)
	require.Equal(t, "the event's body is past its retention", *report.Attempts[0].Error)
	require.Empty(t, b.requests)
	require.Equal(t, postrider.StateFailed, b.delivery(id).State)
}

// Guards the difference between a receiver's failure and an internal one: an event that cannot
// be signed was not attempted.
func TestUnsignedEventIsNotSent(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	b.watched.change = func(target *postrider.Target) { target.SigningMethod = "unknown" }
	id := b.publish()
	_, err := b.acts.Deliver(t.Context(), alone(id))
	require.Error(t, err)
	require.Empty(t, b.requests)
	require.Zero(t, b.delivery(id).AttemptCount)
	require.Equal(t, postrider.StateDelivering, b.delivery(id).State)
}

// Guards receivers that rely on our headers: the API refuses reserved names, but a webhook may
// have been stored before a name was reserved.
func TestStoredHeadersReplaceNoneOfOurs(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	b.watched.change = func(target *postrider.Target) {
		target.Headers = map[string]string{"Webhook-Id": "forged", "webhook-signature": "forged", "Postrider-Attempt": "9", "X-Tenant": "blue"}
	}
	id := b.publish()
	b.deliver(id)
	require.Equal(t, []string{b.delivery(id).EventID}, b.sent("webhook-id"))
	require.NotEqual(t, []string{"forged"}, b.sent("webhook-signature"))
	require.Equal(t, []string{"1"}, b.sent("postrider-attempt"))
	require.Equal(t, []string{"blue"}, b.sent("x-tenant"))
}

// Guards the log that operators search by: one line for each attempt, with its result, and
// without bodies and secrets.
func TestAttemptIsOneLogLine(t *testing.T) {
	t.Parallel()
	b := setup(t, func(w *postrider.Webhook) { w.Headers = map[string]string{"X-Token": "SECRET"} })
	logged := &bytes.Buffer{}
	b.acts.Logger = slog.New(slog.NewTextHandler(logged, nil))
	b.answer(http.StatusBadGateway)
	id := b.publish()
	b.deliver(id)
	line := logged.String()
	require.Equal(t, 1, bytes.Count(logged.Bytes(), []byte("\n")), line)
	for _, part := range []string{
		"msg=attempt", "delivery_id=" + id, "webhook_id=" + b.webhook.ID, "event_type=call.ended", "attempt=1",
		"result=server_error", "state=retrying", "status=502", "error=",
	} {
		require.Contains(t, line, part)
	}
	for _, secret := range []string{"SECRET", b.secret, "the receiver's text", string(b.requests[0].body)} {
		require.NotContains(t, line, secret)
	}
}

// Guards against a cancellation that seems recorded although the database was away.
func TestCancelFailsWhileTheDatabaseIsAway(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	all := b.claim(batchID, "", "", "")
	b.watched.away = func(call, id string) error {
		if call == "cancel" && id == all[1] {
			return errAway
		}
		return nil
	}
	require.ErrorContains(t, b.cancel(batchID, b.acts.Cancel, all[1]), errAway.Error())
	require.ErrorContains(t, b.cancel(batchID, b.acts.CancelAll, all), errAway.Error())
	require.Equal(t, postrider.StateDelivering, b.delivery(all[1]).State)
	b.watched.away = nil
	require.NoError(t, b.cancel(batchID, b.acts.CancelAll, all), "a second try cancels the rest")
	for _, id := range all {
		require.Equal(t, postrider.StateCancelled, b.delivery(id).State)
	}
}
