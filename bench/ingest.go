package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	_ "github.com/lib/pq" // the driver "postgres"
)

// ingestSpan is how long events are published that nobody delivers.
const ingestSpan = 10 * time.Second

// ingest is an API without a worker: events are accepted and wait.
func ingest() part {
	return part{
		start: func(ctx context.Context, b *bench, m mode) (*subject, error) { return b.startAPI(ctx, m) },
		steps: []step{
			accept("ingest", connections, func(c *course) [][]byte { return c.requests }),
			accept("ingest-arrays", arrayConnections, func(c *course) [][]byte { return c.load.arrays(c.random(), c.eventType()) }),
		},
	}
}

// accept publishes the requests for the time, and checks that the database has
// what was acknowledged.
func accept(name string, connections int, requests func(*course) [][]byte) step {
	return step{name: name, settings: wide().words, measure: func(ctx context.Context, b *bench, s *subject) (measured metrics, err error) {
		c := b.newCourse(s, name, 1)
		defer func() { err = errors.Join(err, c.close()) }()
		if err := c.lay(ctx, connections, wide()); err != nil {
			return nil, err
		}
		return c.profiled(ctx, s, name, func() (metrics, error) {
			before, err := c.cpu()
			if err != nil {
				return nil, err
			}
			shots, err := c.load.fire(ctx, &until{end: time.Now().Add(c.span(ingestSpan))}, requests(c))
			if err != nil {
				return nil, err
			}
			if err := c.stored(ctx, shots); err != nil {
				return nil, err
			}
			return c.acknowledged(shots, before)
		})
	}}
}

// stored returns an error unless the database has just what was acknowledged.
func (c *course) stored(ctx context.Context, shots []shot) (err error) {
	db, err := sql.Open("postgres", c.address)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	var n int
	err = db.QueryRowContext(ctx, "SELECT count(DISTINCT event_id) FROM deliveries WHERE webhook_id = $1", c.hooks[0].ID).Scan(&n)
	if err == nil && n != len(shots) {
		err = fmt.Errorf("%d events were stored, of %d that were acknowledged", n, len(shots))
	}
	return err
}

// acknowledged are the numbers of events that were published to nobody. Here the
// latency is a publish's own, and what a thousand cost is counted in events.
func (c *course) acknowledged(shots []shot, before map[string]time.Duration) (metrics, error) {
	requests := map[int]time.Duration{}
	first, last := shots[0].sent, shots[0].answered
	for _, s := range shots {
		requests[s.number] = s.answered.Sub(s.sent)
		if s.sent.Before(first) {
			first = s.sent
		}
		if s.answered.After(last) {
			last = s.answered
		}
	}
	latencies := make([]time.Duration, 0, len(requests))
	for _, latency := range requests {
		latencies = append(latencies, latency)
	}
	slices.Sort(latencies)
	span := last.Sub(first).Seconds()
	m := metrics{
		events: float64(len(shots)), eventsPerS: float64(len(shots)) / span, publishesPerS: float64(len(requests)) / span,
		p50: milliseconds(percentile(latencies, 50)), p99: milliseconds(percentile(latencies, 99)),
	}
	after, err := c.cpu()
	m.charge(len(shots), before, after)
	return m, err
}
