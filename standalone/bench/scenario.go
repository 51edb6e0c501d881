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

// shared is a part of an ordinary subject.
func shared(steps ...step) []part { return []part{{steps: steps}} }

// scenarios are all that there are, in the order of the tables.
func scenarios() []scenario {
	return []scenario{
		{name: "burst", about: "5,000 events to one webhook, as fast as the API takes them on 64 connections", modes: modes(), parts: shared(burst("burst", 5000, 1))},
		{name: "fanout", about: "1,000 events to five webhooks each", modes: modes(), parts: shared(burst("fanout", 1000, 5))},
		{name: "paced50", about: "50 events a second for 20 s", modes: modes(), parts: shared(paced("paced50", 50))},
		{name: "paced100", about: "100 events a second for 20 s", extra: true, modes: []mode{single, batch, floor}, parts: shared(paced("paced100", 100))},
		{name: "paced500", about: "500 events a second for 20 s", extra: true, modes: []mode{single, batch, floor}, parts: shared(paced("paced500", 500))},
	}
}

// Sizes of the naive design's bursts: at fifty a second it would take minutes for
// what the others do in seconds.
const naiveDeliveries = 300

// burst publishes n events, to fan webhooks each, at once.
func burst(name string, n, fan int) step {
	return step{name: name, measure: func(ctx context.Context, b *bench, s *subject) (metrics, error) {
		n := n
		if s.mode == naive {
			n = naiveDeliveries / fan
		}
		return b.onCourse(ctx, s, name, fan, func(c *course) (metrics, error) {
			return c.measure(ctx, func() ([]shot, error) { return c.load.burst(ctx, b.scaled(n), c.requests) })
		})
	}}
}

// pacedSpan is how long events are published at a steady rate.
const pacedSpan = 20 * time.Second

// paced publishes so many events a second.
func paced(name string, rate int) step {
	return step{name: name, measure: func(ctx context.Context, b *bench, s *subject) (metrics, error) {
		return b.onCourse(ctx, s, name, 1, func(c *course) (metrics, error) {
			return c.measure(ctx, func() ([]shot, error) {
				return c.load.paced(ctx, rate, time.Duration(float64(pacedSpan)*b.Scale), c.requests)
			})
		})
	}}
}

// onCourse runs a measurement on a course of its own, after a warm-up.
func (b *bench) onCourse(ctx context.Context, s *subject, name string, fan int, measure func(*course) (metrics, error)) (metrics, error) {
	c, err := b.lay(ctx, s, name, fan)
	if err != nil {
		return nil, err
	}
	if err := c.warmUp(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("warm-up: %w", err), c.close())
	}
	measured, err := measure(c)
	return measured, errors.Join(err, c.close())
}

// baselines says which step each is compared with.
func baselines() map[string]string {
	of := map[string]string{}
	for _, s := range scenarios() {
		for _, p := range s.parts {
			for _, each := range p.steps {
				if each.baseline != "" {
					of[each.name] = each.baseline
				}
			}
		}
	}
	return of
}

// helpOfScenarios fills in what the help says about scenarios.
func helpOfScenarios() kong.Vars {
	var ordinary, extra []string
	for _, s := range scenarios() {
		text := s.name + " (" + s.about + ")"
		if s.extra {
			extra = append(extra, text)
		} else {
			ordinary = append(ordinary, text)
		}
	}
	return kong.Vars{"ordinary": strings.Join(ordinary, "; "), "extra": strings.Join(extra, "; ")}
}
