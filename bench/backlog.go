package main

import (
	"context"
	"errors"
)

// Sizes of what waits. A workflow for each delivery takes a twentieth of the speed.
const (
	waiting       = 20_000
	waitingSingle = 4_000
)

// backlog is what waits when a process starts. It is published to an API without a
// worker; then the subject starts on the same database.
func backlog(name string, with settings) part {
	return part{
		start: func(ctx context.Context, b *bench, m mode) (*subject, error) { return b.startAPI(ctx, m) },
		steps: []step{{name: name, settings: with.words, measure: func(ctx context.Context, b *bench, api *subject) (metrics, error) {
			return measureBacklog(ctx, b.newCourse(api, name, 1), with)
		}}},
	}
}

func measureBacklog(ctx context.Context, c *course, with settings) (measured metrics, err error) {
	defer func() { err = errors.Join(err, c.close()) }()
	if err := c.lay(ctx, arrayConnections, with); err != nil {
		return nil, err
	}
	n := waiting
	if c.mode == single {
		n = waitingSingle
	}
	shots, err := c.load.fire(ctx, &atOnce{n: max(c.scaled(n)/arraySize, 1)}, c.load.arrays(c.random(), c.eventType()))
	if err != nil {
		return nil, err
	}
	if err := errors.Join(c.Kill(), c.ear.reset(ctx)); err != nil {
		return nil, err
	}
	before, err := c.cpu()
	if err != nil {
		return nil, err
	}
	before[serverProcess] = 0 // it is another process's
	s, err := c.start(ctx, c.mode, setup{address: c.address, env: []string{c.setting("POSTRIDER_ENCRYPTION_KEYS")}})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	c.subject = s
	return c.profiled(ctx, s, c.name, func() (metrics, error) {
		v, err := c.land(ctx, shots)
		if err != nil {
			return nil, err
		}
		// The rate is counted from the first receipt: starting is not delivering. So the
		// latencies mean nothing, and the CPU time has the start in it.
		m := c.numbers(v, v.firstCame, before)
		delete(m, p50)
		delete(m, p99)
		return m, nil
	})
}
