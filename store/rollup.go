package store

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"

	"postrider.dev/postrider"
	"postrider.dev/postrider/store/sqldb"
)

// Rollups count what happened, so that stats are never a scan of attempts. A record adds to the rows of
// the minutes in which its attempts ended; the maintenance makes hours of minutes that are a day old.
// docs/decisions/0012-rollups.md says why they are as they are.

// rollupKey is the primary key of a rollup.
type rollupKey struct {
	WebhookID string `db:"webhook_id"`
	At        int64  // the beginning of its minute or hour, in Unix seconds
	EventType string `db:"event_type"`
	Result    postrider.Result
}

func (k rollupKey) compare(other rollupKey) int {
	return cmp.Or(strings.Compare(k.WebhookID, other.WebhookID), cmp.Compare(k.At, other.At),
		strings.Compare(k.EventType, other.EventType), cmp.Compare(k.Result, other.Result))
}

// rollupCounts are the columns of a rollup that add up. MS1 and its like are a histogram of durations:
// [postrider.Latencies], one column a bucket, because a database can add columns in place.
type rollupCounts struct {
	Attempts, Delivered, Failed int

	MS1, MS2, MS4, MS8, MS16, MS32, MS64, MS128                    int
	MS256, MS512, MS1024, MS2048, MS4096, MS8192, MS16384, MS32768 int
}

// latencies returns the columns of the histogram.
func (c *rollupCounts) latencies() [postrider.LatencyBuckets]*int {
	return [...]*int{
		&c.MS1, &c.MS2, &c.MS4, &c.MS8, &c.MS16, &c.MS32, &c.MS64, &c.MS128,
		&c.MS256, &c.MS512, &c.MS1024, &c.MS2048, &c.MS4096, &c.MS8192, &c.MS16384, &c.MS32768,
	}
}

func (c *rollupCounts) add(other *rollupCounts) {
	c.Attempts, c.Delivered, c.Failed = c.Attempts+other.Attempts, c.Delivered+other.Delivered, c.Failed+other.Failed
	theirs := other.latencies()
	for i, count := range c.latencies() {
		*count += *theirs[i]
	}
}

// rollupRow is a row of the tables rollup_minutes and rollup_hours.
type rollupRow struct {
	rollupKey
	WorkspaceID string `db:"workspace_id"`
	rollupCounts
}

// addToRollup is the end of an INSERT into the table that adds to the rollups that there are.
func addToRollup(table string) string {
	sums := sqldb.ColumnsOf[rollupCounts]().Names()
	for i, column := range sums {
		sums[i] = column + " = " + table + "." + column + " + excluded." + column
	}
	return "ON CONFLICT (webhook_id, at, event_type, result) DO UPDATE SET " + strings.Join(sums, ", ")
}

// rollups gathers what a transaction adds to rollups.
type rollups map[rollupKey]*rollupRow

// withoutAttempt is the result of rollups that count deliveries which failed without an attempt.
const withoutAttempt postrider.Result = ""

// of returns the rollup of a moment, in which the moment is counted.
func (r rollups) of(workspaceID, webhookID, eventType string, result postrider.Result, at time.Time, step time.Duration) *rollupRow {
	key := rollupKey{webhookID, postrider.FloorTo(at, step).Unix(), eventType, result}
	row := r[key]
	if row == nil {
		row = &rollupRow{rollupKey: key, WorkspaceID: workspaceID}
		r[key] = row
	}
	return row
}

// rows returns the rollups in the order of their keys, in which every transaction locks them.
func (r rollups) rows() []rollupRow {
	rows := make([]rollupRow, 0, len(r))
	for _, key := range slices.SortedFunc(maps.Keys(r), rollupKey.compare) {
		rows = append(rows, *r[key])
	}
	return rows
}

// countAttempt counts an attempt that is new, in the minute in which it ended.
func (r rollups) countAttempt(d *deliveryUpdate, o postrider.Outcome) *rollupRow {
	row := r.of(d.WorkspaceID, d.WebhookID, d.EventType, o.Attempt.Result, o.FinishedAt(), time.Minute)
	row.Attempts++
	*row.latencies()[postrider.LatencyBucket(o.Attempt.DurationMS)]++
	return row
}

// countFinished counts a delivery that its attempt finished.
func (c *rollupCounts) countFinished(state postrider.DeliveryState) {
	if state == postrider.StateFailed {
		c.Failed++
	} else {
		c.Delivered++
	}
}

// CompactStats makes hours of the minutes that are older than a day, in steps. It calls progress after
// each with how many minutes it has taken.
func (s *Store) CompactStats(ctx context.Context, progress func(minutes int64)) error {
	before := postrider.FloorTo(s.now().Add(-postrider.MinutesKept), time.Hour).Unix()
	for total := 0; ; {
		taken := 0
		err := s.db.Write(ctx, "compact stats", func(tx *sqlx.Tx) (err error) {
			taken, err = s.compactMinutes(ctx, tx, before)
			return err
		})
		if err != nil {
			return err
		}
		if total += taken; taken > 0 {
			progress(int64(total))
		}
		if taken < retainChunk {
			return nil
		}
	}
}

// compactMinutes makes hours of up to retainChunk minutes from before the given time, and returns how many.
func (s *Store) compactMinutes(ctx context.Context, tx *sqlx.Tx, before int64) (int, error) {
	var minutes []rollupRow
	err := oldRollups("rollup_minutes", before).Add(" RETURNING "+sqldb.ColumnsOf[rollupRow]().List()).Select(ctx, tx, &minutes)
	if err != nil {
		return 0, err
	}
	hours := rollups{}
	for _, m := range minutes {
		hour := hours.of(m.WorkspaceID, m.WebhookID, m.EventType, m.Result, time.Unix(m.At, 0), time.Hour)
		hour.add(&m.rollupCounts)
	}
	_, err = rollupHoursTable.Insert(ctx, tx, hours.rows()...)
	return len(minutes), err
}

// RetainStats removes hours of stats from before the given time, in steps. It calls progress with how many
// are removed.
func (s *Store) RetainStats(ctx context.Context, before time.Time, progress func(removed int64)) error {
	return s.deleteInSteps(ctx, "delete old stats", progress, func() *sqldb.Statement {
		return oldRollups("rollup_hours", before.Unix())
	})
}

// oldRollups returns a statement that deletes up to retainChunk rows of a table from before the given time.
func oldRollups(table string, before int64) *sqldb.Statement {
	const key = "(webhook_id, at, event_type, result)"
	return sqldb.SQL("DELETE FROM "+table+" WHERE "+key+" IN (SELECT webhook_id, at, event_type, result FROM "+table+
		" WHERE at < ? ORDER BY at LIMIT ?)", before, retainChunk)
}
