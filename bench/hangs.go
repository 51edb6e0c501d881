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
	hangingEvents   = 32 // for each hanging webhook
	hangingBound    = 10 * time.Minute
)

// hangs measures the latency of healthy webhooks beside many new ones that never answer, and
// compares it with the latency of the healthy webhooks alone.
func hangs(name string, on func(...step) part) []part {
	alone := name + "-alone"
	return []part{on(hangingStep(alone, 0)), on(comparedWith(alone, hangingStep(name, hangingWebhooks)))}
}

// hangingStep measures healthy webhooks while a number of others begin to hang.
func hangingStep(name string, hanging int) step {
	with := defaultSettings()
	if hanging > 0 {
		with.text += "; hanging: 0 retries, timeout 30 s"
	}
	return roundRobinStep(name, healthyWebhooks, with, func(ctx context.Context, r *run) (measured metrics, err error) {
		if hanging == 0 {
			return r.measureRate(ctx, goodRate, goodSpan)
		}
		h := r.newRun(r.system, name+"-hanging", 1)
		h.path = hangingPath
		defer func() { err = errors.Join(err, h.close()) }()
		timeout := r.hangingTimeout()
		hangingSettings := settings{fields: map[string]any{"circuit_breaker": false, "max_retries": 0, "timeout_ms": timeout.Milliseconds()}}
		if err := h.setUpRoundRobin(ctx, r.scaled(hanging), hangingSettings); err != nil {
			return nil, err
		}
		n := hangingEvents * len(h.hooks)
		m, err := r.measureRateBeside(ctx, goodRate, goodSpan, func(ctx context.Context) error {
			_, err := h.load.publish(ctx, &atOnce{n: n}, h.requests)
			return err
		})
		if err != nil {
			return nil, err
		}
		// Most of the CPU time goes into the hanging webhooks, whose deliveries are not counted.
		maps.DeleteFunc(m, func(name string, _ float64) bool { return strings.HasPrefix(name, cpuPer1000) })
		patience := wait{stall: defaultStall + timeout, bound: hangingBound}
		return m, errors.Join(h.awaitAllFailed(ctx, n, patience), h.checkNoneUnfinished(ctx), h.checkAllHung(ctx, n))
	})
}

// checkAllHung returns an error unless the receiver left n requests unanswered. Deliveries
// can also fail for other reasons.
func (r *run) checkAllHung(ctx context.Context, n int) error {
	came, err := r.receiver.counts(ctx)
	if err == nil && came.Hung < n {
		err = fmt.Errorf("%d of %d requests hung", came.Hung, n)
	}
	return err
}

// hangingTimeout is the longest timeout that a webhook can have, times --scale.
func (b *bench) hangingTimeout() time.Duration {
	const shortest, longest = postrider.MinTimeoutMS * time.Millisecond, postrider.MaxTimeoutMS * time.Millisecond
	return min(max(b.span(longest), shortest), longest)
}
