package main

import (
	"context"
	"errors"
	"time"
)

const (
	restSpan   = 30 * time.Second
	settleSpan = 5 * time.Second // what the last deliveries left to do is done by then
)

// idle measures a process at rest, and how long it takes to start again on what
// there is.
func idle(name string) step {
	return onCourse(name, 1, wide(), func(ctx context.Context, c *course) (metrics, error) {
		m, err := c.rest(ctx)
		if err != nil {
			return nil, err
		}
		m[startSeconds], err = c.restart(ctx)
		return m, err
	})
}

// rest measures what doing nothing costs.
func (c *course) rest(ctx context.Context) (metrics, error) {
	if err := pause(ctx, c.span(settleSpan)); err != nil {
		return nil, err
	}
	before, err := c.subject.cpu()
	if err != nil {
		return nil, err
	}
	began := time.Now()
	if err := pause(ctx, c.span(restSpan)); err != nil {
		return nil, err
	}
	span := time.Since(began)
	after, err := c.subject.cpu()
	if err != nil {
		return nil, err
	}
	m := metrics{}
	for name := range after {
		m[cpuPercent+"_"+name] = (after[name] - before[name]).Seconds() / span.Seconds() * 100
	}
	m[residentMemory], err = residentMB(c.PID())
	return m, err
}

// restart stops the process, starts it again, and returns the seconds from there to
// its first accepted event.
func (c *course) restart(ctx context.Context) (float64, error) {
	if err := errors.Join(c.close(), c.Stop()); err != nil {
		return 0, err
	}
	began := time.Now()
	if err := c.run(ctx); err != nil {
		return 0, err
	}
	if err := c.connect(ctx, 1, c.eventType()); err != nil {
		return 0, err
	}
	if _, err := c.load.fire(ctx, &atOnce{n: 1}, c.requests); err != nil {
		return 0, err
	}
	return time.Since(began).Seconds(), nil
}

// pause waits for the time. It returns ctx's error when that ends before.
func pause(ctx context.Context, span time.Duration) error {
	span = max(span, time.Millisecond)
	bound, cancel := context.WithTimeout(ctx, span)
	defer cancel()
	<-bound.Done()
	return ctx.Err()
}
