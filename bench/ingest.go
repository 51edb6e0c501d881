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

// ingestSpan is how long events are published to an API without a worker.
const ingestSpan = 10 * time.Second

// ingest measures how fast an API without a worker accepts events.
func ingest() part {
	return part{
		start: func(ctx context.Context, b *bench, m mode) (*system, error) { return b.startAPI(ctx, m) },
		steps: []step{
			accept("ingest", connections, func(r *run) [][]byte { return r.requests }),
			accept("ingest-arrays", arrayConnections, func(r *run) [][]byte { return r.load.arrays(r.random(), r.eventType()) }),
		},
	}
}

// accept returns a step that publishes the requests for ingestSpan, and checks that the
// database holds every acknowledged event.
func accept(name string, connections int, requests func(*run) [][]byte) step {
	return step{name: name, settings: mostInFlight().text, measure: func(
		ctx context.Context, b *bench, s *system,
	) (measured metrics, err error) {
		r := b.newRun(s, name, 1)
		defer func() { err = errors.Join(err, r.close()) }()
		if err := r.setUpFanOut(ctx, connections, mostInFlight()); err != nil {
			return nil, err
		}
		return r.profiled(ctx, s, name, func() (metrics, error) {
			bodies := requests(r) // made before the span begins
			before, err := r.cpu()
			if err != nil {
				return nil, err
			}
			published, err := r.load.publish(ctx, &until{end: time.Now().Add(r.span(ingestSpan))}, bodies)
			if err != nil {
				return nil, err
			}
			if err := r.checkStored(ctx, published); err != nil {
				return nil, err
			}
			return r.publishMetrics(published, before)
		})
	}}
}

// checkStored returns an error unless the database holds exactly the acknowledged events.
func (r *run) checkStored(ctx context.Context, published []publishedEvent) (err error) {
	db, err := sql.Open("postgres", r.address)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	var n int
	err = db.QueryRowContext(ctx, "SELECT count(DISTINCT event_id) FROM deliveries WHERE webhook_id = $1", r.hooks[0].ID).Scan(&n)
	if err == nil && n != len(published) {
		err = fmt.Errorf("%d events are stored, and %d were acknowledged", n, len(published))
	}
	return err
}

// publishMetrics returns the metrics of publishing alone. Its latencies are those of the
// publish requests, and its CPU time is counted for a thousand events.
func (r *run) publishMetrics(published []publishedEvent, before map[string]time.Duration) (metrics, error) {
	requests := map[int]time.Duration{}
	first, last := published[0].sent, published[0].answered
	for _, s := range published {
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
		events: float64(len(published)), eventsPerS: float64(len(published)) / span, publishesPerS: float64(len(requests)) / span,
		p50: milliseconds(percentile(latencies, 50)), p99: milliseconds(percentile(latencies, 99)),
	}
	after, err := r.cpu()
	m.addCPUTime(len(published), before, after)
	return m, err
}
