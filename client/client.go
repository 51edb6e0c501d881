package client

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// defaults of [Config].
const (
	defaultRetries = 4
	defaultTimeout = 60 * time.Second
)

// Config says which API a client calls, and how.
type Config struct {
	URL    string // where the API is, without /api/v1
	APIKey string // sent as X-API-Key, to that URL alone: redirects are not followed

	Retries    int          // how often a request is made again at most; 0: 4 times, below 0: never
	HTTPClient *http.Client // nil: one that gives up on a request after a minute
	UserAgent  string       // "": "postrider-go"
}

// Client calls the API. It may be used by many goroutines at once.
type Client struct {
	url, apiKey, userAgent string
	retries                int
	http                   http.Client
}

// New returns a client. It makes no request.
func New(config Config) *Client {
	c := &Client{
		url: strings.TrimSuffix(config.URL, "/"), apiKey: config.APIKey, userAgent: cmp.Or(config.UserAgent, "postrider-go"),
		retries: max(0, cmp.Or(config.Retries, defaultRetries)), http: http.Client{Timeout: defaultTimeout},
	}
	if config.HTTPClient != nil {
		c.http = *config.HTTPClient
	}
	// The key would go along to another host: net/http takes only well-known headers away.
	c.http.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return c
}

// Request is a request that the client makes, for routes that it has no method for.
type Request struct {
	Method string
	Path   string     // from /api/v1 on, escaped
	Query  url.Values // nil: none
	Body   any        // nil: none; anything that is written as JSON
	Header http.Header

	Keyed bool // the route takes an Idempotency-Key: without one in Header, one is made
	Once  bool // never made again
}

// Response is an answer of success.
type Response struct {
	Status int
	Header http.Header
	Body   []byte
}

// Option changes one call.
type Option func(*Request)

// WithIdempotencyKey makes a publish repeatable beyond the call: with the same key and the same body, the
// answer is the same and nothing is sent twice, also by another process and after a restart. The key has
// 1 to 255 printable characters.
func WithIdempotencyKey(key string) Option {
	return func(r *Request) {
		r.Header = r.Header.Clone()
		if r.Header == nil {
			r.Header = http.Header{}
		}
		r.Header.Set(idempotencyKey, key)
	}
}

// call makes a request and reads the answer as JSON.
func call[T any](ctx context.Context, c *Client, r Request, options ...Option) (T, error) {
	var answer T
	for _, option := range options {
		option(&r)
	}
	response, err := c.Do(ctx, r)
	if err != nil {
		return answer, err
	}
	if err := json.Unmarshal(response.Body, &answer); err != nil {
		return answer, fmt.Errorf("postrider: the answer to %s %s: %w", r.Method, r.Path, err)
	}
	return answer, nil
}

// pathOf puts ids into a path.
func pathOf(format string, ids ...any) string {
	for i, id := range ids {
		ids[i] = url.PathEscape(fmt.Sprint(id))
	}
	return fmt.Sprintf(format, ids...)
}

// CloseIdleConnections closes connections that wait for a next request, as the method of [http.Client] does.
func (c *Client) CloseIdleConnections() { c.http.CloseIdleConnections() }
