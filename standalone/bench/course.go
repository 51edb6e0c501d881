package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"strings"
	"time"

	"postrider/standalone/instance"
)

// course is the way of one step's events: webhooks that get them and nothing else,
// and connections to publish on.
type course struct {
	*bench
	*subject

	name     string
	fan      int // webhooks that each event goes to
	hooks    []instance.Webhook
	secrets  map[string]string // by the path of a webhook's URL
	load     *load
	requests [][]byte
	finished int // deliveries that were made and checked
}

// newCourse returns a course without webhooks.
func (b *bench) newCourse(s *subject, name string, fan int) *course {
	return &course{bench: b, subject: s, name: name, fan: fan, secrets: map[string]string{}}
}

// eventType is that of a course's events.
func (c *course) eventType() string { return strings.ReplaceAll(c.name, "-", ".") }

// subscribe makes a webhook for the type whose URL has the path at the receiver.
func (c *course) subscribe(ctx context.Context, path, eventType string, fields map[string]any) (instance.Webhook, error) {
	all := map[string]any{"url": c.ear.Hooks + path, "events": []string{eventType}}
	for name, value := range fields {
		all[name] = value
	}
	w, err := c.CreateWebhook(ctx, all)
	if err != nil {
		return w, err
	}
	c.secrets[path], err = c.Secret(ctx, w.ID)
	return w, errors.Join(err, c.ear.learn(ctx, c.secrets))
}

// lay makes webhooks for all events of the course, and connections.
func (c *course) lay(ctx context.Context, connections int) error {
	for i := range c.fan {
		w, err := c.subscribe(ctx, fmt.Sprintf("/%s/%d", c.name, i), c.eventType(), map[string]any{"max_in_flight": 1000})
		if err != nil {
			return err
		}
		c.hooks = append(c.hooks, w)
	}
	return c.connect(ctx, connections, c.eventType())
}

// connect makes connections to publish events of the types on.
func (c *course) connect(ctx context.Context, connections int, eventTypes ...string) error {
	var err error
	if c.load, err = newLoad(ctx, c.Client, connections); err != nil {
		return err
	}
	c.requests = c.load.singles(c.random(), eventTypes...)
	return nil
}

func (c *course) close() error {
	if c.load == nil {
		return nil
	}
	return c.load.close()
}

// warmUp makes deliveries that do not count: connections, caches and statements
// are those of a server that has been running.
func (c *course) warmUp(ctx context.Context) error {
	n := 300
	if c.mode == naive {
		n = 50
	}
	if err := c.ear.reset(ctx); err != nil {
		return err
	}
	shots, err := c.load.fire(ctx, &atOnce{n: max(c.scaled(n)/c.fan, 1)}, c.requests)
	if err == nil {
		_, err = c.land(ctx, shots)
	}
	if err != nil {
		return fmt.Errorf("warm-up: %w", err)
	}
	return nil
}

// fly publishes, waits until everything was received and recorded, judges it and
// returns its numbers. The CPU time is that of the whole flight, to the last record.
func (c *course) fly(ctx context.Context, publish func() ([]shot, error)) (metrics, error) {
	return c.profiled(ctx, c.subject, c.name, func() (metrics, error) {
		if err := c.ear.reset(ctx); err != nil {
			return nil, err
		}
		before, err := c.cpu()
		if err != nil {
			return nil, err
		}
		shots, err := publish()
		if err != nil {
			return nil, err
		}
		v, err := c.land(ctx, shots)
		if err != nil {
			return nil, err
		}
		return c.numbers(v, v.first, before)
	})
}

// land waits until the events were received and recorded, and judges them.
func (c *course) land(ctx context.Context, shots []shot) (verdict, error) {
	want := len(shots) * c.fan
	if err := c.await(ctx, "received", want, c.ear.count); err != nil {
		return verdict{}, err
	}
	c.finished += want
	if err := c.await(ctx, "recorded", c.finished, c.recorded); err != nil {
		return verdict{}, err
	}
	receipts, err := c.ear.receipts(ctx)
	if err != nil {
		return verdict{}, err
	}
	v, err := judge(shots, receipts, c.fan)
	return v, errors.Join(err, c.unfinished(ctx))
}

// numbers are a verdict's, with the CPU time since before for a thousand
// deliveries, of each process and in sum. Its rate is counted from began.
func (c *course) numbers(v verdict, began time.Time, before map[string]time.Duration) (metrics, error) {
	m := v.metrics(began)
	m[events] = float64(v.deliveries / c.fan)
	return m, c.addCPU(m, v.deliveries, before)
}

// addCPU adds the CPU time since before. What load and receiver took is told, and
// in no sum.
func (c *course) addCPU(m metrics, deliveries int, before map[string]time.Duration) error {
	after, err := c.cpu()
	for name := range after {
		each := (after[name] - before[name]).Seconds() / float64(deliveries) * 1000
		m[cpuPer1000+"_"+name] = each
		if name != loadProcess {
			m[cpuPer1000] += each
		}
	}
	return err
}

// cpu is what the subject's processes have taken so far, and load and receiver.
func (c *course) cpu() (map[string]time.Duration, error) {
	taken, err := c.subject.cpu()
	if err != nil {
		return nil, err
	}
	for _, pid := range []int{os.Getpid(), c.ear.PID()} {
		s, err := readStat(pid)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		taken[loadProcess] += s.cpu
	}
	return taken, nil
}

// stall is how long nothing may happen before a flight is given up.
const stall = 30 * time.Second

// lookInterval is how often a flight is looked at: so seldom that it costs nothing.
const lookInterval = 50 * time.Millisecond

// await waits until the count is what is wanted, or does not grow any more.
func (c *course) await(ctx context.Context, what string, want int, count func(context.Context) (int, error)) error {
	latest, grown := -1, time.Now()
	shown := grown
	return poll(ctx, lookInterval, func() (bool, error) {
		n, err := count(ctx)
		now := time.Now()
		switch {
		case err != nil:
			return false, err
		case n >= want:
			return true, nil
		case n > latest:
			latest, grown = n, now
		case now.Sub(grown) > stall:
			return false, fmt.Errorf("%d of %d deliveries were %s, and no more for %s", n, want, what, stall)
		}
		if now.Sub(shown) > progressInterval {
			c.sayf("  %d of %d %s", n, want, what)
			shown = now
		}
		return false, nil
	})
}

// recorded is how many of the course's deliveries the API says are finished. It
// returns an error when one failed.
func (c *course) recorded(ctx context.Context) (int, error) {
	var page struct{ Data []instance.Webhook }
	if err := c.Call(ctx, http.MethodGet, "/api/v1/webhooks?limit=200", nil, &page); err != nil { // newest first
		return 0, err
	}
	finished := make(map[string]int, len(page.Data))
	failed := 0
	for _, w := range page.Data {
		finished[w.ID] = w.Stats.TotalDeliveries
		failed += w.Stats.FailedDeliveries
	}
	if failed > 0 {
		return 0, fmt.Errorf("%d deliveries failed", failed)
	}
	sum := 0
	for _, hook := range c.hooks {
		sum += finished[hook.ID]
	}
	return sum, nil
}

// unfinished returns an error when the API knows of more deliveries than were
// counted: any that is not finished, or too many that are.
func (c *course) unfinished(ctx context.Context) error {
	n, err := c.recorded(ctx)
	if err != nil {
		return err
	}
	if n != c.finished {
		return fmt.Errorf("%d deliveries were recorded, of %d that were published", n, c.finished)
	}
	for _, hook := range c.hooks {
		for _, state := range []string{"pending", "delivering", "retrying", "parked"} {
			left, err := c.oneIn(ctx, hook, state)
			if err != nil {
				return err
			}
			if left != "" {
				return fmt.Errorf("%s was received and is still %s", left, state)
			}
		}
	}
	return nil
}

// oneIn returns the id of one of the webhook's deliveries in the state, "" when it has none.
func (c *course) oneIn(ctx context.Context, w instance.Webhook, state string) (string, error) {
	var page struct{ Data []instance.Delivery }
	err := c.Call(ctx, http.MethodGet, "/api/v1/webhooks/"+w.ID+"/deliveries?limit=1&state="+state, nil, &page)
	if err != nil || len(page.Data) == 0 {
		return "", err
	}
	return page.Data[0].ID, nil
}
