package postrider

import (
	"math"
	"math/bits"
	"time"
)

// MinutesKept is for how long what happened is known by the minute; afterwards it is by the hour.
const MinutesKept = 24 * time.Hour

// MaxStatsPoints is the most points of one series: a day of minutes, and some more.
const MaxStatsPoints = 1500

// LatencyBuckets is how many buckets a histogram of latencies has. The first is up to a millisecond, and
// each is twice as wide as the one before, so that a percentile is right to within a factor of two, and
// mostly much closer. The last has all from 16 seconds on; no attempt takes much more than 30.
const LatencyBuckets = 16

// Latencies are how many attempts took how long.
type Latencies [LatencyBuckets]int64

// LatencyBucket returns the bucket of an attempt that took so many milliseconds.
func LatencyBucket(ms int64) int {
	if ms <= 1 {
		return 0
	}
	return min(bits.Len64(uint64(ms-1)), LatencyBuckets-1)
}

// Quantile returns the latency in milliseconds that the share q of the attempts did not exceed, as near as
// the buckets tell; nil without attempts.
func (l *Latencies) Quantile(q float64) *int64 {
	total := int64(0)
	for _, count := range l {
		total += count
	}
	if total == 0 {
		return nil
	}
	rank := max(int64(math.Ceil(q*float64(total))), 1)
	bucket := 0
	for rank > l[bucket] {
		rank -= l[bucket]
		bucket++
	}
	lower, upper := int64(0), int64(1)<<bucket
	if bucket > 0 {
		lower = upper / 2
	}
	// The attempts of a bucket are taken to lie evenly in it.
	ms := lower + (upper-lower)*(2*rank-1)/(2*l[bucket])
	return &ms
}

// StatsQuery selects a series of stats. Since and Until are whole steps of Unix time.
type StatsQuery struct {
	Since     time.Time
	Until     time.Time // exclusive
	Step      time.Duration
	WebhookID string // "" for all of the workspace, also the deleted
	EventType string // "" for all
}

// Align rounds Since down and Until up to whole steps.
func (q *StatsQuery) Align() {
	last := q.Until.Add(-1)
	q.Since = FloorTo(q.Since, q.Step)
	q.Until = FloorTo(last, q.Step).Add(q.Step)
}

// Points returns how many steps there are from Since to Until.
func (q *StatsQuery) Points() int64 {
	return (q.Until.Unix() - q.Since.Unix()) / int64(q.Step/time.Second)
}

// FloorTo returns the beginning of the step that has the time. Steps are whole seconds, counted from the
// Unix epoch.
func FloorTo(t time.Time, step time.Duration) time.Time {
	at, seconds := t.Unix(), int64(step/time.Second)
	return time.Unix(at-(at%seconds+seconds)%seconds, 0).UTC()
}

// StatsPoint is what happened in one step of a series.
type StatsPoint struct {
	At        time.Time // when the step begins
	Delivered int64     // deliveries that succeeded
	Failed    int64     // deliveries that failed for good
	Attempts  int64
	ByResult  map[Result]int64 // attempts; results that there were
	// Latencies are those of attempts whose request was sent.
	Latencies Latencies
}

// Sent reports whether an attempt with the result sent a request, so that its duration is the receiver's.
func (r Result) Sent() bool {
	switch r {
	case ResultSuccess, ResultRedirect, ResultClientError, ResultServerError, ResultTimeout, ResultProtocol:
		return true
	case ResultDNS, ResultConnect, ResultTLS, ResultBlocked, ResultCancelled, ResultTransform:
	}
	return false
}
