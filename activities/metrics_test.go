package activities_test

import (
	"net/http"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
)

// Guards against metrics that tell another story than the history of deliveries: of answers without
// a body, of attempts that were under way when their delivery was cancelled, and of deliveries that
// were cancelled twice, or too late.
func TestMetricsAgreeWithTheDatabase(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	var ids []string
	for _, status := range []int{200, 202, 204, 205, 299, 301, 404, 500} {
		b.answerBy(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })
		ids = append(ids, b.publish())
		b.deliver(ids[len(ids)-1])
	}
	require.NoError(t, b.cancel(postrider.DeliveryWorkflowID(ids[0]), b.acts.Cancel, ids[0]), "it has succeeded")
	parallel := b.publish()
	b.answerBy(func(w http.ResponseWriter, r *http.Request) {
		b.late = b.db.CancelDelivery(r.Context(), postrider.DeliveryWorkflowID(parallel), parallel)
		w.WriteHeader(http.StatusNoContent)
	})
	require.Equal(t, postrider.StateCancelled, b.deliver(parallel).State)
	require.NoError(t, b.late)
	require.NoError(t, b.cancel(postrider.DeliveryWorkflowID(parallel), b.acts.Cancel, parallel), "its workflow hears of it, too")
	waiting := b.publish()
	require.NoError(t, b.db.DeleteWebhook(t.Context(), "ws_1", b.webhook.ID))
	ids = append(ids, parallel, waiting)

	attempts, err := b.db.AttemptsOf(t.Context(), ids)
	require.NoError(t, err)
	results, states := map[postrider.Result]int{}, map[postrider.DeliveryState]int{}
	for _, id := range ids {
		for _, attempt := range attempts[id] {
			results[attempt.Result]++
		}
		states[b.delivery(id).State]++
	}
	require.Equal(t, 6, results[postrider.ResultSuccess])
	require.Equal(t, map[postrider.DeliveryState]int{postrider.StateSucceeded: 5, postrider.StateCancelled: 5}, states)
	for _, result := range postrider.Results() {
		require.InDelta(t, results[result], testutil.ToFloat64(b.counter("postrider_attempts_total", string(result))), 0, result)
	}
	for _, state := range postrider.DeliveryStates() {
		if state.Finished() {
			require.InDelta(t, states[state], testutil.ToFloat64(b.counter("postrider_deliveries_total", string(state))), 0, state)
		}
	}
}

// An operator goes from a slow bucket to a trace of it.
func TestLatenciesHaveTheTraceAsAnExample(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	b.trace()
	b.deliver(b.publishTraced(publishTrace))
	families, err := b.registry.Gather()
	require.NoError(t, err)
	found := map[string]string{}
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			for _, bucket := range metric.GetHistogram().GetBucket() {
				for _, label := range bucket.GetExemplar().GetLabel() {
					found[family.GetName()] = label.GetName() + "=" + label.GetValue()
				}
			}
		}
	}
	traced := "trace_id=" + publishTrace[3:35]
	require.Equal(t, map[string]string{
		"postrider_attempt_duration_seconds":        traced,
		"postrider_accept_to_first_attempt_seconds": traced,
		"postrider_accept_to_delivered_seconds":     traced,
	}, found)
}
