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

// The good events, which trouble goes on beside.
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

// stormPolicy is how hard the storm's deliveries are tried: the defaults.
func stormPolicy() postrider.Policy {
	return postrider.Policy{
		TimeoutMS: postrider.DefaultTimeoutMS, MaxRetries: postrider.DefaultMaxRetries, BackoffMS: postrider.DefaultBackoffMS,
	}
}

// storm compares the latency of events beside many that fail with the same events'
// where there are no others, in a process of their own each.
func storm(name string, size int, on func(...step) part) []part {
	calm := name + "-alone"
	return []part{on(stormy(calm, 0)), on(against(calm, stormy(name, size)))}
}

// stormy is good events beside a storm of so many; of none, it is the calm.
func stormy(name string, size int) step {
	with := usual()
	with.words += fmt.Sprintf(", %d retries", stormPolicy().MaxRetries)
	return onCourse(name, 1, with, func(ctx context.Context, c *course) (measured metrics, err error) {
		if size == 0 {
			m, err := c.cruise(ctx, goodRate, goodSpan)
			if err == nil {
				maps.Copy(m, metrics{stormEvents: 0, attempts: 0})
			}
			return m, err
		}
		s := gale{course: c.newCourse(c.subject, name+"-failing", 1)}
		s.under = failingPath
		defer func() { err = errors.Join(err, s.close()) }()
		if err := s.lay(ctx, connections, with); err != nil {
			return nil, err
		}
		m, err := c.cruiseBeside(ctx, goodRate, goodSpan, func(ctx context.Context) error { return s.rage(ctx, c.scaled(size)) })
		if err != nil {
			return nil, err
		}
		return m, errors.Join(s.tell(ctx, m), s.noneLeft(ctx))
	})
}

// gale is the course of the events that fail.
type gale struct {
	*course

	shots         []shot
	before, after map[string]time.Duration // CPU time taken until its first publish, and until the last had failed
	ended         time.Time                // when the last had failed
}

// rage publishes n events at once, and returns when all of them have failed for good.
func (g *gale) rage(ctx context.Context, n int) (err error) {
	if err := pause(ctx, g.span(stormDelay)); err != nil {
		return err
	}
	if g.before, err = g.cpu(); err != nil {
		return err
	}
	if g.shots, err = g.load.fire(ctx, &atOnce{n: n}, g.requests); err != nil {
		return err
	}
	all := wait{what: "failing attempts came", want: n * (1 + stormPolicy().MaxRetries), bound: stormBound}
	if err := g.await(ctx, all, g.ear.refused); err != nil {
		return err
	}
	if err := g.failAll(ctx, n, wait{}); err != nil {
		return err
	}
	g.ended = time.Now()
	g.after, err = g.cpu()
	return err
}

// tell adds the storm's numbers to those of the good events, and puts the CPU time that
// an attempt took while it raged, good ones counted, in place of theirs.
func (g *gale) tell(ctx context.Context, m metrics) error {
	receipts, err := g.ear.receipts(ctx)
	if err != nil {
		return err
	}
	f, err := judgeFailing(g.shots, receipts, stormPolicy())
	if err != nil {
		return err
	}
	span, asked := f.last.Sub(f.first).Seconds(), 0.0
	for number := range stormPolicy().MaxRetries {
		asked += stormPolicy().Backoff(number + 1).Seconds()
	}
	maps.Copy(m, metrics{
		stormEvents: float64(len(g.shots)), attempts: float64(f.attempts), attemptsPerS: float64(f.attempts) / span,
		stormSeconds: span, stormToPolicy: span / asked,
		retryToPolicyP50: percentile(f.gaps, 50), retryToPolicyP99: percentile(f.gaps, 99),
	})
	during := 0
	for _, r := range receipts {
		if !r.at.Before(f.first) && !r.at.After(g.ended) {
			during++
		}
	}
	maps.DeleteFunc(m, func(name string, _ float64) bool { return strings.HasPrefix(name, cpuPer1000) })
	m.charge(during, g.before, g.after)
	return nil
}

// failure is what came of events whose receiver refused every attempt.
type failure struct {
	attempts    int
	first, last time.Time // first publish, last attempt
	gaps        []float64 // between attempts of a delivery, each to the wait that the policy asks for; sorted
}

// judgeFailing matches what was published with the attempts that were refused. It
// returns an error unless every event has one delivery, that was tried just as often as
// the policy says.
func judgeFailing(shots []shot, receipts []receipt, policy postrider.Policy) (failure, error) {
	var f failure
	tries := make(map[string][]time.Time, len(shots)) // by event: it has one delivery
	for _, s := range shots {
		tries[s.event] = nil
		if f.first.IsZero() || s.sent.Before(f.first) {
			f.first = s.sent
		}
	}
	if len(tries) != len(shots) {
		return f, fmt.Errorf("%d events were published and got only %d ids", len(shots), len(tries))
	}
	delivery := make(map[string]string, len(shots))
	for _, r := range receipts {
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
			return f, fmt.Errorf("%s was tried %d times, and %d were to be", event, len(at), 1+policy.MaxRetries)
		}
		slices.SortFunc(at, time.Time.Compare)
		for i := range policy.MaxRetries {
			f.gaps = append(f.gaps, at[i+1].Sub(at[i]).Seconds()/policy.Backoff(i+1).Seconds())
		}
	}
	slices.Sort(f.gaps)
	return f, nil
}
