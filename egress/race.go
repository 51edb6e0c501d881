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

// outcome is what connecting to an address came to.
type outcome struct {
	conn net.Conn
	err  error
}

// race returns the first connection that comes about, and closes the others (RFC 8305, section
// 5). It tries the addresses in their order: the next one as soon as one has failed, or beside the
// one before when that has been silent for [attemptDelay].
//
// The error is ctx's, the latest, or the one after which no other address is tried.
func race(ctx context.Context, addrs []netip.Addr, connect func(context.Context, netip.Addr) (net.Conn, error)) (net.Conn, error) {
	outcomes := make(chan outcome)
	pending := 0
	ctx, cancel := context.WithCancel(ctx)
	defer func() {
		cancel()
		for range pending {
			if late := <-outcomes; late.err == nil {
				_ = late.conn.Close()
			}
		}
	}()
	var failure error
	for len(addrs) > 0 || pending > 0 {
		if len(addrs) > 0 {
			addr := addrs[0]
			addrs = addrs[1:]
			pending++
			go func() {
				conn, err := connect(ctx, addr)
				outcomes <- outcome{conn, err}
			}()
		}
		ended, came := await(ctx, outcomes)
		switch {
		case !came && ctx.Err() != nil:
			return nil, ctx.Err()
		case !came:
			continue
		}
		pending--
		if ended.err == nil {
			return ended.conn, nil
		}
		if !endsRace(failure) {
			failure = ended.err
		}
		if endsRace(failure) {
			addrs = nil
		}
	}
	return nil, failure
}

// await waits for an outcome, for as long as an address may be silent.
func await(ctx context.Context, outcomes <-chan outcome) (ended outcome, came bool) {
	ctx, cancel := context.WithTimeout(ctx, attemptDelay)
	defer cancel()
	select {
	case ended := <-outcomes:
		return ended, true
	case <-ctx.Done():
		return outcome{}, false
	}
}

// endsRace reports whether no other address need be tried after an error: the attempt has used up
// its dials, or this machine has nothing left to dial with.
func endsRace(err error) bool { return errors.Is(err, errNotTaken) || exhaustion(err) != nil }
