package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"postrider.dev/postrider/standalone/instance"
)

// load is the load generator: it publishes events over connections that stay open.
type load struct {
	host, key string
	callers   []*caller
}

// Connections that publishers keep open to the API. For arrays few are enough.
const (
	connections      = 64
	arrayConnections = 8
)

// newLoad opens connections to an API. Each makes a request: the API closes a connection that has said
// nothing for some seconds, and a scenario may begin later than that.
func newLoad(ctx context.Context, api instance.Client, connections int) (*load, error) {
	l := &load{host: strings.TrimPrefix(api.API, "http://"), key: api.Key}
	for range connections {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", l.host)
		if err != nil {
			return nil, errors.Join(err, l.close())
		}
		l.callers = append(l.callers, &caller{conn: conn, in: bufio.NewReaderSize(conn, wireBuffer)})
		if err := l.callers[len(l.callers)-1].greet(l.host, l.key); err != nil {
			return nil, errors.Join(err, l.close())
		}
	}
	return l, nil
}

// greet makes a request that changes nothing.
func (c *caller) greet(host, key string) error {
	status, body, err := c.call(fmt.Appendf(nil, "GET /api/v1/webhooks?limit=1 HTTP/1.1\r\nHost: %s\r\nX-API-Key: %s\r\n\r\n", host, key))
	if err != nil {
		return fmt.Errorf("greet: %w", err)
	}
	if status != http.StatusOK {
		return fmt.Errorf("greet: status %d: %s", status, body)
	}
	return nil
}

func (l *load) close() (err error) {
	for _, c := range l.callers {
		err = errors.Join(err, c.conn.Close())
	}
	return err
}

// eventSize is the size of an event's data, in bytes of JSON.
const eventSize = 512

// newEvent returns the body of a publish request. Its data looks random, and is the same in
// every execution with the same seed.
func newEvent(random *rand.Rand, eventType string) []byte {
	const digits = "0123456789abcdefghijklmnopqrstuvwxyz"
	text := make([]byte, eventSize-len(`{"text":""}`))
	for i := range text {
		text[i] = digits[random.IntN(len(digits))]
	}
	return fmt.Appendf(nil, `{"type":%q,"data":{"text":"%s"}}`, eventType, text)
}

// variety is the least number of different events; more would only take memory.
const variety = 64

// singles renders requests that publish events of the types in turn.
func (l *load) singles(random *rand.Rand, eventTypes ...string) [][]byte {
	var requests [][]byte
	for len(requests) < variety {
		for _, eventType := range eventTypes {
			requests = append(requests, post(l.host, "/api/v1/events", l.key, newEvent(random, eventType)))
		}
	}
	return requests
}

// arraySize is the most events that a request may publish.
const arraySize = 500

// arrays renders requests that publish arrays of events.
func (l *load) arrays(random *rand.Rand, eventType string) [][]byte {
	requests := make([][]byte, arrayConnections)
	for i := range requests {
		all := make([][]byte, arraySize)
		for j := range all {
			all[j] = newEvent(random, eventType)
		}
		body := slices.Concat([]byte(`{"events":[`), bytes.Join(all, []byte(",")), []byte("]}"))
		requests[i] = post(l.host, "/api/v1/events/batch", l.key, body)
	}
	return requests
}

// publishedEvent is one event that the API has acknowledged.
type publishedEvent struct {
	sent, answered time.Time
	event          string // id
	number         int    // of the request that published it
}

// pace decides when requests are made: next waits until the next one is due and returns its
// number, or returns false after the last one.
type pace interface{ next() (int, bool) }

// publish makes the requests in turn, at the pace, until its end or an error.
func (l *load) publish(ctx context.Context, at pace, requests [][]byte) ([]publishedEvent, error) {
	published := make([][]publishedEvent, len(l.callers))
	callers, ctx := errgroup.WithContext(ctx)
	for i, c := range l.callers {
		callers.Go(func() (err error) {
			for number, more := at.next(); more && err == nil; number, more = at.next() {
				if err = ctx.Err(); err == nil {
					published[i], err = c.publish(requests[number%len(requests)], number, published[i])
				}
			}
			return err
		})
	}
	err := callers.Wait()
	return slices.Concat(published...), err
}

// publish makes a request and appends the events that it published.
func (c *caller) publish(request []byte, number int, to []publishedEvent) ([]publishedEvent, error) {
	s := publishedEvent{sent: time.Now(), number: number}
	status, body, err := c.call(request)
	s.answered = time.Now()
	if err != nil {
		return to, fmt.Errorf("publish: %w", err)
	}
	if status != http.StatusAccepted {
		return to, fmt.Errorf("publish: status %d: %s", status, body)
	}
	if !bytes.HasPrefix(body, []byte(`{"data":`)) {
		s.event, err = receiptID(body)
		return append(to, s), err
	}
	var answer struct{ Data []struct{ ID string } }
	if err := json.Unmarshal(body, &answer); err != nil {
		return to, err
	}
	for _, receivedRequest := range answer.Data {
		s.event = receivedRequest.ID
		to = append(to, s)
	}
	return to, nil
}

// receiptID reads the id of an event's receipt without decoding the rest.
func receiptID(body []byte) (string, error) {
	_, measureRest, _ := bytes.Cut(body, []byte(`"id":"`))
	id, _, found := bytes.Cut(measureRest, []byte(`"`))
	if !found {
		return "", fmt.Errorf("publish: no id in %s", body)
	}
	return string(id), nil
}

// atOnce is a pace of n requests, as fast as they are answered.
type atOnce struct {
	n    int
	made atomic.Int64
}

func (a *atOnce) next() (int, bool) {
	number := int(a.made.Add(1)) - 1
	return number, number < a.n
}

// until is a pace of requests, as fast as they are answered, that ends at a time. One is always
// made: a measurement needs a figure on the busiest machine.
type until struct {
	end  time.Time
	made atomic.Int64
}

func (u *until) next() (number int, more bool) {
	number = int(u.made.Add(1)) - 1
	return number, number == 0 || time.Now().Before(u.end)
}

// steady is a pace of a fixed rate. A request does not wait for the answers to earlier ones,
// as long as a connection is free.
type steady struct{ due chan int }

// steadily starts a pace of rate requests a second for the span. It ends with ctx.
func steadily(ctx context.Context, rate int, span time.Duration) *steady {
	n := max(int(span.Seconds()*float64(rate)), 1)
	s := &steady{due: make(chan int, n)}
	go func() {
		defer close(s.due)
		ticker := time.NewTicker(time.Second / time.Duration(rate))
		defer ticker.Stop()
		for number := range n {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				s.due <- number
			}
		}
	}()
	return s
}

func (s *steady) next() (int, bool) {
	number, more := <-s.due
	return number, more
}
