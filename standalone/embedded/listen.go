package embedded

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"syscall"
)

// The listeners that a [PortTakenError] can name.
const (
	ListenerFrontend = "temporal"
	ListenerUI       = "temporal ui"
)

// PortTakenError means that another process listens on an address of the server.
type PortTakenError struct {
	Listener string // [ListenerFrontend] or [ListenerUI]
	Address  string // as configured
	Err      error  // of package net
}

func (e *PortTakenError) Error() string {
	return fmt.Sprintf("%s: address %s is taken: %v", e.Listener, e.Address, e.Err)
}

func (e *PortTakenError) Unwrap() error { return e.Err }

// listen listens on the address of a named listener.
func listen(ctx context.Context, name, address string) (net.Listener, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, &PortTakenError{Listener: name, Address: address, Err: err}
	case err != nil:
		return nil, fmt.Errorf("%s: listen on %s: %w", name, address, err)
	}
	return l, nil
}

// A range of ports that systems do not use for outgoing connections (Linux begins at 32768, IANA
// and macOS at 49152). The server opens its listeners some time after the ports were found free.
// In this range no outgoing connection can take a port meanwhile.
const (
	firstPort = 20000
	lastPort  = 32000
	portTries = 100
)

// listenFree listens on a free port of ip.
func listenFree(ctx context.Context, name string, ip netip.Addr) (net.Listener, error) {
	var failure error
	for range portTries {
		var random [2]byte
		if _, err := rand.Read(random[:]); err != nil {
			return nil, err
		}
		port := firstPort + binary.BigEndian.Uint16(random[:])%(lastPort-firstPort)
		l, err := listen(ctx, name, netip.AddrPortFrom(ip, port).String())
		if err == nil {
			return l, nil
		}
		failure = err
	}
	return nil, failure
}

// listeners reserve the ports while the database is prepared. A taken port is reported before
// anything else starts, and no port is used twice.
type listeners struct {
	ui       net.Listener
	frontend net.Listener
	internal []net.Listener // for history, matching and worker
}

func loopback() netip.Addr { return netip.AddrFrom4([4]byte{127, 0, 0, 1}) }

// openListeners opens all listeners. It closes them when one cannot be opened.
func openListeners(ctx context.Context, cfg Config) (_ *listeners, err error) {
	ls := &listeners{}
	defer func() {
		if err != nil {
			ls.close()
		}
	}()
	if ls.frontend, err = listenFrontend(ctx, cfg.FrontendListen); err != nil {
		return nil, err
	}
	if ls.ui, err = listen(ctx, ListenerUI, cfg.UIListen); err != nil {
		return nil, err
	}
	for _, name := range internalServices {
		l, err := listenFree(ctx, string(name), loopback())
		if err != nil {
			return nil, err
		}
		ls.internal = append(ls.internal, l)
	}
	return ls, nil
}

// listenFrontend listens on the frontend's address, which can be a port alone.
func listenFrontend(ctx context.Context, address string) (net.Listener, error) {
	tcp, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("%s: address %s: %w", ListenerFrontend, address, err)
	}
	ip := tcp.AddrPort().Addr().Unmap()
	if !ip.IsValid() { // ":7233" listens everywhere
		ip = netip.IPv4Unspecified()
	}
	if tcp.Port == 0 {
		return listenFree(ctx, ListenerFrontend, ip)
	}
	return listen(ctx, ListenerFrontend, net.JoinHostPort(ip.String(), strconv.Itoa(tcp.Port)))
}

// releaseServer closes the listeners that the server will open itself.
func (ls *listeners) releaseServer() {
	if ls.frontend != nil {
		_ = ls.frontend.Close()
	}
	for _, l := range ls.internal {
		_ = l.Close()
	}
}

func (ls *listeners) close() {
	ls.releaseServer()
	if ls.ui != nil {
		_ = ls.ui.Close()
	}
}

// addrOf returns the address of a listener.
func addrOf(l net.Listener) netip.AddrPort {
	tcp, _ := l.Addr().(*net.TCPAddr)
	a := tcp.AddrPort()
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// dialable returns an address by which this machine reaches a listener.
func dialable(l net.Listener) string {
	a := addrOf(l)
	if a.Addr().IsUnspecified() {
		a = netip.AddrPortFrom(loopback(), a.Port())
	}
	return a.String()
}
