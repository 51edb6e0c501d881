package store

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/jmoiron/sqlx"

	"postrider.dev/postrider"
	"postrider.dev/postrider/store/sqldb"
)

// retainChunk is how many deliveries are deleted in one transaction where they are
// deleted one by one: few enough that a publish beside it hardly waits.
const retainChunk = 500

// spill is how long after the end of an event's day its deliveries may have got
// their ids.
const spill = time.Hour

// Retain fails deliveries that were parked for longer than their webhooks say, and removes
// deliveries that were accepted, or due, before the day of the given time, if they are
// finished, with their attempts. It removes events without deliveries and idempotency keys of
// that time too. Unfinished deliveries stay. On PostgreSQL whole days go at once, by dropping
// their partitions; a day with an unfinished delivery, or whose event has one, is kept as a whole. It calls progress
// with how far it has come. A run that was interrupted goes on with the next call.
func (s *Store) Retain(ctx context.Context, before time.Time, progress func(postrider.Removed)) (postrider.Removed, error) {
	r := &retention{Store: s, end: before.UTC().Truncate(24 * time.Hour), progress: progress}
	steps := []func(context.Context) error{
		r.failParked, r.failHeld, r.dropDays, r.deleteDeliveries, r.deleteActions, r.deleteEvents, r.deleteKeys,
	}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return r.removed, sqldb.Failure("remove what is past its retention", err)
		}
	}
	return r.removed, nil
}

// retention is one run of [Store.Retain].
type retention struct {
	*Store

	end      time.Time // midnight
	removed  postrider.Removed
	progress func(postrider.Removed)
}

// dropDays drops the partitions of days before the end.
func (r *retention) dropDays(ctx context.Context) error {
	if !r.db.Partitions {
		return nil
	}
	names, err := r.partitions(ctx)
	if err != nil {
		return err
	}
	for _, day := range daysOf(names) {
		if !day.Before(r.end) {
			return nil
		}
		open, err := r.unfinished(ctx, day)
		if err != nil {
			return err
		}
		label := day.Format(time.DateOnly)
		if open {
			r.removed.Unfinished = append(r.removed.Unfinished, label)
			r.Logger.LogAttrs(ctx, slog.LevelWarn,
				"a day past its retention is kept for deliveries that are not finished, or were scheduled for a later day:"+
					" resume or delete the webhooks of those that are parked", slog.String("day", label))
			continue
		}
		if err := r.dropDay(ctx, day); err != nil {
			return err
		}
		r.removed.Days = append(r.removed.Days, label)
		r.progress(r.removed)
	}
	return nil
}

// daysOf returns the days that have a partition, the oldest first.
func daysOf(partitions []string) []time.Time {
	var days []time.Time
	for _, name := range partitions {
		for _, p := range partitionedTables() {
			day, err := time.Parse(p.table+"_20060102", name)
			if err == nil && !slices.Contains(days, day) {
				days = append(days, day)
			}
		}
	}
	slices.SortFunc(days, time.Time.Compare)
	return days
}

// unfinished reports whether an event of the day has a delivery that is not finished, or blocks its
// lane, so that its event may have to be sent again, or one that was scheduled for a time which is not
// past its retention. A delivery that sends an old event again has an id of a later day: for those the
// index on events is read, beginning with that day.
func (r *retention) unfinished(ctx context.Context, day time.Time) (bool, error) {
	const query = "SELECT EXISTS (SELECT 1 FROM deliveries WHERE id >= ? AND id < ? AND (finished_at IS NULL OR due_at >= ?))" +
		" OR EXISTS (SELECT 1 FROM lane_places WHERE delivery_id >= ? AND delivery_id < ?)" +
		" OR EXISTS (SELECT 1 FROM deliveries d WHERE event_key >= ? AND event_key < ? AND id >= ?" +
		" AND (finished_at IS NULL OR EXISTS (SELECT 1 FROM lane_places p WHERE p.delivery_id = d.id)))"
	next := day.AddDate(0, 0, 1)
	later := postrider.IDFloor(postrider.PrefixDelivery, next.Add(spill))
	var open bool
	first := postrider.IDFloor(postrider.PrefixDelivery, day)
	err := sqldb.SQL(query, first, later, r.end, first, later,
		postrider.IDFloor(postrider.PrefixEvent, day), postrider.IDFloor(postrider.PrefixEvent, next), later).
		Get(ctx, r.db.Delivering.Reading, &open)
	return open, err
}

// dropDay drops a day's partitions: attempts before the deliveries that they are
// of, these before their events.
func (r *retention) dropDay(ctx context.Context, day time.Time) error {
	for _, p := range slices.Backward(partitionedTables()) {
		err := r.db.Delivering.Write(ctx, "drop a partition", func(tx *sqlx.Tx) error {
			// The drop locks its table for a moment. If a long query holds the table, it gives up,
			// because every other statement would wait behind it.
			if err := sqldb.SQL("SET LOCAL lock_timeout = '1s'").Run(ctx, tx); err != nil {
				return err
			}
			return sqldb.SQL("DROP TABLE IF EXISTS "+p.table+"_"+day.Format("20060102")).Run(ctx, tx)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// rowByRow returns the table whose old rows are deleted one by one: on PostgreSQL the default
// partition, which has the rows that came before their day had a partition.
func (r *retention) rowByRow(table string) string {
	if r.db.Partitions {
		return table + "_default"
	}
	return table
}

func (r *retention) deleteDeliveries(ctx context.Context) error {
	table, after := r.rowByRow("deliveries"), ""
	for {
		old, err := sqldb.SQL("SELECT id FROM "+table+" WHERE id > ? AND id < ? AND finished_at IS NOT NULL AND due_at < ?"+
			" AND NOT EXISTS (SELECT 1 FROM lane_places p WHERE p.delivery_id = "+table+".id) ORDER BY id LIMIT ?",
			after, postrider.IDFloor(postrider.PrefixDelivery, r.end), r.end, retainChunk).Strings(ctx, r.db.Delivering.Reading)
		if err != nil || len(old) == 0 {
			return err
		}
		after = old[len(old)-1]
		err = r.db.Delivering.Write(ctx, "delete deliveries", func(tx *sqlx.Tx) error {
			if err := sqldb.SQL("DELETE FROM attempts WHERE delivery_id IN").In(old).Run(ctx, tx); err != nil {
				return err
			}
			return sqldb.SQL("DELETE FROM "+table+" WHERE id IN").In(old).Run(ctx, tx)
		})
		if err != nil {
			return err
		}
		r.removed.Deliveries += int64(len(old))
		r.progress(r.removed)
	}
}

// deleteActions deletes the actions of deliveries that are gone.
func (r *retention) deleteActions(ctx context.Context) error {
	const acted = "SELECT DISTINCT delivery_id FROM delivery_actions WHERE delivery_id > ? AND delivery_id < ? ORDER BY delivery_id LIMIT ?"
	for after := ""; ; {
		old, err := sqldb.SQL(acted, after, postrider.IDFloor(postrider.PrefixDelivery, r.end), retainChunk).Strings(ctx, r.db.Delivering.Reading)
		if err != nil || len(old) == 0 {
			return err
		}
		after = old[len(old)-1]
		err = r.db.Delivering.Write(ctx, "delete actions", func(tx *sqlx.Tx) error {
			return sqldb.SQL("DELETE FROM delivery_actions WHERE delivery_id IN").In(old).
				Add(" AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.id = delivery_actions.delivery_id AND ").InKeyRange("d.id", old).Add(")").
				Run(ctx, tx)
		})
		if err != nil {
			return err
		}
	}
}

// deleteEvents deletes events that no delivery is left of.
func (r *retention) deleteEvents(ctx context.Context) error {
	table, after := r.rowByRow("events"), ""
	for {
		old, err := sqldb.SQL("SELECT key FROM "+table+` e WHERE key > ? AND key < ?
			AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.event_key = e.key) ORDER BY key LIMIT ?`,
			after, postrider.IDFloor(postrider.PrefixEvent, r.end), retainChunk).Strings(ctx, r.db.Delivering.Reading)
		if err != nil || len(old) == 0 {
			return err
		}
		after = old[len(old)-1]
		err = r.db.Delivering.Write(ctx, "delete events", func(tx *sqlx.Tx) error {
			return sqldb.SQL("DELETE FROM "+table+" WHERE key IN").In(old).Run(ctx, tx)
		})
		if err != nil {
			return err
		}
		r.removed.Events += int64(len(old))
		r.progress(r.removed)
	}
}

func (r *retention) deleteKeys(ctx context.Context) error {
	for {
		var gone int64
		err := r.db.Delivering.Write(ctx, "delete idempotency keys", func(tx *sqlx.Tx) (err error) {
			gone, err = sqldb.SQL(`DELETE FROM idempotency_keys WHERE (workspace_id, kind, value) IN
				(SELECT workspace_id, kind, value FROM idempotency_keys WHERE created_at < ? ORDER BY created_at LIMIT ?)`,
				r.end, retainChunk).Affect(ctx, tx)
			return err
		})
		r.removed.IdempotencyKeys += gone
		if err != nil || gone < retainChunk {
			return err
		}
		r.progress(r.removed)
	}
}
