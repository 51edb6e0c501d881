//nolint:thelper // these are the tests, not helpers of one
package storetest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"postrider.dev/postrider"
	"postrider.dev/postrider/store"
)

func statsTests() map[string]func(*testing.T, *Bundle) {
	return map[string]func(*testing.T, *Bundle){
		"stats say what the attempts say":             statsOfAttempts,
		"stats of concurrent records add up":          statsConcurrent,
		"stats are told apart":                        statsFilters,
		"a delivery that never went out counts":       statsParked,
		"hours have what their minutes had":           statsCompacted,
		"what is compacted twice is counted once":     statsCompactedLate,
		"hours of stats past their retention go":      statsRetention,
		"stats are whatever happens those of records": statsProperty,
	}
}

// stats returns the workspace's series from the start of the suite's day on.
func (b *Bundle) stats(t *testing.T, step, span time.Duration, change ...func(*postrider.StatsQuery)) []postrider.StatsPoint {
	t.Helper()
	since := Start().Truncate(24 * time.Hour)
	q := postrider.StatsQuery{Since: since, Until: since.Add(span), Step: step}
	for _, c := range change {
		c(&q)
	}
	points, err := b.Stats(t.Context(), b.Workspace, q)
	require.NoError(t, err)
	require.Len(t, points, int(q.Until.Sub(q.Since)/q.Step))
	return points
}

// busy returns the points at which something happened.
func busy(points []postrider.StatsPoint) []postrider.StatsPoint {
	return slices.DeleteFunc(points, func(p postrider.StatsPoint) bool { return p.Attempts+p.Failed == 0 })
}

func statsOfAttempts(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t)
	id := b.PublishTo(t, w.ID, 1)[0]
	b.Claimed(t, 1)
	at := Start().Truncate(time.Minute)
	var outcomes []postrider.Outcome
	for i, a := range []struct {
		ends   time.Duration
		took   int64
		result postrider.Result
	}{
		{0, 100, postrider.ResultServerError},
		{59_999 * time.Millisecond, 30_000, postrider.ResultTimeout},
		{time.Minute, 40_000, postrider.ResultDNS},
	} {
		o := b.Outcome(t, id, i+1, postrider.StateRetrying)
		o.Attempt.Result, o.Attempt.DurationMS = a.result, a.took
		o.Attempt.StartedAt = at.Add(a.ends - time.Duration(a.took)*time.Millisecond)
		outcomes = append(outcomes, o)
	}
	last := b.Outcome(t, id, 4, postrider.StateSucceeded)
	last.Attempt.StartedAt, last.Attempt.DurationMS = at.Add(2*time.Minute), 1
	require.NoError(t, b.Record(t.Context(), append(outcomes, last)))
	requireCode(t, postrider.CodeConflict, b.Record(t.Context(), append(outcomes, last))) // counts nothing again

	require.Equal(t, []postrider.StatsPoint{
		{
			At: at, Attempts: 2, Latencies: histogram(100, 30_000),
			ByResult: map[postrider.Result]int64{postrider.ResultServerError: 1, postrider.ResultTimeout: 1},
		},
		{At: at.Add(time.Minute), Attempts: 1, ByResult: map[postrider.Result]int64{postrider.ResultDNS: 1}},
		{
			At: at.Add(2 * time.Minute), Attempts: 1, Delivered: 1, Latencies: histogram(1),
			ByResult: map[postrider.Result]int64{postrider.ResultSuccess: 1},
		},
	}, busy(b.stats(t, time.Minute, day)), "the minute in which an attempt ended; what was not sent has no latency")
	require.Equal(t, []postrider.StatsPoint{{
		At: at.Truncate(time.Hour), Attempts: 4, Delivered: 1, Latencies: histogram(1, 100, 30_000),
		ByResult: map[postrider.Result]int64{
			postrider.ResultServerError: 1, postrider.ResultTimeout: 1, postrider.ResultDNS: 1, postrider.ResultSuccess: 1,
		},
	}}, busy(b.stats(t, time.Hour, day)))
}

// histogram returns the latencies of attempts that took so many milliseconds.
func histogram(took ...int64) (l postrider.Latencies) {
	for _, ms := range took {
		l[postrider.LatencyBucket(ms)]++
	}
	return l
}

func statsConcurrent(t *testing.T, b *Bundle) {
	const webhooks, each = 4, 30
	var ids []string
	for range webhooks {
		w := b.NewWebhook(t, func(w *postrider.Webhook) { w.MaxInFlight = 1000 })
		ids = append(ids, b.PublishTo(t, w.ID, each)...)
	}
	b.Claimed(t, webhooks*each)
	stores := []*store.Store{b.Store, b.Store}
	if strings.HasPrefix(b.URL, "postgres") {
		stores[1] = b.Open(t, b.Key) // another process
	}
	outcomes := make([]postrider.Outcome, len(ids))
	for i, id := range ids {
		outcomes[i] = b.Outcome(t, id, 1, postrider.StateSucceeded)
		if i%3 == 0 {
			outcomes[i] = b.Outcome(t, id, 1, postrider.StateFailed)
		}
	}
	var all sync.WaitGroup
	failures := make(chan error, len(outcomes))
	for i, o := range outcomes {
		all.Go(func() { failures <- stores[i%2].Record(t.Context(), []postrider.Outcome{o}) })
	}
	all.Wait()
	for range outcomes {
		require.NoError(t, <-failures)
	}
	sum := busy(b.stats(t, day, day))
	require.Len(t, sum, 1)
	require.EqualValues(t, len(ids), sum[0].Attempts)
	require.EqualValues(t, len(ids)/3, sum[0].Failed)
	require.EqualValues(t, len(ids)-len(ids)/3, sum[0].Delivered)
}

func statsFilters(t *testing.T, b *Bundle) {
	one, two := b.NewWebhook(t), b.NewWebhook(t)
	for _, w := range []postrider.Webhook{one, two} {
		for _, eventType := range []string{"call.ended", "call.begun"} {
			e := b.NewEventTo(w.ID)
			e.Type = eventType
			require.NoError(t, second(b.Publish(t.Context(), b.Publication(e))))
		}
	}
	for _, claimed := range b.Claimed(t, 10) {
		for _, id := range claimed {
			require.NoError(t, b.Record(t.Context(), []postrider.Outcome{b.Outcome(t, id, 1, postrider.StateSucceeded)}))
		}
	}
	delivered := func(change ...func(*postrider.StatsQuery)) (n int64) {
		for _, p := range b.stats(t, time.Hour, day, change...) {
			n += p.Delivered
		}
		return n
	}
	ofOne := func(q *postrider.StatsQuery) { q.WebhookID = one.ID }
	ended := func(q *postrider.StatsQuery) { q.EventType = "call.ended" }
	require.EqualValues(t, 4, delivered())
	require.EqualValues(t, 2, delivered(ofOne))
	require.EqualValues(t, 2, delivered(ended))
	require.EqualValues(t, 1, delivered(ofOne, ended))
	require.NoError(t, b.DeleteWebhook(t.Context(), b.Workspace, one.ID))
	require.EqualValues(t, 4, delivered(), "what happened to a deleted webhook happened")
	for _, change := range []func(*postrider.StatsQuery){ofOne, func(*postrider.StatsQuery) {}} {
		q := postrider.StatsQuery{Since: Start().Truncate(day), Until: Start().Truncate(day).Add(day), Step: day}
		change(&q)
		points, err := b.Stats(t.Context(), b.NewWorkspace(t), q)
		require.NoError(t, err)
		require.Empty(t, busy(points), "another workspace's")
	}
}

func statsParked(t *testing.T, b *Bundle) {
	w := b.NewWebhook(t, func(w *postrider.Webhook) { w.Status, w.ParkSeconds = postrider.WebhookPaused, 60 })
	b.PublishTo(t, w.ID, 3)
	b.Clock.Advance(time.Hour)
	require.EqualValues(t, 3, b.retain(t, Start()).Parked)
	point := busy(b.stats(t, day, day))[0]
	require.EqualValues(t, 3, point.Failed)
	require.Zero(t, point.Attempts)
	require.Empty(t, point.ByResult)
}

// finishOver lets deliveries end over some hours: in each minute one, of two types.
func finishOver(t *testing.T, b *Bundle, minutes int) {
	w := b.NewWebhook(t, func(w *postrider.Webhook) { w.MaxInFlight = 1000 })
	ids := b.PublishTo(t, w.ID, minutes)
	for len(b.Claimed(t, minutes)) > 0 {
		continue
	}
	outcomes := make([]postrider.Outcome, len(ids))
	for i, id := range ids {
		outcomes[i] = b.Outcome(t, id, 1, postrider.StateSucceeded)
		if i%7 == 0 {
			outcomes[i] = b.Outcome(t, id, 1, postrider.StateFailed)
		}
		outcomes[i].Attempt.StartedAt = b.Clock.Now().Add(time.Duration(i) * time.Minute)
		outcomes[i].Attempt.DurationMS = int64(i)
	}
	require.NoError(t, b.Record(t.Context(), outcomes))
}

func (b *Bundle) compact(t *testing.T) (minutes int64) {
	t.Helper()
	require.NoError(t, b.CompactStats(t.Context(), func(n int64) { minutes = n }))
	return minutes
}

func statsCompacted(t *testing.T, b *Bundle) {
	const minutes = 650 // more than a step takes
	finishOver(t, b, minutes)
	before := b.stats(t, time.Hour, 2*day)
	require.NotEmpty(t, busy(slices.Clone(before)))
	require.Zero(t, b.compact(t), "they are kept for a day")
	b.Clock.Advance(day + 5*time.Hour)
	require.Positive(t, b.compact(t))
	left := b.count(t.Context(), t, "SELECT COUNT(*) FROM rollup_minutes")
	require.Positive(t, left, "the later ones are not a day old")
	require.Less(t, left, 2*minutes)
	require.Equal(t, before, b.stats(t, time.Hour, 2*day), "half compacted")
	b.Clock.Advance(day)
	require.EqualValues(t, left, b.compact(t))
	require.Zero(t, b.count(t.Context(), t, "SELECT COUNT(*) FROM rollup_minutes"))
	require.Equal(t, before, b.stats(t, time.Hour, 2*day), "compacted")
	require.Equal(t, 2*2*12, b.count(t.Context(), t, "SELECT COUNT(*) FROM rollup_hours"), "webhook and workspace, two results, twelve hours")
	require.Zero(t, b.compact(t))
}

// A record that comes a day late adds to an hour that there is.
func statsCompactedLate(t *testing.T, b *Bundle) {
	finishOver(t, b, 10)
	b.Clock.Advance(2 * day)
	require.Positive(t, b.compact(t))
	b.Clock.Advance(-2 * day)
	finishOver(t, b, 10)
	before := b.stats(t, time.Hour, day)
	b.Clock.Advance(2 * day)
	require.Positive(t, b.compact(t))
	require.Equal(t, before, b.stats(t, time.Hour, day))
	var delivered int64
	for _, p := range before {
		delivered += p.Delivered + p.Failed
	}
	require.EqualValues(t, 20, delivered)
}

func statsRetention(t *testing.T, b *Bundle) {
	finishOver(t, b, 300)
	b.Clock.Advance(3 * day)
	b.compact(t)
	var removed int64
	told := func(n int64) { removed = n }
	require.NoError(t, b.RetainStats(t.Context(), Start().Add(-day), told))
	require.Zero(t, removed)
	hours := b.count(t.Context(), t, "SELECT COUNT(*) FROM rollup_hours")
	require.NoError(t, b.RetainStats(t.Context(), Start().Add(2*time.Hour), told))
	require.Positive(t, removed)
	require.Equal(t, hours, int(removed)+b.count(t.Context(), t, "SELECT COUNT(*) FROM rollup_hours"))
	require.NoError(t, b.RetainStats(t.Context(), Start().Add(3*day), told))
	require.Zero(t, b.count(t.Context(), t, "SELECT COUNT(*) FROM rollup_hours"))
	require.Empty(t, busy(b.stats(t, time.Hour, day)))
}

// tally is what stats come to when attempts are counted one by one.
type tally struct {
	attempts, delivered, failed int64
	byResult                    map[postrider.Result]int64
}

// statsProperty records at random, repeats itself, and lets time pass and the maintenance run. Rollups must
// say what the attempts and deliveries say, and what the webhooks' own counters say.
func statsProperty(t *testing.T, b *Bundle) {
	raw := b.Raw(t)
	rapid.Check(t, func(r *rapid.T) {
		m := &machine{t: t, Bundle: b, raw: raw, seen: map[string]seen{}}
		for range 2 {
			m.webhooks = append(m.webhooks, b.NewWebhook(t).ID)
		}
		r.Repeat(map[string]func(*rapid.T){
			"publish": m.publish, "claim": m.claim, "record": m.record, "cancel": m.cancel,
			"an hour passes": func(*rapid.T) { b.Clock.Advance(time.Hour) },
			"compact":        func(*rapid.T) { b.compact(t) },
		})
		for _, id := range m.webhooks {
			m.checkStats(id)
		}
		var finished, counted int64
		for _, p := range m.untilNow("") {
			counted += p.Delivered + p.Failed
		}
		require.NoError(t, raw.GetContext(t.Context(), &finished, "SELECT SUM(total_deliveries) FROM webhook_stats"))
		require.Equal(t, finished, counted, "the workspace has what its webhooks have")
	})
}

// untilNow returns a webhook's series of days, or the workspace's.
func (m *machine) untilNow(webhookID string) []postrider.StatsPoint {
	q := postrider.StatsQuery{Since: Start().Truncate(day), Until: m.Clock.Now().Add(day).Truncate(day), Step: day, WebhookID: webhookID}
	points, err := m.Stats(m.t.Context(), m.Workspace, q)
	require.NoError(m.t, err)
	return points
}

func (m *machine) checkStats(webhookID string) {
	want, got := tally{byResult: map[postrider.Result]int64{}}, tally{byResult: map[postrider.Result]int64{}}
	var ids []string
	require.NoError(m.t, m.raw.SelectContext(m.t.Context(), &ids, "SELECT id FROM deliveries WHERE webhook_id = $1", webhookID))
	for _, id := range ids {
		d := m.read(m.t, id)
		attempts, err := m.Attempts(m.t.Context(), id)
		require.NoError(m.t, err)
		for _, a := range attempts {
			want.attempts++
			want.byResult[a.Result]++
		}
		if d.State == postrider.StateSucceeded {
			want.delivered++
		}
		if d.State == postrider.StateFailed {
			want.failed++
		}
	}
	for _, p := range m.untilNow(webhookID) {
		got.attempts, got.delivered, got.failed = got.attempts+p.Attempts, got.delivered+p.Delivered, got.failed+p.Failed
		for _, result := range slices.Collect(maps.Keys(p.ByResult)) {
			got.byResult[result] += p.ByResult[result]
		}
	}
	require.Equal(m.t, want, got)
	w, err := m.Webhook(m.t.Context(), m.Workspace, webhookID)
	require.NoError(m.t, err)
	require.Equal(m.t, fmt.Sprint(w.Stats.TotalDeliveries, w.Stats.FailedDeliveries), fmt.Sprint(got.delivered+got.failed, got.failed))
}
