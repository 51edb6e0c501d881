//nolint:thelper // these are the tests, not helpers of one
package storetest

import (
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
	"postrider.dev/postrider/store"
)

func operationalTests() map[string]func(*testing.T, *Bundle) {
	return map[string]func(*testing.T, *Bundle){
		"a failed attempt is told":                         operationalRecord,
		"what fails without an attempt is told":            operationalWithout,
		"a 410 tells that the webhook is disabled":         operationalGone,
		"operational events never make another":            operationalNoMore,
		"operational events that nobody wants are no rows": operationalUnwanted,
		"operational events match by name and by filter":   operationalMatch,
		"operational events are published once":            operationalOnce,
		"operational events go by turns and in steps":      operationalTurns,
		"operational events get past costly filters":       operationalCostly,
	}
}

// watcher creates a webhook of the workspace that gets operational events.
func (b *Bundle) watcher(t *testing.T, edits ...func(*postrider.Webhook)) postrider.Webhook {
	t.Helper()
	return b.NewWebhook(t, append([]func(*postrider.Webhook){func(w *postrider.Webhook) { w.Events = []string{"postrider.*"} }}, edits...)...)
}

// tellAll publishes all operational events.
func (b *Bundle) tellAll(t *testing.T) {
	t.Helper()
	all(t, b.PublishOperational)
}

// untold counts the operational events that have still to be published.
func (b *Bundle) untold(t *testing.T) int {
	t.Helper()
	return b.count(t.Context(), t, "SELECT COUNT(*) FROM operational_events")
}

// toldEvent is an operational event as a webhook gets it.
type toldEvent[Data any] struct {
	ID        string
	Type      string
	Timestamp time.Time
	PersonaID *string `json:"persona_id"`
	Data      Data
}

// toldTo publishes all operational events and reads those that the webhook gets, newest first.
func toldTo[Data any](t *testing.T, b *Bundle, webhookID, eventType string) []toldEvent[Data] {
	t.Helper()
	b.tellAll(t)
	filter := postrider.DeliveryFilter{WebhookID: webhookID, EventType: eventType}
	page, err := b.Deliveries(t.Context(), b.Workspace, filter, postrider.Page{Limit: postrider.MaxPageSize})
	require.NoError(t, err)
	var events []toldEvent[Data]
	for _, d := range page.Items {
		event, err := b.Event(t.Context(), b.Workspace, d.EventID)
		require.NoError(t, err)
		var body toldEvent[Data]
		require.NoError(t, json.Unmarshal(event.Body, &body))
		require.Equal(t, []any{event.ID, event.Type, event.Timestamp}, []any{body.ID, body.Type, body.Timestamp})
		require.Nil(t, body.PersonaID)
		events = append(events, body)
	}
	return events
}

func operationalRecord(t *testing.T, b *Bundle) {
	w, watcher := b.NewWebhook(t), b.watcher(t)
	id := underWay(t, b, w)
	retried := b.Outcome(t, id, 1, postrider.StateRetrying)
	retried.Attempt.ResponseExcerpt = ref("the receiver's own words")
	require.NoError(t, b.Record(t.Context(), []postrider.Outcome{retried}))
	require.Zero(t, b.untold(t), "it may still succeed")
	last := b.Outcome(t, id, 2, postrider.StateFailed)
	last.Attempt.ResponseExcerpt = retried.Attempt.ResponseExcerpt
	require.NoError(t, b.Record(t.Context(), []postrider.Outcome{last}))
	requireCode(t, postrider.CodeConflict, b.Record(t.Context(), []postrider.Outcome{last}))
	require.Equal(t, 1, b.untold(t), "a record that comes again tells nothing again")
	happened := postrider.Timestamp(b.Clock.Now())
	b.Clock.Advance(time.Minute)

	events := toldTo[postrider.FailedDelivery](t, b, watcher.ID, postrider.EventDeliveryFailed)
	require.Len(t, events, 1)
	require.Equal(t, happened, events[0].Timestamp, "when it happened, not when it was published")
	require.Equal(t, postrider.FailedDelivery{
		DeliveryID: id, WebhookID: w.ID, EventID: b.read(t, id).EventID, EventType: "call.ended", AttemptCount: 2,
		LastError: last.Attempt.Error, Result: ref(postrider.ResultServerError), StatusCode: ref(500), FailedAt: last.FinishedAt(),
	}, events[0].Data)
	require.Zero(t, b.untold(t))
	event, err := b.Event(t.Context(), b.Workspace, events[0].ID)
	require.NoError(t, err)
	require.NotContains(t, string(event.Body), "own words")

	id = underWay(t, b, w)
	require.NoError(t, b.Record(t.Context(), []postrider.Outcome{b.Outcome(t, id, 1, postrider.StateSucceeded)}))
	require.Zero(t, b.untold(t))
}

// operationalWithout fails deliveries in each way that has no attempt. The game of neverLost compares
// what failed with what was told, however it came to that.
func operationalWithout(t *testing.T, b *Bundle) {
	watcher := b.watcher(t)
	short := b.NewWebhook(t, func(w *postrider.Webhook) { w.ParkSeconds = 60 })
	edited := carriedForAnHour(t, b, b.NewWebhook(t))
	require.Equal(t, postrider.StateFailed, b.editRetries(t, edited, 0).Delivery.State)
	held := paused(carriedForAnHour)(t, b, short)
	expired := b.perishable(t, short.ID, 1, time.Minute)[0]
	b.Clock.Advance(time.Minute)
	b.ExpireAll(t)
	idle := b.PublishTo(t, short.ID, 1)[0]
	b.pause(t, short.ID)
	b.Clock.Advance(2 * time.Minute)
	require.EqualValues(t, 2, b.retain(t, Start().Add(-day)).Parked)

	reasons := map[string]string{}
	for _, e := range toldTo[postrider.FailedDelivery](t, b, watcher.ID, postrider.EventDeliveryFailed) {
		d := b.read(t, e.Data.DeliveryID)
		require.Equal(t, postrider.FailedDelivery{
			DeliveryID: d.ID, WebhookID: d.WebhookID, EventID: d.EventID, EventType: d.EventType, AttemptCount: d.AttemptCount,
			LastError: d.LastError, FailedAt: *d.FinishedAt,
		}, e.Data)
		reasons[d.ID], _, _ = strings.Cut(*d.LastError, ";")
	}
	require.Equal(t, map[string]string{
		edited: "max_retries was changed to 0 after 1 attempts", expired: postrider.Expired,
		idle: "parked for too long", held: "parked for too long",
	}, reasons)
}

func operationalGone(t *testing.T, b *Bundle) {
	w, watcher := b.NewWebhook(t, func(w *postrider.Webhook) {
		w.URL, w.Events = "https://receiver.example:8443/path/token?key=token", []string{"*", "postrider.webhook.disabled"}
	}), b.watcher(t)
	gone := func() {
		o := b.Outcome(t, underWay(t, b, w), 1, postrider.StateFailed)
		o.DisableWebhook = postrider.DisabledGone
		require.NoError(t, b.Record(t.Context(), []postrider.Outcome{o}))
	}
	gone()
	events := toldTo[postrider.ChangedWebhook](t, b, watcher.ID, postrider.EventWebhookDisabled)
	require.Len(t, events, 1)
	require.Equal(t, postrider.ChangedWebhook{
		WebhookID: w.ID, Host: "receiver.example:8443", Reason: ref(postrider.DisabledGone), At: postrider.Timestamp(b.Clock.Now()),
	}, events[0].Data)
	require.Len(t, toldTo[postrider.FailedDelivery](t, b, watcher.ID, postrider.EventDeliveryFailed), 1)
	require.Equal(t, 1, b.inState(t, w.ID, postrider.StateParked), "of itself it hears when it is active again")
	b.resume(t, w.ID)
	require.Equal(t, 1, b.inState(t, w.ID, postrider.StatePending))
}

func operationalNoMore(t *testing.T, b *Bundle) {
	first := b.watcher(t, func(w *postrider.Webhook) { w.ParkSeconds = 60 })
	second := b.watcher(t)
	b.perishable(t, b.NewWebhook(t, func(w *postrider.Webhook) { w.Events = []string{"none"} }).ID, 2, time.Second)
	b.Clock.Advance(time.Second)
	b.ExpireAll(t)
	b.tellAll(t)

	claimed := b.Claimed(t, 10)
	require.Len(t, claimed[first.ID], 2)
	failed := b.Outcome(t, claimed[first.ID][0], 1, postrider.StateFailed)
	gone := b.Outcome(t, claimed[second.ID][0], 1, postrider.StateFailed)
	gone.DisableWebhook = postrider.DisabledGone
	require.NoError(t, b.Record(t.Context(), []postrider.Outcome{failed, gone}))
	read, err := b.Webhook(t.Context(), b.Workspace, second.ID)
	require.NoError(t, err)
	require.Equal(t, postrider.WebhookDisabled, read.Status)
	require.NoError(t, b.Release(t.Context(), claimed[first.ID]))
	b.pause(t, first.ID)
	b.Clock.Advance(2 * time.Minute)
	require.EqualValues(t, 1, b.retain(t, Start().Add(-day)).Parked)
	require.Zero(t, b.untold(t))
}

func operationalUnwanted(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t)
	b.NewWebhook(t, func(w *postrider.Webhook) {
		w.Events, w.ScopeType, w.PersonaID = []string{"postrider.*", "*"}, postrider.ScopePersona, ref("customer")
	})
	b.watcher(t, func(w *postrider.Webhook) { w.WorkspaceID = b.NewWorkspace(t) })
	unsubscribed := b.watcher(t)
	require.NoError(t, b.DeleteWebhook(t.Context(), b.Workspace, unsubscribed.ID))
	fail := func() {
		o := b.Outcome(t, underWay(t, b, w), 1, postrider.StateFailed)
		require.NoError(t, b.Record(t.Context(), []postrider.Outcome{o}))
	}
	fail()
	require.Zero(t, b.untold(t))

	other := b.Open(t, b.Key) // another process, of which this one hears nothing
	settings := b.Settings(postrider.EventDeliveryFailed)
	watcher, err := other.CreateWebhook(t.Context(), settings, "whsec_dG9wIHNlY3JldCB0b3Agc2VjcmV0IQ==")
	require.NoError(t, err)
	fail()
	require.Len(t, toldTo[postrider.FailedDelivery](t, b, watcher.ID, ""), 1)
}

func operationalMatch(t *testing.T, b *Bundle) {
	w, other := b.NewWebhook(t, func(w *postrider.Webhook) { w.Events = []string{"none"} }), b.NewWebhook(t)
	wanted := map[string]int{other.ID: 0}
	for events, n := range map[string]int{
		"postrider.*": 2, "postrider.delivery.*": 2, postrider.EventDeliveryFailed: 2, "postrider.webhook.*": 0, "delivery.*": 0,
	} {
		wanted[b.NewWebhook(t, func(w *postrider.Webhook) { w.Events = []string{events} }).ID] = n
	}
	wanted[b.watcher(t, func(o *postrider.Webhook) { o.Filter = ref(`event.data.webhook_id == "` + w.ID + `"`) }).ID] = 1
	b.perishable(t, w.ID, 1, time.Second)
	b.perishable(t, other.ID, 1, time.Second)
	b.Clock.Advance(time.Second)
	b.ExpireAll(t)
	b.tellAll(t)
	for id, n := range wanted {
		require.Len(t, toldTo[postrider.FailedDelivery](t, b, id, postrider.EventDeliveryFailed), n, id)
	}
	list, err := b.Webhooks(t.Context(), b.Workspace, postrider.WebhookFilter{Event: postrider.EventDeliveryFailed}, postrider.Page{Limit: 10})
	require.NoError(t, err)
	require.Len(t, list.Items, 4)
}

func operationalOnce(t *testing.T, b *Bundle) {
	ctx := t.Context()
	b.watcher(t)
	const failures = 350
	b.perishable(t, b.NewWebhook(t, func(w *postrider.Webhook) { w.Events = []string{"none"} }).ID, failures, time.Second)
	b.Clock.Advance(time.Second)
	b.ExpireAll(t)
	require.Equal(t, failures, b.untold(t))
	_, err := b.Raw(t).ExecContext(ctx, "ALTER TABLE outbox RENAME TO outbox_away")
	require.NoError(t, err)
	_, err = b.PublishOperational(ctx)
	require.Error(t, err)
	_, err = b.Raw(t).ExecContext(ctx, "ALTER TABLE outbox_away RENAME TO outbox")
	require.NoError(t, err)
	require.Equal(t, failures, b.untold(t), "a transaction that fails takes none of them")

	var tasks sync.WaitGroup
	for _, process := range []*store.Store{b.Store, b.Open(t, b.Key), b.Open(t, b.Key)} {
		tasks.Go(func() { all(t, process.PublishOperational) })
	}
	tasks.Wait()
	b.tellAll(t)
	require.Zero(t, b.untold(t))
	const events = " FROM events WHERE type = 'postrider.delivery.failed'"
	require.Equal(t, failures, b.count(ctx, t, "SELECT COUNT(*)"+events))
	require.Equal(t, failures, b.count(ctx, t, "SELECT COUNT(DISTINCT body)"+events))
	require.Equal(t, failures, b.count(ctx, t, "SELECT COUNT(*) FROM deliveries WHERE event_type = 'postrider.delivery.failed'"))
}

func operationalTurns(t *testing.T, b *Bundle) {
	ctx, storm := t.Context(), b.Workspace
	for _, n := range []int{1000, 1} {
		b.watcher(t)
		b.perishable(t, b.NewWebhook(t, func(w *postrider.Webhook) { w.Events = []string{"none"} }).ID, n, time.Second)
		b.Workspace = b.NewWorkspace(t)
	}
	b.Clock.Advance(time.Second)
	b.ExpireAll(t)
	require.Equal(t, 1001, b.untold(t))
	for range 2 {
		more, err := b.PublishOperational(ctx)
		require.NoError(t, err)
		require.True(t, more)
	}
	var left []string
	require.NoError(t, b.Raw(t).SelectContext(ctx, &left, "SELECT workspace_id FROM operational_events"))
	require.NotEmpty(t, left)
	require.GreaterOrEqual(t, len(left), 800, "a step is bounded")
	for _, workspace := range left {
		require.Equal(t, storm, workspace, "the other did not wait for all of them")
	}
	b.tellAll(t)
	more, err := b.PublishOperational(ctx)
	require.NoError(t, err)
	require.False(t, more)
}

// operationalCostly guards that filters which take too long for a step do not hold it up for ever.
func operationalCostly(t *testing.T, b *Bundle) {
	costly, filter := "[0,1,2,3,4,5,6,7,8,9]", "true"
	for _, name := range []string{"a", "b", "c", "d", "e", "f"} {
		filter = costly + ".all(" + name + ", " + filter + ")"
	}
	for range 3 { // each another one, and so evaluated by itself
		b.watcher(t, func(w *postrider.Webhook) { w.Filter = ref(filter) })
		filter += " "
	}
	const failures = 100
	b.perishable(t, b.NewWebhook(t, func(w *postrider.Webhook) { w.Events = []string{"none"} }).ID, failures, time.Second)
	b.Clock.Advance(time.Second)
	b.ExpireAll(t)
	more, err := b.PublishOperational(t.Context())
	require.NoError(t, err)
	require.True(t, more)
	require.Less(t, b.untold(t), failures)
}
