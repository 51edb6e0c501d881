package worker

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider"
)

// Guards against a dispatcher that is not woken when a place came back that something
// waits for, and against one that is woken by every place that nothing waits for.
func TestPlacesTellWhenOneWasWaitedFor(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC)
	p := newPlaces(80, 0, func() time.Time { return now })
	take := func(webhookID string, n int) []string {
		var ids []string
		for range n {
			id := webhookID + "/" + string(rune('a'+len(p.taken)))
			p.take([]postrider.Dispatch{{DeliveryID: id, WebhookID: webhookID, WorkflowID: postrider.DeliveryWorkflowID(id)}})
			p.unload(id)
			ids = append(ids, id)
		}
		return ids
	}
	eased := func() bool {
		select {
		case <-p.eased:
			return true
		default:
			return false
		}
	}
	quick, full := take("quick", 3), take("full", firstWindow)
	p.end(quick[0])
	require.False(t, eased(), "nothing was refused")
	room, _ := p.roomAt(now).of("full", "")
	require.Zero(t, room)
	p.end(quick[1])
	require.False(t, eased(), "another's place is of no use to it")
	p.end(full[0])
	require.True(t, eased())

	// Slow ones share their lane: what one gives back another may have waited for.
	lane := 80 / slowShare
	slow, other := take("slow", lane-1), take("other", 1)
	now = now.Add(slowAfter + time.Second)
	room, isSlow := p.roomAt(now).of("other", "")
	require.True(t, isSlow)
	require.Zero(t, room)
	p.end(slow[0])
	require.True(t, eased())
	p.leave(p.taken[other[0]].flight, other[0])
	require.True(t, eased())
}
