package egress

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"postrider.dev/postrider"
)

// Limits of the connection pool and of a receiver's answer.
const (
	idlePerHost    = 256              // enough for the connections of a busy webhook
	idleTotal      = 2048             // below the usual limit of open files
	idleTimeout    = 60 * time.Second // servers and load balancers commonly allow as much
	pingAfter      = 15 * time.Second // a silent HTTP/2 connection gets a ping after this
	pingTimeout    = 5 * time.Second  // a connection without an answer to the ping is closed
	maxHeaderBytes = 64 << 10
	tlsSessions    = 1024 // kept for resumption without a full handshake
	maxDials       = 10   // of one attempt, whatever the address: the transport dials again when a server takes no request
	maxRepeats     = 6    // of a request that no receiver has taken
	maxTimeout     = postrider.MaxTimeoutMS * time.Millisecond
)

// Config is the configuration of a [Client]. Only Now is required.
type Config struct {
	// AllowNetworks are special networks that may be delivered to.
	AllowNetworks []netip.Prefix
	// AllowHosts are names that may resolve to private addresses.
	AllowHosts Hosts
	// Proxy is what all connections go through; nil for none.
	Proxy *Proxy
	// UserAgent is sent with a request that has no User-Agent of its own.
	UserAgent string
	// MaxConnsPerHost limits the connections to one host and port; 0 means no limit. The wait
	// for a connection is part of a request's timeout.
	MaxConnsPerHost int
	// Now is the clock for the times of attempts and for the validity of certificates.
	Now func() time.Time
	// Resolver looks up names; nil means the system's resolver.
	Resolver Resolver
	// RootCAs are the trusted authorities for TLS; nil means the system's.
	RootCAs *x509.CertPool
}

// Client posts to receivers. It is safe for concurrent use and pools connections.
type Client struct {
	guard     guard
	now       func() time.Time
	userAgent string
	transport *http.Transport
	own       ownTransports

	certificates certificates
}

// New returns a client.
func New(config Config) *Client {
	if config.Resolver == nil {
		config.Resolver = &net.Resolver{}
	}
	g := newGuard(config.AllowNetworks)
	g.hosts = config.AllowHosts
	return &Client{
		guard:     g,
		now:       config.Now,
		userAgent: config.UserAgent,
		// A transport without an http.Client follows no redirect and keeps no cookie. Its
		// Proxy is nil, because it would connect without the guard: the dialer asks ours.
		transport: &http.Transport{
			DialContext: dialer{guard: g, resolver: config.Resolver, proxy: config.Proxy}.dial,
			TLSClientConfig: &tls.Config{
				MinVersion:         tls.VersionTLS12,
				RootCAs:            config.RootCAs,
				Time:               config.Now,
				ClientSessionCache: tls.NewLRUClientSessionCache(tlsSessions),

				GetClientCertificate: noCertificate,
			},
			TLSHandshakeTimeout:    maxTimeout,
			DisableCompression:     true,
			MaxConnsPerHost:        config.MaxConnsPerHost,
			MaxIdleConnsPerHost:    idlePerHost,
			MaxIdleConns:           idleTotal,
			IdleConnTimeout:        idleTimeout,
			MaxResponseHeaderBytes: maxHeaderBytes,
			ForceAttemptHTTP2:      true, // a transport with its own DialContext offers only HTTP/1.1 otherwise
			HTTP2:                  &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout},
		},
	}
}

// Close closes idle connections. The client can be used afterwards.
func (c *Client) Close() {
	c.transport.CloseIdleConnections()
	c.own.closeIdle()
}

// Request is one POST.
type Request struct {
	URL    string
	Header http.Header // Post does not change it
	Body   []byte      // Post does not change it
	// Timeout is the deadline for resolving, connecting, TLS, sending, headers and body
	// together: more than 0, and at most 30 s.
	Timeout time.Duration
	// TLS is what the connection has of its own; nil for what all others have.
	TLS *postrider.WebhookTLS
}

// Post makes one attempt. It returns the attempt, without a number, and the wait that a 429 or
// 503 asks for (Retry-After), from 0 to one hour.
//
// The attempt is a success when the answer is 2xx and, before the timeout, its body has ended or
// 16 KiB of it have come. The attempt keeps the status code when the body does not come.
//
// Post sends the request once: a receiver that may have read it does not get it again in the same
// attempt, even when it closes the connection without an answer. The exception is HTTP/2's
// PROTOCOL_ERROR, which the transport takes for a refusal (golang/go#47635).
//
// Post returns an error and no attempt when ctx ends first, the error is ctx's then, and when
// this machine has no descriptor, port or buffer left for a connection ([ErrExhausted]), or the
// proxy does not do its part ([ErrProxy]).
func (c *Client) Post(ctx context.Context, request Request) (postrider.Attempt, time.Duration, error) {
	started := c.now()
	var seen progress
	limited, cancel := context.WithTimeout(withDialing(ctx, request.Timeout, &seen), request.Timeout)
	defer cancel()
	trace := seen.trace()
	trace.TLSHandshakeDone = func(state tls.ConnectionState, err error) { c.certificates.note(request.URL, state, err) }
	got, err := c.exchange(httptrace.WithClientTrace(limited, trace), request)
	if err != nil && ctx.Err() != nil {
		return postrider.Attempt{}, 0, ctx.Err()
	}
	if exhausted := exhaustion(err); exhausted != nil && !seen.hasConnection() {
		return postrider.Attempt{}, 0, exhausted
	}
	if !seen.hasConnection() && (errors.Is(err, ErrProxy) || err != nil && seen.proxyPending()) {
		return postrider.Attempt{}, 0, ErrProxy
	}
	ended := c.now()
	attempt := postrider.Attempt{
		StartedAt:  postrider.Timestamp(started),
		DurationMS: max(ended.Sub(started).Milliseconds(), 0),
	}
	var text string
	if err == nil {
		attempt.Result, text = judgeStatus(got.status)
	} else {
		attempt.Result, text = seen.judge(err, limited.Err() != nil, request.Timeout)
	}
	if text != "" {
		attempt.Error = &text
	}
	if attempt.Result != postrider.ResultBlocked {
		attempt.RemoteIP = seen.remoteIP()
	}
	if got.status != 0 {
		attempt.StatusCode = &got.status
		excerpt, cut := sanitise(got.body, got.cut)
		attempt.ResponseExcerpt, attempt.ResponseTruncated = &excerpt, cut
	}
	return attempt, retryAfter(got.status, got.header, ended), nil
}

// exchange sends the request and reads the answer. With an error it returns the part of the
// answer that has come; the status is 0 when nothing has come.
func (c *Client) exchange(ctx context.Context, request Request) (answer, error) {
	if err := c.guard.checkURL(request.URL); err != nil {
		return answer{}, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, request.URL, bytes.NewReader(request.Body))
	if err != nil {
		return answer{}, errURL
	}
	if err := normalise(r); err != nil {
		return answer{}, err
	}
	for name, values := range request.Header {
		r.Header[name] = values
	}
	if r.Header.Get("User-Agent") == "" {
		r.Header.Set("User-Agent", c.userAgent)
	}
	limitRepeats(r)
	transport, err := c.transportOf(request.TLS)
	if err != nil {
		return answer{}, err
	}
	response, err := transport.RoundTrip(r)
	if err != nil {
		return answer{}, err
	}
	got, err := readAnswer(response)
	// Closing a body before its end closes the connection too. An error here changes nothing.
	_ = response.Body.Close()
	return got, err
}

// errNotTaken says that the attempt has used up its repetitions or its dials.
var errNotTaken = errors.New("the server closed every connection before it took the request")

// limitRepeats lets the transport repeat the request a few times, and only when the receiver
// cannot have read it: nothing was written, or it said so (HTTP/2). One repetition over HTTP/2
// asks for the body twice.
func limitRepeats(r *http.Request) {
	again := r.GetBody
	var repeats atomic.Int32
	r.GetBody = func() (io.ReadCloser, error) {
		if repeats.Add(1) > maxRepeats {
			return nil, errNotTaken
		}
		return again()
	}
	// With one of these the transport repeats a request that was written, as often as it has
	// pooled connections (net/http.Transport). It looks for this spelling only.
	for _, name := range []string{"Idempotency-Key", "X-Idempotency-Key"} {
		if values, found := r.Header[name]; found {
			delete(r.Header, name)
			r.Header[strings.ToLower(name)] = values
		}
	}
}
