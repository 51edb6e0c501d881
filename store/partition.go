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

// The days around today that have a partition.
const (
	daysBehind = 1
	daysAhead  = 7
)

// partitioned is a table that grows, with the prefix of the ids that it is
// partitioned by and the share of a page that inserts fill, in percent.
type partitioned struct{ table, prefix, fill string }

func partitionedTables() []partitioned {
	return []partitioned{
		{"events", postrider.PrefixEvent, "100"},
		{"deliveries", postrider.PrefixDelivery, "45"}, // a delivery that succeeds is updated once, in the same page
		{"attempts", postrider.PrefixDelivery, "100"},
	}
}

// analyzedFrom is how many changes a day must have seen before PostgreSQL analyzes it by
// itself. While a partition has fewer than two hundred rows, PostgreSQL believes that any of
// its indexes is as good as the right one, and keeps that plan until it analyzes again.
const analyzedFrom = "1000"

// EnsurePartitions makes the partitions, one a day (UTC), from the day before now
// to a week after it, where they are missing. Call it every few hours. A day for
// which rows came before its partition keeps them in the default partition. It
// does nothing on SQLite.
func (s *Store) EnsurePartitions(ctx context.Context, now time.Time) error {
	if !s.db.Partitions {
		return nil
	}
	made, err := s.partitions(ctx)
	if err != nil {
		return err
	}
	today := now.UTC().Truncate(24 * time.Hour)
	for offset := -daysBehind; offset <= daysAhead; offset++ {
		day := today.AddDate(0, 0, offset)
		for _, p := range partitionedTables() {
			name := p.table + "_" + day.Format("20060102")
			if slices.Contains(made, name) {
				continue
			}
			bounds := "FROM ('" + postrider.IDFloor(p.prefix, day) + "') TO ('" + postrider.IDFloor(p.prefix, day.AddDate(0, 0, 1)) + "')"
			storage := " WITH (fillfactor = " + p.fill + ", autovacuum_analyze_threshold = " + analyzedFrom + ")"
			if err := s.makePartition(ctx, name, "PARTITION OF "+p.table+" FOR VALUES "+bounds+storage); err != nil {
				return err
			}
		}
	}
	return nil
}

// partitions returns the names of the partitions that there are.
func (s *Store) partitions(ctx context.Context) ([]string, error) {
	names, err := sqldb.SQL(`SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
		WHERE c.relkind = 'r' AND pg_table_is_visible(c.oid)`).Strings(ctx, s.db.Delivering.Writing)
	return names, sqldb.Failure("list partitions", err)
}

// partitionLock is the advisory lock under which partitions are made: any number
// that nothing else uses.
const partitionLock = 7265840113

func (s *Store) makePartition(ctx context.Context, name, definition string) error {
	err := s.db.Delivering.Write(ctx, "make a partition", func(tx *sqlx.Tx) error {
		// The new partition locks its table for a moment. If a long query holds the table, it
		// gives up, because every other statement would wait behind it; the next call tries again.
		if err := sqldb.SQL("SET LOCAL lock_timeout = '3s'").Run(ctx, tx); err != nil {
			return err
		}
		if err := sqldb.SQL("SELECT pg_advisory_xact_lock(?)", int64(partitionLock)).Run(ctx, tx); err != nil {
			return err
		}
		return sqldb.SQL("CREATE TABLE IF NOT EXISTS "+name+" "+definition).Run(ctx, tx)
	})
	if sqldb.ViolatesCheck(err) { // the default partition has rows of that day
		s.Logger.LogAttrs(ctx, slog.LevelWarn, "a day's rows stay in the default partition", slog.String("partition", name))
		return nil
	}
	return err
}
