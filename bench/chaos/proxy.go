package main

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// harm is what a proxy does to the connections through it.
type harm int

const (
	noHarm harm = iota
	cut         // they are reset, and so is whoever comes
	delay       // each piece waits
	drop        // what comes is lost, and nobody hears of it
)

const (
	pieceBytes = 32 << 10 // passed on at once
	linkDelay  = 300 * time.Millisecond
)

// proxy passes connections on to an address, and can harm them.
type proxy struct {
	ctx      context.Context //nolint:containedctx // ends with the proxy
	end      context.CancelFunc
	listener net.Listener
	upstream string
	running  sync.WaitGroup

	mu    sync.Mutex
	harm  harm
	conns map[*connection]bool
}

// connection is one through a proxy.
type connection struct {
	sides [2]net.Conn // who called, and who is called
	lossy bool        // something of it was dropped; the proxy's mutex guards it
}

func newProxy(ctx context.Context, upstream string) (*proxy, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{listener: listener, upstream: upstream, conns: map[*connection]bool{}}
	p.ctx, p.end = context.WithCancel(context.WithoutCancel(ctx)) // it outlives who asks for it
	p.running.Go(p.serve)
	return p, nil
}

func (p *proxy) serve() {
	for {
		caller, err := p.listener.Accept()
		if err != nil {
			return // closed
		}
		p.running.Go(func() { p.connect(caller) })
	}
}

// connect passes on what comes on a connection, until both sides have ended.
func (p *proxy) connect(caller net.Conn) {
	callee, err := new(net.Dialer).DialContext(p.ctx, "tcp", p.upstream)
	if err != nil {
		reset(caller)
		return
	}
	c := &connection{sides: [2]net.Conn{caller, callee}}
	if !p.admit(c) {
		c.reset()
		return
	}
	var both sync.WaitGroup
	both.Go(func() { p.pass(c, callee, caller) })
	both.Go(func() { p.pass(c, caller, callee) })
	both.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
	_ = caller.Close()
	_ = callee.Close()
}

func (p *proxy) admit(c *connection) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.harm == cut || p.ctx.Err() != nil {
		return false
	}
	p.conns[c] = true
	return true
}

// pass passes on one direction of a connection.
func (p *proxy) pass(c *connection, to, from net.Conn) {
	piece := make([]byte, pieceBytes)
	for {
		n, err := from.Read(piece)
		if n > 0 && p.let(c) {
			if _, failed := to.Write(piece[:n]); failed != nil {
				c.reset()
				return
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			p.hangUp(c, to)
			return
		case err != nil:
			c.reset()
			return
		}
	}
}

// let lets a piece wait, and reports whether it may pass.
func (p *proxy) let(c *connection) bool {
	p.mu.Lock()
	now := p.harm
	c.lossy = c.lossy || now == drop
	passes := !c.lossy
	p.mu.Unlock()
	if now == delay {
		pause(p.ctx, linkDelay)
	}
	return passes
}

// hangUp tells one side that the other has ended; unless that is lost, too.
func (p *proxy) hangUp(c *connection, to net.Conn) {
	if conn, ok := to.(*net.TCPConn); ok && p.let(c) {
		_ = conn.CloseWrite()
	}
}

// set harms the connections from now on. Those that something of was dropped are reset when that
// ends: it does not come again.
func (p *proxy) set(h harm) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.harm = h
	for c := range p.conns {
		if h == cut || c.lossy {
			c.reset()
		}
	}
}

func (p *proxy) close() {
	_ = p.listener.Close()
	p.end()
	p.set(cut)
	p.running.Wait()
}

func (c *connection) reset() {
	for _, side := range c.sides {
		reset(side)
	}
}

// reset ends a connection with a RST.
func reset(conn net.Conn) {
	if conn, ok := conn.(*net.TCPConn); ok {
		_ = conn.SetLinger(0)
	}
	_ = conn.Close()
}
