package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"time"

	"postrider.dev/postrider"
	"postrider.dev/postrider/standalone/instance"
)

const (
	neighbourCount = 50
	troubleEvery   = 5 // one webhook in so many
	neighbourRate  = 50
	neighbourSpan  = time.Minute
	floodSize      = 100_000
	leastFlood     = 2_000 // however small the scale: it must last
)

// trouble is what some webhooks make for the others.
type trouble int

const (
	noTrouble trouble = iota
	hanging           // a fifth of them hangs until the timeout
	flooded           // one more has a flood of deliveries waiting, and the usual limits
)

// neighbours compares the latency of webhooks beside troublesome ones with the same
// ones' where there is no trouble.
func neighbours() []part {
	ordinary := func(ctx context.Context, b *bench, m mode) (*subject, error) { return b.start(ctx, m, setup{}) }
	return []part{
		{start: ordinary, steps: []step{neighbourly("neighbours-alone", noTrouble)}},
		{start: ordinary, steps: []step{against("neighbours-alone", neighbourly("neighbours", hanging))}},
		{start: ordinary, steps: []step{against("neighbours-alone", neighbourly("neighbours-flooded", flooded))}},
	}
}

// neighbourly is the neighbours' life beside some trouble.
func neighbourly(name string, with trouble) step {
	return step{name: name, settings: patient().words, measure: func(ctx context.Context, b *bench, s *subject) (measured metrics, err error) {
		c := b.newCourse(s, name, 1)
		defer func() { err = errors.Join(err, c.close()) }()
		eventTypes, healthy, err := c.settle(ctx, with == hanging)
		if err != nil {
			return nil, err
		}
		if err := c.connect(ctx, connections, healthy...); err != nil {
			return nil, err
		}
		if err := c.warmUp(ctx); err != nil {
			return nil, err
		}
		var flood instance.Webhook
		if with == flooded {
			if flood, err = c.flood(ctx); err != nil {
				return nil, err
			}
		}
		if measured, err = c.flyBeside(ctx, eventTypes); err != nil || with != flooded {
			return measured, err
		}
		// The CPU time is mostly the flood's, whose deliveries are not counted.
		maps.DeleteFunc(measured, func(name string, _ float64) bool { return strings.HasPrefix(name, cpuPer1000) })
		return measured, c.stillFlooded(ctx, flood)
	}}
}

// flyBeside publishes events of the types in turn at the neighbours' rate, and judges
// those that make no trouble.
func (c *course) flyBeside(ctx context.Context, eventTypes []string) (metrics, error) {
	requests := c.load.singles(c.random(), eventTypes...)
	measured, err := c.fly(ctx, func() ([]shot, error) {
		shots, err := c.load.fire(ctx, steadily(ctx, neighbourRate, c.span(neighbourSpan)), requests)
		var judged []shot
		for _, s := range shots {
			if !isTrouble(s.number % neighbourCount) {
				judged = append(judged, s)
			}
		}
		return judged, err
	})
	if err == nil {
		measured[offeredPerS] = neighbourRate
	}
	return measured, err
}

// patient are the neighbours' settings: the usual ones, with time enough to hang.
func patient() settings {
	return settings{words: usual().words + ", timeout 30 s", fields: map[string]any{"timeout_ms": postrider.MaxTimeoutMS}}
}

func isTrouble(neighbour int) bool { return neighbour%troubleEvery == 0 }

// flood publishes many events to one more webhook, which it returns.
func (c *course) flood(ctx context.Context) (w instance.Webhook, err error) {
	eventType := c.eventType() + ".flood"
	if w, err = c.subscribe(ctx, unnotedPath+"flood", eventType, usual()); err != nil {
		return w, err
	}
	if err := c.ear.learn(ctx, c.secrets); err != nil {
		return w, err
	}
	l, err := newLoad(ctx, c.Client, arrayConnections)
	if err != nil {
		return w, err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	_, err = l.fire(ctx, &atOnce{n: max(c.scaled(floodSize), leastFlood) / arraySize}, l.arrays(c.random(), eventType))
	return w, err
}

// stillFlooded returns an error unless some of the flood was delivered and some waits:
// else what was measured was no life beside one.
func (c *course) stillFlooded(ctx context.Context, flood instance.Webhook) error {
	waiting, err := c.oneIn(ctx, flood, "pending")
	if err == nil {
		err = c.Call(ctx, http.MethodGet, "/api/v1/webhooks/"+flood.ID, nil, &flood)
	}
	switch {
	case err != nil:
		return err
	case waiting == "":
		return errors.New("the flood ended before its neighbours' time: it must be bigger")
	case flood.Stats.FailedDeliveries > 0:
		return fmt.Errorf("%d deliveries of the flood failed", flood.Stats.FailedDeliveries)
	case flood.Stats.TotalDeliveries == 0:
		return errors.New("none of the flood was delivered")
	}
	return nil
}

// settle makes the webhooks, each with an event type of its own, and returns the
// types of all and of those that make no trouble. The course counts only these.
func (c *course) settle(ctx context.Context, hanging bool) (all, healthy []string, err error) {
	for i := range neighbourCount {
		eventType := fmt.Sprintf("%s.%d", c.eventType(), i)
		all = append(all, eventType)
		path := fmt.Sprintf("/%s/%d", c.name, i)
		switch {
		case isTrouble(i) && hanging:
			path = hangingPath + strconv.Itoa(i)
		case isTrouble(i):
			path = unnotedPath + strconv.Itoa(i)
		}
		var w instance.Webhook
		if w, err = c.subscribe(ctx, path, eventType, patient()); err != nil {
			return nil, nil, err
		}
		if !isTrouble(i) {
			healthy = append(healthy, eventType)
			c.hooks = append(c.hooks, w)
		}
	}
	return all, healthy, c.ear.learn(ctx, c.secrets)
}
