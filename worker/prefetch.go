package worker

import (
	"context"
	"log/slog"
	"time"

	"postrider.dev/postrider"
	"postrider.dev/postrider/activities"
)

// prefetchTimeout bounds the reading of targets ahead. An older target would not be used: the
// delivery may be cancelled by then, or its webhook changed.
const prefetchTimeout = 2 * time.Second

// prefetch reads the claimed deliveries' targets while their workflow is started, and lets
// them arrive at their batch. When that fails they arrive without targets, and the activity
// reads each target.
func (d *Dispatcher) prefetch(ctx context.Context, b *batch, claimed []postrider.Dispatch) {
	arrivals := make([]activities.Arrival, len(claimed))
	deliveries := make([]postrider.Delivery, len(claimed))
	for i, c := range claimed {
		arrivals[i].DeliveryID, deliveries[i] = c.ID, c.Delivery
	}
	bound, cancel := context.WithTimeout(ctx, prefetchTimeout)
	defer cancel()
	targets, err := d.Queue.TargetsOf(bound, deliveries)
	if err != nil && ctx.Err() == nil {
		d.Logger.LogAttrs(ctx, slog.LevelWarn, "could not read the targets of claimed deliveries; each attempt will read its own",
			slog.String("workflow_id", b.workflowID), slog.Int("deliveries", len(claimed)), slog.Any("error", err))
	}
	for i := range targets {
		arrivals[i].Target, arrivals[i].ReadAt = &targets[i], d.Now()
	}
	d.inflight.setMaxInFlight(targets)
	b.arrive(d.inflight.ready(b, claimed, arrivals))
}
