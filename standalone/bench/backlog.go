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
func backlog() part {
	return part{
		start: func(ctx context.Context, b *bench, m mode) (*subject, error) { return b.startAPI(ctx, m) },
		steps: []step{{name: "backlog", measure: measureBacklog}},
	}
}

func measureBacklog(ctx context.Context, b *bench, api *subject) (measured metrics, err error) {
	c := b.newCourse(api, "backlog", 1)
	defer func() { err = errors.Join(err, c.close()) }()
	if err := c.lay(ctx, arrayConnections); err != nil {
		return nil, err
	}
	n := waiting
	if api.mode == single {
		n = waitingSingle
	}
	shots, err := c.load.fire(ctx, &atOnce{n: max(c.scaled(n)/arraySize, 1)}, c.load.arrays(c.random(), c.eventType()))
	if err != nil {
		return nil, err
	}
	if err := errors.Join(api.Kill(), b.ear.reset(ctx)); err != nil {
		return nil, err
	}
	before, err := c.cpu()
	if err != nil {
		return nil, err
	}
	before[serverProcess] = 0 // it is another process's
	s, err := b.start(ctx, api.mode, setup{address: api.address, env: []string{api.setting("POSTRIDER_ENCRYPTION_KEYS")}})
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
		m, err := c.numbers(v, v.firstCame, before)
		delete(m, p50)
		delete(m, p99)
		return m, err
	})
}
