package store

import (
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMatchCacheIsBounded(t *testing.T) {
	t.Parallel()
	c := matchCache{known: map[matchKey]cachedMatch{}}
	generations := map[string]generation{"ws": {Generation: "1"}}
	cache := func(eventType string, webhooks int) matchKey {
		key := matchKey{workspaceID: "ws", eventType: eventType}
		c.cache([]matchKey{key}, matches{key: make([]subscriber, webhooks)}, generations)
		require.LessOrEqual(t, c.size, maxCached)
		return key
	}
	knows := func(key matchKey) bool { return len(c.cached(matches{key: nil}, generations)) == 0 }

	const each = maxCached / 100
	var all []matchKey
	for i := range 100 {
		all = append(all, cache(strconv.Itoa(i), each-1))
	}
	require.True(t, knows(all[0]))
	all[99] = cache("99", each-1) // the same again takes no more room
	require.True(t, knows(all[0]))
	one := cache("one too many", 0)
	require.False(t, knows(all[0]))
	require.True(t, knows(one))
	require.False(t, knows(cache("too large", maxCached)))
	require.Zero(t, c.size)

	one = cache("again", 0)
	generations["ws"] = generation{Generation: "2"}
	require.False(t, knows(one))
	cache("again", 5)
	require.Equal(t, 6, c.size)
}
