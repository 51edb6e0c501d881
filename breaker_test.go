package postrider_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"postrider.dev/postrider"
)

func TestCircuitOpensAfterAttemptsAndTime(t *testing.T) {
	t.Parallel()
	b, now := postrider.DefaultBreaker(), time.Unix(1000, 0)
	since := now.Add(-b.Failing)
	require.True(t, b.Opens(b.After, &since, now))
	require.False(t, b.Opens(b.After-1, &since, now))
	require.False(t, b.Opens(b.After, &since, now.Add(-time.Nanosecond)))
	require.False(t, b.Opens(b.After, nil, now))
}

func TestWaitsForProbesGrow(t *testing.T) {
	t.Parallel()
	b, now := postrider.DefaultBreaker(), time.Unix(1000, 0)
	for random, factor := range map[float64]float64{0: 0.8, 0.5: 1, 1: 1.2} {
		g := postrider.Gate{}
		for _, wait := range []time.Duration{5, 10, 20, 40, 80, 160, 300, 300} {
			g = b.Opened(g, now, random)
			require.InDelta(t, factor*float64(wait), g.ProbeAt.Sub(now).Seconds(), 1e-6)
			require.True(t, g.Open())
			require.Zero(t, g.Permits(g.ProbeAt.Add(-time.Nanosecond)))
			require.Equal(t, 1, g.Permits(g.ProbeAt))
		}
	}
}

// Whatever attempts come to, a gate allows no more than twice as much in each second, no more than
// max_in_flight, and a probe in the end.
func TestGateNeverLeaps(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		b, now := postrider.DefaultBreaker(), time.Unix(1000, 0)
		most := rapid.IntRange(1, 1000).Draw(t, "max_in_flight")
		g, changed := postrider.ProbeFirst(now), now
		for range rapid.IntRange(1, 200).Draw(t, "attempts") {
			now = now.Add(time.Duration(rapid.IntRange(0, 2000).Draw(t, "ms")) * time.Millisecond)
			before, more := g, true
			if rapid.Bool().Draw(t, "succeeded") {
				g, more = b.Succeeded(g, most, now)
			} else {
				g = b.Failed(g, rapid.IntRange(1, 30).Draw(t, "failures"), now, rapid.Float64Range(0, 1).Draw(t, "random"))
			}
			if !more {
				require.GreaterOrEqual(t, g.Allowance, most)
				return
			}
			require.Less(t, g.Allowance, most)
			require.LessOrEqual(t, g.Allowance, max(2*before.Allowance, 1))
			if g.Allowance > before.Allowance && before.Allowance > 0 {
				require.GreaterOrEqual(t, now.Sub(changed), b.Step)
			}
			if g.Allowance != before.Allowance {
				changed = now
			}
			require.False(t, g.ProbeAt.After(now.Add(b.LongestWait*6/5)), "a probe comes")
		}
	})
}
