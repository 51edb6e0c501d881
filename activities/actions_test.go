package activities_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
	"postrider.dev/postrider/activities"
	"postrider.dev/postrider/signing"
)

// act makes an operator's action on a delivery.
func (b *bench) act(kind postrider.ActionKind, id string, edit postrider.TermsEdit) {
	b.t.Helper()
	results, err := b.db.Act(b.t.Context(), postrider.ActionRequest{
		WorkspaceID: "ws_1", Actor: "key_1", Kind: kind, DeliveryIDs: []string{id}, Edit: edit,
	})
	require.NoError(b.t, err)
	require.NoError(b.t, results[0].Err)
}

func retries(n int) postrider.TermsEdit { return postrider.TermsEdit{MaxRetries: &n} }

// Guards against an attempt that is under way and decides by what holds no more: its workflow hears
// what the database made of it, and that it carries the delivery no more.
func TestActionDuringAnAttempt(t *testing.T) {
	t.Parallel()
	passed, ahead := time.Unix(1, 0), time.Now().AddDate(100, 0, 0)
	for _, c := range []struct {
		kind   postrider.ActionKind
		before int // max_retries
		edit   postrider.TermsEdit
		state  postrider.DeliveryState
		left   bool
		failed float64 // deliveries that the metrics count as failed
	}{
		{kind: postrider.ActionPause, before: 3, state: postrider.StateParked, left: true},
		{kind: postrider.ActionPause, before: 0, state: postrider.StateFailed, failed: 1},
		{kind: postrider.ActionEdit, before: 0, edit: retries(2), state: postrider.StateRetrying, left: true},
		{kind: postrider.ActionEdit, before: 2, edit: retries(0), state: postrider.StateFailed, failed: 1},
		{kind: postrider.ActionEdit, before: 3, edit: postrider.TermsEdit{ExpiresAt: &passed}, state: postrider.StateFailed, failed: 1},
		{kind: postrider.ActionEdit, before: 2, edit: postrider.TermsEdit{ExpiresAt: &ahead}, state: postrider.StateRetrying, left: true},
		{kind: postrider.ActionRetry, before: 3, state: postrider.StateRetrying},
		{kind: postrider.ActionCancel, before: 3, state: postrider.StateCancelled},
	} {
		t.Run(fmt.Sprint(c.kind, " ", c.state, " of ", c.before), func(t *testing.T) {
			t.Parallel()
			b := setup(t, func(w *postrider.Webhook) { w.MaxRetries = c.before })
			id := b.publish()
			b.answerBy(func(w http.ResponseWriter, _ *http.Request) {
				b.act(c.kind, id, c.edit) //nolint:contextcheck // the operator's, not the request's
				w.WriteHeader(http.StatusBadGateway)
			})
			report := b.deliver(id)
			require.Equal(t, c.state, report.State)
			require.Equal(t, c.left, report.Left)
			require.Len(t, report.Attempts, 1)
			require.Equal(t, c.state, b.delivery(id).State)
			require.Len(t, b.requests, 1)
			require.InDelta(t, c.failed, testutil.ToFloat64(b.counter("postrider_deliveries_total", "failed")), 0)
			require.InDelta(t, 1, testutil.ToFloat64(b.counter("postrider_attempts_total", "server_error")), 0)
		})
	}
}

// Guards against a policy that holds for a workflow and not for its delivery: Temporal would end
// attempts by the wrong timeout.
func TestMemberWithAnotherPolicyLeaves(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	b.answer(http.StatusBadGateway)
	members := b.handOver(2)
	b.answer(http.StatusNoContent)
	b.advance(time.Second)
	policy := b.delivery(members[0].DeliveryID).Policy
	policy.MaxRetries--
	value, err := b.env.ExecuteActivity(b.acts.Retry, activities.RetryInput{Members: members, Policy: &policy})
	require.NoError(t, err)
	var reports activities.Reports
	require.NoError(t, value.Get(&reports))
	for _, m := range members {
		report := reportOf(t, reports, m.DeliveryID)
		require.True(t, report.Left)
		require.Equal(t, postrider.StateRetrying, report.State)
	}
	require.Len(t, b.requests, 2, "the first attempts")
	made, err := b.db.ClaimRetries(t.Context(), postrider.HandoverRequest{Limit: 10, Lease: time.Minute})
	require.NoError(t, err)
	require.Len(t, made[0].Deliveries, 2)
}

// A pause that came while a worker was lost holds for the worker that goes on.
func TestPausedDeliveryIsParkedAndNotAttempted(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	id := b.publish()
	b.act(postrider.ActionPause, id, postrider.TermsEdit{})
	report := b.deliver(id)
	require.Equal(t, postrider.StateParked, report.State)
	require.True(t, report.Left)
	require.Empty(t, b.requests)
}

// Guards what operators are promised: what they change of a webhook holds for what is under way.
func TestChangedWebhookHoldsForTheNextAttempt(t *testing.T) {
	t.Parallel()
	b := setup(t, func(w *postrider.Webhook) { w.Headers = map[string]string{"X-Side": "old"} })
	b.answer(http.StatusBadGateway)
	members := b.handOver(1)
	path := ""
	b.answerBy(func(w http.ResponseWriter, r *http.Request) {
		path = r.URL.Path
		w.WriteHeader(http.StatusNoContent)
	})
	const secret = "whsec_" + "bmV3IHNlY3JldCBuZXcgc2VjcmV0IG5ldyBzZWNyZXQ="
	_, err := b.db.UpdateWebhook(t.Context(), "ws_1", b.webhook.ID, func(e *postrider.WebhookEdit) error {
		e.Webhook.URL += "/new"
		e.Webhook.Headers = map[string]string{"X-Side": "new"}
		e.NewSecret = secret
		return nil
	})
	require.NoError(t, err)
	b.advance(time.Second)
	reports, refused := b.round(members...)
	require.Nil(t, refused)
	require.Equal(t, postrider.StateSucceeded, reports[0].State)
	require.Equal(t, []string{"old", "new"}, b.sent("X-Side"))
	require.Equal(t, "/hook/new", path)
	got := b.requests[1]
	require.NoError(t, signing.Verify(signing.HMACSHA256, []string{secret}, got.header, got.body, time.Now(), time.Minute))
}
