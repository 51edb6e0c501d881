package worker_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
	"postrider.dev/postrider/worker"
)

func TestUnknownReceiverGetsFewSlots(t *testing.T) {
	t.Parallel()
	b := setup(t, 80, worker.BatchingAlways)
	ids := b.publish(20)
	b.run()
	b.awaitAttempts(4)
	for n := range 3 { // every quick answer frees a slot and widens the window by one
		b.dispatcher.Done(ids[n])
		b.awaitAttempts(4 + 2*(n+1))
	}
}

// Guards against receivers that hang and take the slots of all others.
func TestSlotsAreLeftForQuickReceivers(t *testing.T) {
	t.Parallel()
	b := setup(t, 80, worker.BatchingAlways)
	b.prove(b.webhook, 30)
	for range 10 {
		b.publishTo(b.subscribe(), 10)
	}
	b.run()
	b.awaitAttempts(20)
	for n := range 2 {
		ids := b.publish(15)
		b.awaitAttempts(20 + 15*(n+1))
		require.ElementsMatch(t, ids, b.temporal.attempted()[20+15*n:])
		for _, id := range ids {
			b.dispatcher.Done(id)
		}
		b.advance(3 * time.Second) // the other receivers are slow now, and keep their slots
	}
	require.EqualValues(t, 80, b.pending())
}

// Guards against batches that last as long as their slowest receiver.
func TestSlowReceiversHaveTheirOwnBatches(t *testing.T) {
	t.Parallel()
	b := setup(t, 80, worker.BatchingAlways)
	slow, quick := b.subscribe(), b.webhook
	b.prove(quick, 10)
	late := b.publishTo(slow, 4)
	b.run()
	b.awaitAttempts(4)
	b.advance(3 * time.Second)
	for _, id := range late {
		b.dispatcher.Done(id)
	}
	b.publish(1)
	b.awaitAttempts(5) // opens a batch
	webhookOf := map[string]string{}
	for range 2 {
		for _, id := range append(b.publishTo(slow, 2), b.publishTo(quick, 2)...) {
			webhookOf[id] = b.delivery(id).WebhookID
		}
	}
	b.awaitAttempts(13)
	slows := 0
	for _, c := range b.temporal.started()[1:] {
		other := slices.ContainsFunc(c.arrived, func(id string) bool { return webhookOf[id] != slow.ID })
		isSlow := slices.ContainsFunc(c.known, func(d postrider.Dispatch) bool { return d.Slow })
		require.NotEqual(t, other, isSlow)
		if isSlow {
			slows += len(c.arrived)
			require.Equal(t, c.ids(), c.arrived, "no claim joins it")
		}
	}
	require.Equal(t, 4, slows)
}

func TestDispatcherKeepsToPerHost(t *testing.T) {
	t.Parallel()
	b := setupConfig(t, worker.DispatcherConfig{InFlight: 100, PerHost: 3, Batching: worker.BatchingNever})
	ids := append(b.publish(4), b.publishTo(b.subscribe(), 4)...) // on the same host
	b.run()
	b.awaitAttempts(3)
	eventually(t, func() bool { return b.pending() == 5 }, "deliveries beyond the limit are released")
	for n := 4; n <= len(ids); n++ {
		b.dispatcher.Done(b.temporal.attempted()[n-4])
		b.awaitAttempts(n)
	}
	require.ElementsMatch(t, ids, b.temporal.attempted())
}
