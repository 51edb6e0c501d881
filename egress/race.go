package egress

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"
)

// attemptDelay is how long an address may be silent before the next one is tried beside it (RFC
// 8305, section 5).
const attemptDelay = 250 * time.Millisecond

// alternate returns the addresses in an order in which the two families take turns (RFC 8305,
// section 4). Within a family the order stays: it is the resolver's preference (RFC 6724). An IPv4
// address in IPv6 form counts, and is returned, as the IPv4 address.
func alternate(addrs []netip.Addr) []netip.Addr {
	var first, second []netip.Addr
	for _, addr := range addrs {
		if addr = addr.Unmap(); addr.Is4() == addrs[0].Unmap().Is4() {
			first = append(first, addr)
		} else {
			second = append(second, addr)
		}
	}
	ordered := make([]netip.Addr, 0, len(addrs))
	for i := range addrs {
		for _, family := range [][]netip.Addr{first, second} {
			if i < len(family) {
				ordered = append(ordered, family[i])
			}
		}
	}
	return ordered
}

// race returns the first connection that comes about, and closes the others (RFC 8305, section
// 5). It tries the addresses in their order: the next one as soon as one has failed, or beside the
// one before when that has been silent for [attemptDelay].
//
// The error is ctx's, the latest, or the one after which no other address is tried.
func race(ctx context.Context, addrs []netip.Addr, connect func(context.Context, netip.Addr) (net.Conn, error)) (net.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	r := &runners{connect: connect, outcomes: make(chan outcome)}
	defer func() {
		cancel()
		r.closeLate()
	}()
	var failure error
	for len(addrs) > 0 || r.pending > 0 {
		if len(addrs) > 0 {
			r.begin(ctx, addrs[0])
			addrs = addrs[1:]
		}
		ended, came := r.await(ctx)
		switch {
		case came && ended.err == nil:
			return ended.conn, nil
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case came && !endsRace(failure):
			failure = ended.err
		}
		if endsRace(failure) {
			addrs = nil
		}
	}
	return nil, failure
}

// runners are the addresses of a race that have begun.
type runners struct {
	connect  func(context.Context, netip.Addr) (net.Conn, error)
	outcomes chan outcome
	pending  int // outcomes that have not come
}

// outcome is what connecting to an address came to.
type outcome struct {
	conn net.Conn
	err  error
}

func (r *runners) begin(ctx context.Context, addr netip.Addr) {
	r.pending++
	go func() {
		conn, err := r.connect(ctx, addr)
		r.outcomes <- outcome{conn, err}
	}()
}

// await waits for an outcome, for as long as an address may be silent.
func (r *runners) await(ctx context.Context) (ended outcome, came bool) {
	ctx, cancel := context.WithTimeout(ctx, attemptDelay)
	defer cancel()
	select {
	case ended := <-r.outcomes:
		r.pending--
		return ended, true
	case <-ctx.Done():
		return outcome{}, false
	}
}

// closeLate waits for the outcomes that have not come, and closes their connections.
func (r *runners) closeLate() {
	for range r.pending {
		if late := <-r.outcomes; late.err == nil {
			_ = late.conn.Close()
		}
	}
}

// endsRace reports whether no other address need be tried after an error: the attempt has used up
// its dials, or this machine has nothing left to dial with.
func endsRace(err error) bool { return errors.Is(err, errNotTaken) || exhaustion(err) != nil }
