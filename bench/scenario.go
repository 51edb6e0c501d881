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

// scenario is a named measurement: --scenarios chooses among them.
type scenario struct {
	name  string
	about string
	extra bool // measured only when it is named
	modes []mode
	parts []part
}

// part is a sequence of steps on one system.
type part struct {
	// start starts the system. nil starts the mode's program on an empty database, and
	// consecutive scenarios of a round share it.
	start func(ctx context.Context, b *bench, m mode) (*system, error)
	steps []step
}

// step is one measurement: a row in the results.
type step struct {
	name     string
	baseline string // the step that it is compared with, if any
	settings string // of its webhooks, in words
	measure  func(ctx context.Context, b *bench, s *system) (metrics, error)
}

// shared returns one part, whose system other scenarios may share.
func shared(steps ...step) []part { return []part{fresh(steps...)} }

// scenarios returns every scenario, in the order of the tables.
func scenarios() []scenario {
	return slices.Concat(fullSpeed(), steadyLoads(), queues(), badReceivers(), startingStates())
}

// product and notNaive are the modes of scenarios that make no sense in the other modes.
func product() []mode { return []mode{single, batch} }

func notNaive() []mode { return []mode{single, batch, floor} }

// fullSpeed measures throughput.
func fullSpeed() []scenario {
	return []scenario{
		{
			name: "burst", about: "5,000 events to one webhook, as fast as the API takes them on 64 connections; naive gets 300. " +
				"First with a webhook's default settings, then with max_in_flight 1000 (burst-1000)",
			modes: modes(), parts: shared(burst("burst", 5000, 1, defaultSettings()), burst("burst-1000", 5000, 1, mostInFlight())),
		},
		{
			name: "fanout", about: "1,000 events to five webhooks each; naive gets 60. Settings as in burst (fanout-1000)",
			modes: modes(), parts: shared(burst("fanout", 1000, 5, defaultSettings()), burst("fanout-1000", 1000, 5, mostInFlight())),
		},
	}
}

// steadyLoads measure latency and CPU time at a steady rate.
func steadyLoads() []scenario {
	return []scenario{
		{
			name: "paced50", about: "50 events a second for 20 s to one webhook with max_in_flight 1000",
			modes: modes(), parts: shared(paced("paced50", 50, mostInFlight())),
		},
		{
			name: "paced100", about: "100 events a second for 20 s to such a webhook", extra: true,
			modes: notNaive(), parts: shared(paced("paced100", 100, mostInFlight())),
		},
		{
			name: "paced500", about: "500 events a second for 20 s to such a webhook", extra: true,
			modes: notNaive(), parts: shared(paced("paced500", 500, mostInFlight())),
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

// queues measure how fast waiting deliveries are made, and how fast events are accepted.
func queues() []scenario {
	return []scenario{
		{
			name: "backlog", about: "20,000 deliveries that wait when the process starts, from the first that is made to the last; " +
				"single gets 4,000. Settings as in burst (backlog-1000)",
			modes: notNaive(), parts: []part{backlog("backlog", defaultSettings()), backlog("backlog-1000", mostInFlight())},
		},
		{
			name: "ingest", about: "publishes that are acknowledged by 'postrider api' alone in 10 s, single events on 64 connections " +
				"and arrays of 500 on 8; the mode says nothing",
			modes: []mode{batch}, parts: []part{ingest()},
		},
	}
}

// badReceivers measure how failing and hanging receivers affect other webhooks.
func badReceivers() []scenario {
	return []scenario{
		{
			name: "storm", about: "2,000 events at once to a webhook whose receiver answers 500 to every attempt, " +
				"8 s after 20 events a second began to go to another for 40 s: the other's latency, compared with the same without the storm " +
				"(storm-alone), and how well retries keep to their policy. All settings are the defaults, but for circuit_breaker, " +
				"which is off", extra: true,
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
			name: "hostile", about: "a webhook gets 20 events a second for 40 s, and webhooks whose receivers hang, drip, answer with a gigabyte, " +
				"bombs or circles, or break off get 32 events each at the first moment: latency and memory, " +
				"compared with the same alone (hostile-alone)",
			extra: true, modes: product(), parts: besideHostile("hostile"),
		},
		{
			name: "neighbours", about: "50 webhooks get 50 events a second in turn for 60 s, while ten of them hang until their timeout of 30 s, " +
				"then while 100,000 deliveries wait for one more, with the usual max_in_flight; " +
				"the others' latency is compared with the same without such trouble", extra: true,
			modes: product(), parts: neighbours(),
		},
		{
			name: "sweeps", about: "400,000 deliveries wait for a webhook that is paused, resumed, disabled by a 410 and deleted: " +
				"how long each takes, and the latency of another webhook with 20 events a second, " +
				"compared with the same while nothing changes (sweeps-still)",
			extra: true, modes: product(), parts: sweeps("sweeps", fresh),
		},
		{
			name: "sweeps-sqlite", about: "sweeps on SQLite", extra: true,
			modes: product(), parts: sweeps("sweeps-sqlite", sqlite),
		},
		{
			name: "wide", about: "an array of 500 events goes to 1,000 webhooks, the process is killed in the middle, and " +
				"every delivery has to be made: the latency of another workspace's webhook with 20 events a second, " +
				"compared with the same alone (wide-alone)",
			extra: true, modes: product(), parts: wide("wide"),
		},
	}
}

// startingStates measure other databases than an empty PostgreSQL, and a process at rest.
func startingStates() []scenario {
	return []scenario{
		{
			name: "bigtable", about: "burst-1000 and paced50 on a database with --table finished deliveries and 100,000 webhooks in 1,000 " +
				"workspaces, compared with an empty one", extra: true,
			modes: notNaive(), parts: bigTable(),
		},
		{
			name: "sqlite", about: "a burst of 2,000 and paced50 on SQLite, with max_in_flight 1000", extra: true,
			modes: product(), parts: []part{sqlite(burst("sqlite-burst", 2000, 1, mostInFlight()), paced("sqlite-paced50", 50, mostInFlight()))},
		},
		{
			name: "idle", about: "CPU and memory at rest for 30 s, and the time from the start to the first accepted event on existing data, " +
				"on PostgreSQL and on SQLite; the mode says nothing", extra: true,
			modes: []mode{batch}, parts: []part{{steps: []step{idle("idle")}}, sqlite(idle("idle-sqlite"))},
		},
	}
}

// naiveDeliveries is the size of a burst in the mode naive, which makes fifty deliveries a
// second and would take minutes for the size of the other modes.
const naiveDeliveries = 300

// burst publishes n events as fast as possible, each to fanOut webhooks.
func burst(name string, n, fanOut int, with settings) step {
	return fanOutStep(name, fanOut, with, func(ctx context.Context, r *run) (metrics, error) {
		n := n
		if r.mode == naive {
			n = naiveDeliveries / fanOut
		}
		return r.measure(ctx, func() ([]publishedEvent, error) { return r.load.publish(ctx, &atOnce{n: r.scaled(n)}, r.requests) })
	})
}

// pacedSpan is how long events are published at a steady rate.
const pacedSpan = 20 * time.Second

// paced publishes at a steady rate, in events a second, to one webhook.
func paced(name string, rate int, with settings) step {
	return fanOutStep(name, 1, with, func(ctx context.Context, r *run) (metrics, error) { return r.measureRate(ctx, rate, pacedSpan) })
}

// curve is paced at several rates, each to a webhook with default settings.
func curve(rates ...int) []step {
	steps := make([]step, len(rates))
	for i, rate := range rates {
		steps[i] = paced(fmt.Sprintf("curve%d", rate), rate, defaultSettings())
	}
	return steps
}

const (
	spreadWebhooks = 1_000
	spreadRate     = 200
)

// spread publishes at a steady rate to many webhooks in turn.
func spread(name string) step {
	return roundRobinStep(name, spreadWebhooks, defaultSettings(), func(ctx context.Context, r *run) (metrics, error) {
		return r.measureRate(ctx, spreadRate, pacedSpan)
	})
}

// measureRate measures while the run's events are published at a steady rate.
func (r *run) measureRate(ctx context.Context, rate int, span time.Duration) (metrics, error) {
	return r.measureRateBeside(ctx, rate, span, func(context.Context) error { return nil })
}

// measureRateBeside measures while the run's events are published at a steady rate and disturb
// goes on beside them. Only the run's own deliveries count.
func (r *run) measureRateBeside(
	ctx context.Context, rate int, span time.Duration, disturb func(context.Context) error,
) (metrics, error) {
	m, err := r.measure(ctx, func() (published []publishedEvent, err error) {
		both, ctx := errgroup.WithContext(ctx)
		both.Go(func() (err error) {
			published, err = r.load.publish(ctx, steadily(ctx, rate, r.span(span)), r.requests)
			return err
		})
		both.Go(func() error { return disturb(ctx) })
		err = both.Wait()
		return published, err
	})
	if err == nil {
		m[offeredPerS] = float64(rate)
	}
	return m, err
}

// comparedWith returns the step with another one as its baseline.
func comparedWith(baseline string, s step) step {
	s.baseline = baseline
	return s
}

// measurement measures a run whose webhooks and connections are set up and warm.
type measurement func(ctx context.Context, r *run) (metrics, error)

// fanOutStep returns a step that measures a run of fanOut webhooks, which all get every event.
func fanOutStep(name string, fanOut int, with settings, measure measurement) step {
	return step{name: name, settings: with.text, measure: func(
		ctx context.Context, b *bench, s *system,
	) (measured metrics, err error) {
		r := b.newRun(s, name, fanOut)
		defer func() { err = errors.Join(err, r.close()) }()
		if err := r.setUpFanOut(ctx, connections, with); err != nil {
			return nil, err
		}
		return r.afterWarmUp(ctx, measure)
	}}
}

// roundRobinStep returns a step that measures a run of n webhooks, which get events in turn.
func roundRobinStep(name string, n int, with settings, measure measurement) step {
	return step{name: name, settings: with.text, measure: func(
		ctx context.Context, b *bench, s *system,
	) (measured metrics, err error) {
		r := b.newRun(s, name, 1)
		defer func() { err = errors.Join(err, r.close()) }()
		if err := r.setUpRoundRobin(ctx, r.scaled(n), with); err != nil {
			return nil, err
		}
		return r.afterWarmUp(ctx, measure)
	}}
}

// afterWarmUp warms up and measures.
func (r *run) afterWarmUp(ctx context.Context, measure measurement) (metrics, error) {
	if err := r.warmUp(ctx); err != nil {
		return nil, err
	}
	return measure(ctx, r)
}

// fresh returns a part on an empty database.
func fresh(steps ...step) part { return part{steps: steps} }

// sqlite returns a part on an empty SQLite file.
func sqlite(steps ...step) part {
	return part{steps: steps, start: func(ctx context.Context, b *bench, m mode) (*system, error) {
		return b.start(ctx, m, startOptions{sqlite: true})
	}}
}

// steps returns the steps of all scenarios, in order.
func steps() []step {
	var all []step
	for _, s := range scenarios() {
		for _, p := range s.parts {
			all = append(all, p.steps...)
		}
	}
	return all
}

// helpOfScenarios returns the descriptions of the scenarios, for --help.
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
