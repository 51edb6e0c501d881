package main

import (
	"context"
	"errors"
)

// Sizes of the backlog. A workflow for each delivery has a twentieth of the speed.
const (
	backlogSize       = 20_000
	backlogSizeSingle = 4_000
)

// backlog measures how fast a process makes the deliveries that wait when it starts. The
// events are published to an API without a worker; then the system starts on the database.
func backlog(name string, with settings) part {
	return part{
		start: func(ctx context.Context, b *bench, m mode) (*system, error) { return b.startAPI(ctx, m) },
		steps: []step{{name: name, settings: with.text, measure: func(ctx context.Context, b *bench, api *system) (metrics, error) {
			return measureBacklog(ctx, b.newRun(api, name, 1), with)
		}}},
	}
}

// measureBacklog publishes to the API of the run, kills it, starts the system and drains it.
func measureBacklog(ctx context.Context, r *run, with settings) (measured metrics, err error) {
	defer func() { err = errors.Join(err, r.close()) }()
	if err := r.setUpFanOut(ctx, arrayConnections, with); err != nil {
		return nil, err
	}
	n := backlogSize
	if r.mode == single {
		n = backlogSizeSingle
	}
	published, err := r.load.publish(ctx, &atOnce{n: max(r.scaled(n)/arraySize, 1)}, r.load.arrays(r.random(), r.eventType()))
	if err != nil {
		return nil, err
	}
	if err := errors.Join(r.Kill(), r.receiver.reset(ctx)); err != nil {
		return nil, err
	}
	before, err := r.cpu()
	if err != nil {
		return nil, err
	}
	before[serverProcess] = 0 // the server that is measured starts later
	s, err := r.start(ctx, r.mode, startOptions{address: r.address, env: []string{r.setting("POSTRIDER_ENCRYPTION_KEYS")}})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	r.system = s
	return r.profiled(ctx, s, r.name, func() (metrics, error) {
		v, err := r.drain(ctx, published)
		if err != nil {
			return nil, err
		}
		// The rate is counted from the first request, because starting is not delivering. The
		// latencies mean nothing here, and the CPU time includes the start.
		m := r.metricsOf(v, v.firstCame, before)
		delete(m, p50)
		delete(m, p99)
		return m, nil
	})
}
