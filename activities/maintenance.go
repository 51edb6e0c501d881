package activities

import (
	"context"
	"time"

	"go.temporal.io/sdk/activity"

	"postrider.dev/postrider"
)

// Keeper maintains the database. What may take long tells its progress.
type Keeper interface {
	// EnsurePartitions creates the partitions of the days around now.
	EnsurePartitions(ctx context.Context, now time.Time) error
	// Retain removes finished events and deliveries that were accepted before the day of the
	// given time, and reports its progress.
	Retain(ctx context.Context, before time.Time, progress func(postrider.Removed)) (postrider.Removed, error)
	// CompactStats makes hours of the minutes of stats that are older than a day.
	CompactStats(ctx context.Context, progress func(minutes int64)) error
	// RetainStats removes hours of stats from before the given time.
	RetainStats(ctx context.Context, before time.Time, progress func(removed int64)) error
	// RetainAudit removes entries of the audit log from before the given time.
	RetainAudit(ctx context.Context, before time.Time, progress func(removed int64)) error
	// RetainReplays removes replay jobs that ended before the given time.
	RetainReplays(ctx context.Context, before time.Time, progress func(removed int64)) error
}

// Maintenance is the Temporal activity that maintains the database. Each retention is how long
// something is kept; 0 for ever.
type Maintenance struct {
	Keeper         Keeper
	Now            func() time.Time
	Retention      time.Duration // of finished events with their deliveries, and of replay jobs
	AuditRetention time.Duration
	StatsRetention time.Duration
}

// Maintain creates partitions for the coming days, compacts stats, and removes what is past its
// retention. A try after a failure goes on with the rest.
func (m *Maintenance) Maintain(ctx context.Context) (postrider.Removed, error) {
	if err := m.Keeper.EnsurePartitions(ctx, m.Now()); err != nil {
		return postrider.Removed{}, err
	}
	books, err := m.keepBooks(ctx)
	if err != nil || m.Retention == 0 {
		return books, err
	}
	all := func(removed postrider.Removed) postrider.Removed {
		removed.Compacted, removed.Stats, removed.AuditEntries = books.Compacted, books.Stats, books.AuditEntries
		removed.Replays = books.Replays
		return removed
	}
	removed, err := m.Keeper.Retain(ctx, m.Now().Add(-m.Retention), func(removed postrider.Removed) {
		activity.RecordHeartbeat(ctx, all(removed))
	})
	return all(removed), err
}

// keepBooks compacts stats, and removes stats, replay jobs and entries of the audit log that are past their
// retention.
func (m *Maintenance) keepBooks(ctx context.Context) (removed postrider.Removed, err error) {
	count := func(into *int64) func(int64) {
		return func(n int64) {
			*into = n
			activity.RecordHeartbeat(ctx, removed)
		}
	}
	if err := m.Keeper.CompactStats(ctx, count(&removed.Compacted)); err != nil {
		return removed, err
	}
	if m.StatsRetention > 0 {
		if err := m.Keeper.RetainStats(ctx, m.Now().Add(-m.StatsRetention), count(&removed.Stats)); err != nil {
			return removed, err
		}
	}
	if m.Retention > 0 {
		if err := m.Keeper.RetainReplays(ctx, m.Now().Add(-m.Retention), count(&removed.Replays)); err != nil {
			return removed, err
		}
	}
	if m.AuditRetention > 0 {
		err = m.Keeper.RetainAudit(ctx, m.Now().Add(-m.AuditRetention), count(&removed.AuditEntries))
	}
	return removed, err
}
