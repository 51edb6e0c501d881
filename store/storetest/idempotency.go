//nolint:thelper // these are the tests, not helpers of one
package storetest

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
)

func idempotencyTests() map[string]func(*testing.T, *Bundle) {
	return map[string]func(*testing.T, *Bundle){
		"an idempotency key repeats the answer":           idempotencyKey,
		"an event's own id repeats its receipt":           idempotencyID,
		"a conflict publishes nothing":                    idempotencyAllOrNothing,
		"an event's key is no other event's id":           idempotencyOfOtherEvent,
		"the same key at once publishes once":             idempotencyConcurrent,
		"the same ids at once from two processes are one": idempotencyProcesses,
	}
}

func idempotencyKey(t *testing.T, b *Bundle) {
	b.NewWebhook(t)
	p := b.Publication(b.NewEvent("a"), b.NewEvent("b"))
	p.IdempotencyKey = "key"
	first, err := b.Publish(t.Context(), p)
	require.NoError(t, err)
	again := b.Publication(b.NewEvent("a"), b.NewEvent("b"))
	again.IdempotencyKey = "key"
	second, err := b.Publish(t.Context(), again)
	require.NoError(t, err)
	for i := range first {
		require.False(t, first[i].Duplicate)
		first[i].Duplicate = true
	}
	require.Equal(t, first, second)
	require.Equal(t, 2, b.count(t.Context(), t, "SELECT COUNT(*) FROM deliveries"))

	other := b.Publication(b.NewEvent("b"), b.NewEvent("a")) // another order is another request
	other.IdempotencyKey = "key"
	_, err = b.Publish(t.Context(), other)
	requireCode(t, postrider.CodeConflict, err)
	other.WorkspaceID = b.NewWorkspace(t) // another workspace's key is another key
	receipts, err := b.Publish(t.Context(), other)
	require.NoError(t, err)
	require.False(t, receipts[0].Duplicate)
}

func (b *Bundle) given(id, eventType string) postrider.PublishedEvent {
	e := b.NewEvent(eventType)
	e.ID = id
	return e
}

func idempotencyID(t *testing.T, b *Bundle) {
	b.NewWebhook(t)
	receipts, err := b.Publish(t.Context(), b.Publication(b.given("one", "a"), b.given("one", "a"), b.given("two", "a")))
	require.NoError(t, err)
	require.Equal(t, []bool{false, true, false}, []bool{receipts[0].Duplicate, receipts[1].Duplicate, receipts[2].Duplicate})
	require.Equal(t, receipts[0].DeliveryIDs, receipts[1].DeliveryIDs)

	again, err := b.Publish(t.Context(), b.Publication(b.given("three", "a"), b.given("one", "a")))
	require.NoError(t, err)
	require.Equal(t, []bool{false, true}, []bool{again[0].Duplicate, again[1].Duplicate})
	require.Equal(t, receipts[0].DeliveryIDs, again[1].DeliveryIDs)
	require.Equal(t, 3, b.count(t.Context(), t, "SELECT COUNT(*) FROM events"))
}

func idempotencyAllOrNothing(t *testing.T, b *Bundle) {
	b.NewWebhook(t)
	_, err := b.Publish(t.Context(), b.Publication(b.given("one", "a")))
	require.NoError(t, err)
	for name, p := range map[string]postrider.Publication{
		"stored id":  b.Publication(b.given("fresh", "a"), b.given("one", "b")),
		"own twice":  b.Publication(b.given("fresh", "a"), b.given("fresh", "b")),
		"with a key": {WorkspaceID: b.Workspace, IdempotencyKey: "key", Events: []postrider.PublishedEvent{b.NewEvent("a"), b.given("one", "b")}},
	} {
		_, err = b.Publish(t.Context(), p)
		requireCode(t, postrider.CodeConflict, err)
		require.Equal(t, 1, b.count(t.Context(), t, "SELECT COUNT(*) FROM events"), name)
		require.Equal(t, 1, b.count(t.Context(), t, "SELECT COUNT(*) FROM deliveries"), name)
	}
	// A key that came with a refused publication can be used.
	p := b.Publication(b.given("fresh", "b"))
	p.IdempotencyKey = "key"
	receipts, err := b.Publish(t.Context(), p)
	require.NoError(t, err)
	require.False(t, receipts[0].Duplicate)
}

func idempotencyOfOtherEvent(t *testing.T, b *Bundle) {
	receipts, err := b.Publish(t.Context(), b.Publication(b.NewEvent("a")))
	require.NoError(t, err)
	_, err = b.Publish(t.Context(), b.Publication(b.given(receipts[0].ID, "a")))
	requireCode(t, postrider.CodeConflict, err)
	free := b.given(b.IDs.New(postrider.PrefixEvent), "a")
	receipts, err = b.Publish(t.Context(), b.Publication(free))
	require.NoError(t, err)
	require.Equal(t, free.ID, receipts[0].ID)
}

func idempotencyConcurrent(t *testing.T, b *Bundle) {
	b.NewWebhook(t)
	const callers = 40
	var calls sync.WaitGroup
	answers := make([][]postrider.Receipt, callers)
	errs := make([]error, callers)
	for i := range callers {
		p := b.Publication(b.NewEvent("a"))
		p.IdempotencyKey = "key"
		calls.Go(func() { answers[i], errs[i] = b.Publish(t.Context(), p) })
	}
	calls.Wait()
	fresh := 0
	for i, receipts := range answers {
		require.NoError(t, errs[i])
		require.Equal(t, answers[0][0].DeliveryIDs, receipts[0].DeliveryIDs)
		if !receipts[0].Duplicate {
			fresh++
		}
	}
	require.Equal(t, 1, fresh)
	require.Equal(t, 1, b.count(t.Context(), t, "SELECT COUNT(*) FROM deliveries"))
}

func idempotencyProcesses(t *testing.T, b *Bundle) {
	b.NewWebhook(t)
	other := b.Open(t, b.Key)
	const ids = 30
	var calls sync.WaitGroup
	var mu sync.Mutex
	fresh := map[string]int{}
	for i := range ids {
		for _, publish := range []func(context.Context, postrider.Publication) ([]postrider.Receipt, error){b.Publish, other.Publish} {
			e := b.given(fmt.Sprintf("id-%d", i), "a")
			calls.Go(func() {
				receipts, err := publish(t.Context(), b.Publication(e))
				mu.Lock()
				defer mu.Unlock()
				if err == nil && !receipts[0].Duplicate {
					fresh[e.ID]++
				} else if err != nil {
					fresh[err.Error()]++
				}
			})
		}
	}
	calls.Wait()
	require.Len(t, fresh, ids)
	for id, n := range fresh {
		require.Equal(t, 1, n, id)
	}
	require.Equal(t, ids, b.count(t.Context(), t, "SELECT COUNT(*) FROM deliveries"))
}

func groupTests() map[string]func(*testing.T, *Bundle) {
	return map[string]func(*testing.T, *Bundle){
		"a bad publication fails alone":           groupPublish,
		"a bad outcome fails alone":               groupRecord,
		"a caller that leaves takes nobody along": groupCancel,
	}
}

func groupPublish(t *testing.T, b *Bundle) {
	b.NewWebhook(t)
	const callers = 30
	var calls sync.WaitGroup
	errs := make([]error, callers)
	for i := range callers {
		p := b.Publication(b.NewEvent("a"))
		if i%10 == 3 {
			p.Events[0].Type = "" // which the table refuses
		}
		calls.Go(func() { _, errs[i] = b.Publish(t.Context(), p) })
	}
	calls.Wait()
	for i, err := range errs {
		if i%10 == 3 {
			requireCode(t, postrider.CodeConflict, err)
		} else {
			require.NoError(t, err)
		}
	}
	require.Equal(t, callers-3, b.count(t.Context(), t, "SELECT COUNT(*) FROM deliveries"))
}

func groupRecord(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t)
	deliveries := b.PublishTo(t, w.ID, 20)
	require.Len(t, b.Claimed(t, 20)[w.ID], 20)
	var calls sync.WaitGroup
	errs := make([]error, len(deliveries))
	for i, id := range deliveries {
		o := b.Outcome(t, id, 1, postrider.StateSucceeded)
		outcomes := []postrider.Outcome{o}
		switch i % 10 {
		case 3:
			outcomes[0].State = "no state"
		case 4:
			o.DeliveryID = "dlv_unknown"
			outcomes = append(outcomes, o)
		}
		calls.Go(func() { errs[i] = b.Record(t.Context(), outcomes) })
	}
	calls.Wait()
	for i, err := range errs {
		switch i % 10 {
		case 3:
			requireCode(t, postrider.CodeConflict, err)
			require.Equal(t, postrider.StateDelivering, b.State(t, deliveries[i]))
		case 4:
			requireCode(t, postrider.CodeNotFound, err)
			require.Equal(t, postrider.StateDelivering, b.State(t, deliveries[i]))
		default:
			require.NoError(t, err)
			require.Equal(t, postrider.StateSucceeded, b.State(t, deliveries[i]))
		}
	}
}

func groupCancel(t *testing.T, b *Bundle) {
	b.NewWebhook(t)
	gone, leave := context.WithCancel(t.Context())
	leave()
	var calls sync.WaitGroup
	errs := make([]error, 20)
	for i := range errs {
		ctx := t.Context()
		if i%2 == 1 {
			ctx = gone
		}
		p := b.Publication(b.NewEvent("a"))
		calls.Go(func() { _, errs[i] = b.Publish(ctx, p) })
	}
	calls.Wait()
	for i, err := range errs {
		if i%2 == 1 {
			require.ErrorIs(t, err, context.Canceled)
		} else {
			require.NoError(t, err)
		}
	}
}

func cancelledContext(t *testing.T, b *Bundle) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := b.Claim(ctx, postrider.ClaimRequest{Limit: 1, Lease: lease})
	require.ErrorIs(t, err, context.Canceled)
	require.Empty(t, postrider.CodeOf(err))
	_, err = b.FirstWorkspace(ctx)
	require.ErrorIs(t, err, context.Canceled)
}

func closedStore(t *testing.T, b *Bundle) {
	s := b.Open(t, b.Key)
	require.NoError(t, s.Close())
	_, err := s.Publish(t.Context(), b.Publication(b.NewEvent("a")))
	requireCode(t, postrider.CodeUnavailable, err)
}
