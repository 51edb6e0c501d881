//nolint:thelper // these are the tests, not helpers of one
package storetest

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider"
)

func admitTests() map[string]func(*testing.T, *Bundle) {
	return map[string]func(*testing.T, *Bundle){
		"retries count towards max_in_flight":       admitInFlight,
		"a refused retry is kept a place":           admitAsking,
		"a retry's place ends by itself":            admitExpires,
		"retries wait for their turn under a rate":  admitRate,
		"max_in_flight holds for retries of all":    admitProcesses,
		"a first attempt left to a retry has place": admitFirst,
	}
}

// asking is how the tests ask.
func asking() postrider.Ask {
	return postrider.Ask{Hold: 30 * time.Second, MaxWait: 2 * time.Second, Again: 10 * time.Second}
}

// retrying returns n deliveries of the webhook whose first attempts failed.
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
			var err error
			deliveries[done], err = b.Delivery(t.Context(), b.Workspace, id)
			require.NoError(t, err)
			done++
		}
	}
	return deliveries
}

func (b *Bundle) admitted(t *testing.T, d postrider.Delivery) bool {
	t.Helper()
	admission, err := b.Admit(t.Context(), d, asking())
	require.NoError(t, err)
	return admission.Granted
}

func admitInFlight(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t, func(w *postrider.Webhook) { w.MaxInFlight = 2 })
	late := retrying(t, b, w.ID, 3)
	fresh := b.PublishTo(t, w.ID, 2)
	require.True(t, b.admitted(t, late[0]))
	require.True(t, b.admitted(t, late[0]), "its own place does not stand in its way")
	require.Equal(t, fresh[:1], b.Claimed(t, 10)[w.ID], "one place is left")
	require.False(t, b.admitted(t, late[1]))
	require.NoError(t, b.Record(t.Context(), []postrider.Outcome{b.Outcome(t, late[0].ID, 2, postrider.StateSucceeded)}))
	require.True(t, b.admitted(t, late[1]))
	require.False(t, b.admitted(t, late[2]))
	require.NoError(t, b.Leave(t.Context(), late[1].ID))
	require.True(t, b.admitted(t, late[2]))
}

func admitAsking(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t, func(w *postrider.Webhook) { w.MaxInFlight = 2 })
	late := retrying(t, b, w.ID, 2)
	fresh := b.PublishTo(t, w.ID, 10)
	require.Equal(t, fresh[:2], b.Claimed(t, 10)[w.ID])
	require.False(t, b.admitted(t, late[0]))
	require.False(t, b.admitted(t, late[1]))
	require.NoError(t, b.Record(t.Context(), []postrider.Outcome{
		b.Outcome(t, fresh[0], 1, postrider.StateSucceeded), b.Outcome(t, fresh[1], 1, postrider.StateSucceeded),
	}))
	require.Equal(t, fresh[2:3], b.Claimed(t, 10)[w.ID], "half is kept for retries")
	require.Empty(t, b.Claimed(t, 10))
	require.True(t, b.admitted(t, late[1]))
	require.False(t, b.admitted(t, late[0]))

	// One that does not ask again is forgotten.
	require.NoError(t, b.Record(t.Context(), []postrider.Outcome{b.Outcome(t, late[1].ID, 2, postrider.StateSucceeded)}))
	require.Empty(t, b.Claimed(t, 10))
	b.Clock.Advance(20 * time.Second)
	require.Equal(t, fresh[3:4], b.Claimed(t, 10)[w.ID])
}

func admitExpires(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t, func(w *postrider.Webhook) { w.MaxInFlight = 1 })
	late := retrying(t, b, w.ID, 1)
	fresh := b.PublishTo(t, w.ID, 1)
	require.True(t, b.admitted(t, late[0]))
	require.Empty(t, b.Claimed(t, 10))
	b.Clock.Advance(asking().Hold)
	require.Equal(t, fresh, b.Claimed(t, 10)[w.ID], "the retry itself is not handed over again")
	require.Equal(t, postrider.StateRetrying, b.State(t, late[0].ID))
}

func admitRate(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t, func(w *postrider.Webhook) { w.MaxInFlight = 10 })
	late := retrying(t, b, w.ID, 5)
	_, err := b.UpdateWebhook(t.Context(), b.Workspace, w.ID, func(edit *postrider.WebhookEdit) error {
		edit.Webhook.RateLimit = ref(1)
		return nil
	})
	require.NoError(t, err)
	for i, wait := range []time.Duration{0, time.Second, 2 * time.Second} {
		admission, err := b.Admit(t.Context(), late[i], asking())
		require.NoError(t, err)
		require.Equal(t, postrider.Admission{Granted: true, Wait: wait}, admission)
	}
	admission, err := b.Admit(t.Context(), late[3], asking())
	require.NoError(t, err)
	require.Equal(t, postrider.Admission{Wait: 3 * time.Second}, admission, "longer than it would wait")
	fresh := b.PublishTo(t, w.ID, 1)
	require.Empty(t, b.Claimed(t, 10))
	b.Clock.Advance(3 * time.Second)
	require.Equal(t, fresh, b.Claimed(t, 10)[w.ID])
}

func admitProcesses(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t, func(w *postrider.Webhook) { w.MaxInFlight = 3 })
	late := retrying(t, b, w.ID, 12)
	other := b.Open(t, b.Key)
	granted := make([]bool, len(late))
	var asks sync.WaitGroup
	for i, d := range late {
		admit := b.Admit
		if i%2 == 1 {
			admit = other.Admit
		}
		asks.Go(func() {
			admission, err := admit(t.Context(), d, asking())
			granted[i] = err == nil && admission.Granted
		})
	}
	asks.Wait()
	total := 0
	for _, ok := range granted {
		if ok {
			total++
		}
	}
	require.Equal(t, 3, total)
}

func admitFirst(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t, func(w *postrider.Webhook) { w.MaxInFlight = 1 })
	id := b.PublishTo(t, w.ID, 1)[0]
	require.Len(t, b.Claimed(t, 10)[w.ID], 1)
	d, err := b.Delivery(t.Context(), b.Workspace, id)
	require.NoError(t, err)
	require.True(t, b.admitted(t, d), "the place that it was claimed with")
	b.Clock.Advance(asking().Hold - time.Microsecond)
	require.Empty(t, b.Claimed(t, 10), "its hold is the newer one")
	require.NoError(t, b.Leave(t.Context(), id), "what a claim leased, only the claim's owner gives back")
	require.Empty(t, b.Claimed(t, 10))
}
