package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	"golang.org/x/sync/errgroup"
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
	settings string // of its webhooks, in words
	measure  func(ctx context.Context, b *bench, s *subject) (metrics, error)
}

// shared is one part with an ordinary subject.
func shared(steps ...step) []part { return []part{fresh(steps...)} }

// scenarios are all that there are, in the order of the tables.
func scenarios() []scenario {
	return slices.Concat(fullSpeed(), steadyLoads(), queues(), troubles(), states())
}

// product and notNaive are the modes of scenarios that say nothing about the others.
func product() []mode { return []mode{single, batch} }

func notNaive() []mode { return []mode{single, batch, floor} }

// fullSpeed is about how much can be done.
func fullSpeed() []scenario {
	return []scenario{
		{
			name: "burst", about: "5,000 events to one webhook, as fast as the API takes them on 64 connections; naive gets 300. " +
				"First with a webhook's default settings, then with max_in_flight 1000 (burst-1000)",
			modes: modes(), parts: shared(burst("burst", 5000, 1, usual()), burst("burst-1000", 5000, 1, wide())),
		},
		{
			name: "fanout", about: "1,000 events to five webhooks each; naive gets 60. Settings as in burst (fanout-1000)",
			modes: modes(), parts: shared(burst("fanout", 1000, 5, usual()), burst("fanout-1000", 1000, 5, wide())),
		},
	}
}

// steadyLoads are about the latency and the cost of what comes regularly.
func steadyLoads() []scenario {
	return []scenario{
		{
			name: "paced50", about: "50 events a second for 20 s to one webhook with max_in_flight 1000",
			modes: modes(), parts: shared(paced("paced50", 50, wide())),
		},
		{
			name: "paced100", about: "100 events a second for 20 s to such a webhook", extra: true,
			modes: notNaive(), parts: shared(paced("paced100", 100, wide())),
		},
		{
			name: "paced500", about: "500 events a second for 20 s to such a webhook", extra: true,
			modes: notNaive(), parts: shared(paced("paced500", 500, wide())),
		},
		{
			name: "curve", about: "5, 20, 50, 100, 140, 200 and 500 events a second, each for 20 s, to one webhook with default settings",
			extra: true, modes: []mode{batch, floor}, parts: shared(curve(5, 20, 50, 100, 140, 200, 500)...),
		},
		{
			name: "spread", about: "1,000 webhooks with default settings get 200 events a second in turn for 20 s", extra: true,
			modes: []mode{batch, floor}, parts: shared(spread("spread")),
		},
	}
}

// queues are about what waits.
func queues() []scenario {
	return []scenario{
		{
			name: "backlog", about: "20,000 deliveries that wait when the process starts, from the first that is made to the last; " +
				"single gets 4,000. Settings as in burst (backlog-1000)",
			modes: notNaive(), parts: []part{backlog("backlog", usual()), backlog("backlog-1000", wide())},
		},
		{
			name: "ingest", about: "publishes that are acknowledged by 'postrider api' alone in 10 s, single events on 64 connections " +
				"and arrays of 500 on 8; the mode says nothing",
			modes: []mode{batch}, parts: []part{ingest()},
		},
	}
}

// troubles are about what receivers do to others that fail or hang.
func troubles() []scenario {
	return []scenario{
		{
			name: "storm", about: "2,000 events at once to a webhook whose receiver answers 500 to every attempt, " +
				"8 s after 20 events a second began to go to another for 40 s: the other's latency, compared with the same without the storm " +
				"(storm-alone), and how well retries keep to their policy. All settings are the defaults", extra: true,
			modes: product(), parts: storm("storm", stormSize, fresh),
		},
		{
			name: "storm10k", about: "storm with 10,000 events", extra: true,
			modes: product(), parts: storm("storm10k", bigStormSize, fresh),
		},
		{
			name: "storm-sqlite", about: "storm on SQLite", extra: true,
			modes: product(), parts: storm("storm-sqlite", stormSize, sqlite),
		},
		{
			name: "hangs", about: "20 webhooks get 20 events a second in turn for 40 s, from the moment on at which 100 webhooks that never " +
				"answer, and of which nothing is known, get 32 events each: the others' latency, compared with the same without these (hangs-alone)",
			extra: true, modes: product(), parts: hangs("hangs", fresh),
		},
		{
			name: "hangs-sqlite", about: "hangs on SQLite", extra: true,
			modes: product(), parts: hangs("hangs-sqlite", sqlite),
		},
		{
			name: "neighbours", about: "50 webhooks get 50 events a second in turn for 60 s, while ten of them hang until their timeout of 30 s, " +
				"then while 100,000 deliveries wait for one more, with the usual max_in_flight; " +
				"the others' latency is compared with the same without such trouble", extra: true,
			modes: product(), parts: neighbours(),
		},
	}
}

// states are about what a process is started on, and its rest.
func states() []scenario {
	return []scenario{
		{
			name: "bigtable", about: "burst-1000 and paced50 on a database with --table finished deliveries and 100,000 webhooks in 1,000 " +
				"workspaces, compared with an empty one", extra: true,
			modes: notNaive(), parts: bigTable(),
		},
		{
			name: "sqlite", about: "a burst of 2,000 and paced50 on SQLite, with max_in_flight 1000", extra: true,
			modes: product(), parts: []part{sqlite(burst("sqlite-burst", 2000, 1, wide()), paced("sqlite-paced50", 50, wide()))},
		},
		{
			name: "idle", about: "CPU and memory at rest for 30 s, and the time from the start to the first accepted event on existing data, " +
				"on PostgreSQL and on SQLite; the mode says nothing", extra: true,
			modes: []mode{batch}, parts: []part{{steps: []step{idle("idle")}}, sqlite(idle("idle-sqlite"))},
		},
	}
}

// naiveDeliveries is the size of the naive design's bursts: at fifty a second it
// would take minutes for what the others do in seconds.
const naiveDeliveries = 300

// burst publishes n events, to fan webhooks each, at once.
func burst(name string, n, fan int, with settings) step {
	return onCourse(name, fan, with, func(ctx context.Context, c *course) (metrics, error) {
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
func paced(name string, rate int, with settings) step {
	return onCourse(name, 1, with, func(ctx context.Context, c *course) (metrics, error) { return c.cruise(ctx, rate, pacedSpan) })
}

// curve is paced at several rates, to a webhook with default settings each.
func curve(rates ...int) []step {
	steps := make([]step, len(rates))
	for i, rate := range rates {
		steps[i] = paced(fmt.Sprintf("curve%d", rate), rate, usual())
	}
	return steps
}

const (
	spreadWebhooks = 1_000
	spreadRate     = 200
)

// spread publishes at a steady rate to many webhooks in turn.
func spread(name string) step {
	return apart(name, spreadWebhooks, usual(), func(ctx context.Context, c *course) (metrics, error) {
		return c.cruise(ctx, spreadRate, pacedSpan)
	})
}

// cruise publishes the course's events at a steady rate.
func (c *course) cruise(ctx context.Context, rate int, span time.Duration) (metrics, error) {
	return c.cruiseBeside(ctx, rate, span, func(context.Context) error { return nil })
}

// cruiseBeside publishes the course's events at a steady rate, while something else goes
// on. Only these are judged.
func (c *course) cruiseBeside(ctx context.Context, rate int, span time.Duration, trouble func(context.Context) error) (metrics, error) {
	m, err := c.fly(ctx, func() (shots []shot, err error) {
		both, ctx := errgroup.WithContext(ctx)
		both.Go(func() (err error) {
			shots, err = c.load.fire(ctx, steadily(ctx, rate, c.span(span)), c.requests)
			return err
		})
		both.Go(func() error { return trouble(ctx) })
		err = both.Wait()
		return shots, err
	})
	if err == nil {
		m[offeredPerS] = float64(rate)
	}
	return m, err
}

// against is a step that is compared with another.
func against(baseline string, s step) step {
	s.baseline = baseline
	return s
}

// measurement is what a step does on its course.
type measurement func(ctx context.Context, c *course) (metrics, error)

// onCourse is a step on a course of its own, whose events go to fan webhooks each, after
// a warm-up.
func onCourse(name string, fan int, with settings, measure measurement) step {
	return step{name: name, settings: with.words, measure: func(ctx context.Context, b *bench, s *subject) (measured metrics, err error) {
		c := b.newCourse(s, name, fan)
		defer func() { err = errors.Join(err, c.close()) }()
		if err := c.lay(ctx, connections, with); err != nil {
			return nil, err
		}
		return c.warmed(ctx, measure)
	}}
}

// apart is a step on a course of n webhooks that get events in turn, after a warm-up.
func apart(name string, n int, with settings, measure measurement) step {
	return step{name: name, settings: with.words, measure: func(ctx context.Context, b *bench, s *subject) (measured metrics, err error) {
		c := b.newCourse(s, name, 1)
		defer func() { err = errors.Join(err, c.close()) }()
		if err := c.layApart(ctx, c.scaled(n), with); err != nil {
			return nil, err
		}
		return c.warmed(ctx, measure)
	}}
}

// warmed measures after a warm-up.
func (c *course) warmed(ctx context.Context, measure measurement) (metrics, error) {
	if err := c.warmUp(ctx); err != nil {
		return nil, err
	}
	return measure(ctx, c)
}

// fresh is a part on an empty database.
func fresh(steps ...step) part { return part{steps: steps} }

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
