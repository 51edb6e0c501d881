package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"postrider.dev/postrider/bench/hostile"
	"postrider.dev/postrider/standalone/instance"
)

// Types of the load's events.
const (
	goodEvents = "load.good" // to good receivers
	badEvents  = "load.bad"  // to hostile ones
)

const (
	goodWebhooks = 3
	badInterval  = 2 * time.Second  // between two bad events
	stormSize    = 100              // bad events at once
	publishBound = 10 * time.Second // of one try
	publishAgain = 100 * time.Millisecond
)

// subscribe creates the load's webhooks.
func (c *chaos) subscribe(ctx context.Context) error {
	add := func(path, eventType string, fields map[string]any) error {
		fields["url"], fields["events"] = c.receiver.url(path), []string{eventType}
		fields["circuit_breaker"] = false // the ledger counts what each policy does
		client := c.system.client()
		w, err := client.CreateWebhook(ctx, fields)
		c.ledger.webhooks[w.ID] = subscribedWebhook{path, eventType}
		return err
	}
	for n := range goodWebhooks {
		if err := add(goodPath(n), goodEvents, map[string]any{"max_retries": 10}); err != nil {
			return err
		}
	}
	for _, name := range hostile.Names() {
		if err := add("/"+name, badEvents, map[string]any{"max_retries": 2, "backoff_ms": 200, "timeout_ms": 1000}); err != nil {
			return err
		}
	}
	return nil
}

// load publishes until ctx is done: good events at a steady rate, and a bad one now and then.
func (c *chaos) load(ctx context.Context) {
	var publishers sync.WaitGroup
	defer publishers.Wait()
	steadily := func(eventType string, interval time.Duration) {
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				publishers.Go(func() { c.publish(ctx, eventType) })
			}
		}
	}
	publishers.Go(func() { steadily(badEvents, badInterval) })
	steadily(goodEvents, time.Second/time.Duration(c.Rate))
}

// publish publishes an event with an id of its own, again and again until it is accepted: so an
// answer that got lost is no doubt. It returns the id; "" when ctx ended before.
func (c *chaos) publish(ctx context.Context, eventType string) string {
	id := fmt.Sprintf("chaos-%016x", rand.Uint64()) //nolint:gosec // an id, not a secret
	for ctx.Err() == nil {
		client := c.system.client()
		bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), publishBound)
		_, err := client.Publish(bound, map[string]any{"id": id, "type": eventType, "data": map[string]any{"n": 1}})
		cancel()
		if err == nil {
			c.ledger.accept(id, eventType)
			return id
		}
		c.refuse(err)
		pause(ctx, publishAgain)
	}
	// One that nobody heard the answer to may have been accepted all the same: it is not owed.
	return ""
}

// refuse counts why a publish was not accepted. Any other answer than "try again" is an error.
func (c *chaos) refuse(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var answer *instance.StatusError
	if errors.As(err, &answer) && answer.Status != http.StatusServiceUnavailable {
		c.wrong = append(c.wrong, "a publish was answered otherwise than with 202 or 503: "+err.Error())
		return
	}
	c.refused++
}
