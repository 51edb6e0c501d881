package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"postrider/standalone/instance"
)

// course is the way of one step's events: webhooks that get them and nothing else,
// and connections to publish on.
type course struct {
	*bench
	*subject

	fan      int // webhooks that each event goes to
	hooks    []instance.Webhook
	load     *load
	requests [][]byte
	finished int // deliveries that were made and checked
}

// lay makes a course whose events go to fan webhooks each.
func (b *bench) lay(ctx context.Context, s *subject, name string, fan int) (*course, error) {
	eventType := strings.ReplaceAll(name, "-", ".")
	c := &course{bench: b, subject: s, fan: fan}
	secrets := map[string]string{}
	for i := range fan {
		path := fmt.Sprintf("/%s/%d", name, i)
		if err := c.subscribe(ctx, path, eventType, secrets); err != nil {
			return nil, err
		}
	}
	if err := b.ear.learn(ctx, secrets); err != nil {
		return nil, err
	}
	var err error
	if c.load, err = newLoad(ctx, s.Client, connections); err != nil {
		return nil, err
	}
	c.requests = c.load.requests(b.random(), eventType)
	return c, nil
}

// subscribe makes a webhook whose URL has the path at the receiver.
func (c *course) subscribe(ctx context.Context, path, eventType string, secrets map[string]string) error {
	w, err := c.CreateWebhook(ctx, map[string]any{"url": c.ear.Hooks + path, "events": []string{eventType}, "max_in_flight": 1000})
	if err != nil {
		return err
	}
	c.hooks = append(c.hooks, w)
	secrets[path], err = c.Secret(ctx, w.ID)
	return err
}

func (c *course) close() error { return c.load.close() }

// warmUp makes deliveries that do not count: connections, caches and statements
// are those of a server that has been running.
func (c *course) warmUp(ctx context.Context) error {
	n := max(c.scaled(300)/c.fan, 1)
	if c.mode == naive {
		n = max(c.scaled(50)/c.fan, 1)
	}
	_, err := c.fly(ctx, func() ([]shot, error) { return c.load.burst(ctx, n, c.requests) })
	return err
}

// fly publishes, waits until everything was received and recorded, and judges it.
func (c *course) fly(ctx context.Context, publish func() ([]shot, error)) (verdict, error) {
	if err := c.ear.reset(ctx); err != nil {
		return verdict{}, err
	}
	shots, err := publish()
	if err != nil {
		return verdict{}, err
	}
	return c.land(ctx, shots)
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

// measure is fly with the numbers of it. The CPU time is that of the whole flight,
// to the last record.
func (c *course) measure(ctx context.Context, publish func() ([]shot, error)) (metrics, error) {
	before, err := c.cpu()
	if err != nil {
		return nil, err
	}
	v, err := c.fly(ctx, publish)
	if err != nil {
		return nil, err
	}
	after, err := c.cpu()
	if err != nil {
		return nil, err
	}
	m := v.metrics(v.first)
	m[events] = float64(v.deliveries / c.fan)
	m.addCPU(v.deliveries, before, after)
	return m, nil
}

// addCPU adds what the processes took for a thousand deliveries, each and in sum.
func (m metrics) addCPU(deliveries int, before, after map[string]time.Duration) {
	for name := range after {
		each := (after[name] - before[name]).Seconds() / float64(deliveries) * 1000
		m[cpuPer1000+"_"+name] = each
		m[cpuPer1000] += each
	}
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
			c.say("  %d of %d %s", n, want, what)
			shown = now
		}
		return false, nil
	})
}

// recorded is how many deliveries the API says are finished. It returns an error
// when one failed.
func (c *course) recorded(ctx context.Context) (int, error) {
	sum := 0
	for _, hook := range c.hooks {
		var w instance.Webhook
		if err := c.Call(ctx, http.MethodGet, "/api/v1/webhooks/"+hook.ID, nil, &w); err != nil {
			return 0, err
		}
		if w.Stats.FailedDeliveries > 0 {
			return 0, fmt.Errorf("%d deliveries failed", w.Stats.FailedDeliveries)
		}
		sum += w.Stats.TotalDeliveries
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
			var page struct{ Data []instance.Delivery }
			path := "/api/v1/webhooks/" + hook.ID + "/deliveries?limit=1&state=" + state
			if err := c.Call(ctx, http.MethodGet, path, nil, &page); err != nil {
				return err
			}
			if len(page.Data) > 0 {
				return fmt.Errorf("%s was received and is still %s", page.Data[0].ID, state)
			}
		}
	}
	return nil
}
