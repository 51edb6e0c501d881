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
	Subject   string // a webhook, or a workspace, see rollups.add
	At        int64  // the beginning of its minute or hour, in Unix seconds
	EventType string `db:"event_type"`
	Result    postrider.Result
}

func (k rollupKey) compare(other rollupKey) int {
	return cmp.Or(strings.Compare(k.Subject, other.Subject), cmp.Compare(k.At, other.At),
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
	return "ON CONFLICT (subject, at, event_type, result) DO UPDATE SET " + strings.Join(sums, ", ")
}

// rollups gathers what a transaction adds to rollups.
type rollups map[rollupKey]*rollupRow

// withoutAttempt is the result of rollups that count deliveries which failed without an attempt.
const withoutAttempt postrider.Result = ""

// of returns the rollup of a moment.
func (r rollups) of(workspaceID string, key rollupKey) *rollupRow {
	row := r[key]
	if row == nil {
		row = &rollupRow{rollupKey: key, WorkspaceID: workspaceID}
		r[key] = row
	}
	return row
}

// add adds counts of a delivery to its webhook's minute and to its workspace's. The process, a name of its
// own, is part of the workspace's subject: it makes one record at a time, so nobody waits for a row
// that all of a workspace's records add to.
func (r rollups) add(process string, d *deliveryUpdate, result postrider.Result, at time.Time, counts rollupCounts) {
	minute := postrider.FloorTo(at, time.Minute).Unix()
	for _, subject := range []string{d.WebhookID, d.WorkspaceID + subjectSeparator + process} {
		r.of(d.WorkspaceID, rollupKey{subject, minute, d.EventType, result}).add(&counts)
	}
}

// subjectSeparator stands between a workspace and a process. The character after it ends the range of a
// workspace's subjects.
const (
	subjectSeparator = "/"
	subjectEnd       = "0"
)

// rows returns the rollups in the order of their keys, in which every transaction locks them.
func (r rollups) rows() []rollupRow {
	rows := make([]rollupRow, 0, len(r))
	for _, key := range slices.SortedFunc(maps.Keys(r), rollupKey.compare) {
		rows = append(rows, *r[key])
	}
	return rows
}

// countsOfAttempt returns what an attempt counts.
func countsOfAttempt(a postrider.Attempt) rollupCounts {
	counts := rollupCounts{Attempts: 1}
	*counts.latencies()[postrider.LatencyBucket(a.DurationMS)]++
	return counts
}

// countsOfFinished returns what a delivery counts that finished, and was not cancelled.
func countsOfFinished(state postrider.DeliveryState) rollupCounts {
	if state == postrider.StateFailed {
		return rollupCounts{Failed: 1}
	}
	return rollupCounts{Delivered: 1}
}

// countFailed adds deliveries that failed without another attempt to stats and rollups, and tells of
// them. Each has its reason as its last error.
func (s *Store) countFailed(ctx context.Context, tx *sqlx.Tx, failed []deliveryUpdate, now time.Time) error {
	counted, byWebhook := rollups{}, map[string]*statsRow{}
	told := make([]postrider.OperationalEvent, 0, len(failed))
	for _, d := range failed {
		told = append(told, d.tellsOfFailure(nil)...)
		counted.add(s.process, &d, withoutAttempt, now, countsOfFinished(postrider.StateFailed))
		row := byWebhook[d.WebhookID]
		if row == nil {
			row = &statsRow{WebhookID: d.WebhookID}
			byWebhook[d.WebhookID] = row
		}
		row.TotalDeliveries++
		row.FailedDeliveries++
		row.LastDeliveryAt, row.LastError = sqldb.NullTime(&now), d.LastError
	}
	stats := make([]statsRow, 0, len(byWebhook))
	for _, id := range slices.Sorted(maps.Keys(byWebhook)) {
		stats = append(stats, *byWebhook[id])
	}
	if len(stats) == 0 {
		return nil
	}
	if err := s.emit(ctx, tx, told...); err != nil {
		return err
	}
	_, err := countedRows.Write(ctx, s.db, tx, rollupMinutesTable.Rows(counted.rows()), webhookStatsTable.Rows(stats))
	return err
}

// CompactStats makes hours of the minutes that are older than a day, in steps. It calls progress after
// each with how many minutes it has taken.
func (s *Store) CompactStats(ctx context.Context, progress func(minutes int64)) error {
	before := postrider.FloorTo(s.now().Add(-postrider.MinutesKept), time.Hour).Unix()
	for total := 0; ; {
		taken := 0
		err := s.db.Delivering.Write(ctx, "compact stats", func(tx *sqlx.Tx) (err error) {
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
	err := oldRollups(tableMinutes, before).Add(" RETURNING "+sqldb.ColumnsOf[rollupRow]().List()).Select(ctx, tx, &minutes)
	if err != nil {
		return 0, err
	}
	hours := rollups{}
	for _, m := range minutes {
		key := m.rollupKey
		key.Subject, _, _ = strings.Cut(m.Subject, subjectSeparator)
		key.At = postrider.FloorTo(time.Unix(m.At, 0), time.Hour).Unix()
		hours.of(m.WorkspaceID, key).add(&m.rollupCounts)
	}
	_, err = rollupHoursTable.Insert(ctx, tx, hours.rows()...)
	return len(minutes), err
}

// RetainStats removes hours of stats from before the given time, in steps. It calls progress with how many
// are removed.
func (s *Store) RetainStats(ctx context.Context, before time.Time, progress func(removed int64)) error {
	return s.deleteInSteps(ctx, "delete old stats", progress, func() *sqldb.Statement {
		return oldRollups(tableHours, before.Unix())
	})
}

// oldRollups returns a statement that deletes up to retainChunk rows of a table from before the given time.
func oldRollups(table string, before int64) *sqldb.Statement {
	const key = "(subject, at, event_type, result)"
	return sqldb.SQL("DELETE FROM "+table+" WHERE "+key+" IN (SELECT subject, at, event_type, result FROM "+table+
		" WHERE at < ? ORDER BY at LIMIT ?)", before, retainChunk)
}
