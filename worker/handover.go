package worker

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"postrider.dev/postrider"
	"postrider.dev/postrider/workflows"
)

// Limits of the hand-over of failed deliveries to workflows of retries.
const (
	maxHandover      = 1024 // deliveries a claim
	maxHandoverAlone = 64   // where each delivery gets a workflow of its own
	maxCancellations = 64
	// handoverStarts is how many starts go on at once. First attempts may have more, since
	// they must not wait for retries.
	handoverStarts = 2
	// handoverLinger lets failures gather, so that deliveries of one webhook share a
	// workflow. It is shorter than the shortest wait for a retry.
	handoverLinger = 75 * time.Millisecond
)

// handOver starts workflows for the retries of failed deliveries, and cancels the workflows of
// cancelled deliveries, until ctx is done.
func (d *Dispatcher) handOver(ctx context.Context) {
	for ctx.Err() == nil {
		n, err := d.handOverDue(ctx)
		switch {
		case err != nil && ctx.Err() == nil:
			d.Logger.LogAttrs(ctx, slog.LevelWarn, "could not hand over failed deliveries, trying again", slog.Any("error", err))
			d.wait(ctx, backoff, nil, nil)
		case n == 0:
			d.wait(ctx, pollInterval, d.Queue.WakeRetries(), nil)
			fallthrough
		default:
			d.wait(ctx, handoverLinger, nil, nil)
		}
	}
}

// handOverDue claims hand-overs and cancellations, up to a limit, and returns how many.
func (d *Dispatcher) handOverDue(ctx context.Context) (int, error) {
	request := postrider.HandoverRequest{Limit: maxHandover, Lease: Lease}
	if d.Batching == BatchingNever {
		request.Limit, request.Alone = maxHandoverAlone, true
	}
	handovers, err := d.Queue.ClaimRetries(ctx, request)
	if err != nil {
		return 0, err
	}
	cancellations, err := d.Queue.ClaimCancellations(ctx, maxCancellations, Lease)
	var starts errgroup.Group
	starts.SetLimit(handoverStarts)
	for _, h := range handovers {
		starts.Go(func() error { return d.startRetries(ctx, h) })
	}
	for _, c := range cancellations {
		starts.Go(func() error { return d.cancel(ctx, c) })
	}
	return len(handovers) + len(cancellations), errors.Join(err, starts.Wait())
}

// startRetries starts a workflow of retries. When that fails it releases the deliveries.
func (d *Dispatcher) startRetries(ctx context.Context, h postrider.Handover) error {
	bound, cancel := startContext(ctx)
	defer cancel()
	err := d.Starter.StartRetries(bound, h)
	if err == nil || errors.Is(err, workflows.ErrAlreadyStarted) {
		return nil
	}
	ids := make([]string, len(h.Deliveries))
	for i, delivery := range h.Deliveries {
		ids[i] = delivery.ID
	}
	d.releaseIDs(ctx, h.WorkflowID, ids)
	return err
}

// cancel cancels the workflow of a cancelled delivery. When that fails it releases the request.
func (d *Dispatcher) cancel(ctx context.Context, c postrider.Cancellation) error {
	bound, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if c.WorkflowID != "" {
		if err := d.Starter.Cancel(bound, c.WorkflowID); err != nil {
			d.releaseIDs(ctx, c.WorkflowID, []string{c.DeliveryID})
			return err
		}
	}
	return d.Queue.Cancelled(bound, []string{c.DeliveryID})
}
