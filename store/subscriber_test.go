package store

import (
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAudiencesAreBounded(t *testing.T) {
	t.Parallel()
	r := audiences{known: map[audience]knownAudience{}}
	generations := map[string]string{"ws": "1"}
	remember := func(eventType string, webhooks int) audience {
		a := audience{workspaceID: "ws", eventType: eventType}
		r.remember([]audience{a}, map[audience][]subscriber{a: make([]subscriber, webhooks)}, generations)
		require.LessOrEqual(t, r.size, maxAudiences)
		return a
	}
	knows := func(a audience) bool { return len(r.recall(map[audience][]subscriber{a: nil}, generations)) == 0 }

	const each = maxAudiences / 100
	var all []audience
	for i := range 100 {
		all = append(all, remember(strconv.Itoa(i), each-1))
	}
	require.True(t, knows(all[0]))
	all[99] = remember("99", each-1) // the same again takes no more room
	require.True(t, knows(all[0]))
	one := remember("one too many", 0)
	require.False(t, knows(all[0]))
	require.True(t, knows(one))
	require.False(t, knows(remember("too large", maxAudiences)))
	require.Zero(t, r.size)

	one = remember("again", 0)
	generations["ws"] = "2"
	require.False(t, knows(one))
	remember("again", 5)
	require.Equal(t, 6, r.size)
}
