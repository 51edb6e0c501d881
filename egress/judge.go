package egress

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"time"

	"postrider.dev/postrider"
)

// progress notes how far an exchange has come. It has a lock, because the transport can call it
// after the exchange has ended.
type progress struct {
	mu          sync.Mutex
	dialled     netip.Addr
	handshaking bool // TLS began
	wanted      bool // the server asked for a client certificate
	given       bool // and got one
	connected   bool // the request has a connection
	answered    bool // the first byte of the answer came
	proxying    int  // connections to the proxy that are being made
}

// atProxy notes that a connection to the proxy is being made, or is not any more.
func (p *progress) atProxy(begins bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if begins {
		p.proxying++
	} else {
		p.proxying--
	}
}

// proxyPending reports whether the exchange has come no farther than to the proxy.
func (p *progress) proxyPending() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.proxying > 0
}

// certificateWanted notes that the server asked for a client certificate, and whether it gets one.
func (p *progress) certificateWanted(given bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wanted, p.given = true, given
}

// dialling notes the address to which a connection is made. It is no hook of the trace, because the
// resolver connects, too: to its name servers.
func (p *progress) dialling(addr netip.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dialled = addr
}

// trace returns the hooks that the transport calls.
func (p *progress) trace() *httptrace.ClientTrace {
	note := func(change func()) {
		p.mu.Lock()
		defer p.mu.Unlock()
		change()
	}
	return &httptrace.ClientTrace{
		// A repeated request calls it again, for another connection.
		GetConn:           func(string) { note(func() { p.handshaking, p.connected, p.answered = false, false, false }) },
		TLSHandshakeStart: func() { note(func() { p.handshaking = true }) },
		GotConn: func(got httptrace.GotConnInfo) {
			note(func() { p.connected, p.dialled = true, addressOf(got.Conn.RemoteAddr()) })
		},
		GotFirstResponseByte: func() { note(func() { p.answered = true }) },
	}
}

// hasConnection reports whether the request got a connection. Without one, nothing was sent.
func (p *progress) hasConnection() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.connected
}

// remoteIP returns the address that was dialled last, or nil when no address was dialled.
func (p *progress) remoteIP() *string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.dialled.IsValid() {
		return nil
	}
	ip := p.dialled.String()
	return &ip
}

// judge returns the result of a failed exchange and its error text. late says that the timeout
// was over.
func (p *progress) judge(err error, late bool, timeout time.Duration) (postrider.Result, string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var (
		rule  ruleError
		stage *stageError
	)
	switch {
	case errors.As(err, &rule):
		return postrider.ResultBlocked, "not sent: the URL " + rule.Error()
	case late:
		return postrider.ResultTimeout, fmt.Sprintf("timed out after %s while %s", timeout, p.stage())
	case errors.As(err, &stage) && stage.result == postrider.ResultDNS:
		return postrider.ResultDNS, describeLookup(stage.err)
	case stage != nil:
		return postrider.ResultConnect, describeConnect(stage.err)
	case errors.Is(err, errOwnTLS):
		return postrider.ResultTLS, errOwnTLS.Error()
	case p.handshaking && !p.connected, !p.answered && alertOf(err) != nil:
		return postrider.ResultTLS, describeTLS(err)
	case p.wanted && !p.answered && strings.HasSuffix(err.Error(), notEstablished):
		return postrider.ResultTLS, "TLS: the server refused the handshake: it wants " + p.certificate()
	}
	return postrider.ResultProtocol, describeProtocol(err)
}

// certificate says what a server wants that asked for a certificate and refused the connection.
func (p *progress) certificate() string {
	if p.given {
		return "another client certificate"
	}
	return "a client certificate"
}

func (p *progress) stage() string {
	switch {
	case p.answered:
		return "reading the answer"
	case p.connected:
		return "waiting for the answer"
	}
	return "connecting"
}

func describeLookup(err error) string {
	var lookup *net.DNSError
	if errors.As(err, &lookup) && lookup.IsNotFound {
		return "the host name does not exist or has no address"
	}
	return "the host name could not be looked up"
}

func describeConnect(err error) string {
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, syscall.ECONNRESET):
		return "connection reset"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EADDRNOTAVAIL):
		return "the address is unreachable"
	case errors.Is(err, errNotTaken):
		return errNotTaken.Error()
	case errors.Is(err, errTarget):
		return errTarget.Error()
	}
	return "could not connect"
}

// notEstablished ends the error of an HTTP/2 connection that the server ended before it had sent
// anything. The transport tells it in place of the alert when that comes before the request goes out.
const notEstablished = "client conn could not be established"

// alertOf returns the TLS alert that the server sent, or nil. In TLS 1.3 the client's side of the
// handshake ends before the server has looked at the client's certificate, so a refusal comes with
// the connection's first read.
func alertOf(err error) *net.OpError {
	var remote *net.OpError
	if errors.As(err, &remote) && remote.Op == "remote error" {
		return remote
	}
	return nil
}

func describeTLS(err error) string {
	var (
		authority x509.UnknownAuthorityError
		name      x509.HostnameError
		invalid   x509.CertificateInvalidError
		record    tls.RecordHeaderError
	)
	switch {
	case errors.As(err, &authority):
		return "TLS: the certificate is signed by an unknown authority"
	case errors.As(err, &name):
		return "TLS: the certificate is for another host name"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "TLS: the certificate has expired or is not yet valid"
	case errors.As(err, &invalid):
		return "TLS: the certificate is not valid"
	case errors.As(err, &record):
		return "TLS: the server does not speak TLS on this port"
	case alertOf(err) != nil: // crypto/tls has a fixed text for each
		return "TLS: the server refused the handshake: " + strings.TrimPrefix(alertOf(err).Err.Error(), "tls: ")
	}
	return "TLS: the handshake failed"
}

func describeProtocol(err error) string {
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "the connection was closed before the answer was complete"
	case errors.Is(err, errNotTaken):
		return errNotTaken.Error()
	}
	return "no valid HTTP answer"
}

// judgeStatus returns the result of a complete answer, and an error text unless it is a success.
func judgeStatus(status int) (postrider.Result, string) {
	text := fmt.Sprintf("answered %d", status)
	if name := http.StatusText(status); name != "" {
		text += " " + name
	}
	switch status / 100 {
	case 2:
		return postrider.ResultSuccess, ""
	case 3:
		return postrider.ResultRedirect, text + "; redirects are not followed"
	case 4:
		return postrider.ResultClientError, text
	case 5:
		return postrider.ResultServerError, text
	}
	return postrider.ResultProtocol, text
}
