package postrider_test

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"postrider.dev/postrider"
)

func TestLatencyBuckets(t *testing.T) {
	t.Parallel()
	for ms, bucket := range map[int64]int{
		-1: 0, 0: 0, 1: 0, 2: 1, 3: 2, 4: 2, 5: 3, 8: 3, 1024: 10, 1025: 11, 16384: 14, 16385: 15, 32768: 15, 40000: 15, math.MaxInt64: 15,
	} {
		require.Equal(t, bucket, postrider.LatencyBucket(ms), ms)
	}
}

func TestQuantiles(t *testing.T) {
	t.Parallel()
	var none postrider.Latencies
	require.Nil(t, none.Quantile(0.5))
	rapid.Check(t, func(r *rapid.T) {
		took := rapid.SliceOfN(rapid.Int64Range(0, 30_000), 1, 200).Draw(r, "milliseconds")
		q := rapid.SampledFrom([]float64{0, 0.5, 0.9, 0.99, 1}).Draw(r, "share")
		var l postrider.Latencies
		for _, ms := range took {
			l[postrider.LatencyBucket(ms)]++
		}
		slices.Sort(took)
		exact := took[max(int(math.Ceil(q*float64(len(took)))), 1)-1]
		got := l.Quantile(q)
		require.NotNil(t, got)
		require.LessOrEqual(t, *got, 2*max(exact, 1), "the same bucket")
		require.GreaterOrEqual(t, *got, exact/2, "the same bucket")
	})
}

func TestResultsThatAreSent(t *testing.T) {
	t.Parallel()
	var sent []postrider.Result
	for _, r := range postrider.Results() {
		if r.Sent() {
			sent = append(sent, r)
		}
	}
	require.Equal(t, []postrider.Result{
		postrider.ResultSuccess, postrider.ResultRedirect, postrider.ResultClientError, postrider.ResultServerError,
		postrider.ResultTimeout, postrider.ResultProtocol,
	}, sent)
	require.False(t, postrider.Result("").Sent())
}

func TestStatsQueriesAreAligned(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 8, 3, 12, 34, 56, 1, time.UTC)
	for step, want := range map[time.Duration][2]string{
		time.Minute:    {"2026-08-03T12:34:00Z", "2026-08-03T12:35:00Z"},
		time.Hour:      {"2026-08-03T12:00:00Z", "2026-08-03T13:00:00Z"},
		24 * time.Hour: {"2026-08-03T00:00:00Z", "2026-08-04T00:00:00Z"},
	} {
		q := postrider.StatsQuery{Since: at, Until: at.Add(1), Step: step}
		q.Align()
		require.Equal(t, want, [2]string{q.Since.Format(time.RFC3339), q.Until.Format(time.RFC3339)})
		require.EqualValues(t, 1, q.Points())
		again := q
		again.Align()
		require.Equal(t, q, again)
	}
	require.Equal(t, time.Unix(-60, 0).UTC(), postrider.FloorTo(time.Unix(-1, 0), time.Minute))
}
