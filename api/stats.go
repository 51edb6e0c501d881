package api

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"postrider.dev/postrider"
	"postrider.dev/postrider/api/rest"
)

// statsStore reads rollups.
type statsStore interface {
	// Stats returns one point for each step of the query, which has at most [postrider.MaxStatsPoints].
	Stats(ctx context.Context, workspaceID string, q postrider.StatsQuery) ([]postrider.StatsPoint, error)
}

const tagStats = "Stats"

func (s *server) routeStats() {
	rest.Handle(s.rest, rest.Route{
		Method: http.MethodGet, Path: "/api/v1/stats", ID: "get-stats", Tag: tagStats, Scope: postrider.ScopeRead,
		Summary: "Get Stats", Errors: []int{http.StatusNotFound},
		Description: "What happened to deliveries over time: of the workspace, of one webhook, or of one type of event. " +
			"There is a point for each step, also where nothing happened, and 1,500 at most. " +
			"An attempt counts when it ended, and so does the delivery that it finished; cancelled deliveries do not count. " +
			"Of the last day each minute is known, before that each hour. Stats are kept for 90 days, unless the operator says otherwise.",
	}, s.getStats)
}

type statsInput struct {
	Since     string `query:"since" format:"rfc3339" doc:"Where the series begins (RFC 3339), rounded down to a whole step; by default a day before until." example:"2026-08-01T00:00:00Z"`
	Until     string `query:"until" format:"rfc3339" doc:"Where it ends (RFC 3339), rounded up to a whole step; by default now." example:"2026-08-02T00:00:00Z"`
	Step      string `query:"step" pattern:"^[1-9][0-9]{0,3}[mhd]$" patternDescription:"a number of minutes, hours or days, such as 5m, 1h or 1d" default:"1h" doc:"How long a point is: a number of minutes, hours or days (UTC). Whole hours when since is more than a day ago." example:"1h"`
	WebhookID string `query:"webhook_id" doc:"Only deliveries to this webhook, which may be deleted."`
	EventType string `query:"event_type" doc:"Only those of events of exactly this type." example:"call.ended"`
}

// stats is the answer: a series.
type stats struct {
	Since time.Time    `json:"since" doc:"Where the first point begins."`
	Until time.Time    `json:"until" doc:"Where the last point ends."`
	Step  string       `json:"step" example:"1h"`
	Data  []statsPoint `json:"data" nullable:"false" doc:"The oldest first."`
}

// statsPoint is what happened in a step.
type statsPoint struct {
	At        time.Time                  `json:"at" doc:"When the step begins."`
	Delivered int64                      `json:"delivered" doc:"Deliveries that succeeded."`
	Failed    int64                      `json:"failed" doc:"Deliveries that failed for good."`
	Attempts  int64                      `json:"attempts"`
	ByResult  map[postrider.Result]int64 `json:"by_result" doc:"Attempts by their result; results that there were." example:"{\"success\":1}"`
	P50       *int64                     `json:"latency_p50_ms" doc:"Half of the requests took up to so long; null without any. It comes from a histogram whose buckets double in width, and is rarely off by more than a quarter."`
	P99       *int64                     `json:"latency_p99_ms" doc:"99 of 100 requests took up to so long."`
}

func showStatsPoint(p postrider.StatsPoint) statsPoint {
	return statsPoint{
		At: p.At, Delivered: p.Delivered, Failed: p.Failed, Attempts: p.Attempts, ByResult: p.ByResult,
		P50: p.Latencies.Quantile(0.5), P99: p.Latencies.Quantile(0.99),
	}
}

func (s *server) getStats(ctx context.Context, in *statsInput) (*rest.Output[stats], error) {
	q, err := in.query(postrider.Timestamp(s.Now()))
	if err != nil {
		return nil, err
	}
	points, err := s.Store.Stats(ctx, rest.Workspace(ctx), q)
	if err != nil {
		return nil, err
	}
	answer := stats{Since: q.Since, Until: q.Until, Step: in.Step, Data: make([]statsPoint, len(points))}
	happened := false
	for i, p := range points {
		answer.Data[i] = showStatsPoint(p)
		happened = happened || p.Attempts+p.Failed > 0
	}
	if in.WebhookID != "" && !happened {
		// A deleted webhook is unknown and its stats are not, so they are looked for first.
		if _, err := s.Store.Webhook(ctx, rest.Workspace(ctx), in.WebhookID); err != nil {
			return nil, err
		}
	}
	return &rest.Output[stats]{Body: answer}, nil
}

// query returns what was asked for at the time now.
func (in *statsInput) query(now time.Time) (q postrider.StatsQuery, err error) {
	if in.EventType != "" && !postrider.ValidEventType(in.EventType) {
		return q, rest.BrokenField("query.event_type", "must be an event type", in.EventType)
	}
	q = postrider.StatsQuery{WebhookID: in.WebhookID, EventType: in.EventType, Step: stepOf(in.Step)}
	if q.Since, q.Until, err = (rest.PeriodQuery{Since: in.Since, Until: in.Until}).Period(); err != nil {
		return q, err
	}
	if q.Until.IsZero() {
		q.Until = now
	}
	if q.Since.IsZero() {
		q.Since = q.Until.Add(-24 * time.Hour)
	}
	if !q.Since.Before(q.Until) {
		return q, rest.BrokenField("query.since", "must be before until, which is now unless it is given", in.Since)
	}
	q.Align()
	if rule := ruleForStep(q, now); rule != "" {
		return q, rest.BrokenField("query.step", rule, in.Step)
	}
	return q, nil
}

// ruleForStep returns the rule that the step of a query breaks, or "".
func ruleForStep(q postrider.StatsQuery, now time.Time) string {
	switch points := q.Points(); {
	case q.Since.Year() < 1 || q.Until.Year() > 9999: // which RFC 3339 cannot say
		return "must be so short that its multiples lie in the years 1 to 9999"
	case q.Step%time.Hour != 0 && q.Since.Before(postrider.FloorTo(now.Add(-postrider.MinutesKept), time.Hour)):
		return "must be whole hours when since is more than a day ago, of which no minutes are kept"
	case points > postrider.MaxStatsPoints:
		return fmt.Sprintf("must be longer: there are %d of it from since to until, and a series has at most %d points",
			points, postrider.MaxStatsPoints)
	}
	return ""
}

// stepOf returns the duration that a text of the pattern means.
func stepOf(text string) time.Duration {
	units := map[byte]time.Duration{'m': time.Minute, 'h': time.Hour, 'd': 24 * time.Hour}
	count, _ := strconv.Atoi(text[:len(text)-1]) // the pattern has been checked
	return time.Duration(count) * units[text[len(text)-1]]
}
