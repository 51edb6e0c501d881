//nolint:thelper // these are the tests, not helpers of one
package storetest

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
)

func permitTests() map[string]func(*testing.T, *Bundle) {
	return map[string]func(*testing.T, *Bundle){
		"retries count towards max_in_flight":            permitInFlight,
		"a retry that is due is kept a permit":           permitKept,
		"retries leave half to first attempts":           permitHalf,
		"a retry's permit ends by itself":                permitExpires,
		"retries wait for their turn under a rate":       permitRate,
		"many that ask at once share what there is":      permitMany,
		"max_in_flight holds for retries of all":         permitProcesses,
		"a first attempt left to a retry has its permit": permitFirst,
		"only the carrier gets a permit":                 permitElsewhere,
		"a released permit leaves the retry its carrier": permitReleased,
	}
}

const hold = 30 * time.Second // of the tests' permits

// asking is how the tests ask: as the delivery's carrier.
func asking(d postrider.Delivery) postrider.PermitRequest {
	return postrider.PermitRequest{DeliveryID: d.ID, WebhookID: d.WebhookID, WorkflowID: d.WorkflowID, Hold: hold, MaxWait: 2 * time.Second}
}

// retrying returns n deliveries of the webhook whose first attempts failed, and whose
// own workflows go on with them in a second.
func retrying(t *testing.T, b *Bundle, webhookID string, n int) []postrider.Delivery {
	t.Helper()
	published := b.PublishTo(t, webhookID, n)
	deliveries := make([]postrider.Delivery, n)
	for done := 0; done < n; {
		claimed := b.Claimed(t, n)[webhookID]
		require.NotEmpty(t, claimed)
		for _, id := range claimed {
			require.Equal(t, published[done], id)
			require.NoError(t, b.Record(t.Context(), []postrider.Outcome{b.Outcome(t, id, 1, postrider.StateRetrying)}))
			deliveries[done] = b.read(t, id)
			done++
		}
	}
	return deliveries
}

// read returns a delivery.
func (b *Bundle) read(t *testing.T, id string) postrider.Delivery {
	t.Helper()
	d, err := b.Delivery(t.Context(), b.Workspace, id)
	require.NoError(t, err)
	return d
}

func (b *Bundle) permitted(t *testing.T, d postrider.Delivery) bool {
	t.Helper()
	permit, err := b.AcquirePermit(t.Context(), asking(d))
	require.NoError(t, err)
	require.False(t, permit.Elsewhere)
	return permit.Granted
}

func permitInFlight(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t, func(w *postrider.Webhook) { w.MaxInFlight = 2 })
	late := retrying(t, b, w.ID, 3)
	fresh := b.PublishTo(t, w.ID, 2)
	require.True(t, b.permitted(t, late[0]))
	require.True(t, b.permitted(t, late[0]), "its own permit does not stand in its way")
	require.Equal(t, fresh[:1], b.Claimed(t, 10)[w.ID], "one permit is left")
	require.False(t, b.permitted(t, late[1]))
	require.True(t, b.permitted(t, late[0]), "it has its permit still")
	require.NoError(t, b.Record(t.Context(), []postrider.Outcome{b.Outcome(t, late[0].ID, 2, postrider.StateSucceeded)}))
	require.True(t, b.permitted(t, late[1]))
	require.False(t, b.permitted(t, late[2]))
	require.NoError(t, b.ReleasePermit(t.Context(), late[1].ID))
	require.True(t, b.permitted(t, late[2]))
}

func permitKept(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t, func(w *postrider.Webhook) { w.MaxInFlight = 2 })
	late := retrying(t, b, w.ID, 2)
	fresh := b.PublishTo(t, w.ID, 10)
	require.Equal(t, fresh[:2], b.Claimed(t, 10)[w.ID], "nothing is kept for retries before their time")
	require.False(t, b.permitted(t, late[0]))
	require.False(t, b.permitted(t, late[1]))
	b.Clock.Advance(time.Second)
	require.NoError(t, b.Record(t.Context(), []postrider.Outcome{
		b.Outcome(t, fresh[0], 1, postrider.StateSucceeded), b.Outcome(t, fresh[1], 1, postrider.StateSucceeded),
	}))
	require.Equal(t, fresh[2:3], b.Claimed(t, 10)[w.ID], "half is kept for retries")
	require.Empty(t, b.Claimed(t, 10))
	require.True(t, b.permitted(t, late[1]))
	require.False(t, b.permitted(t, late[0]))
	require.NoError(t, b.Record(t.Context(), []postrider.Outcome{b.Outcome(t, late[1].ID, 2, postrider.StateSucceeded)}))
	require.Empty(t, b.Claimed(t, 10), "the other is due")
	// It failed again, and is due no more.
	require.True(t, b.permitted(t, late[0]))
	require.NoError(t, b.Record(t.Context(), []postrider.Outcome{b.Outcome(t, late[0].ID, 2, postrider.StateRetrying)}))
	require.Equal(t, fresh[3:4], b.Claimed(t, 10)[w.ID])
}

func permitHalf(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t, func(w *postrider.Webhook) { w.MaxInFlight = 4 })
	late := retrying(t, b, w.ID, 8)
	b.Clock.Advance(time.Second)
	for _, d := range late[:3] {
		require.True(t, b.permitted(t, d), "nothing else waits")
	}
	fresh := b.PublishTo(t, w.ID, 10)
	require.False(t, b.permitted(t, late[3]), "they have more than half")
	require.True(t, b.permitted(t, late[0]), "but none loses its permit")
	require.Equal(t, fresh[:1], b.Claimed(t, 10)[w.ID], "what they took before first attempts waited stays theirs")
	finish := func(d postrider.Delivery) {
		require.NoError(t, b.Record(t.Context(), []postrider.Outcome{b.Outcome(t, d.ID, 2, postrider.StateSucceeded)}))
	}
	finish(late[0])
	require.False(t, b.permitted(t, late[3]))
	require.Equal(t, fresh[1:2], b.Claimed(t, 10)[w.ID])
	finish(late[1])
	require.Empty(t, b.Claimed(t, 10), "half is kept for retries, in turn")
	require.True(t, b.permitted(t, late[3]))
	require.False(t, b.permitted(t, late[4]))
}

// A carrier that died in an attempt holds up neither its webhook nor the retry.
func permitExpires(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t, func(w *postrider.Webhook) { w.MaxInFlight = 1 })
	late := retrying(t, b, w.ID, 2)
	require.True(t, b.permitted(t, late[0]))
	require.False(t, b.permitted(t, late[1]))
	require.Empty(t, b.handovers(t, 10))
	b.Clock.Advance(hold)
	made := b.handovers(t, 10)
	require.Len(t, made, 1, "the other has its carrier")
	require.Equal(t, [][]string{{late[0].ID}}, members(made))
	require.True(t, b.permitted(t, late[1]), "the permit is free")
	permit, err := b.AcquirePermit(t.Context(), asking(late[0]))
	require.NoError(t, err)
	require.Equal(t, postrider.Permit{Elsewhere: true}, permit)
	require.Equal(t, postrider.StateRetrying, b.State(t, late[0].ID))
	require.False(t, b.permitted(t, made[0].Deliveries[0]))
	require.NoError(t, b.Record(t.Context(), []postrider.Outcome{b.Outcome(t, late[1].ID, 2, postrider.StateSucceeded)}))
	require.True(t, b.permitted(t, made[0].Deliveries[0]))
}

// limit gives the webhook a rate_limit.
func (b *Bundle) limit(t *testing.T, webhookID string, perSecond int) {
	t.Helper()
	_, err := b.UpdateWebhook(t.Context(), b.Workspace, webhookID, func(edit *postrider.WebhookEdit) error {
		edit.Webhook.RateLimit = ref(perSecond)
		return nil
	})
	require.NoError(t, err)
}

func permitRate(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t, func(w *postrider.Webhook) { w.MaxInFlight = 10 })
	late := retrying(t, b, w.ID, 5)
	b.limit(t, w.ID, 1)
	for i, wait := range []time.Duration{0, time.Second, 2 * time.Second} {
		permit, err := b.AcquirePermit(t.Context(), asking(late[i]))
		require.NoError(t, err)
		require.Equal(t, postrider.Permit{Granted: true, Wait: wait}, permit)
	}
	permit, err := b.AcquirePermit(t.Context(), asking(late[3]))
	require.NoError(t, err)
	require.Equal(t, postrider.Permit{Wait: 3 * time.Second}, permit, "longer than it would wait")
	fresh := b.PublishTo(t, w.ID, 1)
	require.Empty(t, b.Claimed(t, 10))
	b.Clock.Advance(3 * time.Second)
	require.Equal(t, fresh, b.Claimed(t, 10)[w.ID])

	// A permit begins when its wait is over, and lasts from then on.
	b.Clock.Advance(hold - time.Second - time.Microsecond)
	require.Equal(t, [][]string{{late[0].ID, late[1].ID}}, members(b.handovers(t, 10)))
}

// The requests come in together, so that a few transactions, perhaps one, decide on all.
func permitMany(t *testing.T, b *Bundle) {
	const most, each = 7, 12
	paced := b.NewWebhook(t, func(w *postrider.Webhook) { w.MaxInFlight = 100 })
	tight := b.NewWebhook(t, func(w *postrider.Webhook) { w.MaxInFlight = most })
	late := append(retrying(t, b, paced.ID, each), retrying(t, b, tight.ID, each)...)
	b.limit(t, paced.ID, 2)
	permits := make([]postrider.Permit, len(late))
	errs := make([]error, len(late))
	var asks sync.WaitGroup
	for i, d := range late {
		asks.Go(func() { permits[i], errs[i] = b.AcquirePermit(t.Context(), asking(d)) })
	}
	asks.Wait()
	var waits, refused []time.Duration
	granted := 0
	for i, permit := range permits {
		require.NoError(t, errs[i])
		require.False(t, permit.Elsewhere)
		switch {
		case i >= each && permit.Granted:
			granted++
		case i >= each:
		case permit.Granted:
			waits = append(waits, permit.Wait)
		default:
			refused = append(refused, permit.Wait)
		}
	}
	require.Equal(t, most, granted)
	slices.Sort(waits)
	const half = 500 * time.Millisecond
	require.Equal(t, []time.Duration{0, half, 2 * half, 3 * half, 4 * half}, waits, "each has its own turn")
	require.Len(t, refused, each-len(waits))
	for _, wait := range refused {
		require.Equal(t, 2500*time.Millisecond, wait)
	}
	require.Equal(t, most+len(waits), b.count(t.Context(), t, "SELECT COUNT(*) FROM outbox WHERE leased AND kind = 'retry'"))
}

func permitProcesses(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t, func(w *postrider.Webhook) { w.MaxInFlight = 3 })
	late := retrying(t, b, w.ID, 12)
	other := b.Open(t, b.Key)
	granted := make([]bool, len(late))
	errs := make([]error, len(late))
	var asks sync.WaitGroup
	for i, d := range late {
		acquire := b.AcquirePermit
		if i%2 == 1 {
			acquire = other.AcquirePermit
		}
		asks.Go(func() {
			permit, err := acquire(t.Context(), asking(d))
			granted[i], errs[i] = permit.Granted, err
		})
	}
	asks.Wait()
	total := 0
	for i, ok := range granted {
		require.NoError(t, errs[i])
		if ok {
			total++
		}
	}
	require.Equal(t, 3, total)
}

func permitFirst(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t, func(w *postrider.Webhook) { w.MaxInFlight = 1 })
	id := b.PublishTo(t, w.ID, 1)[0]
	require.Len(t, b.Claimed(t, 10)[w.ID], 1)
	require.True(t, b.permitted(t, b.read(t, id)), "the permit that it was claimed with")
	b.Clock.Advance(hold - time.Microsecond)
	require.Empty(t, b.Claimed(t, 10), "its hold is the newer one")
	require.NoError(t, b.ReleasePermit(t.Context(), id), "what a claim leased, only the claim's owner gives back")
	require.Empty(t, b.Claimed(t, 10))
	require.Equal(t, []string{id}, b.leased(t, []string{id}))
}

func permitElsewhere(t *testing.T, b *Bundle) {
	ctx := t.Context()
	w := b.NewWebhook(t)
	late := retrying(t, b, w.ID, 4)
	handed, done, left := late[0], late[1], late[2]
	require.NoError(t, b.Leave(ctx, handed.WorkflowID, []string{handed.ID}))
	made := b.handovers(t, 10)
	require.Len(t, made, 1)
	require.NoError(t, b.Leave(ctx, left.WorkflowID, []string{left.ID}))
	require.NoError(t, b.Record(ctx, []postrider.Outcome{b.Outcome(t, done.ID, 2, postrider.StateSucceeded)}))
	unknown := handed
	unknown.ID = "dlv_unknown"
	stranger := late[3]
	stranger.WorkflowID = "retry/another"
	for name, d := range map[string]postrider.Delivery{
		"another's": handed, "finished": done, "left": left, "unknown": unknown, "a stranger": stranger,
	} {
		permit, err := b.AcquirePermit(ctx, asking(d))
		require.NoError(t, err)
		require.Equal(t, postrider.Permit{Elsewhere: true}, permit, name)
	}
	require.Zero(t, b.count(ctx, t, "SELECT COUNT(*) FROM outbox WHERE leased"), "nobody has a permit")
	require.True(t, b.permitted(t, made[0].Deliveries[0]))
	require.True(t, b.permitted(t, late[3]))

	// A request to cancel the carrier is no permit, and stays.
	require.NoError(t, b.DeleteWebhook(ctx, b.Workspace, w.ID))
	for _, d := range []postrider.Delivery{made[0].Deliveries[0], late[3]} {
		permit, err := b.AcquirePermit(ctx, asking(d))
		require.NoError(t, err)
		require.Equal(t, postrider.Permit{Elsewhere: true}, permit)
		require.NoError(t, b.ReleasePermit(ctx, d.ID))
	}
	require.Len(t, b.cancellations(t, 10), 2)
}

func permitReleased(t *testing.T, b *Bundle) {
	ctx := t.Context()
	w := b.NewWebhook(t)
	late := retrying(t, b, w.ID, 1)[0]
	require.True(t, b.permitted(t, late))
	require.NoError(t, b.Leave(ctx, late.WorkflowID, []string{late.ID}), "not while an attempt is under way")
	require.Empty(t, b.handovers(t, 10))
	drain(b.Wake())
	require.NoError(t, b.ReleasePermit(ctx, late.ID))
	require.True(t, woken(b.Wake()), "what waits for the permit can be claimed")
	require.NoError(t, b.ReleasePermit(ctx, late.ID))
	b.Clock.Advance(postrider.CarrierGrace - time.Microsecond)
	require.Empty(t, b.handovers(t, 10))
	require.True(t, b.permitted(t, late))
	require.NoError(t, b.ReleasePermit(ctx, late.ID))
	b.Clock.Advance(postrider.CarrierGrace)
	require.Len(t, b.handovers(t, 10), 1, "its carrier is lost")
}

func woken(wake <-chan struct{}) bool {
	select {
	case <-wake:
		return true
	default:
		return false
	}
}

func drain(wake <-chan struct{}) { woken(wake) }
