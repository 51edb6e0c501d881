//nolint:thelper // these are the tests, not helpers of one
package storetest

import (
	"testing"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
)

func orderActTests() map[string]func(*testing.T, *Bundle) {
	return map[string]func(*testing.T, *Bundle){
		"a skip lets the next delivery of an order go":            skipHead,
		"what failed and blocks can be retried":                   retryBlocked,
		"what blocks can be retried by what it repeats":           retryRepeated,
		"what failed and blocks can be skipped or cancelled":      releaseBlocked,
		"a delivery that waits for its turn gets no other action": actBehind,
		"what is sent again has its turn last":                    againInOrder,
		"fewer retries can block an order":                        editBlocks,
	}
}

// failHead fails the delivery whose turn it is.
func (b *Bundle) failHead(t *testing.T, w postrider.Webhook) string {
	t.Helper()
	claimed := b.claimed(t, w)
	require.Len(t, claimed, 1)
	b.end(t, claimed[0], postrider.StateFailed)
	return claimed[0]
}

func skipHead(t *testing.T, b *Bundle) {
	w := b.ordered(t, postrider.OrderingFIFO, blocking)
	ids := b.PublishTo(t, w.ID, 2)
	skipped := b.done(t, postrider.ActionSkip, ids[0])
	require.Equal(t, postrider.StateFailed, skipped.State)
	require.Equal(t, postrider.Skipped, *skipped.LastError)
	require.Equal(t, ids[1:], b.claimed(t, w))
	requireCode(t, postrider.CodeConflict, b.act(t, postrider.ActionSkip, ids[0]).Err)
	requireCode(t, postrider.CodeConflict, b.act(t, postrider.ActionSkip, b.PublishTo(t, b.NewWebhook(t).ID, 1)[0]).Err)
	stats, err := b.Webhook(t.Context(), b.Workspace, w.ID)
	require.NoError(t, err)
	require.EqualValues(t, 1, stats.Stats.FailedDeliveries)
}

func retryBlocked(t *testing.T, b *Bundle) {
	w := b.ordered(t, postrider.OrderingFIFO, blocking)
	ids := b.PublishTo(t, w.ID, 2)
	require.Equal(t, ids[0], b.failHead(t, w))
	require.Empty(t, b.claimed(t, w))
	again := b.done(t, postrider.ActionRetry, ids[0])
	require.Equal(t, ids[0], *again.ReplayOf)
	require.Equal(t, again.ID, b.done(t, postrider.ActionRetry, ids[0]).ID, "many calls are one")
	require.Equal(t, again.ID, b.read(t, ids[1]).BlockedBy)
	require.Equal(t, again.ID, b.failHead(t, w))
	require.Empty(t, b.claimed(t, w), "it blocks in its turn")
	b.done(t, postrider.ActionRetry, again.ID)
	b.end(t, b.claimed(t, w)[0], postrider.StateSucceeded)
	require.Equal(t, ids[1:], b.claimed(t, w))
}

// Guards a retry of what failed first that would wait for its own repetition.
func retryRepeated(t *testing.T, b *Bundle) {
	w := b.ordered(t, postrider.OrderingFIFO, blocking)
	ids := b.PublishTo(t, w.ID, 2)
	b.failHead(t, w)
	b.done(t, postrider.ActionRetry, ids[0])
	second := b.failHead(t, w)
	third := b.done(t, postrider.ActionRetry, ids[0])
	require.Equal(t, ids[0], *third.ReplayOf)
	require.NotEqual(t, second, third.ID)
	require.Equal(t, third.ID, b.read(t, ids[1]).BlockedBy)
	require.Equal(t, []string{third.ID, ids[1]}, b.drain(t, w))
	require.Zero(t, b.count(t.Context(), t, "SELECT COUNT(*) FROM lanes"))
}

func releaseBlocked(t *testing.T, b *Bundle) {
	for _, kind := range []postrider.ActionKind{postrider.ActionSkip, postrider.ActionCancel} {
		w := b.ordered(t, postrider.OrderingFIFO, blocking)
		ids := b.PublishTo(t, w.ID, 2)
		b.failHead(t, w)
		before := b.read(t, ids[0])
		require.Equal(t, before, b.done(t, kind, ids[0]), "failed is final")
		require.Equal(t, ids[1:], b.claimed(t, w))
		requireCode(t, postrider.CodeConflict, b.act(t, kind, ids[0]).Err)
		actions, err := b.Actions(t.Context(), ids[0])
		require.NoError(t, err)
		require.Len(t, actions, 1)
	}
}

func actBehind(t *testing.T, b *Bundle) {
	w := b.ordered(t, postrider.OrderingFIFO)
	ids := b.PublishTo(t, w.ID, 3)
	for _, kind := range []postrider.ActionKind{postrider.ActionRetry, postrider.ActionSkip} {
		err := b.act(t, kind, ids[1]).Err
		requireCode(t, postrider.CodeConflict, err)
		require.ErrorContains(t, err, ids[0])
	}
	b.done(t, postrider.ActionPause, ids[1])
	b.end(t, b.claimed(t, w)[0], postrider.StateSucceeded)
	require.Empty(t, b.claimed(t, w), "what is paused holds up those after it")
	require.Equal(t, ids[1], b.read(t, ids[2]).BlockedBy)
	b.done(t, postrider.ActionPause, ids[2])
	b.done(t, postrider.ActionResume, ids[2])
	require.Empty(t, b.claimed(t, w))
	b.done(t, postrider.ActionResume, ids[1])
	require.Equal(t, ids[1:], b.drain(t, w))
}

func againInOrder(t *testing.T, b *Bundle) {
	w := b.ordered(t, postrider.OrderingKey)
	ids := b.inOrder(t, w.ID, "a", "a", "a")
	first := b.failHead(t, w)
	again := b.done(t, postrider.ActionRetry, first)
	require.Equal(t, append(ids[1:], again.ID), b.drain(t, w))
}

func editBlocks(t *testing.T, b *Bundle) {
	w := b.ordered(t, postrider.OrderingFIFO, blocking)
	ids := b.PublishTo(t, w.ID, 2)
	b.end(t, b.claimed(t, w)[0], postrider.StateRetrying)
	edit := postrider.ActionRequest{Kind: postrider.ActionEdit, DeliveryIDs: ids[:1], Edit: postrider.TermsEdit{MaxRetries: ref(0)}}
	require.NoError(t, b.actAs(t, edit)[0].Err)
	require.Equal(t, postrider.StateFailed, b.State(t, ids[0]))
	require.Empty(t, b.claimed(t, w))
	b.done(t, postrider.ActionSkip, ids[0])
	require.Equal(t, ids[1:], b.claimed(t, w))
}
