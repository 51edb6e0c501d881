package activities

import (
	"context"
	"time"

	"go.temporal.io/sdk/activity"

	"postrider.dev/postrider"
)

// Keeper maintains the database.
type Keeper interface {
	// EnsurePartitions creates the partitions of the days around now.
	EnsurePartitions(ctx context.Context, now time.Time) error
	// Retain removes finished events and deliveries that were accepted before the day of the
	// given time, and reports its progress.
	Retain(ctx context.Context, before time.Time, progress func(postrider.Removed)) (postrider.Removed, error)
}

// Maintenance is the Temporal activity that maintains the database.
type Maintenance struct {
	Keeper    Keeper
	Now       func() time.Time
	Retention time.Duration // how long finished events are kept; 0 for ever
}

// Maintain creates partitions for the coming days, and removes events and deliveries that are
// past their retention. A try after a failure goes on with the rest.
func (m *Maintenance) Maintain(ctx context.Context) (postrider.Removed, error) {
	if err := m.Keeper.EnsurePartitions(ctx, m.Now()); err != nil || m.Retention == 0 {
		return postrider.Removed{}, err
	}
	return m.Keeper.Retain(ctx, m.Now().Add(-m.Retention), func(removed postrider.Removed) {
		activity.RecordHeartbeat(ctx, removed)
	})
}
