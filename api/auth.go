package api

import (
	"context"
	"crypto/subtle"
	"log/slog"
	"sync"
	"time"

	"postrider.dev/postrider"
)

// headerAPIKey carries the workspace's key.
const headerAPIKey = "X-API-Key" //nolint:gosec // the header, not a key

// A key that was looked up is trusted for keyTTL without asking again, unless the
// process hears of a revocation, so that one is seen within that time at the latest.
const (
	keyTTL    = 3 * time.Second
	keyUse    = time.Minute // a key's last use is noted so often at most, for each process
	maxKeys   = 1024
	maxKeyLen = 256 // longer ones are not even hashed
)

// keyStore finds API keys.
type keyStore interface {
	// APIKeyByHash returns a key by [postrider.HashAPIKey]. Returns
	// [postrider.CodeNotFound] if there is none.
	APIKeyByHash(ctx context.Context, hash string) (postrider.APIKey, error)
	// Revocations is another number than before when a key was revoked since, as far
	// as this process knows.
	Revocations() int64
	// UsedAPIKey notes that a key was used.
	UsedAPIKey(ctx context.Context, id string, at time.Time) error
}

// keyring authenticates keys, and remembers the good ones for a moment: a
// publisher sends the same key thousands of times a second. Bad keys are not
// remembered, so that nobody can fill it with them. It is safe for concurrent use.
type keyring struct {
	store  keyStore
	now    func() time.Time
	logger *slog.Logger

	mu    sync.Mutex
	known map[string]knownKey // by hash
}

type knownKey struct {
	key         postrider.APIKey
	until       time.Time
	revocations int64 // before it was looked up
}

func newKeyring(store keyStore, now func() time.Time, logger *slog.Logger) *keyring {
	return &keyring{store: store, now: now, logger: logger, known: map[string]knownKey{}}
}

// authenticate returns the stored key that the caller's is. Returns
// [postrider.CodeUnauthorized] if it is missing, unknown, expired or revoked.
func (k *keyring) authenticate(ctx context.Context, given string) (postrider.APIKey, error) {
	if given == "" {
		return postrider.APIKey{}, unauthorized("the " + headerAPIKey + " header is required")
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

// note notes a key's use, when that was not done lately. It is best effort: whether
// a key is old and unused does not hang on one request.
func (k *keyring) note(ctx context.Context, key postrider.APIKey, now time.Time) {
	if !key.LiveAt(now) || key.LastUsedAt != nil && now.Sub(*key.LastUsedAt) < keyUse {
		return
	}
	if err := k.store.UsedAPIKey(ctx, key.ID, now); err != nil {
		k.logger.LogAttrs(ctx, slog.LevelWarn, "an API key's use was not noted", slog.String("key_id", key.ID), slog.Any("error", err))
	}
}

func (k *keyring) lookUp(ctx context.Context, hash string) (postrider.APIKey, error) {
	now, revocations := k.now(), k.store.Revocations()
	k.mu.Lock()
	entry, found := k.known[hash]
	k.mu.Unlock()
	if found && now.Before(entry.until) && entry.revocations == revocations {
		return entry.key, nil
	}
	key, err := k.store.APIKeyByHash(ctx, hash)
	if err != nil {
		return key, err
	}
	k.note(ctx, key, now)
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.known) >= maxKeys {
		k.makeRoom(now)
	}
	k.known[hash] = knownKey{key: key, until: now.Add(keyTTL), revocations: revocations}
	return key, nil
}

// makeRoom forgets what is stale, or everything when nothing is.
func (k *keyring) makeRoom(now time.Time) {
	for hash, entry := range k.known {
		if !now.Before(entry.until) {
			delete(k.known, hash)
		}
	}
	if len(k.known) >= maxKeys {
		clear(k.known)
	}
}

func unauthorized(message string) error {
	return &postrider.Error{Code: postrider.CodeUnauthorized, Message: message}
}
