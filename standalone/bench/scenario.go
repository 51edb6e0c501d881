package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/alecthomas/kong"
)

// scenario is something to measure, as the command line names it.
type scenario struct {
	name  string
	about string
	extra bool // measured only when it is named
	modes []mode
	parts []part
}

// part is steps that one subject goes through, one after the other.
type part struct {
	// start starts the subject. nil is an ordinary one on an empty database, which
	// the scenarios of a round share in the order they are given.
	start func(ctx context.Context, b *bench, m mode) (*subject, error)
	steps []step
}

// step has a line of its own in the results.
type step struct {
	name     string
	baseline string // the step that it is compared with; "" for none
	measure  func(ctx context.Context, b *bench, s *subject) (metrics, error)
}

// shared is one part with an ordinary subject.
func shared(steps ...step) []part { return []part{{steps: steps}} }

// scenarios are all that there are, in the order of the tables.
func scenarios() []scenario {
	product, notNaive := []mode{single, batch}, []mode{single, batch, floor}
	return []scenario{
		{
			name: "burst", about: "5,000 events to one webhook, as fast as the API takes them on 64 connections; naive gets 300",
			modes: modes(), parts: shared(burst("burst", 5000, 1)),
		},
		{
			name: "fanout", about: "1,000 events to five webhooks each; naive gets 60",
			modes: modes(), parts: shared(burst("fanout", 1000, 5)),
		},
		{
			name: "paced50", about: "50 events a second for 20 s",
			modes: modes(), parts: shared(paced("paced50", 50)),
		},
		{
			name: "paced100", about: "100 events a second for 20 s", extra: true,
			modes: notNaive, parts: shared(paced("paced100", 100)),
		},
		{
			name: "paced500", about: "500 events a second for 20 s", extra: true,
			modes: notNaive, parts: shared(paced("paced500", 500)),
		},
		{
			name: "backlog", about: "20,000 deliveries that wait when the process starts, from the first that is made to the last; single gets 4,000",
			modes: notNaive, parts: []part{backlog()},
		},
		{
			name: "ingest", about: "publishes that are acknowledged by 'postrider api' alone in 10 s, single events on 64 connections and arrays of 500 on 8; the mode says nothing",
			modes: []mode{batch}, parts: []part{ingest()},
		},
		{
			name: "neighbours", about: "50 webhooks get 50 events a second in turn for 60 s, while ten of them hang until their timeout of 30 s, then while 100,000 deliveries wait for one more, with the usual max_in_flight; the others' latency is compared with the same without such trouble", extra: true,
			modes: product, parts: neighbours(),
		},
		{
			name: "bigtable", about: "burst and paced50 on a database with --table finished deliveries and 100,000 webhooks in 1,000 workspaces, compared with an empty one", extra: true,
			modes: notNaive, parts: bigTable(),
		},
		{
			name: "sqlite", about: "a burst of 2,000 and paced50 on SQLite", extra: true,
			modes: product, parts: []part{sqlite(burst("sqlite-burst", 2000, 1), paced("sqlite-paced50", 50))},
		},
		{
			name: "idle", about: "CPU and memory at rest for 30 s, and the time from the start to the first accepted event on existing data, on PostgreSQL and on SQLite; the mode says nothing", extra: true,
			modes: []mode{batch}, parts: []part{{steps: []step{idle("idle")}}, sqlite(idle("idle-sqlite"))},
		},
	}
}

// naiveDeliveries is the size of the naive design's bursts: at fifty a second it
// would take minutes for what the others do in seconds.
const naiveDeliveries = 300

// burst publishes n events, to fan webhooks each, at once.
func burst(name string, n, fan int) step {
	return onCourse(name, fan, func(ctx context.Context, c *course) (metrics, error) {
		n := n
		if c.mode == naive {
			n = naiveDeliveries / fan
		}
		return c.fly(ctx, func() ([]shot, error) { return c.load.fire(ctx, &atOnce{n: c.scaled(n)}, c.requests) })
	})
}

// pacedSpan is how long events are published at a steady rate.
const pacedSpan = 20 * time.Second

// paced publishes so many events a second.
func paced(name string, rate int) step {
	return onCourse(name, 1, func(ctx context.Context, c *course) (metrics, error) {
		m, err := c.fly(ctx, func() ([]shot, error) { return c.load.fire(ctx, steadily(ctx, rate, c.span(pacedSpan)), c.requests) })
		if err == nil {
			m[offeredPerS] = float64(rate)
		}
		return m, err
	})
}

// against is a step that is compared with another.
func against(baseline string, s step) step {
	s.baseline = baseline
	return s
}

// onCourse is a step on a course of its own, after a warm-up.
func onCourse(name string, fan int, measure func(context.Context, *course) (metrics, error)) step {
	return step{name: name, measure: func(ctx context.Context, b *bench, s *subject) (measured metrics, err error) {
		c := b.newCourse(s, name, fan)
		defer func() { err = errors.Join(err, c.close()) }()
		if err := c.lay(ctx, connections); err != nil {
			return nil, err
		}
		if err := c.warmUp(ctx); err != nil {
			return nil, err
		}
		return measure(ctx, c)
	}}
}

// sqlite is a part on a SQLite file.
func sqlite(steps ...step) part {
	return part{steps: steps, start: func(ctx context.Context, b *bench, m mode) (*subject, error) {
		return b.start(ctx, m, setup{sqlite: true})
	}}
}

// steps are those of all scenarios, in their order.
func steps() []step {
	var all []step
	for _, s := range scenarios() {
		for _, p := range s.parts {
			all = append(all, p.steps...)
		}
	}
	return all
}

// helpOfScenarios fills in what the help says about scenarios.
func helpOfScenarios() kong.Vars {
	var ordinary, extra []string
	for _, s := range scenarios() {
		text := fmt.Sprintf("%s: %s", s.name, s.about)
		if s.extra {
			extra = append(extra, text)
		} else {
			ordinary = append(ordinary, text)
		}
	}
	return kong.Vars{"ordinary": strings.Join(ordinary, ". "), "extra": strings.Join(extra, ". ")}
}
