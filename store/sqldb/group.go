package sqldb

import (
	"context"
	"errors"
	"sync"
	"time"

	"postrider.dev/postrider"
)

// Limits of a group commit.
const (
	groupWeight  = 512                  // about the most rows' worth of calls that share a transaction
	groupLinger  = 2 * time.Millisecond // the longest wait for further calls
	groupTimeout = 30 * time.Second     // of one transaction
)

// ErrClosed answers calls that come after Close.
var ErrClosed = errors.New("store: closed")

// Answer is the answer to one call of a group.
type Answer[Out any] struct {
	Value Out
	Err   error
}

// call is one caller's part of a group.
type call[In, Out any] struct {
	ctx  context.Context // the caller's own, looked at before the transaction only
	in   In
	done chan Answer[Out] // of one, so that the group never waits for a caller that left
}

// Group lets concurrent calls share a transaction. Calls that come while a transaction is
// under way wait for the next one. That one also waits a moment for the callers that were
// just answered, because they are likely to call again and a bigger group costs less. A lone
// caller does not wait for others.
//
// There is one transaction at a time. Several at once would be smaller: measured with 64
// publishers, two at a time cost PostgreSQL half as much again for the same throughput.
//
// When a transaction fails, each of its calls is run again in a transaction of its own, unless
// the database cannot be reached or did not answer in time. A caller that leaves early does not disturb the others; its
// part may still be committed.
type Group[In, Out any] struct {
	// run does the work of the calls in one transaction. It answers each, or fails
	// as a whole and has changed nothing.
	run    func(ctx context.Context, calls []In) ([]Answer[Out], error)
	weight func(In) int
	calls  chan *call[In, Out] // that wait

	mu     sync.RWMutex // held for reading while a call is put into calls
	closed bool
	ended  chan struct{}
}

// NewGroup starts a group. The weight of a call is about how many rows it writes. Its transactions run under ctx; [Group.Close] ends it.
func NewGroup[In, Out any](
	ctx context.Context, weight func(In) int, run func(context.Context, []In) ([]Answer[Out], error),
) *Group[In, Out] {
	g := &Group[In, Out]{run: run, weight: weight, calls: make(chan *call[In, Out], groupWeight), ended: make(chan struct{})}
	go g.loop(ctx)
	return g
}

// Do waits for in's transaction to be committed and returns its answer.
func (g *Group[In, Out]) Do(ctx context.Context, in In) (Out, error) {
	c := &call[In, Out]{ctx: ctx, in: in, done: make(chan Answer[Out], 1)}
	var nothing Out
	if err := g.enqueue(c); err != nil {
		return nothing, err
	}
	select {
	case a := <-c.done:
		return a.Value, a.Err
	case <-ctx.Done():
		return nothing, ctx.Err()
	}
}

func (g *Group[In, Out]) enqueue(c *call[In, Out]) error {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if g.closed {
		return ErrClosed
	}
	select {
	case g.calls <- c:
		return nil
	case <-c.ctx.Done():
		return c.ctx.Err()
	}
}

// Close refuses new calls, waits for those under way and ends the loop.
func (g *Group[In, Out]) Close() {
	g.mu.Lock()
	if !g.closed {
		g.closed = true
		close(g.calls)
	}
	g.mu.Unlock()
	<-g.ended
}

func (g *Group[In, Out]) loop(ctx context.Context) {
	defer close(g.ended)
	answered := 0
	for {
		expected := len(g.calls) + answered
		first, open := <-g.calls
		if !open {
			return
		}
		calls := g.collect(ctx, first, expected)
		answered = len(calls)
		g.serve(ctx, calls)
	}
}

// collect takes the calls that wait, and lingers for more until there are as many as
// expected.
func (g *Group[In, Out]) collect(ctx context.Context, first *call[In, Out], expected int) []*call[In, Out] {
	calls, weight := []*call[In, Out]{first}, g.weight(first.in)
	ctx, cancel := context.WithTimeout(ctx, groupLinger)
	defer cancel()
	for weight < groupWeight {
		c, open := g.next(ctx, len(calls) < expected)
		if !open {
			break
		}
		calls, weight = append(calls, c), weight+g.weight(c.in)
	}
	return calls
}

// next returns a call that waits or, when it may linger, comes before ctx is done.
func (g *Group[In, Out]) next(ctx context.Context, linger bool) (*call[In, Out], bool) {
	select {
	case c, open := <-g.calls:
		return c, open
	default:
	}
	if !linger {
		return nil, false
	}
	select {
	case c, open := <-g.calls:
		return c, open
	case <-ctx.Done():
		return nil, false
	}
}

// serve runs the calls together and, if that fails, one by one.
func (g *Group[In, Out]) serve(ctx context.Context, calls []*call[In, Out]) {
	staying := calls[:0]
	for _, c := range calls {
		if c.ctx.Err() == nil {
			staying = append(staying, c)
		}
	}
	if len(staying) == 0 {
		return
	}
	err := g.together(ctx, staying)
	if err == nil {
		return
	}
	alone := len(staying) > 1 && postrider.CodeOf(err) != postrider.CodeUnavailable
	for _, c := range staying {
		failed := err
		if alone {
			failed = g.together(ctx, []*call[In, Out]{c})
		}
		if failed != nil {
			c.done <- Answer[Out]{Err: failed}
		}
	}
}

// together runs the calls in one transaction and hands out the answers.
func (g *Group[In, Out]) together(ctx context.Context, calls []*call[In, Out]) error {
	ctx, cancel := context.WithTimeout(ctx, groupTimeout)
	defer cancel()
	ins := make([]In, len(calls))
	for i, c := range calls {
		ins[i] = c.in
	}
	answers, err := g.run(ctx, ins)
	if err != nil && ctx.Err() != nil { // another such time, for each call, would be no better
		return &postrider.Error{Code: postrider.CodeUnavailable, Message: "the database did not answer in time", Err: err}
	}
	if err != nil {
		return err
	}
	for i, c := range calls {
		c.done <- answers[i]
	}
	return nil
}
