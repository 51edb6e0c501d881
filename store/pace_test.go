package store

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// However claims come, a rate is not overstepped by more than the catch-up and the
// one delivery that begins it.
func TestPaceNeverExceedsItsRate(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		perSecond := rapid.IntRange(1, 10000).Draw(r, "per second")
		start := time.Unix(1000, 0)
		now, next, total := start, start, 0
		for range rapid.IntRange(1, 50).Draw(r, "claims") {
			now = now.Add(time.Duration(rapid.IntRange(0, 300_000).Draw(r, "wait")) * time.Microsecond)
			p := paceAt(perSecond, next, now)
			n := rapid.IntRange(0, p.allowed(now)).Draw(r, "waiting")
			if n > 0 {
				next, total = p.after(n), total+n
			}
		}
		most := float64(perSecond)*(now.Sub(start)+paceCatchUp).Seconds() + 1
		require.LessOrEqual(t, float64(total), most)
	})
}

func TestPaceReachesItsRate(t *testing.T) {
	t.Parallel()
	start := time.Unix(1000, 0)
	next, total := start, 0
	for i := range 1000 { // a claim every 10 ms
		now := start.Add(time.Duration(i) * 10 * time.Millisecond)
		p := paceAt(333, next, now)
		n := p.allowed(now)
		next, total = p.after(n), total+n
	}
	require.InDelta(t, 3330, total, 4)
}
