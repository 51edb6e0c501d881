package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"postrider/standalone/instance"
)

// load publishes events over connections that stay open.
type load struct {
	host, key string
	callers   []*caller
}

// connections are what publishers keep open to the API.
const connections = 64

// newLoad connects to an API.
func newLoad(ctx context.Context, api instance.Client, connections int) (*load, error) {
	l := &load{host: strings.TrimPrefix(api.API, "http://"), key: api.Key}
	for range connections {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", l.host)
		if err != nil {
			return nil, errors.Join(err, l.close())
		}
		l.callers = append(l.callers, &caller{conn: conn, in: bufio.NewReaderSize(conn, wireBuffer)})
	}
	return l, nil
}

func (l *load) close() (err error) {
	for _, c := range l.callers {
		err = errors.Join(err, c.conn.Close())
	}
	return err
}

// eventSize is that of an event's data, in bytes of JSON.
const eventSize = 512

// event is a publish request's body: its data looks random and is the same in
// every run of the same seed.
func event(random *rand.Rand, eventType string) []byte {
	const digits = "0123456789abcdefghijklmnopqrstuvwxyz"
	text := make([]byte, eventSize-len(`{"text":""}`))
	for i := range text {
		text[i] = digits[random.IntN(len(digits))]
	}
	return fmt.Appendf(nil, `{"type":%q,"data":{"text":"%s"}}`, eventType, text)
}

// variety is how many different events there are: more would only take memory.
const variety = 64

// requests renders publishes of the types in turn.
func (l *load) requests(random *rand.Rand, eventTypes ...string) [][]byte {
	all := make([][]byte, 0, variety)
	for i := 0; len(all) < variety || i%len(eventTypes) != 0; i++ {
		all = append(all, post(l.host, "/api/v1/events", l.key, event(random, eventTypes[i%len(eventTypes)])))
	}
	return all
}

// shot is one event that was published.
type shot struct {
	sent  time.Time
	event string // its id
}

// burst publishes n events as fast as the API takes them.
func (l *load) burst(ctx context.Context, n int, requests [][]byte) ([]shot, error) {
	shots := make([]shot, n)
	var next atomic.Int64
	var callers errgroup.Group
	for _, c := range l.callers {
		callers.Go(func() error {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return nil
				}
				if err := c.publish(requests[i%len(requests)], &shots[i]); err != nil {
					return err
				}
			}
			return ctx.Err()
		})
	}
	return shots, callers.Wait()
}

// paced publishes so many events a second for the time, whether the ones before are
// answered or not, as long as there is a free connection.
func (l *load) paced(ctx context.Context, rate int, span time.Duration, requests [][]byte) ([]shot, error) {
	n := max(int(span.Seconds()*float64(rate)), 1)
	shots := make([]shot, n)
	due := make(chan int, n)
	callers, ctx := errgroup.WithContext(ctx)
	for _, c := range l.callers {
		callers.Go(func() error {
			for i := range due {
				if err := c.publish(requests[i%len(requests)], &shots[i]); err != nil {
					return err
				}
			}
			return nil
		})
	}
	callers.Go(func() error {
		defer close(due)
		ticker := time.NewTicker(time.Second / time.Duration(rate))
		defer ticker.Stop()
		for i := range n {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-ticker.C:
				due <- i
			}
		}
		return nil
	})
	return shots, callers.Wait()
}

// publish publishes one event and notes when, and the id that it got.
func (c *caller) publish(request []byte, s *shot) error {
	s.sent = time.Now()
	status, body, err := c.call(request)
	if err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	if status != http.StatusAccepted {
		return fmt.Errorf("publish: status %d: %s", status, body)
	}
	_, rest, _ := bytes.Cut(body, []byte(`"id":"`))
	id, _, found := bytes.Cut(rest, []byte(`"`))
	if !found {
		return fmt.Errorf("publish: no id in %s", body)
	}
	s.event = string(id)
	return nil
}
