package main

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"time"

	"postrider.dev/postrider/standalone/instance"
)

// defaultStall is how long a count may stand still before a run gives up.
const defaultStall = 30 * time.Second

// pollInterval is how often a run asks for a count. It is long enough that asking costs no
// measurable CPU time.
const pollInterval = 50 * time.Millisecond

// wait says what a run waits for.
type wait struct {
	what  string // "deliveries were received"
	want  int
	stall time.Duration // how long the count may stand still; 0 means defaultStall
	bound time.Duration // how long everything may take; 0 means no bound
}

// await waits until the count reaches the wanted number. It returns an error when the count
// stands still or the bound is over.
func (r *run) await(ctx context.Context, w wait, count func(context.Context) (int, error)) error {
	w.stall = cmp.Or(w.stall, defaultStall)
	latest, began := -1, time.Now()
	grown, shown := began, began
	return poll(ctx, pollInterval, func() (bool, error) {
		n, err := count(ctx)
		now := time.Now()
		switch {
		case err != nil:
			return false, err
		case n >= w.want:
			return true, nil
		case w.bound > 0 && now.Sub(began) > w.bound:
			return false, fmt.Errorf("%d of %d %s in %s, which is all the time there was", n, w.want, w.what, now.Sub(began).Round(time.Second))
		case n > latest:
			latest, grown = n, now
		case now.Sub(grown) > w.stall:
			return false, fmt.Errorf("%d of %d %s in %s, and no more in the %s after that",
				n, w.want, w.what, grown.Sub(began).Round(time.Second), w.stall)
		}
		if now.Sub(shown) > progressInterval {
			r.sayf("  %d of %d %s", n, w.want, w.what)
			shown = now
		}
		return false, nil
	})
}

// countFinished asks the API how many deliveries of the run are finished, and how many of
// these failed.
func (r *run) countFinished(ctx context.Context) (finished, failed int, err error) {
	ours := make(map[string]bool, len(r.hooks))
	for _, hook := range r.hooks {
		ours[hook.ID] = true
	}
	for path := "/api/v1/webhooks?limit=200"; len(ours) > 0; { // newest first: the run's webhooks come early
		var page struct {
			Data       []instance.Webhook
			NextCursor string `json:"next_cursor"`
		}
		if err := r.Call(ctx, http.MethodGet, path, nil, &page); err != nil {
			return 0, 0, err
		}
		for _, w := range page.Data {
			if ours[w.ID] {
				finished += w.Stats.TotalDeliveries
				failed += w.Stats.FailedDeliveries
				delete(ours, w.ID)
			}
		}
		if page.NextCursor == "" {
			break
		}
		path = "/api/v1/webhooks?limit=200&cursor=" + page.NextCursor
	}
	if len(ours) > 0 {
		return 0, 0, fmt.Errorf("the API no longer lists %d webhooks of the run", len(ours))
	}
	return finished, failed, nil
}

// countRecorded returns how many deliveries of the run are finished, and an error when one
// failed.
func (r *run) countRecorded(ctx context.Context) (int, error) {
	finished, failed, err := r.countFinished(ctx)
	if err == nil && failed > 0 {
		err = fmt.Errorf("%d deliveries failed", failed)
	}
	return finished, err
}

// checkAllRecorded returns an error unless exactly the deliveries that were counted are
// finished, and every other one too.
func (r *run) checkAllRecorded(ctx context.Context) error {
	n, err := r.countRecorded(ctx)
	if err != nil {
		return err
	}
	if n != r.finished {
		return fmt.Errorf("%d deliveries were recorded, of %d that were published", n, r.finished)
	}
	return r.checkNoneUnfinished(ctx)
}

// awaitAllFailed waits until n deliveries are finished. It returns an error unless exactly n
// finished and all of them failed.
func (r *run) awaitAllFailed(ctx context.Context, n int, w wait) error {
	w.what, w.want = "deliveries were recorded", n
	var finished, failed int
	err := r.await(ctx, w, func(ctx context.Context) (_ int, err error) {
		finished, failed, err = r.countFinished(ctx)
		return finished, err
	})
	if err == nil && (finished != n || failed != n) {
		err = fmt.Errorf("%d deliveries finished and %d of them failed; all %d had to fail", finished, failed, n)
	}
	return err
}

// checkNoneUnfinished returns an error when a delivery of the run is not finished.
func (r *run) checkNoneUnfinished(ctx context.Context) error {
	for _, hook := range r.hooks {
		for _, state := range []string{"pending", "delivering", "retrying", "parked"} {
			left, err := r.deliveryInState(ctx, hook, state)
			if err != nil {
				return err
			}
			if left != "" {
				return fmt.Errorf("%s is still %s after all deliveries were counted", left, state)
			}
		}
	}
	return nil
}

// deliveryInState returns the id of a delivery of the webhook that is in the state, or "".
func (r *run) deliveryInState(ctx context.Context, w instance.Webhook, state string) (string, error) {
	var page struct{ Data []instance.Delivery }
	err := r.Call(ctx, http.MethodGet, "/api/v1/webhooks/"+w.ID+"/deliveries?limit=1&state="+state, nil, &page)
	if err != nil || len(page.Data) == 0 {
		return "", err
	}
	return page.Data[0].ID, nil
}
