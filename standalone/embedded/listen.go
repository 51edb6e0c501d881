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

// PortTakenError says that another process listens where the server should.
type PortTakenError struct {
	Listener string // [ListenerFrontend] or [ListenerUI]
	Address  string // as configured
	Err      error  // of package net
}

func (e *PortTakenError) Error() string {
	return fmt.Sprintf("%s: address %s is taken: %v", e.Listener, e.Address, e.Err)
}

func (e *PortTakenError) Unwrap() error { return e.Err }

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

// Ports that no system in use gives to outgoing connections (Linux starts at
// 32768, the IANA range and macOS at 49152). The server opens its listeners by
// itself, a moment after they were found to be free; with a port from here that
// moment is safe from every connection made meanwhile.
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

// listeners are held while the database is made ready, so that a taken port is
// known before anything heavy starts, and no port is given out twice.
type listeners struct {
	ui       net.Listener
	frontend net.Listener
	internal []net.Listener // of history, matching and worker
}

func loopback() netip.Addr { return netip.AddrFrom4([4]byte{127, 0, 0, 1}) }

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

// releaseServer closes those that the server opens again by itself.
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

// addrOf returns where l listens.
func addrOf(l net.Listener) netip.AddrPort {
	tcp, _ := l.Addr().(*net.TCPAddr)
	a := tcp.AddrPort()
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// dialable returns the address at which a listener on this machine is reached.
func dialable(l net.Listener) string {
	a := addrOf(l)
	if a.Addr().IsUnspecified() {
		a = netip.AddrPortFrom(loopback(), a.Port())
	}
	return a.String()
}
