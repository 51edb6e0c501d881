//nolint:thelper // these are the tests, not helpers of one
package storetest

import (
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
	"postrider.dev/postrider/store"
)

func orderTests() map[string]func(*testing.T, *Bundle) {
	return map[string]func(*testing.T, *Bundle){
		"a fifo webhook gets one delivery at a time":             orderFIFO,
		"each key is an order of its own":                        orderKeys,
		"an order is that of acceptance for all processes":       orderAcrossProcesses,
		"processes play on an order without getting ahead":       orderRaced,
		"a large publication keeps its place in an order":        orderLarge,
		"too large a publication for orders is refused":          orderTooLarge,
		"a webhook that is paused keeps its orders":              orderPaused,
		"what is due later holds up those after it":              orderScheduled,
		"what expires or waits for too long leaves its order":    orderExpires,
		"what is called off leaves its order":                    orderCalledOff,
		"deleting a webhook leaves no order":                     orderDeleted,
		"deleting a webhook ends what blocks its orders":         orderDeletedBlocked,
		"what was accepted before a change keeps its order":      orderChanged,
		"an upgrade is not taken back while orders wait":         orderUpgraded,
		"an order that has stopped is mended":                    orderMended,
		"a delivery that blocks is kept as long as it does":      orderRetained,
		"the event of a delivery that blocks is kept with it":    orderRetainedEvent,
		"an order's head waits for the attempt of the one ended": orderWire,
	}
}

func (b *Bundle) ordered(t *testing.T, ordering postrider.Ordering, edits ...func(*postrider.Webhook)) postrider.Webhook {
	t.Helper()
	return b.NewWebhook(t, append([]func(*postrider.Webhook){func(w *postrider.Webhook) { w.Ordering = ordering }}, edits...)...)
}

func blocking(w *postrider.Webhook) { w.OnExhausted = postrider.ExhaustedBlock }

// inOrder publishes events with the keys to the webhook, "" for none, and returns their deliveries.
func (b *Bundle) inOrder(t *testing.T, webhookID string, keys ...string) []string {
	t.Helper()
	p := b.Publication()
	for _, key := range keys {
		e := b.NewEventTo(webhookID)
		if key != "" {
			e.OrderingKey = &key
		}
		p.Events = append(p.Events, e)
	}
	receipts, err := b.Publish(t.Context(), p)
	require.NoError(t, err)
	ids := make([]string, len(receipts))
	for i, r := range receipts {
		ids[i] = r.DeliveryIDs[0]
	}
	return ids
}

func (b *Bundle) claimed(t *testing.T, w postrider.Webhook) []string {
	t.Helper()
	return b.Claimed(t, 100)[w.ID]
}

func (b *Bundle) end(t *testing.T, id string, state postrider.DeliveryState) {
	t.Helper()
	require.NoError(t, b.Record(t.Context(), []postrider.Outcome{b.Outcome(t, id, b.read(t, id).AttemptCount+1, state)}))
}

// drain lets everything succeed that is claimed for the webhook, and returns it in order.
func (b *Bundle) drain(t *testing.T, w postrider.Webhook) []string {
	t.Helper()
	var all []string
	for {
		claimed := b.claimed(t, w)
		if len(claimed) == 0 {
			return all
		}
		for _, id := range claimed {
			b.end(t, id, postrider.StateSucceeded)
		}
		all = append(all, claimed...)
	}
}

func orderFIFO(t *testing.T, b *Bundle) {
	w := b.ordered(t, postrider.OrderingFIFO)
	ids := b.PublishTo(t, w.ID, 3)
	require.Equal(t, ids[:1], b.claimed(t, w))
	require.Equal(t, ids[0], b.read(t, ids[2]).BlockedBy)
	require.Empty(t, b.read(t, ids[0]).BlockedBy)
	require.Empty(t, b.claimed(t, w))

	b.end(t, ids[0], postrider.StateRetrying)
	require.Empty(t, b.claimed(t, w), "a retry keeps its turn")
	blockers, err := b.Blockers(t.Context(), w.ID)
	require.NoError(t, err)
	require.Len(t, blockers, 1)
	require.Equal(t, postrider.Blocker{DeliveryID: ids[0], State: postrider.StateRetrying, Since: blockers[0].Since}, blockers[0])

	b.end(t, ids[0], postrider.StateFailed)
	require.Equal(t, ids[1:2], b.claimed(t, w), "skip goes on")
	b.end(t, ids[1], postrider.StateSucceeded)
	require.Equal(t, ids[2:], b.drain(t, w))
	require.Zero(t, b.count(t.Context(), t, "SELECT COUNT(*) FROM lanes"))
	require.Equal(t, b.PublishTo(t, w.ID, 1), b.drain(t, w))
}

func orderKeys(t *testing.T, b *Bundle) {
	w := b.ordered(t, postrider.OrderingKey, blocking)
	ids := b.inOrder(t, w.ID, "a", "a", "b", "", "", "b")
	require.ElementsMatch(t, []string{ids[0], ids[2], ids[3], ids[4]}, b.claimed(t, w))
	b.end(t, ids[0], postrider.StateFailed)
	b.end(t, ids[2], postrider.StateSucceeded)
	require.Equal(t, ids[5:], b.claimed(t, w), "a is blocked, b goes on")
	blockers, err := b.Blockers(t.Context(), w.ID)
	require.NoError(t, err)
	require.Equal(t, []postrider.Blocker{
		{OrderingKey: ref("a"), DeliveryID: ids[0], State: postrider.StateFailed, Since: postrider.Timestamp(b.Clock.Now())},
	}, blockers)
	require.Equal(t, ids[0], b.read(t, ids[1]).BlockedBy)
	other, err := b.Blockers(t.Context(), b.NewWebhook(t).ID)
	require.NoError(t, err)
	require.Empty(t, other)
}

// Guards the order where each process has ids of its own, and a commit may come after a later one's.
func orderAcrossProcesses(t *testing.T, b *Bundle) {
	w := b.ordered(t, postrider.OrderingFIFO)
	other := b.Open(t, b.Key)
	var accepted []string
	for i := range 20 {
		s := b.Store
		if i%2 == 1 {
			s = other
			b.Clock.Advance(-time.Minute) // this process's ids are of earlier times
		}
		receipts, err := s.Publish(t.Context(), b.Publication(b.NewEventTo(w.ID)))
		require.NoError(t, err)
		accepted = append(accepted, receipts[0].DeliveryIDs...)
		if i%2 == 1 {
			b.Clock.Advance(time.Minute)
		}
	}
	require.Equal(t, accepted, b.drain(t, w))
}

// Guards against deadlocks and lost turns: processes publish, claim and record at once.
func orderRaced(t *testing.T, b *Bundle) {
	w := b.ordered(t, postrider.OrderingKey)
	r := &race{Bundle: b, webhook: w.ID, running: map[string]string{}, accepted: map[string][]string{}, made: map[string][]string{}}
	var tasks sync.WaitGroup
	for p := range racers {
		s := b.Open(t, b.Key)
		tasks.Go(func() { r.publish(t, s, strconv.Itoa(p)) })
		tasks.Go(func() { r.deliver(t, s) })
	}
	tasks.Wait()
	require.False(t, t.Failed())
	for process, accepted := range r.accepted { // of one process and key
		require.Equal(t, accepted, r.made[process])
	}
	require.Zero(t, b.count(t.Context(), t, "SELECT COUNT(*) FROM lanes"))
	require.Zero(t, b.count(t.Context(), t, "SELECT COUNT(*) FROM outbox"))
}

const racers, eachRacer = 3, 40

// race is processes that publish to a webhook with keys, and deliver.
type race struct {
	*Bundle
	webhook string

	mu             sync.Mutex
	running        map[string]string   // by lane
	accepted, made map[string][]string // events by type, which names the process and the key
	done           int
}

func (r *race) publish(t *testing.T, s *store.Store, process string) {
	keys := []string{"a", "b", "c"}
	for range eachRacer {
		p := r.Publication()
		slices.Reverse(keys)
		for _, key := range keys {
			e := r.NewEvent(process + "." + key)
			e.WebhookID, e.OrderingKey = &r.webhook, &key
			p.Events = append(p.Events, e)
		}
		if _, err := s.Publish(t.Context(), p); err != nil {
			t.Error(err)
			return
		}
		for _, e := range p.Events {
			r.locked(func() { r.accepted[e.Type] = append(r.accepted[e.Type], e.ID) })
		}
	}
}

func (r *race) deliver(t *testing.T, s *store.Store) {
	for all := false; !all && !t.Failed(); r.locked(func() { all = r.done == racers*eachRacer*3 }) {
		claimed, err := s.Claim(t.Context(), postrider.ClaimRequest{Limit: 5, Lease: lease})
		if err != nil {
			t.Error(err)
			return
		}
		var outcomes []postrider.Outcome
		for _, d := range claimed {
			r.locked(func() {
				if other := r.running[d.Lane]; other != "" {
					t.Errorf("%s and %s are under way at once", d.ID, other)
				}
				r.running[d.Lane] = d.ID
				r.made[d.EventType] = append(r.made[d.EventType], d.EventID)
			})
			outcomes = append(outcomes, postrider.Outcome{
				DeliveryID: d.ID, WorkspaceID: d.WorkspaceID, WebhookID: d.WebhookID, State: postrider.StateSucceeded, WorkflowID: d.WorkflowID,
				Attempt: postrider.Attempt{Number: 1, StartedAt: r.Clock.Now(), Result: postrider.ResultSuccess},
			})
		}
		for _, d := range claimed {
			r.locked(func() { r.running[d.Lane] = ""; r.done++ })
		}
		if err := s.Record(t.Context(), outcomes); err != nil {
			t.Error(err)
		}
	}
}

func (r *race) locked(change func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change()
}

// Guards the place of what is fanned out: what is accepted after it must come after it.
func orderLarge(t *testing.T, b *Bundle) {
	w := b.ordered(t, postrider.OrderingFIFO)
	for range 3 {
		b.NewWebhook(t)
	}
	p := b.Publication()
	for range postrider.MaxBatch {
		p.Events = append(p.Events, b.NewEvent("call.ended"))
	}
	receipts, err := b.Publish(t.Context(), p)
	require.NoError(t, err)
	require.Equal(t, 4, receipts[0].Deliveries)
	after := b.PublishTo(t, w.ID, 1)[0]
	b.FanOutAll(t)
	require.Equal(t, 4*postrider.MaxBatch+1, b.count(t.Context(), t, "SELECT COUNT(*) FROM deliveries"))
	for i := range 3 {
		claimed := b.claimed(t, w)
		require.Len(t, claimed, 1)
		require.Equal(t, receipts[i].ID, b.read(t, claimed[0]).EventID)
		b.end(t, claimed[0], postrider.StateSucceeded)
	}
	require.NotEmpty(t, b.read(t, after).BlockedBy)
}

func orderTooLarge(t *testing.T, b *Bundle) {
	for range 4 {
		b.ordered(t, postrider.OrderingFIFO)
	}
	p := b.Publication()
	for range postrider.MaxBatch {
		p.Events = append(p.Events, b.NewEvent("call.ended"))
	}
	_, err := b.Publish(t.Context(), p)
	requireCode(t, postrider.CodeInvalid, err)
	require.Zero(t, b.count(t.Context(), t, "SELECT COUNT(*) FROM events"))
}

func orderPaused(t *testing.T, b *Bundle) {
	w := b.ordered(t, postrider.OrderingFIFO)
	ids := b.PublishTo(t, w.ID, 3)
	b.end(t, b.claimed(t, w)[0], postrider.StateRetrying)
	_, err := b.PauseWebhook(t.Context(), b.Workspace, w.ID)
	require.NoError(t, err)
	b.SweepAll(t)
	for _, id := range ids {
		require.Equal(t, postrider.StateParked, b.State(t, id))
	}
	ids = append(ids, b.PublishTo(t, w.ID, 2)...)
	_, err = b.ResumeWebhook(t.Context(), b.Workspace, w.ID)
	require.NoError(t, err)
	b.SweepAll(t)
	require.Empty(t, b.claimed(t, w), "the first goes on with its retries")
	b.end(t, ids[0], postrider.StateSucceeded)
	require.Equal(t, ids[1:], b.drain(t, w))
}

func orderScheduled(t *testing.T, b *Bundle) {
	w := b.ordered(t, postrider.OrderingFIFO)
	e := b.NewEventTo(w.ID)
	e.DeliverAt = ref(postrider.Timestamp(b.Clock.Now().Add(time.Hour)))
	later := b.NewEventTo(w.ID)
	later.DeliverAt = ref(postrider.Timestamp(b.Clock.Now().Add(2 * time.Hour)))
	receipts, err := b.Publish(t.Context(), b.Publication(e, b.NewEventTo(w.ID), later))
	require.NoError(t, err)
	require.Empty(t, b.claimed(t, w))
	blockers, err := b.Blockers(t.Context(), w.ID)
	require.NoError(t, err)
	require.Equal(t, receipts[0].DeliveryIDs[0], blockers[0].DeliveryID)
	b.Clock.Advance(time.Hour)
	require.Equal(t, []string{receipts[0].DeliveryIDs[0], receipts[1].DeliveryIDs[0]}, b.drain(t, w))
	b.Clock.Advance(time.Hour)
	require.Equal(t, receipts[2].DeliveryIDs, b.drain(t, w))
}

func orderExpires(t *testing.T, b *Bundle) {
	w := b.ordered(t, postrider.OrderingFIFO, blocking)
	first := b.perishable(t, w.ID, 2, time.Minute)
	rest := b.PublishTo(t, w.ID, 1)
	b.Clock.Advance(time.Minute)
	_, err := b.Expire(t.Context())
	require.NoError(t, err)
	require.Equal(t, postrider.StateFailed, b.State(t, first[1]))
	require.Equal(t, rest, b.drain(t, w), "what expired blocks nothing")

	held := b.PublishTo(t, w.ID, 2)
	b.done(t, postrider.ActionPause, held[0])
	blockers, err := b.Blockers(t.Context(), w.ID)
	require.NoError(t, err)
	since := postrider.Timestamp(b.Clock.Now())
	require.Equal(t, []postrider.Blocker{{DeliveryID: held[0], State: postrider.StateParked, Since: since}}, blockers)
	b.Clock.Advance(postrider.DefaultParkSeconds*time.Second + time.Hour)
	_, err = b.Retain(t.Context(), Start().Add(-day), func(postrider.Removed) {})
	require.NoError(t, err)
	require.Equal(t, postrider.StateFailed, b.State(t, held[0]))
	require.Equal(t, held[1:], b.drain(t, w))
}

func orderCalledOff(t *testing.T, b *Bundle) {
	w := b.ordered(t, postrider.OrderingFIFO)
	ids := b.PublishTo(t, w.ID, 4)
	require.Equal(t, ids[:1], b.claimed(t, w))
	b.end(t, ids[0], postrider.StateRetrying)
	b.cancelEvent(t, b.read(t, ids[2]).EventID)
	b.cancelEvent(t, b.read(t, ids[0]).EventID)
	require.Equal(t, ids[1:2], b.claimed(t, w))
	require.NoError(t, b.CancelDelivery(t.Context(), b.read(t, ids[1]).WorkflowID, ids[1]))
	b.Clock.Advance(lease)
	require.Equal(t, ids[3:], b.claimed(t, w))
}

func orderDeleted(t *testing.T, b *Bundle) {
	w := b.ordered(t, postrider.OrderingKey)
	b.inOrder(t, w.ID, slices.Repeat([]string{"a", "b", "c"}, 100)...)
	require.NoError(t, b.DeleteWebhook(t.Context(), b.Workspace, w.ID))
	b.SweepAll(t)
	for _, table := range []string{"lanes", "lane_places", "outbox"} {
		require.Zero(t, b.count(t.Context(), t, "SELECT COUNT(*) FROM "+table), table)
	}
}

// Guards rows that nobody would remove, and days that would be kept for them.
func orderDeletedBlocked(t *testing.T, b *Bundle) {
	w := b.ordered(t, postrider.OrderingKey, blocking)
	keys := make([]string, backlog)
	for i := range keys {
		keys[i] = strconv.Itoa(i)
	}
	failed := b.inOrder(t, w.ID, keys...)
	b.ended(t, failed, postrider.StateFailed)
	behind := b.inOrder(t, w.ID, keys[:3]...)
	require.Equal(t, failed[0], b.read(t, behind[0]).BlockedBy)
	require.NoError(t, b.DeleteWebhook(t.Context(), b.Workspace, w.ID))
	b.SweepAll(t)
	for _, table := range []string{"lanes", "lane_places", "outbox", "sweeps"} {
		require.Zero(t, b.count(t.Context(), t, "SELECT COUNT(*) FROM "+table), table)
	}
	require.Equal(t, postrider.StateFailed, b.State(t, failed[0]), "failed is final")
	require.Equal(t, postrider.StateCancelled, b.State(t, behind[0]))
	b.Clock.Advance(40 * day)
	b.retain(t, b.Clock.Now().Add(-30*day))
	require.Zero(t, b.count(t.Context(), t, "SELECT COUNT(*) FROM deliveries"))
}

func orderChanged(t *testing.T, b *Bundle) {
	w := b.ordered(t, postrider.OrderingFIFO)
	old := b.inOrder(t, w.ID, "a", "a")
	_, err := b.UpdateWebhook(t.Context(), b.Workspace, w.ID, func(e *postrider.WebhookEdit) error {
		e.Webhook.Ordering = postrider.OrderingNone
		return nil
	})
	require.NoError(t, err)
	fresh := b.inOrder(t, w.ID, "a", "a")
	require.ElementsMatch(t, []string{old[0], fresh[0], fresh[1]}, b.claimed(t, w))
	b.end(t, old[0], postrider.StateFailed)
	require.Equal(t, old[1:], b.claimed(t, w))
}

// Guards deliveries that the version before would never make, or make side by side.
func orderUpgraded(t *testing.T, b *Bundle) {
	w := b.ordered(t, postrider.OrderingFIFO)
	b.PublishTo(t, w.ID, 2)
	require.ErrorContains(t, b.downTo(t, 22), "version:23", "something waits, or may")
	_, err := b.UpdateWebhook(t.Context(), b.Workspace, w.ID, func(e *postrider.WebhookEdit) error {
		e.Webhook.Ordering = postrider.OrderingNone
		return nil
	})
	require.NoError(t, err)
	require.ErrorContains(t, b.downTo(t, 22), "version:23", "something waits, or may")
	require.Len(t, b.drain(t, w), 2)
	require.NoError(t, b.downTo(t, 22))
	require.NoError(t, b.Migrate(t.Context()))
	require.Len(t, b.PublishTo(t, w.ID, 2), 2)
	require.Len(t, b.claimed(t, w), 2)
}

func orderMended(t *testing.T, b *Bundle) {
	w := b.ordered(t, postrider.OrderingKey)
	var all, rest []string
	for i := range 3 {
		ids := b.inOrder(t, w.ID, strconv.Itoa(i), strconv.Itoa(i))
		all, rest = append(all, ids[0]), append(rest, ids[1])
	}
	raw := b.Raw(t)
	for query, id := range map[string]string{ // a process that knows no order ended it, it was lost, and a head that waits
		"UPDATE deliveries SET state = 'succeeded', finished_at = created_at WHERE id = $1":          all[0],
		"DELETE FROM deliveries WHERE id = $1":                                                       all[1],
		"UPDATE outbox SET hold_until = (SELECT MAX(hold_until) FROM outbox) WHERE delivery_id = $1": all[2],
	} {
		_, err := raw.ExecContext(t.Context(), query, id)
		require.NoError(t, err)
	}
	_, err := raw.ExecContext(t.Context(), "DELETE FROM outbox WHERE delivery_id IN ($1, $2)", all[0], all[1])
	require.NoError(t, err)
	require.Empty(t, b.claimed(t, w))
	for range 2 {
		_, err := b.MendLanes(t.Context())
		require.NoError(t, err)
	}
	require.ElementsMatch(t, []string{rest[0], rest[1], all[2]}, b.claimed(t, w))
}

func orderRetained(t *testing.T, b *Bundle) {
	w := b.ordered(t, postrider.OrderingFIFO, blocking)
	ids := b.PublishTo(t, w.ID, 1)
	b.end(t, b.claimed(t, w)[0], postrider.StateFailed)
	b.Clock.Advance(40 * day)
	_, err := b.Retain(t.Context(), b.Clock.Now().Add(-30*day), func(postrider.Removed) {})
	require.NoError(t, err)
	require.Equal(t, postrider.StateFailed, b.State(t, ids[0]))
	b.done(t, postrider.ActionSkip, ids[0])
	_, err = b.Retain(t.Context(), b.Clock.Now().Add(-30*day), func(postrider.Removed) {})
	require.NoError(t, err)
	_, err = b.Delivery(t.Context(), b.Workspace, ids[0])
	requireCode(t, postrider.CodeNotFound, err)
}

// Guards the retry of what was sent again long after its event, and blocks.
func orderRetainedEvent(t *testing.T, b *Bundle) {
	w := b.ordered(t, postrider.OrderingFIFO, blocking)
	b.PublishTo(t, w.ID, 1)
	pass := func(days time.Duration) {
		b.Clock.Advance(days * day)
		require.NoError(t, b.EnsurePartitions(t.Context(), b.Clock.Now()))
		b.retain(t, b.Clock.Now().Add(-30*day))
	}
	first := b.failHead(t, w)
	pass(20)
	b.done(t, postrider.ActionRetry, first)
	second := b.failHead(t, w)
	pass(40)
	b.done(t, postrider.ActionRetry, second)
	require.Len(t, b.drain(t, w), 1)
	pass(40)
	require.Zero(t, b.count(t.Context(), t, "SELECT COUNT(*) FROM events"))
	require.Zero(t, b.count(t.Context(), t, "SELECT COUNT(*) FROM deliveries"))
}

// Guards "one at a time" where somebody ends a delivery while a request of it is on the wire.
func orderWire(t *testing.T, b *Bundle) {
	w := b.ordered(t, postrider.OrderingFIFO)
	ids := b.PublishTo(t, w.ID, 3)
	require.Equal(t, ids[:1], b.claimed(t, w))
	outcome := b.Outcome(t, ids[0], 1, postrider.StateSucceeded)
	b.done(t, postrider.ActionCancel, ids[0])
	require.Empty(t, b.claimed(t, w), "the request goes on")
	b.done(t, postrider.ActionRetry, ids[1])
	b.done(t, postrider.ActionPause, ids[1])
	b.done(t, postrider.ActionResume, ids[1])
	require.Empty(t, b.claimed(t, w))
	requireCode(t, postrider.CodeConflict, b.Record(t.Context(), []postrider.Outcome{outcome}))
	require.Equal(t, ids[1:2], b.claimed(t, w))

	b.done(t, postrider.ActionSkip, ids[1])
	require.Empty(t, b.claimed(t, w))
	b.Clock.Advance(lease)
	require.Equal(t, ids[2:], b.claimed(t, w), "the attempt is lost")

	b.done(t, postrider.ActionCancel, ids[2])
	last := b.PublishTo(t, w.ID, 1)
	require.Empty(t, b.claimed(t, w), "nothing is left, and yet a request goes on")
	b.Clock.Advance(lease)
	require.Equal(t, last, b.drain(t, w))
}
