//nolint:thelper // these are the tests, not helpers of one
package storetest

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
	"postrider.dev/postrider/store"
)

func matchTests() map[string]func(*testing.T, *Bundle) {
	return map[string]func(*testing.T, *Bundle){
		"every process sees a change of a webhook at once":   matchChanges,
		"every process sees that a webhook was disabled":     matchDisabled,
		"another workspace's changes are not this one's":     matchWorkspaces,
		"no pause and no resume overlooks what is published": matchToggled,
	}
}

// edit changes a webhook through one of the stores.
func (b *Bundle) edit(t *testing.T, s *store.Store, id string, change func(*postrider.Webhook)) {
	t.Helper()
	_, err := s.UpdateWebhook(t.Context(), b.Workspace, id, func(e *postrider.WebhookEdit) error {
		change(e.Webhook)
		return nil
	})
	require.NoError(t, err)
}

// reached publishes through one of the stores and returns the deliveries by webhook.
func (b *Bundle) reached(t *testing.T, s *store.Store, eventType string, persona *string) map[string]postrider.Delivery {
	t.Helper()
	e := b.NewEvent(eventType)
	e.PersonaID = persona
	receipts, err := s.Publish(t.Context(), b.Publication(e))
	require.NoError(t, err)
	found := map[string]postrider.Delivery{}
	for _, id := range receipts[0].DeliveryIDs {
		d, err := b.Delivery(t.Context(), b.Workspace, id)
		require.NoError(t, err)
		found[d.WebhookID] = d
	}
	require.Len(t, found, len(receipts[0].DeliveryIDs))
	return found
}

func matchChanges(t *testing.T, b *Bundle) {
	other := b.Open(t, b.Key)
	processes := []*store.Store{b.Store, other}
	all := b.NewWebhook(t)
	w := all
	// Each step is done by one process, and seen by both: by that which had remembered
	// too, and that before.
	for i, step := range []struct {
		name    string
		change  func(*store.Store)
		matches func(eventType, persona string) bool
		state   postrider.DeliveryState
		timeout int
	}{
		{"created", func(s *store.Store) {
			settings := b.Settings("call.ended")
			created, err := s.CreateWebhook(t.Context(), settings, "")
			require.NoError(t, err)
			w = created
		}, func(eventType, _ string) bool { return eventType == "call.ended" }, postrider.StatePending, 5000},
		{"events", func(s *store.Store) {
			b.edit(t, s, w.ID, func(w *postrider.Webhook) { w.Events = []string{"contact.*"} })
		}, func(eventType, _ string) bool { return eventType == "contact.updated" }, postrider.StatePending, 5000},
		{"persona", func(s *store.Store) {
			b.edit(t, s, w.ID, func(w *postrider.Webhook) { w.ScopeType, w.PersonaID = postrider.ScopePersona, ref("p1") })
		}, func(eventType, persona string) bool { return eventType == "contact.updated" && persona == "p1" }, postrider.StatePending, 5000},
		{"global again, and another policy", func(s *store.Store) {
			b.edit(t, s, w.ID, func(w *postrider.Webhook) {
				w.ScopeType, w.PersonaID, w.Events, w.TimeoutMS = postrider.ScopeGlobal, nil, []string{"*"}, 2000
			})
		}, func(string, string) bool { return true }, postrider.StatePending, 2000},
		{"paused", func(s *store.Store) {
			b.edit(t, s, w.ID, func(w *postrider.Webhook) { w.Status = postrider.WebhookPaused })
		}, func(string, string) bool { return true }, postrider.StateParked, 2000},
		{"resumed", func(s *store.Store) {
			b.edit(t, s, w.ID, func(w *postrider.Webhook) { w.Status = postrider.WebhookActive })
		}, func(string, string) bool { return true }, postrider.StatePending, 2000},
		{"deleted", func(s *store.Store) {
			require.NoError(t, s.DeleteWebhook(t.Context(), b.Workspace, w.ID))
		}, func(string, string) bool { return false }, "", 0},
	} {
		for _, s := range processes { // what was before is remembered
			b.reached(t, s, "call.ended", nil)
			b.reached(t, s, "contact.updated", ref("p1"))
		}
		step.change(processes[i%2])
		for _, s := range processes {
			for _, eventType := range []string{"call.ended", "contact.updated"} {
				for _, persona := range []*string{nil, ref("p1"), ref("p2")} {
					got := b.reached(t, s, eventType, persona)
					require.Contains(t, got, all.ID)
					id := ""
					if persona != nil {
						id = *persona
					}
					if !step.matches(eventType, id) {
						require.Len(t, got, 1, "%s: %s %s", step.name, eventType, id)
						continue
					}
					require.Equal(t, step.state, got[w.ID].State, "%s: %s %s", step.name, eventType, id)
					require.Equal(t, step.timeout, got[w.ID].Policy.TimeoutMS, step.name)
				}
			}
		}
	}
}

func matchDisabled(t *testing.T, b *Bundle) {
	other := b.Open(t, b.Key)
	w := b.NewWebhook(t)
	require.Equal(t, postrider.StatePending, b.reached(t, other, "a", nil)[w.ID].State)
	id := b.Claimed(t, 1)[w.ID][0]
	o := b.Outcome(t, id, 1, postrider.StateFailed)
	o.DisableWebhook = "gone"
	require.NoError(t, b.Record(t.Context(), []postrider.Outcome{o}))
	for _, s := range []*store.Store{other, b.Store} {
		require.Equal(t, postrider.StateParked, b.reached(t, s, "a", nil)[w.ID].State)
	}
}

func matchWorkspaces(t *testing.T, b *Bundle) {
	mine := b.NewWebhook(t)
	theirs := b.Publication(b.NewEvent("a"))
	theirs.WorkspaceID = b.NewWorkspace(t)
	publish := func() int {
		receipts, err := b.Publish(t.Context(), theirs)
		require.NoError(t, err)
		theirs.Events = []postrider.PublishedEvent{b.NewEvent("a")}
		return len(receipts[0].DeliveryIDs)
	}
	require.Zero(t, publish())
	b.NewWebhook(t, func(w *postrider.Webhook) { w.WorkspaceID = theirs.WorkspaceID })
	require.Equal(t, 1, publish())
	require.Len(t, b.reached(t, b.Store, "a", nil), 1)
	require.Contains(t, b.reached(t, b.Store, "a", nil), mine.ID)
	theirs.WorkspaceID = "ws_unknown"
	require.Zero(t, publish())
}

// matchToggled pauses and resumes a webhook while two processes publish: when a
// pause has been swept nothing is pending, and after it nothing becomes so; when a resume
// has been swept nothing is parked.
func matchToggled(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var publishers sync.WaitGroup
	tokens := make(chan struct{}, 100) // for one event each: nothing is delivered, so they must not be too many
	for _, s := range []*store.Store{b.Store, b.Open(t, b.Key)} {
		for range 4 {
			publishers.Go(func() {
				for {
					select {
					case <-ctx.Done():
						return
					case <-tokens:
					}
					if _, err := s.Publish(context.WithoutCancel(ctx), b.Publication(b.NewEvent("a"))); err != nil {
						t.Errorf("publish: %v", err)
						return
					}
				}
			})
		}
	}
	raw := b.Raw(t)
	count := func(state postrider.DeliveryState) (n int) {
		require.NoError(t, raw.GetContext(t.Context(), &n, "SELECT COUNT(*) FROM deliveries WHERE state = $1", state))
		return n
	}
	refill := func() {
		for range cap(tokens) - len(tokens) {
			tokens <- struct{}{}
		}
	}
	for range 15 {
		refill()
		b.edit(t, b.Store, w.ID, func(w *postrider.Webhook) { w.Status = postrider.WebhookPaused })
		b.SweepAll(t)
		require.Zero(t, count(postrider.StatePending))
		refill()
		require.Eventually(t, func() bool { return count(postrider.StateParked) > 0 }, time.Minute, time.Millisecond)
		require.Zero(t, count(postrider.StatePending))
		b.edit(t, b.Store, w.ID, func(w *postrider.Webhook) { w.Status = postrider.WebhookActive })
		b.SweepAll(t)
		require.Zero(t, count(postrider.StateParked))
	}
	stop()
	publishers.Wait()
}
