package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"postrider.dev/postrider"
)

// The healthy load that storms and hanging receivers disturb.
const (
	goodRate = 20
	goodSpan = 40 * time.Second
)

const (
	stormSize    = 2_000
	bigStormSize = 10_000
	stormDelay   = 8 * time.Second  // after the first good event
	stormBound   = 10 * time.Minute // for all attempts of a storm
)

// stormPolicy is the policy of the storm's deliveries: the default.
func stormPolicy() postrider.Policy {
	return postrider.Policy{
		TimeoutMS: postrider.DefaultTimeoutMS, MaxRetries: postrider.DefaultMaxRetries, BackoffMS: postrider.DefaultBackoffMS,
	}
}

// storm measures the latency of a healthy webhook beside many failing deliveries, and compares
// it with the latency of that webhook alone, in another process.
func storm(name string, size int, on func(...step) part) []part {
	alone := name + "-alone"
	return []part{on(stormStep(alone, 0)), on(comparedWith(alone, stormStep(name, size)))}
}

// stormStep measures a healthy webhook beside a storm of failing events; with size 0, without
// a storm.
func stormStep(name string, size int) step {
	with := defaultSettings()
	with.text += fmt.Sprintf(", %d retries", stormPolicy().MaxRetries)
	return fanOutStep(name, 1, with, func(ctx context.Context, r *run) (measured metrics, err error) {
		if size == 0 {
			m, err := r.measureRate(ctx, goodRate, goodSpan)
			if err == nil {
				maps.Copy(m, metrics{stormEvents: 0, attempts: 0})
			}
			return m, err
		}
		s := failingRun{run: r.newRun(r.system, name+"-failing", 1)}
		s.path = failingPath
		defer func() { err = errors.Join(err, s.close()) }()
		failing := with
		failing.fields = map[string]any{"circuit_breaker": false} // it would end the storm
		if err := s.setUpFanOut(ctx, connections, failing); err != nil {
			return nil, err
		}
		m, err := r.measureRateBeside(ctx, goodRate, goodSpan, func(ctx context.Context) error {
			return s.publishAndAwaitFailures(ctx, r.scaled(size))
		})
		if err != nil {
			return nil, err
		}
		return m, errors.Join(s.addTo(ctx, m), s.checkNoneUnfinished(ctx))
	})
}

// failingRun is the run of the storm's events, whose attempts all fail.
type failingRun struct {
	*run

	published     []publishedEvent
	before, after map[string]time.Duration // CPU times, before the first publish and when all had failed
	ended         time.Time                // when all had failed
}

// publishAndAwaitFailures publishes n events at once and returns when all their deliveries
// have failed.
func (g *failingRun) publishAndAwaitFailures(ctx context.Context, n int) (err error) {
	if err := pause(ctx, g.span(stormDelay)); err != nil {
		return err
	}
	if g.before, err = g.cpu(); err != nil {
		return err
	}
	if g.published, err = g.load.publish(ctx, &atOnce{n: n}, g.requests); err != nil {
		return err
	}
	all := wait{what: "failing attempts came", want: n * (1 + stormPolicy().MaxRetries), bound: stormBound}
	if err := g.await(ctx, all, g.receiver.refused); err != nil {
		return err
	}
	if err := g.awaitAllFailed(ctx, n, wait{}); err != nil {
		return err
	}
	g.ended = time.Now()
	g.after, err = g.cpu()
	return err
}

// addTo adds the storm's metrics to the metrics of the healthy events. It replaces their CPU
// time by the CPU time of all attempts during the storm, healthy ones included.
func (g *failingRun) addTo(ctx context.Context, m metrics) error {
	received, err := g.receiver.received(ctx)
	if err != nil {
		return err
	}
	f, err := matchFailing(g.published, received, stormPolicy())
	if err != nil {
		return err
	}
	span, asked := f.last.Sub(f.first).Seconds(), 0.0
	for number := range stormPolicy().MaxRetries {
		asked += stormPolicy().Backoff(number + 1).Seconds()
	}
	maps.Copy(m, metrics{
		stormEvents: float64(len(g.published)), attempts: float64(f.attempts), attemptsPerS: float64(f.attempts) / span,
		stormSeconds: span, stormToPolicy: span / asked,
		retryToPolicyP50: percentile(f.gaps, 50), retryToPolicyP99: percentile(f.gaps, 99),
	})
	during := 0
	for _, r := range received {
		if !r.at.Before(f.first) && !r.at.After(g.ended) {
			during++
		}
	}
	maps.DeleteFunc(m, func(name string, _ float64) bool { return strings.HasPrefix(name, cpuPer1000) })
	m.addCPUTime(during, g.before, g.after)
	return nil
}

// matchedFailures is the storm's events beside the attempts that the receiver refused.
type matchedFailures struct {
	attempts    int
	first, last time.Time // the first publish and the last attempt
	gaps        []float64 // each time between two attempts, divided by the wait of the policy; sorted
}

// matchFailing compares published events with refused attempts. It returns an error unless
// every event has one delivery, with exactly the attempts that the policy allows.
func matchFailing(published []publishedEvent, received []receivedRequest, policy postrider.Policy) (matchedFailures, error) {
	var f matchedFailures
	tries := make(map[string][]time.Time, len(published)) // by event, each of which has one delivery
	for _, s := range published {
		tries[s.event] = nil
		if f.first.IsZero() || s.sent.Before(f.first) {
			f.first = s.sent
		}
	}
	if len(tries) != len(published) {
		return f, fmt.Errorf("%d events were published and got only %d ids", len(published), len(tries))
	}
	delivery := make(map[string]string, len(published))
	for _, r := range received {
		if !r.refused {
			continue
		}
		_, known := tries[r.event]
		switch {
		case r.unsigned:
			return f, fmt.Errorf("%s came with a wrong signature", r.event)
		case !known:
			return f, fmt.Errorf("%s was received and not published", r.event)
		case delivery[r.event] != "" && delivery[r.event] != r.delivery:
			return f, fmt.Errorf("%s has two deliveries, %s and %s", r.event, delivery[r.event], r.delivery)
		}
		delivery[r.event] = r.delivery
		tries[r.event] = append(tries[r.event], r.at)
		f.attempts++
		if r.at.After(f.last) {
			f.last = r.at
		}
	}
	for event, at := range tries {
		if len(at) != 1+policy.MaxRetries {
			return f, fmt.Errorf("%s was tried %d times instead of %d", event, len(at), 1+policy.MaxRetries)
		}
		slices.SortFunc(at, time.Time.Compare)
		for i := range policy.MaxRetries {
			f.gaps = append(f.gaps, at[i+1].Sub(at[i]).Seconds()/policy.Backoff(i+1).Seconds())
		}
	}
	slices.Sort(f.gaps)
	return f, nil
}
