package activities

import (
	"context"
	"time"

	"go.temporal.io/sdk/activity"

	"postrider.dev/postrider"
)

// Keeper looks after what accumulates in the database.
type Keeper interface {
	// EnsurePartitions makes the partitions of the days around now.
	EnsurePartitions(ctx context.Context, now time.Time) error
	// Retain removes what is finished and was accepted before the day of the given
	// time, and tells progress how far it has come.
	Retain(ctx context.Context, before time.Time, progress func(postrider.Removed)) (postrider.Removed, error)
}

// Maintenance is the Temporal activity that looks after the database.
type Maintenance struct {
	Keeper    Keeper
	Now       func() time.Time
	Retention time.Duration // how long what is finished is kept; 0: for ever
}

// Maintain makes partitions for the days to come and removes what is past its
// retention. Tried again after a failure, it goes on where it was.
func (m *Maintenance) Maintain(ctx context.Context) (postrider.Removed, error) {
	if err := m.Keeper.EnsurePartitions(ctx, m.Now()); err != nil || m.Retention == 0 {
		return postrider.Removed{}, err
	}
	return m.Keeper.Retain(ctx, m.Now().Add(-m.Retention), func(so postrider.Removed) { activity.RecordHeartbeat(ctx, so) })
}
