package worker

import (
	"context"

	"postrider.dev/postrider"
	"postrider.dev/postrider/activities"
)

var _ activities.Process = (*Dispatcher)(nil)

// Feed implements [activities.Process].
func (d *Dispatcher) Feed(workflowID string) activities.Feed {
	if b := d.batches.takeFeed(workflowID); b != nil {
		return b
	}
	return nil // not a nil *batch, which would be a feed
}

// Reserve implements [activities.Process].
func (d *Dispatcher) Reserve(ctx context.Context, target postrider.Target) error {
	return d.inflight.reserve(ctx, target)
}

// Began implements [activities.Process].
func (d *Dispatcher) Began(deliveryID string) { d.inflight.beganRetry(deliveryID) }

// Answered implements [activities.Process].
func (d *Dispatcher) Answered(deliveryID string, succeeded bool) string {
	return d.inflight.answered(deliveryID, succeeded)
}

// Done implements [activities.Process].
func (d *Dispatcher) Done(deliveryID string) { d.inflight.done(deliveryID) }
