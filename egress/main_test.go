package egress_test

import (
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"postrider.dev/postrider"
	"postrider.dev/postrider/egress"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// marker is in everything that must never come back in an error's text: the URL's
// query, a header, the body sent and the body received.
const marker = "hunter2"

// soon is a timeout that is meant to strike, long one that is not.
const soon, long = 500 * time.Millisecond, 20 * time.Second

// lookup is a resolver for tests.
type lookup func(ctx context.Context, host string) ([]netip.Addr, error)

func (l lookup) LookupNetIP(ctx context.Context, _, host string) ([]netip.Addr, error) {
	return l(ctx, host)
}

// answering resolves every name to the addresses.
func answering(addrs ...string) lookup {
	return func(context.Context, string) ([]netip.Addr, error) {
		parsed := make([]netip.Addr, len(addrs))
		for i, addr := range addrs {
			parsed[i] = netip.MustParseAddr(addr)
		}
		return parsed, nil
	}
}

// bundle is a client that may reach 127.0.0.1, and nothing else that is special.
type bundle struct {
	*egress.Client
}

func setup(t *testing.T, change ...func(*egress.Config)) bundle {
	t.Helper()
	config := egress.Config{
		AllowNetworks: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")},
		UserAgent:     "Postrider/test",
		Now:           time.Now,
	}
	for _, c := range change {
		c(&config)
	}
	client := egress.New(config)
	t.Cleanup(client.Close)
	return bundle{client}
}

func withResolver(r egress.Resolver) func(*egress.Config) {
	return func(c *egress.Config) { c.Resolver = r }
}

// post makes an attempt and checks what holds for every one of them.
func (b bundle) post(t *testing.T, url string, timeout time.Duration) postrider.Attempt {
	t.Helper()
	attempt, _ := b.postForRetry(t, url, timeout)
	return attempt
}

func (b bundle) postForRetry(t *testing.T, url string, timeout time.Duration) (postrider.Attempt, time.Duration) {
	t.Helper()
	attempt, retryAfter, err := b.Post(t.Context(), egress.Request{
		URL:     url + "?token=" + marker,
		Header:  http.Header{"Content-Type": {"application/json"}, "Authorization": {"Bearer " + marker}},
		Body:    []byte(`{"password":"` + marker + `"}`),
		Timeout: timeout,
	})
	require.NoError(t, err)
	require.Contains(t, postrider.Results(), attempt.Result)
	require.Equal(t, time.UTC, attempt.StartedAt.Location())
	require.GreaterOrEqual(t, attempt.DurationMS, int64(0))
	require.Equal(t, attempt.Result == postrider.ResultSuccess, attempt.Error == nil)
	require.Equal(t, attempt.StatusCode == nil, attempt.ResponseExcerpt == nil)
	if attempt.Error != nil {
		require.NotContains(t, *attempt.Error, marker)
		require.NotContains(t, *attempt.Error, "127.0.0.1")
		require.Less(t, len(*attempt.Error), 120)
	}
	return attempt, retryAfter
}

// serve starts a receiver; it has read the request when the handler is called, so
// that the handler's context ends when the client goes away.
func serve(t *testing.T, handler http.HandlerFunc) *httptest.Server {
	t.Helper()
	server := httptest.NewUnstartedServer(read(handler))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.Start()
	t.Cleanup(server.Close)
	return server
}

func read(handler http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		handler(w, r)
	}
}

// stall keeps the handler until the client has gone.
func stall(r *http.Request) { <-r.Context().Done() }

// named returns the URL of the server under another host name.
func named(server *httptest.Server, name string) string {
	return strings.Replace(server.URL, "127.0.0.1", name, 1)
}

// listen gives every connection to handle, one after the other.
func listen(t *testing.T, handle func(number int, conn net.Conn)) string {
	t.Helper()
	var config net.ListenConfig
	listener, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for number := 1; ; number++ {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			handle(number, conn)
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() {
		require.NoError(t, listener.Close())
		<-done
	})
	return listener.Addr().String()
}
