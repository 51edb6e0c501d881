//nolint:thelper // these are the tests, not helpers of one
package storetest

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
)

func searchTests() map[string]func(*testing.T, *Bundle) {
	return map[string]func(*testing.T, *Bundle){
		"a search finds a workspace's deliveries":          searchFinds,
		"a search for few of many goes on page after page": searchRare,
		"a search finds nothing of another workspace":      searchForeign,
	}
}

// search returns the ids that a search finds, over all its pages, and how many pages there were.
func (b *Bundle) search(t *testing.T, f postrider.DeliverySearch, limit int) (ids []string, pages int) {
	t.Helper()
	p := postrider.Page{Limit: limit}
	for again := true; again; again = p.After != "" {
		found, err := b.SearchDeliveries(t.Context(), b.Workspace, f, p)
		require.NoError(t, err)
		require.LessOrEqual(t, len(found.Items), limit)
		for _, d := range found.Items {
			ids = append(ids, d.ID)
		}
		p.After = found.Next
		pages++
	}
	return ids, pages
}

func searchFinds(t *testing.T, b *Bundle) {
	ctx := t.Context()
	w, other := b.NewWebhook(t), b.NewWebhook(t)
	succeeded := finish(t, b, w.ID, 2)
	retried := left(t, b, w.ID, 2, time.Hour)
	failed := underWay(t, b, other)
	gone := b.Outcome(t, failed, 1, postrider.StateFailed)
	gone.Attempt.StatusCode = ref(410)
	gone.Attempt.Result = postrider.ResultClientError
	require.NoError(t, b.Record(ctx, []postrider.Outcome{gone}))
	b.Clock.Advance(time.Second)
	later := b.Clock.Now()
	cancelled := b.PublishTo(t, w.ID, 1)[0]
	b.done(t, postrider.ActionCancel, cancelled)
	delivering, pending := underWay(t, b, w), b.PublishTo(t, w.ID, 1)[0]
	all := []string{pending, delivering, cancelled, failed, retried[1], retried[0], succeeded[1], succeeded[0]}

	const retrying, inFlight = postrider.StateRetrying, postrider.StateDelivering
	for _, c := range []struct {
		f    postrider.DeliverySearch
		want []string
	}{
		{postrider.DeliverySearch{}, all},
		{postrider.DeliverySearch{WebhookID: other.ID}, []string{failed}},
		{postrider.DeliverySearch{WebhookID: "wh_unknown"}, nil},
		{postrider.DeliverySearch{States: []postrider.DeliveryState{retrying}}, all[4:6]},
		{postrider.DeliverySearch{States: []postrider.DeliveryState{retrying, postrider.StateFailed, postrider.StateCancelled}}, all[2:6]},
		{postrider.DeliverySearch{States: []postrider.DeliveryState{retrying, postrider.StateFailed}, WebhookID: w.ID}, all[4:6]},
		{postrider.DeliverySearch{States: []postrider.DeliveryState{inFlight, retrying}}, []string{delivering, retried[1], retried[0]}},
		{
			postrider.DeliverySearch{States: []postrider.DeliveryState{postrider.StatePending, postrider.StateSucceeded}},
			slices.Concat(all[:1], all[6:]),
		},
		{postrider.DeliverySearch{States: postrider.DeliveryStates()}, all},
		{postrider.DeliverySearch{EventType: "call.ended", Until: later}, all[3:]},
		{postrider.DeliverySearch{EventType: "call.started"}, nil},
		{postrider.DeliverySearch{Since: later}, all[:3]},
		{postrider.DeliverySearch{Result: postrider.ResultSuccess}, all[6:]},
		{postrider.DeliverySearch{Result: postrider.ResultServerError}, all[4:6]},
		{postrider.DeliverySearch{StatusCode: 410}, []string{failed}},
		{postrider.DeliverySearch{StatusCode: 410, Result: postrider.ResultTimeout}, nil},
		{postrider.DeliverySearch{StatusCode: 410, States: []postrider.DeliveryState{postrider.StateFailed}}, []string{failed}},
	} {
		for _, limit := range []int{1, 3, 50} {
			found, _ := b.search(t, c.f, limit)
			require.Equal(t, c.want, found, "%+v", c.f)
		}
	}
}

// A page must not read a whole table for one match.
func searchRare(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t)
	rare := b.PublishTo(t, w.ID, 1)[0]
	_, err := b.Raw(t).ExecContext(t.Context(), "UPDATE deliveries SET event_type = 'rare'")
	require.NoError(t, err)
	b.PublishTo(t, w.ID, 4500)
	found, pages := b.search(t, postrider.DeliverySearch{EventType: "rare"}, 10)
	require.Equal(t, []string{rare}, found)
	require.Equal(t, 3, pages)
	_, pages = b.search(t, postrider.DeliverySearch{WebhookID: w.ID, States: []postrider.DeliveryState{postrider.StateFailed}}, 10)
	require.Equal(t, 1, pages)
}

func searchForeign(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t)
	b.PublishTo(t, w.ID, 1)
	b.Workspace = b.NewWorkspace(t)
	for _, f := range []postrider.DeliverySearch{{}, {WebhookID: w.ID}, {EventType: "call.ended"}} {
		found, _ := b.search(t, f, 10)
		require.Empty(t, found)
	}
}
