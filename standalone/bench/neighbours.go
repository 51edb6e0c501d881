package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"postrider/standalone/instance"
)

const (
	neighbourCount = 50
	hangEvery      = 5 // one webhook in so many
	neighbourRate  = 50
	neighbourSpan  = time.Minute
)

// neighbours compares the latency of webhooks beside ones that hang with the same
// ones' where nobody hangs.
func neighbours() []part {
	ordinary := func(ctx context.Context, b *bench, m mode) (*subject, error) { return b.start(ctx, m, setup{}) }
	return []part{
		{start: ordinary, steps: []step{neighbourly("neighbours-alone", false)}},
		{start: ordinary, steps: []step{against("neighbours-alone", neighbourly("neighbours", true))}},
	}
}

// neighbourly publishes to each of the webhooks in turn, and judges by those that
// never hang.
func neighbourly(name string, hanging bool) step {
	return step{name: name, measure: func(ctx context.Context, b *bench, s *subject) (measured metrics, err error) {
		c := b.newCourse(s, name, 1)
		defer func() { err = errors.Join(err, c.close()) }()
		eventTypes, healthy, err := c.settle(ctx, hanging)
		if err != nil {
			return nil, err
		}
		if err := c.connect(ctx, connections, healthy...); err != nil {
			return nil, err
		}
		if err := c.warmUp(ctx); err != nil {
			return nil, err
		}
		requests := c.load.singles(c.random(), eventTypes...)
		measured, err = c.fly(ctx, func() ([]shot, error) {
			shots, err := c.load.fire(ctx, steadily(ctx, neighbourRate, c.span(neighbourSpan)), requests)
			var judged []shot
			for _, s := range shots {
				if !hangs(s.number % neighbourCount) {
					judged = append(judged, s)
				}
			}
			return judged, err
		})
		if err == nil {
			measured[offeredPerS] = neighbourRate
		}
		return measured, err
	}}
}

func hangs(neighbour int) bool { return neighbour%hangEvery == 0 }

// settle makes the webhooks, each with an event type of its own, and returns the
// types of all and of those that never hang. The course counts only these.
func (c *course) settle(ctx context.Context, hanging bool) (all, healthy []string, err error) {
	for i := range neighbourCount {
		eventType := fmt.Sprintf("%s.%d", c.eventType(), i)
		all = append(all, eventType)
		path := fmt.Sprintf("/%s/%d", c.name, i)
		switch {
		case hangs(i) && hanging:
			path = hangingPath + strconv.Itoa(i)
		case hangs(i):
			path = unnotedPath + strconv.Itoa(i)
		}
		var w instance.Webhook
		if w, err = c.subscribe(ctx, path, eventType, map[string]any{"timeout_ms": 30_000}); err != nil {
			return nil, nil, err
		}
		if !hangs(i) {
			healthy = append(healthy, eventType)
			c.hooks = append(c.hooks, w)
		}
	}
	return all, healthy, nil
}
