package worker

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"

	"postrider.dev/postrider"
)

// Limits of telling workflows of operators' actions.
const (
	maxNotices = 256 // actions a claim
	tellers    = 4   // workflows that are told at once
	// noticeTimeout bounds one telling. After it another process may try.
	noticeTimeout = 5 * time.Second
)

// tell tells workflows of operators' actions on deliveries that they carried. It reports whether
// there may be more. One that could not be told is told again after its lease.
func (d *Dispatcher) tell(ctx context.Context) (more bool, err error) {
	notices, err := d.Queue.ClaimNotices(ctx, maxNotices, noticeTimeout)
	if err != nil {
		return false, err
	}
	var told errgroup.Group
	told.SetLimit(tellers)
	for _, n := range notices {
		told.Go(func() error { return d.tellOne(ctx, n) })
	}
	return len(notices) > 0, told.Wait()
}

func (d *Dispatcher) tellOne(ctx context.Context, n postrider.Notice) error {
	bound, cancel := context.WithTimeout(ctx, noticeTimeout)
	defer cancel()
	if err := d.Starter.Tell(bound, n); err != nil {
		return err
	}
	return d.Queue.Noticed(bound, n)
}
