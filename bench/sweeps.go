package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"time"

	"postrider.dev/postrider/standalone/instance"
)

const (
	sweepSize  = 400_000
	sweepBound = 20 * time.Minute
	sweepPoll  = time.Second // asking reads many rows
)

// crowdedWebhook is a webhook for which very many deliveries wait. The steps of one system share it.
type crowdedWebhook struct{ instance.Webhook }

// sweeps measures how long a change of a crowded webhook takes to be answered and to reach what
// waits, and the latency of another webhook meanwhile, compared with its latency while nothing
// changes.
func sweeps(name string, on func(...step) part) []part {
	still := name + "-still"
	w := &crowdedWebhook{}
	change := func(verb string, do func(*crowdedWebhook, context.Context, *run) error, left string) step {
		return comparedWith(still, w.step(name+"-"+verb, func(ctx context.Context, r *run) (metrics, error) {
			return w.measureSweep(ctx, r, do, left)
		}))
	}
	return []part{on(
		w.step(still, func(ctx context.Context, r *run) (metrics, error) {
			if err := w.crowd(ctx, r); err != nil {
				return nil, err
			}
			return r.measureRate(ctx, goodRate, goodSpan)
		}),
		change("pause", (*crowdedWebhook).pause, "pending"),
		change("resume", (*crowdedWebhook).resume, "parked"),
		change("gone", (*crowdedWebhook).beGone, "pending"),
		change("delete", (*crowdedWebhook).remove, "parked"),
	)}
}

// step returns a step that measures another webhook than the crowded one.
func (w *crowdedWebhook) step(name string, measure measurement) step {
	with := defaultSettings()
	with.text += fmt.Sprintf("; %d wait for one with rate_limit 1", sweepSize)
	return fanOutStep(name, 1, with, func(ctx context.Context, r *run) (metrics, error) {
		m, err := measure(ctx, r)
		// The CPU time goes into the sweep, whose deliveries are not counted.
		maps.DeleteFunc(m, func(name string, _ float64) bool { return strings.HasPrefix(name, cpuPer1000) })
		return m, err
	})
}

// crowd creates the webhook and publishes to it.
func (w *crowdedWebhook) crowd(ctx context.Context, r *run) (err error) {
	eventType := r.eventType() + ".crowd"
	with := settings{fields: map[string]any{"rate_limit": 1}}
	if w.Webhook, err = r.subscribe(ctx, unnotedPath+"crowd", eventType, with); err != nil {
		return err
	}
	l, err := newLoad(ctx, r.Client, arrayConnections)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	n := max(r.scaled(sweepSize), leastFlood)
	r.sayf("  publishing %d events that will wait", n)
	_, err = l.publish(ctx, &atOnce{n: n / arraySize}, l.arrays(r.random(), eventType))
	return err
}

// measureSweep makes a change of the crowded webhook, waits until none of its deliveries is left in
// the state, and measures the run's own webhook meanwhile.
func (w *crowdedWebhook) measureSweep(
	ctx context.Context, r *run, change func(*crowdedWebhook, context.Context, *run) error, left string,
) (metrics, error) {
	var answered, swept time.Duration
	m, err := r.measureRateBeside(ctx, goodRate, goodSpan, func(ctx context.Context) error {
		began := time.Now()
		if err := change(w, ctx, r); err != nil {
			return err
		}
		answered = time.Since(began)
		err := w.awaitNone(ctx, r, left)
		swept = time.Since(began)
		return err
	})
	if err == nil {
		maps.Copy(m, metrics{answerMS: float64(answered.Microseconds()) / 1000, allSeconds: swept.Seconds()})
	}
	return m, err
}

// awaitNone waits until no delivery of the webhook is left in the state.
func (w *crowdedWebhook) awaitNone(ctx context.Context, r *run, state string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, sweepBound, fmt.Errorf("deliveries of %s were still %s after %s", w.ID, state, sweepBound))
	defer cancel()
	return poll(ctx, sweepPoll, func() (bool, error) {
		left, err := w.has(ctx, r, state)
		return !left, err
	})
}

// has reports whether a delivery of the webhook is in the state. Pages of a filtered list may be
// empty before the last one.
func (w *crowdedWebhook) has(ctx context.Context, r *run, state string) (bool, error) {
	path := "/api/v1/deliveries?limit=1&webhook_id=" + w.ID + "&state=" + state
	for cursor := ""; ; {
		var page struct {
			Data       []instance.Delivery
			NextCursor string `json:"next_cursor"`
		}
		if err := r.Call(ctx, http.MethodGet, path+cursor, nil, &page); err != nil || len(page.Data) > 0 || page.NextCursor == "" {
			return len(page.Data) > 0, err
		}
		cursor = "&cursor=" + page.NextCursor
	}
}

func (w *crowdedWebhook) pause(ctx context.Context, r *run) error {
	return r.Call(ctx, http.MethodPost, "/api/v1/webhooks/"+w.ID+"/pause", nil, nil)
}

func (w *crowdedWebhook) resume(ctx context.Context, r *run) error {
	return r.Call(ctx, http.MethodPost, "/api/v1/webhooks/"+w.ID+"/resume", nil, nil)
}

func (w *crowdedWebhook) remove(ctx context.Context, r *run) error {
	return r.Call(ctx, http.MethodDelete, "/api/v1/webhooks/"+w.ID, nil, nil)
}

// beGone lets the receiver answer 410, which disables the webhook. By the rate limit the next attempt
// is up to a second away.
func (w *crowdedWebhook) beGone(ctx context.Context, r *run) error {
	url := map[string]any{"url": r.receiver.Hooks + gonePath}
	if err := r.Call(ctx, http.MethodPatch, "/api/v1/webhooks/"+w.ID, url, nil); err != nil {
		return err
	}
	return poll(ctx, pollInterval, func() (bool, error) {
		var now instance.Webhook
		err := r.Call(ctx, http.MethodGet, "/api/v1/webhooks/"+w.ID, nil, &now)
		return now.Status == "disabled", err
	})
}
