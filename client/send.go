package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"
)

const idempotencyKey = "Idempotency-Key"

// maxAnswer is the longest answer that is read, in bytes.
const maxAnswer = 64 << 20

// The wait before a request is made again doubles from the first to the longest. An answer's
// Retry-After goes before it, up to maxRetryAfter.
const (
	firstWait     = 200 * time.Millisecond
	longestWait   = 10 * time.Second
	maxRetryAfter = 2 * time.Minute
)

// Do makes a request, and makes it again where that is safe; the package's documentation says when. An
// answer that is no success is a [*Problem].
func (c *Client) Do(ctx context.Context, r Request) (*Response, error) {
	body, err := encode(r.Body)
	if err != nil {
		return nil, fmt.Errorf("postrider: the body of %s %s: %w", r.Method, r.Path, err)
	}
	if r.Keyed && r.Header.Get(idempotencyKey) == "" {
		WithIdempotencyKey(rand.Text())(&r)
	}
	for retry := 0; ; retry++ {
		response, err := c.try(ctx, r, body)
		if err == nil || retry >= c.retries || !r.mayRepeat(err) {
			return response, err
		}
		if pause(ctx, waitBefore(retry, err)) != nil {
			return nil, err // which tells more than that the time is over
		}
	}
}

// encode writes a body as JSON, with every character as it is.
func encode(body any) ([]byte, error) {
	if body == nil {
		return nil, nil
	}
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(body)
	return text.Bytes(), err
}

// try makes a request once.
func (c *Client) try(ctx context.Context, r Request, body []byte) (*Response, error) {
	target := c.url + r.Path
	if query := r.Query.Encode(); query != "" {
		target += "?" + query
	}
	request, err := http.NewRequestWithContext(ctx, r.Method, target, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("postrider: %w", err)
	}
	for name, values := range r.Header {
		request.Header[name] = values
	}
	request.Header.Set("User-Agent", c.userAgent)
	request.Header.Set("Accept", "application/json")
	if c.apiKey != "" {
		request.Header.Set("X-Api-Key", c.apiKey)
	}
	if r.Body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	return c.read(request)
}

// read sends a request and reads the answer to its end.
func (c *Client) read(request *http.Request) (*Response, error) {
	answer, err := c.http.Do(request)
	if err != nil {
		return nil, fmt.Errorf("postrider: %w", err)
	}
	defer answer.Body.Close()
	content, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("postrider: the answer to %s %s: %w", request.Method, request.URL.Path, err)
	}
	if answer.StatusCode < 200 || answer.StatusCode > 299 {
		return nil, newProblem(answer, content)
	}
	return &Response{Status: answer.StatusCode, Header: answer.Header, Body: content}, nil
}

// mayRepeat reports whether the request that failed so may be made again.
func (r Request) mayRepeat(err error) bool {
	if r.Once {
		return false
	}
	harmless := r.Method != http.MethodPost || r.Keyed
	var p *Problem
	if errors.As(err, &p) {
		return p.Status == http.StatusTooManyRequests || p.Status == http.StatusServiceUnavailable && harmless
	}
	var dialled *net.OpError
	return harmless || errors.As(err, &dialled) && dialled.Op == "dial"
}

// waitBefore returns how long to wait before a request is made again: as long as the answer asks for, or
// a time that doubles, of which a random half is left out, so that many clients do not come at once.
func waitBefore(retry int, err error) time.Duration {
	var p *Problem
	if errors.As(err, &p) && p.RetryAfter > 0 {
		return min(p.RetryAfter, maxRetryAfter)
	}
	wait := min(firstWait<<min(retry, 10), longestWait)
	var random [1]byte
	_, _ = rand.Read(random[:]) // never fails
	return wait - wait/2*time.Duration(random[0])/256
}

// pause waits, or returns an error when ctx is done first.
func pause(ctx context.Context, wait time.Duration) error {
	waiting, stop := context.WithTimeout(ctx, wait)
	defer stop()
	<-waiting.Done()
	return ctx.Err()
}

// retryAfter reads the header Retry-After, seconds or a date; a date is measured by the server's own
// clock. 0 when there is none.
func retryAfter(header http.Header) time.Duration {
	text := header.Get("Retry-After")
	if seconds, err := strconv.Atoi(text); err == nil {
		return time.Duration(seconds) * time.Second
	}
	at, err := http.ParseTime(text)
	if err != nil {
		return 0
	}
	now, err := http.ParseTime(header.Get("Date"))
	if err != nil {
		return 0
	}
	return max(0, at.Sub(now))
}
