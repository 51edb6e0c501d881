//nolint:thelper // these are the tests, not helpers of one
package storetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
)

func publishTests() map[string]func(*testing.T, *Bundle) {
	return map[string]func(*testing.T, *Bundle){
		"an event goes to every webhook that matches":    publishMatching,
		"a persona's webhook gets that persona's only":   publishPersona,
		"an event comes back as it was published":        publishRoundTrip,
		"a webhook that is not active has events parked": publishParked,
		"a publish's trace stays with its deliveries":    publishTraced,
		"one webhook may be named":                       publishOnly,
		"many events and webhooks are one publication":   publishMany,
		"events are listed by pages and times":           eventPages,
		"deliveries are listed by webhook and by event":  deliveryLists,
	}
}

func publishMatching(t *testing.T, b *Bundle) {
	names := map[string]string{}
	for _, events := range [][]string{{"*"}, {"call.*"}, {"call.leg.*"}, {"call.leg.ended"}, {"call"}, {"*", "call.*", "call.leg.ended"}} {
		names[b.NewWebhook(t, func(w *postrider.Webhook) { w.Events = events }).ID] = fmt.Sprint(events)
	}
	for eventType, want := range map[string][]string{
		"call.leg.ended": {"[*]", "[call.*]", "[call.leg.*]", "[call.leg.ended]", "[* call.* call.leg.ended]"},
		"call.ended":     {"[*]", "[call.*]", "[* call.* call.leg.ended]"},
		"call":           {"[*]", "[call]", "[* call.* call.leg.ended]"},
		"caller":         {"[*]", "[* call.* call.leg.ended]"},
	} {
		receipts, err := b.Publish(t.Context(), b.Publication(b.NewEvent(eventType)))
		require.NoError(t, err)
		require.Equal(t, eventType, receipts[0].Type)
		require.False(t, receipts[0].Duplicate)
		var got []string
		for _, id := range receipts[0].DeliveryIDs {
			d, err := b.Delivery(t.Context(), b.Workspace, id)
			require.NoError(t, err)
			got = append(got, names[d.WebhookID])
		}
		require.Equal(t, want, got, eventType)
	}
}

func publishPersona(t *testing.T, b *Bundle) {
	b.NewWebhook(t)
	one := b.NewWebhook(t, func(w *postrider.Webhook) { w.ScopeType, w.PersonaID = postrider.ScopePersona, ref("one") })
	plain, ones, twos := b.NewEvent("a"), b.NewEvent("a"), b.NewEvent("a")
	ones.PersonaID, twos.PersonaID = ref("one"), ref("two")
	receipts, err := b.Publish(t.Context(), b.Publication(plain, ones, twos))
	require.NoError(t, err)
	require.Len(t, receipts[0].DeliveryIDs, 1)
	require.Len(t, receipts[1].DeliveryIDs, 2)
	require.Len(t, receipts[2].DeliveryIDs, 1)
	list, err := b.Deliveries(t.Context(), b.Workspace, postrider.DeliveryFilter{WebhookID: one.ID}, postrider.Page{})
	require.NoError(t, err)
	require.Len(t, list.Items, 1)
	require.Equal(t, ones.ID, list.Items[0].EventID)
}

func publishRoundTrip(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t)
	e := b.NewEvent("call.ended")
	e.ID, e.PersonaID, e.Body = "order:42-a_B", ref("p"), []byte("{\"data\":\"\xc3\xbc\\u0000\"}")
	e.Timestamp = time.Date(2026, 3, 14, 10, 26, 53, 123456789, time.FixedZone("", 3600))
	e.DeliverAt = ref(Start().Add(time.Hour + 7*time.Nanosecond))
	receipts, err := b.Publish(t.Context(), b.Publication(e))
	require.NoError(t, err)
	require.Equal(t, "order:42-a_B", receipts[0].ID)

	want := e.Event
	want.Timestamp = time.Date(2026, 3, 14, 9, 26, 53, 123456000, time.UTC)
	want.DeliverAt = ref(Start().Add(time.Hour))
	read, err := b.Event(t.Context(), b.Workspace, e.ID)
	require.NoError(t, err)
	require.Equal(t, want, read)
	_, err = b.Event(t.Context(), b.Workspace, e.Key) // the key of an event with an id of its own is not public
	requireCode(t, postrider.CodeNotFound, err)

	d, err := b.Delivery(t.Context(), b.Workspace, receipts[0].DeliveryIDs[0])
	require.NoError(t, err)
	require.Equal(t, postrider.Delivery{
		ID: receipts[0].DeliveryIDs[0], WorkspaceID: b.Workspace, WebhookID: w.ID, EventID: e.ID, EventKey: e.Key, EventType: "call.ended",
		State: postrider.StatePending, Policy: w.Policy, CreatedAt: Start(), DueAt: Start().Add(time.Hour),
	}, d)
	_, err = b.Event(t.Context(), b.Workspace, "unknown")
	requireCode(t, postrider.CodeNotFound, err)
	_, err = b.Delivery(t.Context(), b.Workspace, "unknown")
	requireCode(t, postrider.CodeNotFound, err)
}

func publishParked(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t, func(w *postrider.Webhook) { w.Status = postrider.WebhookPaused })
	off := b.NewWebhook(t, func(w *postrider.Webhook) { w.Status = postrider.WebhookDisabled })
	receipts, err := b.Publish(t.Context(), b.Publication(b.NewEvent("a"), b.NewEvent("b")))
	require.NoError(t, err)
	for _, r := range receipts {
		require.Len(t, r.DeliveryIDs, 2)
		for _, id := range r.DeliveryIDs {
			require.Equal(t, postrider.StateParked, b.State(t, id))
		}
	}
	require.Empty(t, b.Claimed(t, 10))

	resume := func(e *postrider.WebhookEdit) error {
		e.Webhook.Status = postrider.WebhookActive
		return nil
	}
	_, err = b.UpdateWebhook(t.Context(), b.Workspace, w.ID, resume)
	require.NoError(t, err)
	claimed := b.Claimed(t, 10)
	require.Equal(t, map[string][]string{w.ID: {receipts[0].DeliveryIDs[0], receipts[1].DeliveryIDs[0]}}, claimed)
	require.NoError(t, b.DeleteWebhook(t.Context(), b.Workspace, off.ID))
	require.Equal(t, postrider.StateCancelled, b.State(t, receipts[0].DeliveryIDs[1]))
	require.Empty(t, b.Claimed(t, 10))
}

func publishTraced(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t)
	traced := b.Publication(b.NewEvent("a"))
	traced.TraceContext = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01 vendor=value"
	for _, p := range []postrider.Publication{b.Publication(b.NewEvent("a")), traced} {
		receipts, err := b.Publish(t.Context(), p)
		require.NoError(t, err)
		d, err := b.Delivery(t.Context(), b.Workspace, receipts[0].DeliveryIDs[0])
		require.NoError(t, err)
		require.Equal(t, p.TraceContext, d.TraceContext)
		claimed, err := b.Claim(t.Context(), postrider.ClaimRequest{Limit: 10, Lease: lease})
		require.NoError(t, err)
		require.Len(t, claimed, 1)
		require.Equal(t, p.TraceContext, claimed[0].TraceContext)
		targets, err := b.Targets(t.Context(), []string{d.ID})
		require.NoError(t, err)
		require.Equal(t, p.TraceContext, targets[0].Delivery.TraceContext)
	}
	require.Equal(t, 1, b.count(t.Context(), t, "SELECT COUNT(*) FROM deliveries WHERE trace_context IS NULL AND webhook_id = '"+w.ID+"'"))
}

func publishOnly(t *testing.T, b *Bundle) {
	b.NewWebhook(t)
	w := b.NewWebhook(t, func(w *postrider.Webhook) { w.Events = []string{"other"} })
	p := b.Publication(b.NewEvent(postrider.EventTypeTest))
	p.Events[0].WebhookID = &w.ID
	receipts, err := b.Publish(t.Context(), p)
	require.NoError(t, err)
	require.Len(t, receipts[0].DeliveryIDs, 1)
	d, err := b.Delivery(t.Context(), b.Workspace, receipts[0].DeliveryIDs[0])
	require.NoError(t, err)
	require.Equal(t, w.ID, d.WebhookID)
	p.Events[0].WebhookID = ref("wh_unknown")
	_, err = b.Publish(t.Context(), p)
	requireCode(t, postrider.CodeInvalid, err)
	require.NoError(t, b.DeleteWebhook(t.Context(), b.Workspace, w.ID))
	p.Events[0].WebhookID = &w.ID
	_, err = b.Publish(t.Context(), p)
	requireCode(t, postrider.CodeInvalid, err)
}

func publishMany(t *testing.T, b *Bundle) {
	const fanOut = 3 // 1,500 deliveries: more values than one statement takes
	for range fanOut {
		b.NewWebhook(t)
	}
	p := b.Publication()
	for range postrider.MaxBatch {
		p.Events = append(p.Events, b.NewEvent("call.ended"))
	}
	receipts, err := b.Publish(t.Context(), p)
	require.NoError(t, err)
	seen := map[string]bool{}
	for i, r := range receipts {
		require.Equal(t, p.Events[i].ID, r.ID)
		for _, id := range r.DeliveryIDs {
			seen[id] = true
		}
	}
	require.Len(t, seen, fanOut*postrider.MaxBatch)
	backlog, err := b.Backlog(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, fanOut*postrider.MaxBatch, backlog.Pending)
	select {
	case <-b.Wake():
	default:
		require.Fail(t, "the dispatcher was not woken")
	}
	none, err := b.Publish(t.Context(), b.Publication())
	require.NoError(t, err)
	require.Empty(t, none)
}

func eventPages(t *testing.T, b *Bundle) {
	var keys []string
	for i := range 6 {
		e := b.NewEvent([]string{"a", "b"}[i%2])
		if i > 3 {
			e.ID = fmt.Sprintf("own-%d", i)
		}
		_, err := b.Publish(t.Context(), b.Publication(e))
		require.NoError(t, err)
		keys = append([]string{e.Key}, keys...)
		b.Clock.Advance(time.Minute)
	}
	list := func(f postrider.EventFilter, p postrider.Page) ([]string, string) {
		found, err := b.Events(t.Context(), b.Workspace, f, p)
		require.NoError(t, err)
		var got []string
		for _, e := range found.Items {
			got = append(got, e.Key)
		}
		return got, found.Next
	}
	first, next := list(postrider.EventFilter{}, postrider.Page{Limit: 4})
	require.Equal(t, keys[:4], first)
	rest, next := list(postrider.EventFilter{}, postrider.Page{Limit: 4, After: next})
	require.Equal(t, keys[4:], rest)
	require.Empty(t, next)
	as, _ := list(postrider.EventFilter{Type: "a"}, postrider.Page{})
	require.Equal(t, []string{keys[1], keys[3], keys[5]}, as)
	middle, _ := list(postrider.EventFilter{Since: Start().Add(time.Minute), Until: Start().Add(3 * time.Minute)}, postrider.Page{})
	require.Equal(t, []string{keys[3], keys[4]}, middle)
}

func deliveryLists(t *testing.T, b *Bundle) {
	ctx := t.Context()
	w := b.NewWebhook(t)
	b.NewWebhook(t)
	var events []string
	var mine []string
	for i := range 5 {
		e := b.NewEvent([]string{"a", "b"}[i%2])
		if i == 4 {
			e.ID = "own"
		}
		receipts, err := b.Publish(ctx, b.Publication(e))
		require.NoError(t, err)
		events = append(events, e.ID)
		mine = append([]string{receipts[0].DeliveryIDs[0]}, mine...)
		b.Clock.Advance(time.Minute)
	}
	require.Len(t, b.Claimed(t, 100)[w.ID], 5)
	require.NoError(t, b.Record(ctx, []postrider.Outcome{
		b.Outcome(t, mine[0], 1, postrider.StateFailed), b.Outcome(t, mine[1], 1, postrider.StateRetrying),
		b.Outcome(t, mine[2], 1, postrider.StateSucceeded),
	}))
	list := func(f postrider.DeliveryFilter, p postrider.Page) ([]string, string) {
		found, err := b.Deliveries(ctx, b.Workspace, f, p)
		require.NoError(t, err)
		got := []string{}
		for _, d := range found.Items {
			got = append(got, d.ID)
		}
		return got, found.Next
	}
	first, next := list(postrider.DeliveryFilter{WebhookID: w.ID}, postrider.Page{Limit: 3})
	require.Equal(t, mine[:3], first)
	rest, next := list(postrider.DeliveryFilter{WebhookID: w.ID}, postrider.Page{Limit: 3, After: next})
	require.Equal(t, mine[3:], rest)
	require.Empty(t, next)
	for name, c := range map[string]struct {
		filter postrider.DeliveryFilter
		want   []string
	}{
		"failed":     {postrider.DeliveryFilter{WebhookID: w.ID, State: postrider.StateFailed}, mine[:1]},
		"retrying":   {postrider.DeliveryFilter{WebhookID: w.ID, State: postrider.StateRetrying}, mine[1:2]},
		"succeeded":  {postrider.DeliveryFilter{WebhookID: w.ID, State: postrider.StateSucceeded}, mine[2:3]},
		"delivering": {postrider.DeliveryFilter{WebhookID: w.ID, State: postrider.StateDelivering}, mine[3:]},
		"type":       {postrider.DeliveryFilter{WebhookID: w.ID, EventType: "b"}, []string{mine[1], mine[3]}},
		"times": {
			postrider.DeliveryFilter{WebhookID: w.ID, Since: Start().Add(time.Minute), Until: Start().Add(3 * time.Minute)}, mine[2:4],
		},
		"both":     {postrider.DeliveryFilter{WebhookID: w.ID, EventID: events[0]}, mine[4:]},
		"no event": {postrider.DeliveryFilter{EventID: "unknown"}, []string{}},
	} {
		got, _ := list(c.filter, postrider.Page{})
		require.Equal(t, c.want, got, name)
	}
	for _, id := range []string{events[0], "own"} {
		of, _ := list(postrider.DeliveryFilter{EventID: id}, postrider.Page{})
		require.Len(t, of, 2)
	}
	_, err := b.Deliveries(ctx, b.Workspace, postrider.DeliveryFilter{}, postrider.Page{})
	requireCode(t, postrider.CodeInvalid, err)
}
