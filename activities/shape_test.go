package activities_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
	"postrider.dev/postrider/signing"
)

// Guards receivers that verify: what is signed is what is sent, and a retry sends the same.
func TestTransformedBodyIsSignedAndSentAlike(t *testing.T) {
	t.Parallel()
	transform := `{"text": event.type + " happened", "n": event.data}`
	b := setup(t, func(w *postrider.Webhook) { w.Transform = &transform })
	b.answer(http.StatusInternalServerError)
	id := b.publish()
	require.Equal(t, postrider.StateRetrying, b.deliver(id).State)
	_, failed := b.retry(id)
	require.NotNil(t, failed)
	require.GreaterOrEqual(t, len(b.requests), 2)
	for _, r := range b.requests {
		require.JSONEq(t, `{"n":{"n":1},"text":"call.ended happened"}`, string(r.body))
		require.Equal(t, b.requests[0].body, r.body)
		require.NoError(t, signing.Verify(signing.HMACSHA256, []string{b.secret}, r.header, r.body, b.now(), time.Minute))
		require.Equal(t, "application/json", r.header.Get("Content-Type"))
	}
}

func TestFormatsAreSent(t *testing.T) {
	t.Parallel()
	b := setup(t, func(w *postrider.Webhook) { w.Format = postrider.FormatCloudEvents })
	id := b.publish()
	require.Equal(t, postrider.StateSucceeded, b.deliver(id).State)
	require.Equal(t, []string{"application/cloudevents+json"}, b.sent("Content-Type"))
	require.Contains(t, string(b.requests[0].body), `"specversion":"1.0"`)
}

// A transform that fails on an event fails its delivery at once: another attempt would fail
// alike. What the event holds is not told.
func TestTransformThatFailsIsNotSent(t *testing.T) {
	t.Parallel()
	transform := `event.data[event.id]`
	b := setup(t, func(w *postrider.Webhook) { w.Transform = &transform })
	id := b.publish()
	report := b.deliver(id)
	require.Equal(t, postrider.StateFailed, report.State)
	require.Len(t, report.Attempts, 1)
	require.Equal(t, postrider.ResultTransform, report.Attempts[0].Result)
	require.Equal(t, "the transform fails on this event: no such key", *report.Attempts[0].Error)
	require.Empty(t, b.requests)
	require.Equal(t, postrider.StateFailed, b.delivery(id).State)
}
