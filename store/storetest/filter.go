//nolint:thelper // these are the tests, not helpers of one
package storetest

import (
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
)

func filterTests() map[string]func(*testing.T, *Bundle) {
	return map[string]func(*testing.T, *Bundle){
		"a filter decides which events a webhook gets":  filterMatches,
		"a filter that fails does not match":            filterFails,
		"a changed filter holds at once":                filterChanged,
		"a filter holds for large publications":         filterFanOut,
		"a filter does not hold for a test":             filterNamed,
		"a delivery keeps its shape":                    shapeKept,
		"shapes are stored once, and none for envelope": shapeStored,
	}
}

// filtered creates a webhook with a filter.
func (b *Bundle) filtered(t *testing.T, filter string) postrider.Webhook {
	t.Helper()
	return b.NewWebhook(t, func(w *postrider.Webhook) { w.Filter = &filter })
}

// eventWith returns an event with the data.
func (b *Bundle) eventWith(t *testing.T, data string) postrider.PublishedEvent {
	t.Helper()
	e := b.NewEvent("call.ended")
	var err error
	e.Body, err = postrider.RenderBody(e.Event, []byte(data))
	require.NoError(t, err)
	return e
}

// publishData publishes an event with each of the data, and returns to how many webhooks each goes.
func (b *Bundle) publishData(t *testing.T, data ...string) []int {
	t.Helper()
	p := postrider.Publication{WorkspaceID: b.Workspace}
	for _, d := range data {
		p.Events = append(p.Events, b.eventWith(t, d))
	}
	receipts, err := b.Publish(t.Context(), p)
	require.NoError(t, err)
	var deliveries []int
	for _, r := range receipts {
		deliveries = append(deliveries, r.Deliveries)
	}
	return deliveries
}

func filterMatches(t *testing.T, b *Bundle) {
	large, all := b.filtered(t, "event.data.amount > 100"), b.NewWebhook(t)
	for range 2 { // the second time from what is remembered
		require.Equal(t, []int{1, 2, 1}, b.publishData(t, `{"amount":99}`, `{"amount":101}`, `{"amount":-5}`))
	}
	require.Equal(t, 2, b.ofWebhook(t, large.ID))
	require.Equal(t, 6, b.ofWebhook(t, all.ID))
}

// ofWebhook returns how many deliveries a webhook has.
func (b *Bundle) ofWebhook(t *testing.T, webhookID string) int {
	t.Helper()
	return b.count(t.Context(), t, "SELECT COUNT(*) FROM deliveries WHERE webhook_id = '"+webhookID+"'")
}

func filterFails(t *testing.T, b *Bundle) {
	b.filtered(t, "event.data.amount > 100")
	require.Equal(t, []int{0, 0, 1}, b.publishData(t, `{"price":101}`, `"a text"`, `{"amount":101}`))
}

func filterChanged(t *testing.T, b *Bundle) {
	w := b.filtered(t, "event.data == 1")
	other := b.Open(t, b.Key) // another process, which remembers the filter as it was
	publish := func(data string) int {
		receipts, err := other.Publish(t.Context(), postrider.Publication{
			WorkspaceID: b.Workspace, Events: []postrider.PublishedEvent{b.eventWith(t, data)},
		})
		require.NoError(t, err)
		return receipts[0].Deliveries
	}
	require.Equal(t, 1, publish("1"))
	require.Equal(t, 0, publish("2"))
	filter := "event.data == 2"
	_, err := b.UpdateWebhook(t.Context(), b.Workspace, w.ID, func(edit *postrider.WebhookEdit) error {
		edit.Webhook.Filter = &filter
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, 0, publish("1"))
	require.Equal(t, 1, publish("2"))
	_, err = b.UpdateWebhook(t.Context(), b.Workspace, w.ID, func(edit *postrider.WebhookEdit) error {
		edit.Webhook.Filter = nil
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, 1, publish("1"))
}

// Guards fan-outs, whose events go to the same webhooks: a filter makes them differ.
func filterFanOut(t *testing.T, b *Bundle) {
	b.webhooksFor(t, b.Workspace, 39)
	odd := b.filtered(t, "event.data % 2 == 1")
	p := postrider.Publication{WorkspaceID: b.Workspace}
	for i := range 50 {
		p.Events = append(p.Events, b.eventWith(t, strconv.Itoa(i)))
	}
	receipts, err := b.Publish(t.Context(), p)
	require.NoError(t, err)
	for i, r := range receipts {
		require.Equal(t, 39+i%2, r.Deliveries)
		require.Empty(t, r.DeliveryIDs, "they are made in steps")
	}
	require.Equal(t, 2, b.count(t.Context(), t, "SELECT COUNT(*) FROM fanouts"))
	for more := true; more; {
		more, err = b.FanOut(t.Context())
		require.NoError(t, err)
	}
	require.Equal(t, 25, b.ofWebhook(t, odd.ID))
	require.Equal(t, 50*39+25, b.count(t.Context(), t, "SELECT COUNT(*) FROM deliveries"))
}

func filterNamed(t *testing.T, b *Bundle) {
	w := b.filtered(t, "false")
	e := b.eventWith(t, "1")
	e.WebhookID = &w.ID
	receipts, err := b.Publish(t.Context(), postrider.Publication{WorkspaceID: b.Workspace, Events: []postrider.PublishedEvent{e}})
	require.NoError(t, err)
	require.Equal(t, 1, receipts[0].Deliveries)
}

func shapeKept(t *testing.T, b *Bundle) {
	transform := "event.data"
	w := b.NewWebhook(t, func(w *postrider.Webhook) { w.Transform = &transform })
	receipts, err := b.Publish(t.Context(), postrider.Publication{
		WorkspaceID: b.Workspace, Events: []postrider.PublishedEvent{b.eventWith(t, "1")},
	})
	require.NoError(t, err)
	shape := func(id string) postrider.Shape {
		targets, err := b.Targets(t.Context(), []string{id})
		require.NoError(t, err)
		require.NoError(t, targets[0].Failure)
		return targets[0].Shape
	}
	first := receipts[0].DeliveryIDs[0]
	require.Equal(t, postrider.Shape{Transform: transform}, shape(first))
	_, err = b.UpdateWebhook(t.Context(), b.Workspace, w.ID, func(edit *postrider.WebhookEdit) error {
		edit.Webhook.Transform, edit.Webhook.Format = nil, postrider.FormatCloudEvents
		return nil
	})
	require.NoError(t, err)
	receipts, err = b.Publish(t.Context(), postrider.Publication{
		WorkspaceID: b.Workspace, Events: []postrider.PublishedEvent{b.eventWith(t, "1")},
	})
	require.NoError(t, err)
	require.Equal(t, postrider.Shape{Transform: transform}, shape(first), "as when it was accepted")
	cloudEvents := postrider.Shape{Format: postrider.FormatCloudEvents, Source: "urn:postrider:" + b.Workspace}
	require.Equal(t, cloudEvents, shape(receipts[0].DeliveryIDs[0]))
}

func shapeStored(t *testing.T, b *Bundle) {
	shapes := func() int { return b.count(t.Context(), t, "SELECT COUNT(*) FROM shapes") }
	b.NewWebhook(t)
	require.Zero(t, shapes())
	for range 2 {
		b.NewWebhook(t, func(w *postrider.Webhook) { w.Format = postrider.FormatThin })
	}
	require.Equal(t, 1, shapes())
}
