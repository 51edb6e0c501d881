package api_test

import (
	"context"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
	"postrider.dev/postrider/api"
)

// slowStore has events that take until their caller gives up.
type slowStore struct {
	api.Store
	given atomic.Int64
}

func (s *slowStore) Events(
	ctx context.Context, _ string, _ postrider.EventFilter, _ postrider.Page,
) (postrider.List[postrider.Event], error) {
	<-ctx.Done()
	s.given.Add(1)
	return postrider.List[postrider.Event]{}, &postrider.Error{Code: postrider.CodeUnavailable, Message: "internals", Err: ctx.Err()}
}

// Guards against reads that hold a connection of the database for as long as they like.
func TestSlowReadsEnd(t *testing.T) {
	t.Parallel()
	slow := new(slowStore)
	b := setup(t, func(c *api.Config) {
		slow.Store = c.Store
		c.Store, c.ReadTimeout = slow, 20*time.Millisecond
	})
	got := b.do(http.MethodGet, eventsPath, "")
	got.problem(http.StatusServiceUnavailable)
	require.Contains(t, string(got.Body), "reading took longer than 20ms")
	require.NotContains(t, string(got.Body), "internals")
	require.NotEmpty(t, got.Header.Get("Retry-After"))
	require.EqualValues(t, 1, slow.given.Load(), "the store was told to end")
}
