package egress

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"postrider.dev/postrider"
)

// Resolver looks up names. [net.Resolver] implements it.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// maxAddresses is how many addresses of a name are tried. Receivers do not need more, and no
// event may cause connections to hundreds of machines.
const maxAddresses = 8

// dialGrace is how much longer than its request connecting may take. So the request's timeout
// always ends first, and decides the attempt's result.
const dialGrace = time.Second

// dialing limits what one attempt may dial, and notes it. The HTTP transport dials with a context
// without deadline, so that another request can use the connection. Without a limit of its own,
// connecting to a silent host would go on for minutes after its request. And the transport dials
// for as long as a server completes handshakes and takes no request.
type dialing struct {
	timeout time.Duration // the request's
	seen    *progress
	dials   atomic.Int32
}

type dialingKey struct{}

func withDialing(ctx context.Context, timeout time.Duration, seen *progress) context.Context {
	return context.WithValue(ctx, dialingKey{}, &dialing{timeout: timeout, seen: seen})
}

// noCertificate sends no certificate to a server that asks for one, and notes that it did.
func noCertificate(asked *tls.CertificateRequestInfo) (*tls.Certificate, error) {
	noteWanted(asked, false)
	return &tls.Certificate{}, nil
}

// noteWanted notes that a server asked for a client certificate, and whether it gets one.
func noteWanted(asked *tls.CertificateRequestInfo, given bool) {
	if limit, is := asked.Context().Value(dialingKey{}).(*dialing); is {
		limit.seen.certificateWanted(given)
	}
}

// stageError says at which stage connecting failed.
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
	proxy    *Proxy // nil: connections are made directly
}

// dial is the transport's DialContext.
func (d dialer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	limit, _ := ctx.Value(dialingKey{}).(*dialing)
	ctx, cancel := context.WithTimeout(ctx, limit.timeout+dialGrace)
	defer cancel()
	host, portText, err := net.SplitHostPort(address)
	if err != nil {
		return nil, errHost
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return nil, errHost
	}
	name, addrs, err := d.resolve(ctx, host)
	if err != nil {
		return nil, err
	}
	addrs = alternate(addrs)
	connector := net.Dialer{ControlContext: d.controlOf(name)}
	conn, err := race(ctx, addrs[:min(len(addrs), maxAddresses)], func(ctx context.Context, addr netip.Addr) (net.Conn, error) {
		if limit.dials.Add(1) > maxDials {
			return nil, errNotTaken
		}
		limit.seen.dialling(addr)
		if d.proxy != nil {
			return d.proxy.connect(ctx, netip.AddrPortFrom(addr, uint16(port)), limit.seen)
		}
		return connector.DialContext(ctx, network, netip.AddrPortFrom(addr, uint16(port)).String())
	})
	if err != nil {
		return nil, &stageError{result: postrider.ResultConnect, err: err}
	}
	limit.seen.dialling(addressOf(conn.RemoteAddr()))
	return conn, nil
}

// addressOf returns the IP address of the far end of a connection.
func addressOf(remote net.Addr) netip.Addr {
	if tcp, is := remote.(*net.TCPAddr); is {
		return tcp.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

// resolve returns the addresses of a host, and its name unless it is an address. It returns an error when one of them is not
// permitted: an honest receiver's name does not resolve to an internal machine as well.
func (d dialer) resolve(ctx context.Context, host string) (name string, addrs []netip.Addr, err error) {
	name, addr, err := parseHost(host)
	if err != nil {
		return "", nil, err
	}
	addrs = []netip.Addr{addr}
	if name != "" {
		addrs, err = d.resolver.LookupNetIP(ctx, "ip", name)
		if err == nil && len(addrs) == 0 {
			err = &net.DNSError{Err: "no address", Name: name, IsNotFound: true}
		}
		if err != nil {
			return "", nil, &stageError{result: postrider.ResultDNS, err: err}
		}
	}
	for _, addr := range addrs {
		if !d.guard.permitsHost(name, addr) {
			return "", nil, errAddress
		}
	}
	return name, addrs, nil
}

// controlOf returns a check of the address of a socket before it connects to a host of the name. It is the last
// check, and does not depend on the earlier ones.
func (d dialer) controlOf(name string) func(_ context.Context, network, address string, _ syscall.RawConn) error {
	return func(_ context.Context, _, address string, _ syscall.RawConn) error {
		target, err := netip.ParseAddrPort(address)
		if err != nil || !d.guard.permitsHost(name, target.Addr()) {
			return errAddress
		}
		return nil
	}
}
