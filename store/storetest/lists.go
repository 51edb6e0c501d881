//nolint:thelper // these are the tests, not helpers of one
package storetest

import (
	"testing"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
	"postrider.dev/postrider/store"
)

func listTests() map[string]func(*testing.T, *Bundle) {
	return map[string]func(*testing.T, *Bundle){
		"a page of a filtered list looks at so many rows":    shortPages,
		"webhooks of a persona and a status come in pages":   walkedWebhooks,
		"a workspace does not walk along others' deliveries": foreignWebhook,
		"a workspace has so many webhooks and no more":       webhooksPerWorkspace,
	}
}

// pagesOf returns how many items each page of a list has.
func pagesOf[Item any](t *testing.T, read func(postrider.Page) (postrider.List[Item], error)) []int {
	var sizes []int
	page := postrider.Page{Limit: 3}
	for {
		list, err := read(page)
		require.NoError(t, err)
		sizes = append(sizes, len(list.Items))
		if list.Next == "" {
			return sizes
		}
		require.NotEqual(t, page.After, list.Next)
		page.After = list.Next
	}
}

// Guards against lists that read all that a workspace has, to find nothing.
func shortPages(t *testing.T, b *Bundle) {
	const lookedAt = 5000
	ctx := t.Context()
	w := b.NewWebhook(t, func(w *postrider.Webhook) { w.Events = []string{"call.rare"} })
	_, err := b.Publish(ctx, b.Publication(b.NewEvent("call.rare")))
	require.NoError(t, err)
	b.PublishTo(t, w.ID, lookedAt-1)
	for name, sizes := range map[string]func() []int{
		"events": func() []int {
			return pagesOf(t, func(p postrider.Page) (postrider.List[postrider.Event], error) {
				return b.Events(ctx, b.Workspace, postrider.EventFilter{Type: "call.rare"}, p)
			})
		},
		"a webhook's deliveries": func() []int {
			return pagesOf(t, func(p postrider.Page) (postrider.List[postrider.Delivery], error) {
				return b.Deliveries(ctx, b.Workspace, postrider.DeliveryFilter{WebhookID: w.ID, EventType: "call.rare"}, p)
			})
		},
	} {
		require.Equal(t, []int{1, 0}, sizes(), "%s: the oldest is the last that is looked at", name)
	}
	b.PublishTo(t, w.ID, 1)
	for name, f := range map[string]postrider.DeliveryFilter{
		"of a type":  {WebhookID: w.ID, EventType: "call.rare"},
		"both":       {WebhookID: w.ID, EventType: "call.rare", State: postrider.StatePending, Until: b.Clock.Now().AddDate(0, 0, 1)},
		"since then": {WebhookID: w.ID, EventType: "call.rare", Since: b.Clock.Now()},
	} {
		sizes := pagesOf(t, func(p postrider.Page) (postrider.List[postrider.Delivery], error) {
			return b.Deliveries(ctx, b.Workspace, f, p)
		})
		require.Equal(t, []int{0, 1}, sizes, name)
	}
	for _, state := range []postrider.DeliveryState{postrider.StateSucceeded, postrider.StateDelivering} {
		list, err := b.Deliveries(ctx, b.Workspace, postrider.DeliveryFilter{WebhookID: w.ID, State: state}, postrider.Page{})
		require.NoError(t, err)
		require.Empty(t, list.Items)
		require.NotEmpty(t, list.Next, "%s: there may be more", state)
	}
	failed, err := b.Deliveries(ctx, b.Workspace, postrider.DeliveryFilter{WebhookID: w.ID, State: postrider.StateFailed}, postrider.Page{})
	require.NoError(t, err)
	require.Equal(t, postrider.List[postrider.Delivery]{Items: []postrider.Delivery{}}, failed, "an index knows them all")
	full, err := b.Events(ctx, b.Workspace, postrider.EventFilter{Type: "call.ended"}, postrider.Page{Limit: 3})
	require.NoError(t, err)
	require.Len(t, full.Items, 3)
	require.Equal(t, full.Items[2].Key, full.Next, "goes on after what it shows")
}

func walkedWebhooks(t *testing.T, b *Bundle) {
	for i := range 20 {
		b.NewWebhook(t, func(w *postrider.Webhook) {
			w.ScopeType, w.PersonaID = postrider.ScopePersona, ref([]string{"p1", "p2"}[i%2])
			w.Status = []postrider.WebhookStatus{postrider.WebhookActive, postrider.WebhookPaused}[i/2%2]
			w.Events = []string{[]string{"call.ended", "call.started"}[i/4%2]}
		})
	}
	for _, c := range []struct {
		filter postrider.WebhookFilter
		sizes  []int
	}{
		{postrider.WebhookFilter{PersonaID: "p1"}, []int{3, 3, 3, 1}},
		{postrider.WebhookFilter{Status: postrider.WebhookPaused}, []int{3, 3, 3, 1}},
		{postrider.WebhookFilter{PersonaID: "p2", Status: postrider.WebhookActive}, []int{3, 2}},
		{postrider.WebhookFilter{PersonaID: "p2", Status: postrider.WebhookActive, Event: "call.started"}, []int{2}},
		{postrider.WebhookFilter{Event: "call.ended"}, []int{3, 3, 3, 3}},
		{postrider.WebhookFilter{PersonaID: "p3"}, []int{0}},
	} {
		sizes := pagesOf(t, func(p postrider.Page) (postrider.List[postrider.Webhook], error) {
			return b.Webhooks(t.Context(), b.Workspace, c.filter, p)
		})
		require.Equal(t, c.sizes, sizes, "%+v", c.filter)
	}
}

func foreignWebhook(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t)
	published := b.PublishTo(t, w.ID, 1)
	filter := postrider.DeliveryFilter{WebhookID: w.ID, EventType: "call.ended"}
	list, err := b.Deliveries(t.Context(), b.NewWorkspace(t), filter, postrider.Page{})
	require.NoError(t, err)
	require.Equal(t, postrider.List[postrider.Delivery]{Items: []postrider.Delivery{}}, list)
	require.NoError(t, b.DeleteWebhook(t.Context(), b.Workspace, w.ID))
	list, err = b.Deliveries(t.Context(), b.Workspace, filter, postrider.Page{})
	require.NoError(t, err)
	require.Len(t, list.Items, 1, "history stays")
	require.Equal(t, published[0], list.Items[0].ID)
}

func webhooksPerWorkspace(t *testing.T, b *Bundle) {
	ctx := t.Context()
	limited := b.OpenWith(t, b.Key, func(o *store.Options) { o.MaxWebhooks = 2 })
	first, err := limited.CreateWebhook(ctx, b.Settings(), "")
	require.NoError(t, err)
	_, err = limited.CreateWebhook(ctx, b.Settings(), "")
	require.NoError(t, err)
	_, err = limited.CreateWebhook(ctx, b.Settings(), "a secret")
	requireCode(t, postrider.CodeConflict, err)
	require.ErrorContains(t, err, "2 webhooks")
	require.Zero(t, b.count(ctx, t, "SELECT COUNT(*) FROM secrets"), "nothing of it is left")
	require.Equal(t, 2, b.count(ctx, t, "SELECT COUNT(*) FROM webhooks"))

	other := b.Settings()
	other.WorkspaceID = b.NewWorkspace(t)
	_, err = limited.CreateWebhook(ctx, other, "")
	require.NoError(t, err, "another workspace has its own")
	require.NoError(t, limited.DeleteWebhook(ctx, b.Workspace, first.ID))
	_, err = limited.CreateWebhook(ctx, b.Settings(), "")
	require.NoError(t, err, "a deleted one does not count")
}
