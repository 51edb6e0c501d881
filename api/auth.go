package api

import (
	"context"
	"crypto/subtle"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"postrider.dev/postrider"
	"postrider.dev/postrider/api/rest"
)

// A process trusts a key that it looked up for keyTTL, or until it hears that a key was
// revoked. So every process refuses a revoked key within keyTTL.
const (
	keyTTL    = 3 * time.Second
	keyUse    = time.Minute // how often each process writes a key's last use, at most
	maxKeys   = 1024
	maxKeyLen = 256 // bytes; longer keys are refused without hashing them
)

// Look-ups that find no key: so many a second, after so many at once. Who tries keys must not keep the
// database busy. Keys that this process knows are looked up all the same.
const (
	failedLookUps      = 100
	failedLookUpsBurst = 500
)

// keyStore finds API keys.
type keyStore interface {
	// APIKeyByHash returns the key with the hash, which is [postrider.HashAPIKey]'s.
	// Returns [postrider.CodeNotFound] if no key has it.
	APIKeyByHash(ctx context.Context, hash string) (postrider.APIKey, error)
	// Revocations returns a number that changes when this process hears that a key was
	// revoked.
	Revocations() int64
	// UsedAPIKey records when a key was used last.
	UsedAPIKey(ctx context.Context, id string, at time.Time) error
}

// keyring authenticates keys. It caches valid keys, because a publisher sends the same key
// thousands of times a second. It does not cache invalid ones, so that a caller cannot fill the
// cache with them. It is safe for concurrent use.
type keyring struct {
	store  keyStore
	now    func() time.Time
	logger *slog.Logger
	// onAuthenticated is called with the context of every request whose key is valid.
	onAuthenticated func(ctx context.Context)

	failures *rate.Limiter // look-ups that found no key
	requests requestLimits

	mu     sync.Mutex
	cached map[string]cachedKey // by hash
}

type cachedKey struct {
	key         postrider.APIKey
	until       time.Time
	revocations int64 // [keyStore.Revocations] before the look-up
}

func newKeyring(c Config) *keyring {
	return &keyring{
		store: c.Store, now: c.Now, logger: c.Logger, onAuthenticated: c.OnAuthenticated,
		failures: rate.NewLimiter(failedLookUps, failedLookUpsBurst), cached: map[string]cachedKey{},
		requests: requestLimits{perSecond: c.RequestsPerSecond, limiters: map[string]*rate.Limiter{}},
	}
}

// authorize returns the caller's key. Returns [postrider.CodeUnauthorized] if the key is not
// valid. With the key, it returns [postrider.CodeLimited] if the key makes too many requests, and
// [postrider.CodeForbidden] if it lacks the scope.
func (k *keyring) authorize(ctx context.Context, secret string, scope postrider.Scope) (postrider.APIKey, error) {
	key, err := k.authenticate(ctx, secret)
	if err != nil {
		return key, err
	}
	k.onAuthenticated(ctx)
	if err := k.requests.take(key.ID, k.now()); err != nil {
		return key, err
	}
	if !key.Allows(scope) {
		err = &postrider.Error{Code: postrider.CodeForbidden, Message: "the API key lacks the scope " + string(scope)}
	}
	return key, err
}

// authenticate returns the key that the caller sent, as it is stored. Returns
// [postrider.CodeUnauthorized] if it is missing, unknown, expired or revoked.
func (k *keyring) authenticate(ctx context.Context, given string) (postrider.APIKey, error) {
	if given == "" {
		return postrider.APIKey{}, unauthorized("the " + rest.HeaderAPIKey + " header is required")
	}
	if len(given) > maxKeyLen {
		return postrider.APIKey{}, unauthorized("the API key is not valid")
	}
	hash := postrider.HashAPIKey(given)
	key, err := k.lookUp(ctx, hash)
	switch {
	case postrider.CodeOf(err) == postrider.CodeNotFound:
		return postrider.APIKey{}, unauthorized("the API key is not valid")
	case err != nil:
		return postrider.APIKey{}, err
	case subtle.ConstantTimeCompare([]byte(key.Hash), []byte(hash)) != 1, !key.LiveAt(k.now()):
		return postrider.APIKey{}, unauthorized("the API key is not valid")
	}
	return key, nil
}

// recordUse writes a key's last use, unless that was written lately. A failure is logged and
// does not fail the request.
func (k *keyring) recordUse(ctx context.Context, key postrider.APIKey, now time.Time) {
	if !key.LiveAt(now) || key.LastUsedAt != nil && now.Sub(*key.LastUsedAt) < keyUse {
		return
	}
	if err := k.store.UsedAPIKey(ctx, key.ID, now); err != nil {
		k.logger.LogAttrs(ctx, slog.LevelWarn, "could not record the use of an API key", slog.String("key_id", key.ID), slog.Any("error", err))
	}
}

// lookUp returns the key with the hash, from the cache or from the store. Returns
// [postrider.CodeLimited] while too many unknown keys are tried.
func (k *keyring) lookUp(ctx context.Context, hash string) (postrider.APIKey, error) {
	now, revocations := k.now(), k.store.Revocations()
	k.mu.Lock()
	entry, found := k.cached[hash]
	k.mu.Unlock()
	if found && now.Before(entry.until) && entry.revocations == revocations {
		return entry.key, nil
	}
	if !found && k.failures.TokensAt(now) < 1 {
		return postrider.APIKey{}, &postrider.Error{
			Code: postrider.CodeLimited, Message: "too many keys that are not known here are being tried; try again",
		}
	}
	key, err := k.store.APIKeyByHash(ctx, hash)
	if err != nil {
		if postrider.CodeOf(err) == postrider.CodeNotFound {
			k.failures.AllowN(now, 1)
		}
		return key, err
	}
	k.recordUse(ctx, key, now)
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.cached) >= maxKeys {
		k.evict(now)
	}
	k.cached[hash] = cachedKey{key: key, until: now.Add(keyTTL), revocations: revocations}
	return key, nil
}

// evict removes stale keys from the cache, or all keys if no key is stale.
func (k *keyring) evict(now time.Time) {
	for hash, entry := range k.cached {
		if !now.Before(entry.until) {
			delete(k.cached, hash)
		}
	}
	if len(k.cached) >= maxKeys {
		clear(k.cached)
	}
}

func unauthorized(message string) error {
	return &postrider.Error{Code: postrider.CodeUnauthorized, Message: message}
}
