package egress

import (
	"context"
	"net"
	"net/netip"
	"strconv"
	"syscall"
	"time"

	"postrider.dev/postrider"
)

// Resolver looks names up; [net.Resolver] is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// maxAddresses is how many addresses of a name are tried: a receiver has no use
// for more, and nobody should make us knock at hundreds of doors by one event.
const maxAddresses = 8

// dialGrace is how much longer than its request a connection may take to be made.
// It keeps the two limits apart: the request's own always strikes first, and is
// what the attempt is judged by.
const dialGrace = time.Second

// timeoutKey is the context key of an exchange's timeout. The HTTP transport takes
// the deadline off the context it dials with, so that a connection may serve
// another request; without a limit of its own, dialling a host that answers
// nothing would outlive its request by minutes.
type timeoutKey struct{}

// stageError says at which stage a connection failed that could not be made.
type stageError struct {
	result postrider.Result // dns or connect
	err    error
}

func (e *stageError) Error() string { return string(e.result) + ": " + e.err.Error() }

func (e *stageError) Unwrap() error { return e.err }

// dialer connects to addresses that the guard permits.
type dialer struct {
	guard    guard
	resolver Resolver
}

// dial is the transport's DialContext.
func (d dialer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	timeout, _ := ctx.Value(timeoutKey{}).(time.Duration)
	ctx, cancel := context.WithTimeout(ctx, timeout+dialGrace)
	defer cancel()
	host, portText, err := net.SplitHostPort(address)
	if err != nil {
		return nil, errHost
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return nil, errHost
	}
	addrs, err := d.resolve(ctx, host)
	if err != nil {
		return nil, err
	}
	addrs = addrs[:min(len(addrs), maxAddresses)]
	for i, addr := range addrs {
		connector := net.Dialer{ControlContext: d.control}
		if i < len(addrs)-1 {
			// An address that answers nothing leaves some time for those after it.
			connector.Timeout = timeout / time.Duration(len(addrs))
		}
		var conn net.Conn
		conn, err = connector.DialContext(ctx, network, netip.AddrPortFrom(addr.Unmap(), uint16(port)).String())
		if err == nil {
			return conn, nil
		}
	}
	return nil, &stageError{result: postrider.ResultConnect, err: err}
}

// resolve returns the addresses of a host, all of them permitted. One that is not
// spoils the others: an honest receiver has no name that also means a machine of
// ours.
func (d dialer) resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	name, addr, err := parseHost(host)
	if err != nil {
		return nil, err
	}
	addrs := []netip.Addr{addr}
	if name != "" {
		addrs, err = d.resolver.LookupNetIP(ctx, "ip", name)
		if err == nil && len(addrs) == 0 {
			err = &net.DNSError{Err: "no address", Name: name, IsNotFound: true}
		}
		if err != nil {
			return nil, &stageError{result: postrider.ResultDNS, err: err}
		}
	}
	for _, addr := range addrs {
		if !d.guard.permits(addr) {
			return nil, errAddress
		}
	}
	return addrs, nil
}

// control is the last line: it sees the address that the socket is about to
// connect to, however it came there.
func (d dialer) control(_ context.Context, _, address string, _ syscall.RawConn) error {
	target, err := netip.ParseAddrPort(address)
	if err != nil || !d.guard.permits(target.Addr()) {
		return errAddress
	}
	return nil
}
