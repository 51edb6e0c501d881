package api_test

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"postrider.dev/postrider"
	"postrider.dev/postrider/api"
)

func TestKeyIsRequired(t *testing.T) {
	t.Parallel()
	b := setup(t)
	soon := b.clock.Now().Add(time.Hour)
	expiring := b.newKeyUntil(b.newWorkspace(), &soon, postrider.ScopeRead)
	b.as(expiring).do(http.MethodGet, webhooksPath, "").object(http.StatusOK)
	b.clock.advance(time.Hour)
	for name, key := range map[string]string{"none": "", "unknown": "prk_unknown", "long": strings.Repeat("k", 5000), "expired": expiring} {
		refused := b.do(http.MethodGet, webhooksPath, "", "X-API-Key", key)
		refused.problem(http.StatusUnauthorized)
		require.NotEmpty(t, refused.Header.Get("WWW-Authenticate"), name)
	}
	// A caller without a key does not learn whether a body or an id is valid.
	b.do(http.MethodPost, eventsPath, `{`, "X-API-Key", "").problem(http.StatusUnauthorized)
	b.do(http.MethodGet, webhooksPath+"/wh_unknown", "", "X-API-Key", "").problem(http.StatusUnauthorized)
}

// countingStore counts look-ups of keys and can revoke them.
type countingStore struct {
	api.Store
	lookups atomic.Int64
	revoked atomic.Bool
}

func (s *countingStore) APIKeyByHash(ctx context.Context, hash string) (postrider.APIKey, error) {
	s.lookups.Add(1)
	key, err := s.Store.APIKeyByHash(ctx, hash)
	if s.revoked.Load() {
		key.RevokedAt = &key.CreatedAt
	}
	return key, err
}

func TestKeysAreRememberedForAMoment(t *testing.T) {
	t.Parallel()
	keys := new(countingStore)
	b := setup(t, func(c *api.Config) {
		keys.Store = c.Store
		c.Store = keys
	})
	for range 5 {
		b.do(http.MethodGet, webhooksPath, "").object(http.StatusOK)
	}
	require.EqualValues(t, 1, keys.lookups.Load())
	keys.revoked.Store(true)
	b.clock.advance(5 * time.Second)
	b.do(http.MethodGet, webhooksPath, "").problem(http.StatusUnauthorized)
	for range 5 {
		b.do(http.MethodGet, webhooksPath, "", "X-API-Key", "prk_unknown").problem(http.StatusUnauthorized)
	}
	require.EqualValues(t, 7, keys.lookups.Load(), "unknown keys are not remembered")
}

// openStore knows every key there could be.
type openStore struct {
	api.Store
	lookups atomic.Int64
}

func (s *openStore) APIKeyByHash(_ context.Context, hash string) (postrider.APIKey, error) {
	s.lookups.Add(1)
	return postrider.APIKey{Hash: hash, Scopes: []postrider.Scope{postrider.ScopeRead}}, nil
}

func TestRememberedKeysAreBounded(t *testing.T) {
	t.Parallel()
	keys := new(openStore)
	b := setup(t, func(c *api.Config) {
		keys.Store = c.Store
		c.Store = keys
	})
	use := func(key int) {
		b.do(http.MethodGet, webhooksPath+"?limit=0", "", "X-API-Key", strconv.Itoa(key)).problem(http.StatusUnprocessableEntity)
	}
	const room = 1024
	for key := range room {
		use(key)
	}
	use(0)
	require.EqualValues(t, room, keys.lookups.Load(), "remembered")
	use(room)
	use(0)
	require.EqualValues(t, room+2, keys.lookups.Load(), "one key too many, and the cache is empty")
}

// Guards the database against who tries keys: thousands a second reached it. Callers whose key is known
// here do not notice.
func TestUnknownKeysAreLookedUpALittle(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.Equal(t, http.StatusOK, b.do(http.MethodGet, webhooksPath, "").Status)
	stranger := b.as("unknown")
	for range 500 {
		stranger.do(http.MethodGet, webhooksPath, "").problem(http.StatusUnauthorized)
	}
	got := stranger.do(http.MethodGet, webhooksPath, "")
	got.problem(http.StatusTooManyRequests)
	require.NotEmpty(t, got.Header.Get("Retry-After"))
	b.clock.advance(5 * time.Second) // the key is looked up again
	require.Equal(t, http.StatusOK, b.do(http.MethodGet, webhooksPath, "").Status)
	stranger.do(http.MethodGet, webhooksPath, "").problem(http.StatusUnauthorized)
}

// Guards against stale keys that push good ones out of the cache: they go first.
func TestStaleKeysAreEvictedFirst(t *testing.T) {
	t.Parallel()
	keys := new(openStore)
	b := setup(t, func(c *api.Config) {
		keys.Store = c.Store
		c.Store = keys
	})
	use := func(key int) {
		b.do(http.MethodGet, webhooksPath+"?limit=0", "", "X-API-Key", strconv.Itoa(key)).problem(http.StatusUnprocessableEntity)
	}
	const room = 1024
	for key := range room - 1 {
		use(key)
	}
	b.clock.advance(5 * time.Second)
	use(room) // the last one that fits
	use(room + 1)
	before := keys.lookups.Load()
	use(room)
	require.Equal(t, before, keys.lookups.Load(), "still remembered, the stale ones are not")
}

// mismatchedStore finds a key for every hash, but not the one with that hash.
type mismatchedStore struct{ api.Store }

func (s *mismatchedStore) APIKeyByHash(context.Context, string) (postrider.APIKey, error) {
	return postrider.APIKey{Hash: postrider.HashAPIKey("another"), Scopes: postrider.Scopes()}, nil
}

// Guards against a store that compares hashes loosely, as a database's collation can.
func TestKeyMustHaveTheHashThatWasAskedFor(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *api.Config) { c.Store = &mismatchedStore{c.Store} })
	b.do(http.MethodGet, webhooksPath, "").problem(http.StatusUnauthorized)
	b.do(http.MethodGet, webhooksPath, "", "X-API-Key", "another").object(http.StatusOK)
}

// Guards the cache under the race detector.
func TestManyCallersUseOneKeyAtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	key := b.newKey(b.newWorkspace(), postrider.ScopeRead)
	call := func() error {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, b.server.URL+webhooksPath, nil)
		if err != nil {
			return err
		}
		request.Header.Set("X-API-Key", key)
		response, err := b.server.Client().Do(request)
		if err == nil && response.StatusCode != http.StatusOK {
			err = errors.New(response.Status)
		}
		if response != nil {
			err = errors.Join(err, response.Body.Close())
		}
		return err
	}
	var callers errgroup.Group
	for range 8 {
		callers.Go(func() error {
			for range 5 {
				if err := call(); err != nil {
					return err
				}
				b.clock.advance(time.Second) // so that the key becomes stale now and then
			}
			return nil
		})
	}
	require.NoError(t, callers.Wait())
}
