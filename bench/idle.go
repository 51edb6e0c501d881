package main

import (
	"context"
	"errors"
	"time"
)

const (
	restSpan   = 30 * time.Second
	settleSpan = 5 * time.Second // the work after the last deliveries ends within it
)

// idle measures a process at rest, and how long it takes to start again on existing data.
func idle(name string) step {
	return fanOutStep(name, 1, mostInFlight(), func(ctx context.Context, r *run) (metrics, error) {
		m, err := r.measureRest(ctx)
		if err != nil {
			return nil, err
		}
		m[startSeconds], err = r.measureRestart(ctx)
		return m, err
	})
}

// measureRest measures CPU and memory of a process that has nothing to do.
func (r *run) measureRest(ctx context.Context) (metrics, error) {
	if err := pause(ctx, r.span(settleSpan)); err != nil {
		return nil, err
	}
	before, err := r.system.cpu()
	if err != nil {
		return nil, err
	}
	began := time.Now()
	if err := pause(ctx, r.span(restSpan)); err != nil {
		return nil, err
	}
	span := time.Since(began)
	after, err := r.system.cpu()
	if err != nil {
		return nil, err
	}
	m := metrics{}
	for name := range after {
		m[cpuPercent+"_"+name] = (after[name] - before[name]).Seconds() / span.Seconds() * 100
	}
	m[residentMemory], err = residentMB(r.PID())
	return m, err
}

// measureRestart stops the process, starts it again, and returns the seconds from the start to
// the first accepted event.
func (r *run) measureRestart(ctx context.Context) (float64, error) {
	if err := errors.Join(r.close(), r.Stop()); err != nil {
		return 0, err
	}
	began := time.Now()
	if err := r.launch(ctx); err != nil {
		return 0, err
	}
	if err := r.connect(ctx, 1, r.eventType()); err != nil {
		return 0, err
	}
	if _, err := r.load.publish(ctx, &atOnce{n: 1}, r.requests); err != nil {
		return 0, err
	}
	return time.Since(began).Seconds(), nil
}

// pause waits for the span. It returns ctx's error when ctx is done first.
func pause(ctx context.Context, span time.Duration) error {
	span = max(span, time.Millisecond)
	bound, cancel := context.WithTimeout(ctx, span)
	defer cancel()
	<-bound.Done()
	return ctx.Err()
}
