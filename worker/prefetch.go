package worker

import (
	"context"
	"log/slog"
	"time"

	"postrider.dev/postrider"
	"postrider.dev/postrider/activities"
)

// prefetchTimeout bounds the reading of what claimed deliveries need: later it would be too
// old to be used, since a delivery may be cancelled, or its webhook changed.
const prefetchTimeout = 2 * time.Second

// prefetch reads what the claimed deliveries' attempts need, while their workflow is
// started, and lets them arrive at their batch. Where it cannot be read they go without.
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
		d.Logger.LogAttrs(ctx, slog.LevelWarn, "cannot read ahead what attempts need; they will be read one by one", slog.Any("error", err))
	}
	for i := range targets {
		arrivals[i].Target, arrivals[i].ReadAt = &targets[i], d.Now()
	}
	d.know(targets)
	b.arrive(d.withPlaces(b, claimed, arrivals))
}
