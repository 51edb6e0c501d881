package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"postrider.dev/postrider"
)

const (
	healthyWebhooks = 20
	hangingWebhooks = 100
	hangingEvents   = 32 // for each of them
	hangingBound    = 10 * time.Minute
)

// hangs compares the latency of healthy webhooks beside many that are new and never
// answer with the same ones' where there are no others.
func hangs(name string, on func(...step) part) []part {
	alone := name + "-alone"
	return []part{on(besideHanging(alone, 0)), on(against(alone, besideHanging(name, hangingWebhooks)))}
}

// besideHanging is healthy webhooks' life from the moment on at which so many others begin
// to hang.
func besideHanging(name string, hanging int) step {
	with := usual()
	if hanging > 0 {
		with.words += "; hanging: 0 retries, timeout 30 s"
	}
	return apart(name, healthyWebhooks, with, func(ctx context.Context, c *course) (measured metrics, err error) {
		if hanging == 0 {
			return c.cruise(ctx, goodRate, goodSpan)
		}
		h := c.newCourse(c.subject, name+"-hanging", 1)
		h.under = hangingPath
		defer func() { err = errors.Join(err, h.close()) }()
		timeout := c.hangingTimeout()
		theirs := settings{fields: map[string]any{"max_retries": 0, "timeout_ms": timeout.Milliseconds()}}
		if err := h.layApart(ctx, c.scaled(hanging), theirs); err != nil {
			return nil, err
		}
		n := hangingEvents * len(h.hooks)
		m, err := c.cruiseBeside(ctx, goodRate, goodSpan, func(ctx context.Context) error {
			_, err := h.load.fire(ctx, &atOnce{n: n}, h.requests)
			return err
		})
		if err != nil {
			return nil, err
		}
		// The CPU time is mostly theirs that hang, whose deliveries are not counted.
		maps.DeleteFunc(m, func(name string, _ float64) bool { return strings.HasPrefix(name, cpuPer1000) })
		return m, errors.Join(h.failAll(ctx, n, wait{stall: stall + timeout, bound: hangingBound}), h.noneLeft(ctx), h.allHung(ctx, n))
	})
}

// allHung returns an error unless n requests came that were not answered: deliveries can
// fail for other reasons.
func (c *course) allHung(ctx context.Context, n int) error {
	came, err := c.ear.counts(ctx)
	if err == nil && came.Hung < n {
		err = fmt.Errorf("%d requests hung, of %d", came.Hung, n)
	}
	return err
}

// hangingTimeout is the longest that there is, unless the scale is small.
func (b *bench) hangingTimeout() time.Duration {
	const shortest, longest = postrider.MinTimeoutMS * time.Millisecond, postrider.MaxTimeoutMS * time.Millisecond
	return min(max(b.span(longest), shortest), longest)
}
