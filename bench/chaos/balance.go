package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"postrider.dev/postrider/standalone/instance"
)

const (
	slack        = 2 * time.Second // beside a fault; shorter than what is calm before each
	noFault      = "no fault"
	historiesMax = 200 // of each webhook and state, that are compared with rows
)

// balance is the ledger beside the deliveries that the API lists.
type balance struct {
	accepted  int            // events
	forgotten int            // of these, by the database
	arrived   int            // of the forgotten ones
	owed      int            // deliveries that the others come to
	lost      int            // of these, that are not there
	states    map[string]int // of deliveries
	reasons   map[string]int // of those that failed
	copies    map[string]int // requests to good receivers that repeated one answered with 2xx, by cause
	most      int            // requests for one of their deliveries
	histories int            // that were compared with their rows
	cancels   bool           // workflows were cancelled
	wrong     []string       // what must not be
}

func newBalance() *balance {
	return &balance{states: map[string]int{}, reasons: map[string]int{}, copies: map[string]int{}}
}

// addf notes what must not be; of many, the first.
func (b *balance) addf(format string, args ...any) {
	const most = 20
	if len(b.wrong) < most {
		b.wrong = append(b.wrong, fmt.Sprintf(format, args...))
	}
}

// compare compares the ledger with the deliveries of every webhook.
func (l *ledger) compare(ctx context.Context, client instance.Client, cancels bool) (*balance, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := newBalance()
	b.accepted, b.forgotten, b.cancels = len(l.accepted), len(l.forgotten), cancels
	for eventID := range l.forgotten {
		if _, came := l.first[eventID]; came {
			b.arrived++
		}
	}
	for id, w := range l.webhooks {
		deliveries, err := listAll(ctx, client, id)
		if err != nil {
			return b, err
		}
		l.compareWebhook(b, w, deliveries)
		if err := b.compareHistories(ctx, client, deliveries); err != nil {
			return b, err
		}
	}
	return b, nil
}

func (l *ledger) compareWebhook(b *balance, w subscribedWebhook, deliveries map[string]instance.Delivery) {
	for eventID, a := range l.accepted {
		if a.eventType != w.eventType {
			continue
		}
		arrivals := l.got[w.path][eventID]
		if w.eventType == goodEvents { // a hostile receiver's 2xx may end in a timeout, and rightly in a retry
			l.causes(arrivals, b.copies)
			b.most = max(b.most, len(arrivals))
		}
		if l.forgotten[eventID] {
			continue
		}
		b.owed++
		if d, found := deliveries[eventID]; found {
			b.add(w, d, len(arrivals))
		} else {
			b.lost++
			b.addf("lost: %s was accepted and has no delivery to %s", eventID, w.path)
		}
	}
}

// add adds a delivery that is owed, and what is wrong with it.
func (b *balance) add(w subscribedWebhook, d instance.Delivery, times int) {
	b.states[d.State]++
	switch d.State {
	case "succeeded":
		if times == 0 {
			b.addf("%s is said to have succeeded and never came to %s", d.ID, w.path)
		}
	case "failed":
		if d.LastError == nil {
			b.addf("%s failed and does not say why", d.ID)
			return
		}
		b.reasons[*d.LastError]++
		if w.eventType == goodEvents {
			b.addf("%s to %s failed, though the receiver has been well for long: %s", d.ID, w.path, *d.LastError)
		}
	case "parked":
		if w.eventType == goodEvents {
			b.addf("%s to %s is parked, though the webhook is active", d.ID, w.path)
		}
	case "cancelled":
		if !b.cancels {
			b.addf("%s to %s is cancelled, and nobody did that", d.ID, w.path)
		}
	default:
		b.addf("stuck: %s to %s is %s", d.ID, w.path, d.State)
	}
}

// compareHistories compares what the workflows say of deliveries with their rows.
func (b *balance) compareHistories(ctx context.Context, client instance.Client, deliveries map[string]instance.Delivery) error {
	looked := map[string]int{}
	for _, d := range deliveries {
		if looked[d.State]++; looked[d.State] > historiesMax {
			continue
		}
		history, err := client.History(ctx, d.ID)
		if err != nil {
			return err
		}
		if b.histories++; history.State != d.State {
			b.addf("disagree: %s is %s, and its history (of the %s) says %s", d.ID, d.State, history.Source, history.State)
		}
	}
	return nil
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

// exists asks, for as long as ctx allows, whether the API knows an event.
func exists(ctx context.Context, client instance.Client, eventID string) (bool, error) {
	for {
		err := client.Call(ctx, http.MethodGet, "/api/v1/events/"+eventID, nil, nil)
		var answer *instance.StatusError
		switch {
		case err == nil:
			return true, nil
		case errors.As(err, &answer) && answer.Status == http.StatusNotFound:
			return false, nil
		case ctx.Err() != nil:
			return false, fmt.Errorf("look whether %s is there: %w", eventID, err)
		}
		pause(ctx, publishAgain)
	}
}
