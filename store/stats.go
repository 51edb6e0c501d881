package store

import (
	"context"
	"strings"
	"time"

	"postrider.dev/postrider"
	"postrider.dev/postrider/store/sqldb"
)

// The tables of rollups.
const (
	tableMinutes = "rollup_minutes"
	tableHours   = "rollup_hours"
)

// rollupSum is what rollups of one result come to in a step of a series.
type rollupSum struct {
	At     int64
	Result postrider.Result
	rollupCounts
}

// Stats returns a series of what happened to a workspace's deliveries: one point a step, also where nothing
// happened. What is older than [postrider.MinutesKept] is known by the hour, so a step that is no whole
// number of hours finds nothing there.
func (s *Store) Stats(ctx context.Context, workspaceID string, q postrider.StatsQuery) ([]postrider.StatsPoint, error) {
	tables := []string{tableMinutes}
	if q.Step%time.Hour == 0 {
		tables = append(tables, tableHours)
	}
	points := make([]postrider.StatsPoint, 0, q.Points())
	for at := q.Since; at.Before(q.Until); at = at.Add(q.Step) {
		points = append(points, postrider.StatsPoint{At: at, ByResult: map[postrider.Result]int64{}})
	}
	st := sumsOf(tables[0], workspaceID, q)
	for _, table := range tables[1:] { // in the same statement: a compaction moves rows from one to the other
		st.Add(" UNION ALL ").Append(sumsOf(table, workspaceID, q))
	}
	var sums []rollupSum
	if err := st.Select(ctx, s.db.Reading, &sums); err != nil {
		return nil, sqldb.Failure("read stats", err)
	}
	for _, sum := range sums {
		sum.addTo(&points[(sum.At-q.Since.Unix())/int64(q.Step/time.Second)])
	}
	return points, nil
}

// sumsOf returns the statement that reads the sums of a table's rollups.
func sumsOf(table, workspaceID string, q postrider.StatsQuery) *sqldb.Statement {
	step, sums := int64(q.Step/time.Second), sqldb.ColumnsOf[rollupCounts]().Names()
	for i, column := range sums {
		sums[i] = "SUM(" + column + ") AS " + column
	}
	st := sqldb.SQL("SELECT at / ? * ? AS at, result, "+strings.Join(sums, ", ")+" FROM "+table+" WHERE ", step, step)
	switch {
	case q.WebhookID != "":
		st.PinnedTo("subject", q.WebhookID).Add(" AND workspace_id = ? AND at >= ? AND at < ?", workspaceID, q.Since.Unix(), q.Until.Unix())
	case table == tableHours:
		st.PinnedTo("subject", workspaceID).Add(" AND at >= ? AND at < ?", q.Since.Unix(), q.Until.Unix())
	default: // each process's; the time is an expression, so that the index on it is not read through all workspaces
		st.Add("subject > ? AND subject < ?", workspaceID+subjectSeparator, workspaceID+subjectEnd).
			Add(" AND at + 0 >= ? AND at + 0 < ?", q.Since.Unix(), q.Until.Unix())
	}
	if q.EventType != "" {
		st.Add(" AND event_type = ?", q.EventType)
	}
	return st.Add(" GROUP BY 1, 2")
}

func (r *rollupSum) addTo(p *postrider.StatsPoint) {
	p.Delivered += int64(r.Delivered)
	p.Failed += int64(r.Failed)
	p.Attempts += int64(r.Attempts)
	if r.Attempts > 0 {
		p.ByResult[r.Result] += int64(r.Attempts)
	}
	if r.Result.Sent() {
		for i, count := range r.latencies() {
			p.Latencies[i] += int64(*count)
		}
	}
}
