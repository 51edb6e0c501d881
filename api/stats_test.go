package api_test

import (
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
)

const statsPath = "/api/v1/stats"

// series returns the answer's data.
func (b *bundle) series(query string) []any {
	b.t.Helper()
	data, ok := b.do(http.MethodGet, statsPath+query, "").object(http.StatusOK)["data"].([]any)
	require.True(b.t, ok)
	return data
}

func TestStatsOfADay(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.attempt(w.delivery, postrider.StateRetrying, w.refusal())
	answer := w.do(http.MethodGet, statsPath, "").object(http.StatusOK)
	require.Equal(t, "2026-08-02T12:00:00Z", answer["since"])
	require.Equal(t, "2026-08-03T12:00:00Z", answer["until"], "what began now is not over")
	require.Equal(t, "1h", answer["step"])
	require.Len(t, answer["data"], 24)

	w.clock.advance(90 * time.Second)
	data := w.series("?step=1m&since=2026-08-03T11:59:30Z")
	require.Len(t, data, 3)
	empty := map[string]any{
		"at": "2026-08-03T11:59:00Z", "delivered": 0.0, "failed": 0.0, "attempts": 0.0, "by_result": map[string]any{},
		"latency_p50_ms": nil, "latency_p99_ms": nil,
	}
	require.Equal(t, empty, data[0])
	point, ok := data[1].(map[string]any)
	require.True(t, ok)
	require.Equal(t, "2026-08-03T12:00:00Z", point["at"])
	require.EqualValues(t, 1, point["attempts"])
	require.EqualValues(t, 0, point["failed"], "it is being retried")
	require.Len(t, point["by_result"], 1)
	require.NotNil(t, point["latency_p99_ms"])

	require.Equal(t, data, w.series("?step=1m&since=2026-08-03T11:59:30Z&webhook_id="+w.webhook))
	require.Equal(t, data, w.series("?step=1m&since=2026-08-03T11:59:30Z&event_type=a"))
	require.Equal(t, empty, w.series("?step=1m&since=2026-08-03T11:59:30Z&event_type=b")[0])
	require.NotEqual(t, data, w.series("?step=1m&since=2026-08-03T11:59:30Z&event_type=b"))
}

func TestStatsOfAWebhook(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	idle := w.newWebhook("")
	require.Len(t, w.series("?webhook_id="+idle), 24, "nothing happened, and it is known")
	w.do(http.MethodGet, statsPath+"?webhook_id=wh_unknown", "").problem(http.StatusNotFound)
	stranger := w.as(w.newKey(w.newWorkspace(), postrider.ScopeRead))
	require.Equal(t, string(stranger.do(http.MethodGet, statsPath+"?webhook_id=wh_unknown", "").Body),
		string(stranger.do(http.MethodGet, statsPath+"?webhook_id="+w.webhook, "").Body))

	w.attempt(w.delivery, postrider.StateRetrying, w.refusal())
	w.do(http.MethodDelete, webhooksPath+"/"+w.webhook, "")
	w.clock.advance(time.Second)
	require.NotEmpty(t, w.series("?webhook_id="+w.webhook), "what happened to a deleted webhook happened")
	stranger.do(http.MethodGet, statsPath+"?webhook_id="+w.webhook, "").problem(http.StatusNotFound)
}

func TestStatsAreBounded(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for query, points := range map[string]int{
		"":                                    24,
		"?step=1m":                            1440,
		"?step=7m":                            206,
		"?step=1d":                            2,
		"?step=1d&since=2025-08-03T12:00:00Z": 366,
		"?step=1h&since=2026-06-03T00:00:00Z": 1476,
		"?step=6h&until=2020-01-01T00:00:00Z": 4,
		"?step=1h&since=2030-01-01T00:00:00Z&until=2030-01-01T00:00:01Z": 1,
		"?step=120m&since=2026-07-01T00:00:00Z":                          402,
	} {
		require.Len(t, b.series(query), points, query)
	}
	for query, location := range map[string]string{
		"?step=0m":                               "query.step",
		"?step=60":                               "query.step",
		"?step=1s":                               "query.step",
		"?step=1.5h":                             "query.step",
		"?step=-1h":                              "query.step",
		"?step=10000d":                           "query.step",
		"?step=1m&since=2026-08-02T11:59:59Z":    "query.step",
		"?step=90m&since=2026-08-01T00:00:00Z":   "query.step",
		"?step=1h&since=2026-05-01T00:00:00Z":    "query.step",
		"?step=1d&since=0001-01-02T00:00:00Z":    "query.step",
		"?step=9999d&until=0001-01-02T00:00:00Z": "query.step",
		"?step=9999d&since=9999-12-30T00:00:00Z&until=9999-12-31T23:59:59Z": "query.step",
		"?since=yesterday":            "query.since",
		"?until=2026":                 "query.until",
		"?since=2026-08-03T12:00:00Z": "query.since",
		"?since=2026-08-03T12:00:00Z&until=2026-08-03T12:00:00Z": "query.since",
		"?event_type=" + url.QueryEscape("a b"):                  "query.event_type",
		"?event_type=call.*":                                     "query.event_type",
	} {
		require.Equal(t, []string{location}, b.do(http.MethodGet, statsPath+query, "").locations(), query)
	}
}
