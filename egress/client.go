package egress

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"time"

	"postrider.dev/postrider"
)

// Limits of the connection pool and of what a receiver may send.
const (
	idlePerHost    = 256              // a busy webhook keeps its connections
	idleTotal      = 2048             // below the usual limit of open files
	idleTimeout    = 60 * time.Second // what servers and load balancers commonly allow
	pingAfter      = 15 * time.Second // an HTTP/2 connection that is silent so long is asked
	pingTimeout    = 5 * time.Second  // and given up after this
	maxHeaderBytes = 64 << 10
	tlsSessions    = 1024 // remembered, to resume without a full handshake
	maxTimeout     = postrider.MaxTimeoutMS * time.Millisecond
)

// Config is what [New] needs; only Now is required.
type Config struct {
	// AllowNetworks are special networks that may be delivered to all the same.
	AllowNetworks []netip.Prefix
	// UserAgent is sent when a request's header has none.
	UserAgent string
	// MaxConnsPerHost limits the connections to one host and port; 0 means no limit.
	// Waiting for one counts against a request's timeout.
	MaxConnsPerHost int
	// Now is the clock that attempts are dated and timed by, and certificates checked.
	Now func() time.Time
	// Resolver looks names up; nil means the system's.
	Resolver Resolver
	// RootCAs are the authorities trusted for TLS; nil means the system's.
	RootCAs *x509.CertPool
}

// Client posts to receivers. It is safe for concurrent use and pools connections.
type Client struct {
	guard     guard
	now       func() time.Time
	userAgent string
	transport *http.Transport
}

// New returns a client.
func New(config Config) *Client {
	if config.Resolver == nil {
		config.Resolver = &net.Resolver{}
	}
	g := newGuard(config.AllowNetworks)
	return &Client{
		guard:     g,
		now:       config.Now,
		userAgent: config.UserAgent,
		// A transport without http.Client around it follows no redirect and keeps no
		// cookie. Its Proxy is nil: the environment's would dial in our place.
		transport: &http.Transport{
			DialContext: dialer{guard: g, resolver: config.Resolver}.dial,
			TLSClientConfig: &tls.Config{
				MinVersion:         tls.VersionTLS12,
				RootCAs:            config.RootCAs,
				Time:               config.Now,
				ClientSessionCache: tls.NewLRUClientSessionCache(tlsSessions),
			},
			TLSHandshakeTimeout:    maxTimeout,
			DisableCompression:     true,
			MaxConnsPerHost:        config.MaxConnsPerHost,
			MaxIdleConnsPerHost:    idlePerHost,
			MaxIdleConns:           idleTotal,
			IdleConnTimeout:        idleTimeout,
			MaxResponseHeaderBytes: maxHeaderBytes,
			ForceAttemptHTTP2:      true, // a transport that dials itself offers HTTP/1.1 only
			HTTP2:                  &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout},
		},
	}
}

// Close closes the connections that are idle. The client stays usable.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

// Request is one POST.
type Request struct {
	URL    string
	Header http.Header // not changed
	Body   []byte      // not changed
	// Timeout is the one deadline over resolving, connecting, TLS, sending, headers
	// and body; more than 0, at most 30 s.
	Timeout time.Duration
}

// Post makes one attempt. It returns what came of it, without its number, and how
// long a 429 or 503 asks to wait before the next (Retry-After), from 0 to one hour.
//
// The attempt succeeded when the answer is 2xx and its body has ended, or 16 KiB of
// it have come, before the timeout. A status code is kept even where the body then
// failed to come.
//
// Post returns an error only when ctx ended before the attempt did, and it is ctx's:
// there is no attempt to speak of then.
func (c *Client) Post(ctx context.Context, request Request) (postrider.Attempt, time.Duration, error) {
	started := c.now()
	limited, cancel := context.WithTimeout(context.WithValue(ctx, timeoutKey{}, request.Timeout), request.Timeout)
	defer cancel()
	var seen progress
	got, err := c.exchange(httptrace.WithClientTrace(limited, seen.trace()), request)
	if err != nil && ctx.Err() != nil {
		return postrider.Attempt{}, 0, ctx.Err()
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

// exchange sends the request and reads the answer. With an error, the answer holds
// what had come by then; its status is 0 when nothing had.
func (c *Client) exchange(ctx context.Context, request Request) (answer, error) {
	if err := c.guard.checkURL(request.URL); err != nil {
		return answer{}, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, request.URL, bytes.NewReader(request.Body))
	if err != nil {
		return answer{}, errURL
	}
	for name, values := range request.Header {
		r.Header[name] = values
	}
	if r.Header.Get("User-Agent") == "" {
		r.Header.Set("User-Agent", c.userAgent)
	}
	if r.Header.Get("Idempotency-Key") == "" {
		// An empty list sends no header, and tells the transport that it may repeat the
		// request when a pooled connection turns out to be closed by the other side
		// (net/http.Transport). Receivers know a repetition by its webhook-id.
		r.Header["Idempotency-Key"] = []string{}
	}
	response, err := c.transport.RoundTrip(r)
	if err != nil {
		return answer{}, err
	}
	got, err := readAnswer(response)
	// Closing a body that has not ended closes the connection too. What it says
	// cannot matter any more.
	_ = response.Body.Close()
	return got, err
}
