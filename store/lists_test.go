package store_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
	"postrider.dev/postrider/store"
)

// TestFilteredListsReadLittle guards that no list reads what a workspace has to find nothing in it,
// whatever it is narrowed by. PostgreSQL counts.
func TestFilteredListsReadLittle(t *testing.T) {
	t.Parallel()
	l := newLife(t)
	l.exec(t, "VACUUM ANALYZE")
	crowded := l.PublishTo(t, l.crowded.ID, crowd)
	one, err := l.Delivery(t.Context(), l.Workspace, crowded[0])
	require.NoError(t, err)
	now, stranger := l.Clock.Now(), l.NewWorkspace(t)
	few, page := postrider.Page{Limit: 5}, 20 // entries of an index for a page: two for each delivery
	events := func(f postrider.EventFilter) func() error {
		return func() error { _, err := l.Events(t.Context(), l.Workspace, f, few); return err }
	}
	deliveries := func(f postrider.DeliveryFilter) func() error {
		return func() error { _, err := l.Deliveries(t.Context(), l.Workspace, f, few); return err }
	}
	w := l.crowded.ID
	for name, c := range map[string]struct {
		read func() error
		most int // entries of one index
	}{
		"events":                  {events(postrider.EventFilter{}), page},
		"events of a type":        {events(postrider.EventFilter{Type: "no.such"}), 2 * store.MaxLookedAt},
		"events of an hour":       {events(postrider.EventFilter{Since: now.Add(time.Hour), Until: now.Add(2 * time.Hour)}), page},
		"events of both":          {events(postrider.EventFilter{Type: "no.such", Since: now.Add(time.Hour)}), page},
		"deliveries":              {deliveries(postrider.DeliveryFilter{WebhookID: w}), page},
		"deliveries of a type":    {deliveries(postrider.DeliveryFilter{WebhookID: w, EventType: "no.such"}), 2 * store.MaxLookedAt},
		"deliveries of an hour":   {deliveries(postrider.DeliveryFilter{WebhookID: w, Since: now.Add(time.Hour)}), page},
		"pending deliveries":      {deliveries(postrider.DeliveryFilter{WebhookID: w, State: postrider.StatePending}), store.MaxLookedAt + page},
		"delivering ones":         {deliveries(postrider.DeliveryFilter{WebhookID: w, State: postrider.StateDelivering}), 2 * store.MaxLookedAt},
		"succeeded ones":          {deliveries(postrider.DeliveryFilter{WebhookID: w, State: postrider.StateSucceeded}), 2 * store.MaxLookedAt},
		"failed ones":             {deliveries(postrider.DeliveryFilter{WebhookID: w, State: postrider.StateFailed}), page},
		"failed ones of a type":   {deliveries(postrider.DeliveryFilter{WebhookID: w, State: postrider.StateFailed, EventType: "no.such"}), page},
		"an event's":              {deliveries(postrider.DeliveryFilter{EventID: one.EventID}), page},
		"an event's to a webhook": {deliveries(postrider.DeliveryFilter{EventID: one.EventID, WebhookID: w}), page},
		"an event's failed ones":  {deliveries(postrider.DeliveryFilter{EventID: one.EventID, State: postrider.StateFailed}), page},
		"those of another's hook": {func() error {
			_, err := l.Deliveries(t.Context(), stranger, postrider.DeliveryFilter{WebhookID: w}, few)
			return err
		}, page},
	} {
		for range 3 { // the first two are not prepared
			require.NoError(t, c.read())
		}
		settle(t, l.raw)
		before := readsOf(t, l.raw)
		require.NoError(t, c.read())
		settle(t, l.raw)
		for index, read := range readsOf(t, l.raw) {
			require.LessOrEqual(t, read-before[index], c.most, "%s: %s", name, index)
		}
	}
}
