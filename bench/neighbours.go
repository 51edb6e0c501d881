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
	neighbourCount  = 50
	disturbingEvery = 5 // one webhook in five disturbs the others
	neighbourRate   = 50
	neighbourSpan   = time.Minute
	floodSize       = 100_000
	leastFlood      = 2_000 // at any scale, because the flood must outlast the measurement
)

// disturbance is how some webhooks disturb their neighbours.
type disturbance int

const (
	undisturbed disturbance = iota
	hanging                 // every fifth webhook hangs until its timeout
	flooded                 // one more webhook, with the default limits, has a long queue
)

// neighbours measures the latency of webhooks beside disturbing ones, and compares it with
// the latency of the same webhooks without disturbance.
func neighbours() []part {
	ordinary := func(ctx context.Context, b *bench, m mode) (*system, error) { return b.start(ctx, m, startOptions{}) }
	return []part{
		{start: ordinary, steps: []step{neighbourStep("neighbours-alone", undisturbed)}},
		{start: ordinary, steps: []step{comparedWith("neighbours-alone", neighbourStep("neighbours", hanging))}},
		{start: ordinary, steps: []step{comparedWith("neighbours-alone", neighbourStep("neighbours-flooded", flooded))}},
	}
}

// neighbourStep measures the webhooks that do not disturb, beside a disturbance.
func neighbourStep(name string, with disturbance) step {
	return step{name: name, settings: neighbourSettings().text, measure: func(
		ctx context.Context, b *bench, s *system,
	) (measured metrics, err error) {
		r := b.newRun(s, name, 1)
		defer func() { err = errors.Join(err, r.close()) }()
		eventTypes, healthy, err := r.subscribeNeighbours(ctx, with == hanging)
		if err != nil {
			return nil, err
		}
		if err := r.connect(ctx, connections, healthy...); err != nil {
			return nil, err
		}
		if err := r.warmUp(ctx); err != nil {
			return nil, err
		}
		var flood instance.Webhook
		if with == flooded {
			if flood, err = r.flood(ctx); err != nil {
				return nil, err
			}
		}
		if measured, err = r.measureNeighbours(ctx, eventTypes); err != nil || with != flooded {
			return measured, err
		}
		// Most of the CPU time goes into the flood, whose deliveries are not counted.
		maps.DeleteFunc(measured, func(name string, _ float64) bool { return strings.HasPrefix(name, cpuPer1000) })
		return measured, r.checkFlooded(ctx, flood)
	}}
}

// measureNeighbours publishes events of the types in turn, at a steady rate, and measures the
// deliveries of the webhooks that do not disturb.
func (r *run) measureNeighbours(ctx context.Context, eventTypes []string) (metrics, error) {
	requests := r.load.singles(r.random(), eventTypes...)
	measured, err := r.measure(ctx, func() ([]publishedEvent, error) {
		published, err := r.load.publish(ctx, steadily(ctx, neighbourRate, r.span(neighbourSpan)), requests)
		var counted []publishedEvent
		for _, s := range published {
			if !isDisturbing(s.number % neighbourCount) {
				counted = append(counted, s)
			}
		}
		return counted, err
	})
	if err == nil {
		measured[offeredPerS] = neighbourRate
	}
	return measured, err
}

// neighbourSettings are the defaults with the longest timeout, so that a request can hang.
func neighbourSettings() settings {
	return settings{text: defaultSettings().text + ", timeout 30 s", fields: map[string]any{"timeout_ms": postrider.MaxTimeoutMS}}
}

// isDisturbing reports whether the webhook with this number may disturb the others.
func isDisturbing(neighbour int) bool { return neighbour%disturbingEvery == 0 }

// flood creates one more webhook and publishes many events to it.
func (r *run) flood(ctx context.Context) (w instance.Webhook, err error) {
	eventType := r.eventType() + ".flood"
	if w, err = r.subscribe(ctx, unnotedPath+"flood", eventType, defaultSettings()); err != nil {
		return w, err
	}
	if err := r.receiver.setSecrets(ctx, r.secrets); err != nil {
		return w, err
	}
	l, err := newLoad(ctx, r.Client, arrayConnections)
	if err != nil {
		return w, err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	_, err = l.publish(ctx, &atOnce{n: max(r.scaled(floodSize), leastFlood) / arraySize}, l.arrays(r.random(), eventType))
	return w, err
}

// checkFlooded returns an error unless some of the flood was delivered and some still waits.
// Otherwise the neighbours were not measured beside a flood.
func (r *run) checkFlooded(ctx context.Context, flood instance.Webhook) error {
	waiting, err := r.deliveryInState(ctx, flood, "pending")
	if err == nil {
		err = r.Call(ctx, http.MethodGet, "/api/v1/webhooks/"+flood.ID, nil, &flood)
	}
	switch {
	case err != nil:
		return err
	case waiting == "":
		return errors.New("the flood ended before the measurement: it must be bigger")
	case flood.Stats.FailedDeliveries > 0:
		return fmt.Errorf("%d deliveries of the flood failed", flood.Stats.FailedDeliveries)
	case flood.Stats.TotalDeliveries == 0:
		return errors.New("no delivery of the flood was made")
	}
	return nil
}

// subscribeNeighbours creates the webhooks, each for an event type of its own. It returns all
// event types, and those of the healthy webhooks, whose deliveries the run counts.
func (r *run) subscribeNeighbours(ctx context.Context, hanging bool) (all, healthy []string, err error) {
	for i := range neighbourCount {
		eventType := fmt.Sprintf("%s.%d", r.eventType(), i)
		all = append(all, eventType)
		path := fmt.Sprintf("/%s/%d", r.name, i)
		switch {
		case isDisturbing(i) && hanging:
			path = hangingPath + strconv.Itoa(i)
		case isDisturbing(i):
			path = unnotedPath + strconv.Itoa(i)
		}
		var w instance.Webhook
		if w, err = r.subscribe(ctx, path, eventType, neighbourSettings()); err != nil {
			return nil, nil, err
		}
		if !isDisturbing(i) {
			healthy = append(healthy, eventType)
			r.hooks = append(r.hooks, w)
		}
	}
	return all, healthy, r.receiver.setSecrets(ctx, r.secrets)
}
