package api

import (
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/time/rate"

	"postrider.dev/postrider"
)

// Guards against memory that grows with every key that was ever used, and against keys that get
// more because others come.
func TestRestedKeysAreForgotten(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 8, 3, 12, 0, 0, 0, time.UTC)
	l := requestLimits{perSecond: 1, limiters: map[string]*rate.Limiter{}}
	for key := range 20 * maxKeys {
		now = now.Add(time.Millisecond)
		require.NoError(t, l.take(strconv.Itoa(key), now))
		require.Equal(t, postrider.CodeLimited, postrider.CodeOf(l.take(strconv.Itoa(key), now)))
		require.Less(t, len(l.limiters), 3*maxKeys)
	}
	last := strconv.Itoa(20*maxKeys - 1)
	require.Error(t, l.take(last, now))
	l.forget(now)
	require.Error(t, l.take(last, now), "a key that has not rested is remembered")
}
