package client_test

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider/client"
)

// answers is a server that answers one thing after another, and then a success. It is a transport, so that
// time is a test's own.
type answers struct {
	mu       sync.Mutex
	next     []reply
	requests []*http.Request
	bodies   []string
	at       []time.Time
}

func (a *answers) RoundTrip(r *http.Request) (*http.Response, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	a.requests, a.bodies, a.at = append(a.requests, r), append(a.bodies, string(body)), append(a.at, time.Now())
	now := answer(http.StatusOK, `{"id":"evt_1"}`)
	if len(a.next) > 0 {
		now, a.next = a.next[0], a.next[1:]
	}
	if now.err != nil {
		return nil, now.err
	}
	w := &http.Response{StatusCode: now.status, Header: http.Header{}, Body: io.NopCloser(newReader(now.body))}
	for i := 0; i < len(now.headers); i += 2 {
		w.Header.Set(now.headers[i], now.headers[i+1])
	}
	return w, nil
}

// reply is what comes back, or the error for which nothing does.
type reply struct {
	status  int
	body    string
	headers []string // names and values in turn
	err     error
}

func answer(status int, body string, headers ...string) reply {
	return reply{status: status, body: body, headers: headers}
}

func newReader(text string) io.Reader { return io.LimitReader(&repeat{text}, int64(len(text))) }

type repeat struct{ text string }

func (r *repeat) Read(p []byte) (int, error) { return copy(p, r.text), nil }

func broken(op string) reply { return reply{err: &net.OpError{Op: op, Err: io.ErrUnexpectedEOF}} }

func (a *answers) client(retries int) *client.Client {
	return client.New(client.Config{URL: "http://api.test", APIKey: "secret", Retries: retries, HTTPClient: &http.Client{Transport: a}})
}

func TestAPublishIsMadeAgainUnderOneKey(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := &answers{next: []reply{
			answer(http.StatusServiceUnavailable, "", "Retry-After", "7"),
			answer(http.StatusTooManyRequests, "", "Retry-After", "Mon, 03 Aug 2026 12:00:09 GMT", "Date", "Mon, 03 Aug 2026 12:00:00 GMT"),
			broken("read"),
		}}
		receipt, err := a.client(0).PublishEvent(t.Context(), client.PublishEvent{Type: "a", Data: json.RawMessage("1.50")})
		require.NoError(t, err)
		require.Equal(t, "evt_1", receipt.ID)
		require.Len(t, a.requests, 4)
		require.Equal(t, 7*time.Second, a.at[1].Sub(a.at[0]), "seconds")
		require.Equal(t, 9*time.Second, a.at[2].Sub(a.at[1]), "a date, by the server's clock")
		require.Less(t, a.at[3].Sub(a.at[2]), time.Second)
		key := a.requests[0].Header.Get("Idempotency-Key")
		require.NotEmpty(t, key)
		for i, r := range a.requests {
			require.Equal(t, key, r.Header.Get("Idempotency-Key"))
			require.Equal(t, `{"type":"a","data":1.50}`+"\n", a.bodies[i])
		}
	})
}

func TestTheCallersKeyIsSent(t *testing.T) {
	t.Parallel()
	a := &answers{}
	_, err := a.client(0).PublishEvents(t.Context(), client.PublishBatch{}, client.WithIdempotencyKey("mine"))
	require.NoError(t, err)
	require.Equal(t, "mine", a.requests[0].Header.Get("Idempotency-Key"))
}

// TestWhatIsMadeAgain guards that nothing is done twice: a POST that made something may have lost only its
// answer.
func TestWhatIsMadeAgain(t *testing.T) {
	t.Parallel()
	unavailable, limited := answer(http.StatusServiceUnavailable, ""), answer(http.StatusTooManyRequests, "")
	create := client.Request{Method: http.MethodPost, Path: "/api/v1/webhooks"}
	read := client.Request{Method: http.MethodGet, Path: "/api/v1/webhooks"}
	once := client.Request{Method: http.MethodGet, Path: "/readyz", Once: true}
	for name, c := range map[string]struct {
		request client.Request
		failure reply
		times   int
	}{
		"reading":              {read, unavailable, 2},
		"reading, lost":        {read, broken("read"), 2},
		"a refusal":            {read, answer(http.StatusConflict, ""), 1},
		"a fault of theirs":    {read, answer(http.StatusInternalServerError, ""), 1},
		"once":                 {once, unavailable, 1},
		"creating":             {create, unavailable, 1},
		"creating, lost":       {create, broken("read"), 1},
		"creating, refused":    {create, limited, 2},
		"creating, not dialed": {create, broken("dial"), 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				a := &answers{next: []reply{c.failure}}
				_, err := a.client(0).Do(t.Context(), c.request)
				require.Equal(t, c.times == 1, err != nil, "%v", err)
				require.Len(t, a.requests, c.times)
			})
		})
	}
}

func TestRetriesEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fail := answer(http.StatusServiceUnavailable, "away", "X-Request-Id", "req_1")
		a := &answers{next: []reply{fail, fail, fail, fail, fail, fail}}
		_, err := a.client(2).GetWebhook(t.Context(), "wh_1")
		var p *client.Problem
		require.ErrorAs(t, err, &p)
		require.Equal(t, "away", p.Detail, "of an answer that is no document, its beginning")
		require.Equal(t, "req_1", p.RequestID)
		require.Len(t, a.requests, 3)
		_, err = a.client(-1).GetWebhook(t.Context(), "wh_1")
		require.Error(t, err)
		require.Len(t, a.requests, 4)
	})
}

func TestAContextEndsTheWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithTimeout(t.Context(), 3*time.Second)
		defer stop()
		begun := time.Now()
		a := &answers{next: []reply{answer(http.StatusServiceUnavailable, "", "Retry-After", "60")}}
		_, err := a.client(0).GetWebhook(ctx, "wh_1")
		var p *client.Problem
		require.ErrorAs(t, err, &p, "what the API said is told, and not that the time is over")
		require.Equal(t, 3*time.Second, time.Since(begun))
		require.Len(t, a.requests, 1)
	})
}

// TestTheKeyGoesNowhereElse guards against a redirect that would take the API key to another host.
func TestTheKeyGoesNowhereElse(t *testing.T) {
	t.Parallel()
	a := &answers{next: []reply{
		answer(http.StatusFound, "", "Location", "http://elsewhere.test/"),
	}}
	_, err := a.client(0).GetWebhook(t.Context(), "a/../b?c")
	require.ErrorContains(t, err, "302")
	require.Len(t, a.requests, 1)
	require.Equal(t, "/api/v1/webhooks/a%2F..%2Fb%3Fc", a.requests[0].URL.EscapedPath(), "an id is no path")
	require.Equal(t, "secret", a.requests[0].Header.Get("X-API-Key"))
}
