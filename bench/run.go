package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"strings"
	"time"

	"postrider.dev/postrider/standalone/instance"
)

// run is one pass of a step in one mode: its webhooks, which get the events of this run
// alone, the connections that publish them, and what was checked so far.
type run struct {
	*bench
	*system

	name     string
	path     string // prefix of its webhooks' paths at the receiver
	fanOut   int    // webhooks that get each event
	hooks    []instance.Webhook
	secrets  map[string]string // by the path of a webhook's URL
	load     *load
	requests [][]byte
	finished int // deliveries that drain has waited for
}

// newRun returns a run without webhooks.
func (b *bench) newRun(s *system, name string, fanOut int) *run {
	return &run{bench: b, system: s, name: name, path: "/", fanOut: fanOut, secrets: map[string]string{}}
}

// eventType returns the type of the run's events.
func (r *run) eventType() string { return strings.ReplaceAll(r.name, "-", ".") }

// subscribe creates a webhook for the event type. Its URL is the path at the receiver,
// which learns the secret later, by setSecrets.
func (r *run) subscribe(ctx context.Context, path, eventType string, with settings) (instance.Webhook, error) {
	fields := map[string]any{"url": r.receiver.Hooks + path, "events": []string{eventType}}
	maps.Copy(fields, with.fields)
	w, err := r.CreateWebhook(ctx, fields)
	if err != nil {
		return w, err
	}
	r.secrets[path], err = r.Secret(ctx, w.ID)
	return w, err
}

// add creates a webhook whose deliveries the run counts.
func (r *run) add(ctx context.Context, eventType string, with settings) error {
	w, err := r.subscribe(ctx, fmt.Sprintf("%s%s/%d", r.path, r.name, len(r.hooks)), eventType, with)
	if err == nil {
		r.hooks = append(r.hooks, w)
	}
	return err
}

// setUpFanOut creates webhooks that all get every event of the run, and connects.
func (r *run) setUpFanOut(ctx context.Context, connections int, with settings) error {
	for range r.fanOut {
		if err := r.add(ctx, r.eventType(), with); err != nil {
			return err
		}
	}
	if err := r.receiver.setSecrets(ctx, r.secrets); err != nil {
		return err
	}
	return r.connect(ctx, connections, r.eventType())
}

// setUpRoundRobin creates n webhooks, each for an event type of its own, which get the
// events in turn, and connects.
func (r *run) setUpRoundRobin(ctx context.Context, n int, with settings) error {
	eventTypes := make([]string, n)
	for i := range eventTypes {
		eventTypes[i] = fmt.Sprintf("%s.%d", r.eventType(), i)
		if err := r.add(ctx, eventTypes[i], with); err != nil {
			return err
		}
	}
	if err := r.receiver.setSecrets(ctx, r.secrets); err != nil {
		return err
	}
	return r.connect(ctx, connections, eventTypes...)
}

// connect opens connections to the API and renders requests that publish events of the types.
func (r *run) connect(ctx context.Context, connections int, eventTypes ...string) error {
	var err error
	if r.load, err = newLoad(ctx, r.Client, connections); err != nil {
		return err
	}
	r.requests = r.load.singles(r.random(), eventTypes...)
	return nil
}

// close closes the connections, if there are any.
func (r *run) close() error {
	if r.load == nil {
		return nil
	}
	return r.load.close()
}

// warmUp makes deliveries that do not count, at least one for each webhook. The measured
// ones then find open connections, filled caches and prepared statements.
func (r *run) warmUp(ctx context.Context) error {
	n := 300
	if r.mode == naive {
		n = 50
	}
	if err := r.receiver.reset(ctx); err != nil {
		return err
	}
	published, err := r.load.publish(ctx, &atOnce{n: max(r.scaled(n), len(r.hooks)) / r.fanOut}, r.requests)
	if err == nil {
		_, err = r.drain(ctx, published)
	}
	if err != nil {
		return fmt.Errorf("warm-up: %w", err)
	}
	return nil
}

// measure publishes, drains, and returns the metrics. The CPU time is counted from before
// the first publish until the last delivery is recorded.
func (r *run) measure(ctx context.Context, publish func() ([]publishedEvent, error)) (metrics, error) {
	return r.profiled(ctx, r.system, r.name, func() (metrics, error) {
		if err := r.receiver.reset(ctx); err != nil {
			return nil, err
		}
		before, err := r.cpu()
		if err != nil {
			return nil, err
		}
		published, err := publish()
		if err != nil {
			return nil, err
		}
		got, err := r.drain(ctx, published)
		if err != nil {
			return nil, err
		}
		return r.metricsOf(got, got.first, before), nil
	})
}

// drain waits until the events were received and recorded, and matches what was published
// with what was received.
func (r *run) drain(ctx context.Context, published []publishedEvent) (matched, error) {
	want := len(published) * r.fanOut
	if err := r.await(ctx, wait{what: "deliveries were received", want: want}, r.receiver.count); err != nil {
		return matched{}, err
	}
	r.finished += want
	if err := r.await(ctx, wait{what: "deliveries were recorded", want: r.finished}, r.countRecorded); err != nil {
		return matched{}, err
	}
	taken, err := r.cpu() // before the benchmark's own questions cost CPU time
	if err != nil {
		return matched{}, err
	}
	received, err := r.receiver.received(ctx)
	if err != nil {
		return matched{}, err
	}
	got, err := match(published, accepted(received), r.fanOut)
	got.cpuTimes = taken
	return got, errors.Join(err, r.checkAllRecorded(ctx))
}

// metricsOf returns the metrics of what was received: its rate, counted from began, its
// latencies, and its CPU time since before.
func (r *run) metricsOf(got matched, began time.Time, before map[string]time.Duration) metrics {
	m := got.metrics(began)
	m[events] = float64(got.deliveries / r.fanOut)
	m.addCPUTime(got.deliveries, before, got.cpuTimes)
	return m
}

// addCPUTime adds the CPU time between before and after, for a thousand of n things: of each
// process, and the sum without the load and the receiver, which are not measured.
func (m metrics) addCPUTime(n int, before, after map[string]time.Duration) {
	m[cpuPer1000] = 0
	for name := range after {
		each := (after[name] - before[name]).Seconds() / float64(n) * 1000
		m[cpuPer1000+"_"+name] = each
		if name != loadProcess {
			m[cpuPer1000] += each
		}
	}
}

// cpu returns the CPU times so far: of the measured processes, and of load and receiver.
func (r *run) cpu() (map[string]time.Duration, error) {
	taken, err := r.system.cpu()
	if err != nil {
		return nil, err
	}
	for _, pid := range []int{os.Getpid(), r.receiver.PID()} {
		s, err := readStat(pid)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		taken[loadProcess] += s.cpu
	}
	return taken, nil
}
