package main

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"postrider.dev/postrider/standalone/instance"
)

// ledger is what was accepted and what was received.
type ledger struct {
	mu       sync.Mutex
	accepted map[string]acceptance        // by event
	got      map[string]map[string]int    // requests that were answered with 2xx, by path and event
	first    map[string]time.Time         // when an event came first
	webhooks map[string]subscribedWebhook // by id
}

// acceptance is an event that the API has accepted.
type acceptance struct {
	eventType string
	at        time.Time
}

// subscribedWebhook is a webhook of the load.
type subscribedWebhook struct {
	path      string // of its receiver
	eventType string
}

func newLedger() *ledger {
	return &ledger{
		accepted: map[string]acceptance{}, got: map[string]map[string]int{}, first: map[string]time.Time{},
		webhooks: map[string]subscribedWebhook{},
	}
}

func (l *ledger) accept(eventID, eventType string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.accepted[eventID] = acceptance{eventType, time.Now()}
}

func (l *ledger) received(path, eventID string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.got[path] == nil {
		l.got[path] = map[string]int{}
	}
	l.got[path][eventID]++
	if _, known := l.first[eventID]; !known {
		l.first[eventID] = time.Now()
	}
}

// arrived reports whether an event has come to a good receiver.
func (l *ledger) arrived(eventID string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, came := l.first[eventID]
	return came
}

// p99 returns the latency, from the 202 to the first request, that 99 % of the events accepted
// in the span have at most; those that have not come count with the time until now.
func (l *ledger) p99(from, to time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	var latencies []time.Duration
	for id, a := range l.accepted {
		if a.eventType != goodEvents || a.at.Before(from) || a.at.After(to) {
			continue
		}
		came, known := l.first[id]
		if !known {
			came = time.Now()
		}
		latencies = append(latencies, max(came.Sub(a.at), 0))
	}
	if len(latencies) == 0 {
		return 0
	}
	slices.Sort(latencies)
	return latencies[len(latencies)*99/100]
}

// balance is the ledger beside the deliveries that the API lists.
type balance struct {
	accepted int            // events
	owed     int            // deliveries that they came to
	states   map[string]int // of deliveries
	copies   int            // requests that repeated one that was answered with 2xx
	wrong    []string       // what must not be
}

// addf notes what must not be; of many, the first.
func (b *balance) addf(format string, args ...any) {
	const most = 20
	if len(b.wrong) < most {
		b.wrong = append(b.wrong, fmt.Sprintf(format, args...))
	}
}

// compare compares the ledger with the deliveries of every webhook.
func (l *ledger) compare(ctx context.Context, client instance.Client) (balance, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := balance{accepted: len(l.accepted), states: map[string]int{}}
	for id, w := range l.webhooks {
		deliveries, err := listAll(ctx, client, id)
		if err != nil {
			return b, err
		}
		l.compareWebhook(&b, w, deliveries)
	}
	return b, nil
}

func (l *ledger) compareWebhook(b *balance, w subscribedWebhook, deliveries map[string]instance.Delivery) {
	for eventID, a := range l.accepted {
		if a.eventType != w.eventType {
			continue
		}
		b.owed++
		d, found := deliveries[eventID]
		times := l.got[w.path][eventID]
		b.copies += max(times-1, 0)
		switch {
		case !found:
			b.addf("lost: %s was accepted and has no delivery to %s", eventID, w.path)
			continue
		case d.State == "succeeded" && times == 0:
			b.addf("%s is said to have succeeded and never came to %s", d.ID, w.path)
		case d.State == "failed" && d.LastError == nil:
			b.addf("%s failed and does not say why", d.ID)
		case d.State == "pending" || d.State == "delivering" || d.State == "retrying":
			b.addf("stuck: %s to %s is %s", d.ID, w.path, d.State)
		}
		b.states[d.State]++
	}
}

// listAll returns a webhook's deliveries by event. There must be one of each.
func listAll(ctx context.Context, client instance.Client, webhookID string) (map[string]instance.Delivery, error) {
	all, cursor := map[string]instance.Delivery{}, ""
	for {
		var page struct {
			Data []instance.Delivery `json:"data"`
			Next *string             `json:"next_cursor"`
		}
		if err := client.Call(ctx, http.MethodGet, "/api/v1/webhooks/"+webhookID+"/deliveries?limit=200"+cursor, nil, &page); err != nil {
			return nil, err
		}
		for _, d := range page.Data {
			if _, twice := all[d.EventID]; twice {
				return nil, fmt.Errorf("event %s has two deliveries to %s", d.EventID, webhookID)
			}
			all[d.EventID] = d
		}
		if page.Next == nil {
			return all, nil
		}
		cursor = "&cursor=" + *page.Next
	}
}
