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

// Sizes and times of the hand-over of what failed.
const (
	maxHandover      = 1024 // deliveries at once
	maxHandoverAlone = 64   // where each gets a workflow of its own
	maxCancellations = 64
	// handoverStarts is how many starts go on at once: less than first attempts may have,
	// which wait for nobody's retries.
	handoverStarts = 2
	// handoverLinger lets failures gather, so that those of a webhook share a workflow. It
	// is below the shortest wait for a retry.
	handoverLinger = 75 * time.Millisecond
)

// handOver gives workflows to deliveries that failed, and cancels those of deliveries that
// were called off, until ctx is done.
func (d *Dispatcher) handOver(ctx context.Context) {
	for ctx.Err() == nil {
		n, err := d.handOverSome(ctx)
		switch {
		case err != nil && ctx.Err() == nil:
			d.Logger.LogAttrs(ctx, slog.LevelWarn, "cannot hand over what failed, trying again", slog.Any("error", err))
			d.wait(ctx, backoff, nil, nil)
		case n == 0:
			d.wait(ctx, pollInterval, d.Queue.WakeRetries(), nil)
			fallthrough
		default:
			d.wait(ctx, handoverLinger, nil, nil)
		}
	}
}

// handOverSome does what waits, up to a limit, and returns how much that was.
func (d *Dispatcher) handOverSome(ctx context.Context) (int, error) {
	request := postrider.HandoverRequest{Limit: maxHandover, Lease: Lease}
	if d.Batching == BatchingNever {
		request.Limit, request.Alone = maxHandoverAlone, true
	}
	made, err := d.Queue.ClaimRetries(ctx, request)
	if err != nil {
		return 0, err
	}
	cancellations, err := d.Queue.ClaimCancellations(ctx, maxCancellations, Lease)
	var starts errgroup.Group
	starts.SetLimit(handoverStarts)
	for _, h := range made {
		starts.Go(func() error { return d.startRetries(ctx, h) })
	}
	for _, c := range cancellations {
		starts.Go(func() error { return d.cancel(ctx, c) })
	}
	return len(made) + len(cancellations), errors.Join(err, starts.Wait())
}

// startRetries starts a workflow of retries, and gives them back when that fails.
func (d *Dispatcher) startRetries(ctx context.Context, h postrider.Handover) error {
	bound, cancel := context.WithTimeout(ctx, startTimeout)
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
