package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"strings"
	"time"

	"postrider.dev/postrider/standalone/instance"
)

// course is the way of one step's events: webhooks that get them and nothing else,
// and connections to publish on.
type course struct {
	*bench
	*subject

	name     string
	under    string // beginning of its webhooks' paths at the receiver
	fan      int    // webhooks that each event goes to
	hooks    []instance.Webhook
	secrets  map[string]string // by the path of a webhook's URL
	load     *load
	requests [][]byte
	finished int // deliveries that were made and checked
}

// newCourse returns a course without webhooks.
func (b *bench) newCourse(s *subject, name string, fan int) *course {
	return &course{bench: b, subject: s, name: name, under: "/", fan: fan, secrets: map[string]string{}}
}

// eventType is that of a course's events.
func (c *course) eventType() string { return strings.ReplaceAll(c.name, "-", ".") }

// subscribe makes a webhook for the type whose URL has the path at the receiver,
// which is not told its secret yet.
func (c *course) subscribe(ctx context.Context, path, eventType string, with settings) (instance.Webhook, error) {
	fields := map[string]any{"url": c.ear.Hooks + path, "events": []string{eventType}}
	maps.Copy(fields, with.fields)
	w, err := c.CreateWebhook(ctx, fields)
	if err != nil {
		return w, err
	}
	c.secrets[path], err = c.Secret(ctx, w.ID)
	return w, err
}

// add makes one of the webhooks that the course counts.
func (c *course) add(ctx context.Context, eventType string, with settings) error {
	w, err := c.subscribe(ctx, fmt.Sprintf("%s%s/%d", c.under, c.name, len(c.hooks)), eventType, with)
	if err == nil {
		c.hooks = append(c.hooks, w)
	}
	return err
}

// lay makes webhooks for all events of the course, and connections.
func (c *course) lay(ctx context.Context, connections int, with settings) error {
	for range c.fan {
		if err := c.add(ctx, c.eventType(), with); err != nil {
			return err
		}
	}
	if err := c.ear.learn(ctx, c.secrets); err != nil {
		return err
	}
	return c.connect(ctx, connections, c.eventType())
}

// layApart makes n webhooks that get events of a type of their own each, in turn, and
// connections.
func (c *course) layApart(ctx context.Context, n int, with settings) error {
	eventTypes := make([]string, n)
	for i := range eventTypes {
		eventTypes[i] = fmt.Sprintf("%s.%d", c.eventType(), i)
		if err := c.add(ctx, eventTypes[i], with); err != nil {
			return err
		}
	}
	if err := c.ear.learn(ctx, c.secrets); err != nil {
		return err
	}
	return c.connect(ctx, connections, eventTypes...)
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

// warmUp makes deliveries that do not count, one of each webhook at least: connections,
// caches and statements are those of a server that has been running.
func (c *course) warmUp(ctx context.Context) error {
	n := 300
	if c.mode == naive {
		n = 50
	}
	if err := c.ear.reset(ctx); err != nil {
		return err
	}
	shots, err := c.load.fire(ctx, &atOnce{n: max(c.scaled(n), len(c.hooks)) / c.fan}, c.requests)
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
		return c.numbers(v, v.first, before), nil
	})
}

// land waits until the events were received and recorded, and judges them.
func (c *course) land(ctx context.Context, shots []shot) (verdict, error) {
	want := len(shots) * c.fan
	if err := c.await(ctx, wait{what: "deliveries were received", want: want}, c.ear.count); err != nil {
		return verdict{}, err
	}
	c.finished += want
	if err := c.await(ctx, wait{what: "deliveries were recorded", want: c.finished}, c.recorded); err != nil {
		return verdict{}, err
	}
	taken, err := c.cpu() // before questions that are only the benchmark's
	if err != nil {
		return verdict{}, err
	}
	receipts, err := c.ear.receipts(ctx)
	if err != nil {
		return verdict{}, err
	}
	v, err := judge(shots, accepted(receipts), c.fan)
	v.taken = taken
	return v, errors.Join(err, c.unfinished(ctx))
}

// numbers are a verdict's, with the CPU time since before for a thousand
// deliveries, of each process and in sum. Its rate is counted from began.
func (c *course) numbers(v verdict, began time.Time, before map[string]time.Duration) metrics {
	m := v.metrics(began)
	m[events] = float64(v.deliveries / c.fan)
	m.charge(v.deliveries, before, v.taken)
	return m
}

// charge says what a thousand of n things took of the CPU between before and after.
// What load and receiver took is told, and in no sum.
func (m metrics) charge(n int, before, after map[string]time.Duration) {
	m[cpuPer1000] = 0
	for name := range after {
		each := (after[name] - before[name]).Seconds() / float64(n) * 1000
		m[cpuPer1000+"_"+name] = each
		if name != loadProcess {
			m[cpuPer1000] += each
		}
	}
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

// wait is what a flight waits for.
type wait struct {
	what  string // "deliveries were received"
	want  int
	stall time.Duration // how long nothing may happen; 0 for the usual
	bound time.Duration // how long it may take; 0 for no bound
}

// await waits until the count is what is wanted, or does not grow any more, or it has
// taken too long.
func (c *course) await(ctx context.Context, w wait, count func(context.Context) (int, error)) error {
	w.stall = cmp.Or(w.stall, stall)
	latest, began := -1, time.Now()
	grown, shown := began, began
	return poll(ctx, lookInterval, func() (bool, error) {
		n, err := count(ctx)
		now := time.Now()
		switch {
		case err != nil:
			return false, err
		case n >= w.want:
			return true, nil
		case w.bound > 0 && now.Sub(began) > w.bound:
			return false, fmt.Errorf("%d of %d %s in %s, and no more time is given", n, w.want, w.what, now.Sub(began).Round(time.Second))
		case n > latest:
			latest, grown = n, now
		case now.Sub(grown) > w.stall:
			return false, fmt.Errorf("%d of %d %s in %s, and no more for %s", n, w.want, w.what, grown.Sub(began).Round(time.Second), w.stall)
		}
		if now.Sub(shown) > progressInterval {
			c.sayf("  %d of %d %s", n, w.want, w.what)
			shown = now
		}
		return false, nil
	})
}

// tally is how many of the course's deliveries the API says are finished, and how many
// of these failed.
func (c *course) tally(ctx context.Context) (finished, failed int, err error) {
	ours := make(map[string]bool, len(c.hooks))
	for _, hook := range c.hooks {
		ours[hook.ID] = true
	}
	for path := "/api/v1/webhooks?limit=200"; len(ours) > 0; { // newest first, so ours soon come
		var page struct {
			Data       []instance.Webhook
			NextCursor string `json:"next_cursor"`
		}
		if err := c.Call(ctx, http.MethodGet, path, nil, &page); err != nil {
			return 0, 0, err
		}
		for _, w := range page.Data {
			if ours[w.ID] {
				finished += w.Stats.TotalDeliveries
				failed += w.Stats.FailedDeliveries
				delete(ours, w.ID)
			}
		}
		if page.NextCursor == "" {
			break
		}
		path = "/api/v1/webhooks?limit=200&cursor=" + page.NextCursor
	}
	if len(ours) > 0 {
		return 0, 0, fmt.Errorf("%d webhooks are gone", len(ours))
	}
	return finished, failed, nil
}

// recorded is how many of the course's deliveries are finished. It returns an error
// when one failed.
func (c *course) recorded(ctx context.Context) (int, error) {
	finished, failed, err := c.tally(ctx)
	if err == nil && failed > 0 {
		err = fmt.Errorf("%d deliveries failed", failed)
	}
	return finished, err
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
	return c.noneLeft(ctx)
}

// failAll waits until n deliveries are finished, and returns an error unless these are
// all that there are, and all failed.
func (c *course) failAll(ctx context.Context, n int, w wait) error {
	w.what, w.want = "deliveries were recorded", n
	var finished, failed int
	err := c.await(ctx, w, func(ctx context.Context) (_ int, err error) {
		finished, failed, err = c.tally(ctx)
		return finished, err
	})
	if err == nil && (finished != n || failed != n) {
		err = fmt.Errorf("%d deliveries ended and %d of them failed, and %d had to", finished, failed, n)
	}
	return err
}

// noneLeft returns an error when a delivery of the course is not finished.
func (c *course) noneLeft(ctx context.Context) error {
	for _, hook := range c.hooks {
		for _, state := range []string{"pending", "delivering", "retrying", "parked"} {
			left, err := c.oneIn(ctx, hook, state)
			if err != nil {
				return err
			}
			if left != "" {
				return fmt.Errorf("all have ended, and %s is still %s", left, state)
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
