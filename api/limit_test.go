package api_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
	"postrider.dev/postrider/api"
)

// Guards against a key that makes requests without end: it gets a 429 that says when to come
// back, and other keys do not notice.
func TestRequestsOfAKeyAreLimited(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *api.Config) { c.RequestsPerSecond = 3 })
	other := b.as(b.newKey(b.newWorkspace(), postrider.ScopeRead))
	for range 3 {
		require.Equal(t, http.StatusOK, b.do(http.MethodGet, webhooksPath, "").Status)
	}
	got := b.do(http.MethodPost, eventsPath, `{"type":"call.ended","data":{}}`)
	got.problem(http.StatusTooManyRequests)
	require.Contains(t, string(got.Body), "3 requests a second")
	require.Equal(t, "1", got.Header.Get("Retry-After"))
	require.False(t, got.Closed, "its key is valid")
	for range 3 {
		require.Equal(t, http.StatusOK, other.do(http.MethodGet, webhooksPath, "").Status, "each key has its own")
	}
	b.clock.advance(time.Second)
	events, _ := b.do(http.MethodGet, eventsPath, "").items()
	require.Empty(t, events, "nothing was published")
	b.clock.advance(time.Hour)
	for range 3 {
		require.Equal(t, http.StatusOK, b.do(http.MethodGet, webhooksPath, "").Status)
	}
	b.do(http.MethodGet, webhooksPath, "").problem(http.StatusTooManyRequests)
}

func TestRequestsAreNotLimitedUnlessSet(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for range 200 { // the clock stands still
		require.Equal(t, http.StatusOK, b.do(http.MethodGet, webhooksPath+"?limit=1", "").Status)
	}
}
