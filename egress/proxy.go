package egress

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"
)

// ErrProxy says that the proxy through which requests go did not do its part: it cannot be reached, or refuses us.
// That is no failure of the receiver, to which nothing was sent. Its text has neither address nor credentials.
var ErrProxy = errors.New("egress: the proxy did not open a connection")

// Proxy is an HTTP proxy through which all connections are made, by CONNECT.
type Proxy struct {
	address       string // host and port
	authorization string // the header's value; "" for none
}

// ParseProxy reads the URL of a proxy, such as http://user:password@proxy.corp:3128; "" is no proxy, nil. The
// error does not repeat the URL, which may have a password.
func ParseProxy(text string) (*Proxy, error) {
	if strings.TrimSpace(text) == "" {
		return nil, nil //nolint:nilnil // as it says
	}
	u, err := url.Parse(strings.TrimSpace(text))
	if err != nil || u.Scheme != "http" || u.Hostname() == "" || u.Path != "" && u.Path != "/" || u.RawQuery != "" {
		return nil, errors.New("must be a URL such as http://proxy.corp:3128, with a user and a password where the proxy wants them")
	}
	p := &Proxy{address: u.Host}
	if u.Port() == "" {
		p.address = net.JoinHostPort(u.Hostname(), "80")
	}
	if u.User != nil {
		password, _ := u.User.Password()
		p.authorization = "Basic " + base64.StdEncoding.EncodeToString([]byte(u.User.Username()+":"+password))
	}
	return p, nil
}

// maxProxyAnswer bounds what is read of a proxy's answer, in bytes.
const maxProxyAnswer = 16 << 10

// connect returns a connection to the target through the proxy. The target is an address that was checked: the
// proxy looks up no name.
func (p *Proxy) connect(ctx context.Context, target netip.AddrPort, seen *progress) (net.Conn, error) {
	seen.atProxy(true)
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", p.address)
	if err != nil {
		return nil, proxyFailed(ctx, "it cannot be reached")
	}
	seen.atProxy(false) // from here on it may be the target that takes long
	if err := p.open(ctx, conn, target); err != nil {
		_ = conn.Close() // nothing was sent that could be lost
		return nil, err
	}
	return tunnel{conn, net.TCPAddrFromAddrPort(target)}, nil
}

// open asks for a tunnel to the target, and reads the answer.
func (p *Proxy) open(ctx context.Context, conn net.Conn, target netip.AddrPort) error {
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) }) // ends reads and writes
	defer stop()
	request := "CONNECT " + target.String() + " HTTP/1.1\r\nHost: " + target.String() + "\r\n"
	if p.authorization != "" {
		request += "Proxy-Authorization: " + p.authorization + "\r\n"
	}
	if _, err := io.WriteString(conn, request+"\r\n"); err != nil {
		return proxyFailed(ctx, "it closed the connection")
	}
	reader := bufio.NewReaderSize(io.LimitReader(conn, maxProxyAnswer), maxProxyAnswer)
	answer, err := http.ReadResponse(reader, &http.Request{Method: http.MethodConnect})
	if err != nil {
		return proxyFailed(ctx, "it gave no valid answer")
	}
	defer func() { _ = answer.Body.Close() }() // there is none, after CONNECT
	switch {
	case answer.StatusCode == http.StatusServiceUnavailable, answer.StatusCode == http.StatusGatewayTimeout:
		return errTarget // what proxies say of a target that refuses or is silent
	case answer.StatusCode/100 != 2:
		return proxyFailed(ctx, fmt.Sprintf("it answered %d", answer.StatusCode))
	case reader.Buffered() > 0: // no receiver speaks first
		return proxyFailed(ctx, "it gave no valid answer")
	case !stop():
		return ctx.Err()
	}
	return nil
}

// errTarget says that the proxy cannot connect to the receiver.
var errTarget = errors.New("the proxy cannot connect to it")

func proxyFailed(ctx context.Context, reason string) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return fmt.Errorf("%w: %s", ErrProxy, reason)
}

// tunnel is a connection through a proxy: its far end is the target.
type tunnel struct {
	net.Conn
	target *net.TCPAddr
}

// RemoteAddr implements net.Conn.
func (t tunnel) RemoteAddr() net.Addr { return t.target }
