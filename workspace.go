package postrider

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"io"
	"slices"
	"time"
)

// Workspace is one tenant: webhooks, events and keys belong to exactly one.
type Workspace struct {
	ID        string
	Name      string
	CreatedAt time.Time
}

// Scope is what an API key may do.
type Scope string

// The scopes.
const (
	ScopePublish Scope = "publish" // publish events
	ScopeManage  Scope = "manage"  // create, change, test and delete webhooks
	ScopeRead    Scope = "read"    // read everything but secrets
	ScopeSecrets Scope = "secrets" // reveal and rotate signing secrets
	ScopeAdmin   Scope = "admin"   // workspaces and keys
)

// Scopes returns every scope.
func Scopes() []Scope {
	return []Scope{ScopePublish, ScopeManage, ScopeRead, ScopeSecrets, ScopeAdmin}
}

// APIKey is what is stored of a workspace's key: its hash, never the key.
type APIKey struct {
	ID          string
	WorkspaceID string
	Name        string
	Hash        string // [HashAPIKey] of the key
	Scopes      []Scope
	CreatedAt   time.Time
	ExpiresAt   *time.Time // nil: never
	RevokedAt   *time.Time // nil: in use
}

// Allows reports whether the key has the scope.
func (k APIKey) Allows(s Scope) bool { return slices.Contains(k.Scopes, s) }

// LiveAt reports whether the key may be used at t.
func (k APIKey) LiveAt(t time.Time) bool {
	return k.RevokedAt == nil && (k.ExpiresAt == nil || t.Before(*k.ExpiresAt))
}

// apiKeyPrefix lets secret scanners recognise a leaked key.
const apiKeyPrefix = "prk_"

// NewAPIKeySecret returns a new key, as the caller sends it in X-API-Key: 256
// random bits. It is shown once and never stored.
func NewAPIKeySecret(entropy io.Reader) (string, error) {
	var raw [32]byte
	if _, err := io.ReadFull(entropy, raw[:]); err != nil {
		return "", err
	}
	return apiKeyPrefix + base64.RawURLEncoding.EncodeToString(raw[:]), nil
}

// HashAPIKey returns the hex SHA-256 of a key, by which it is stored and looked
// up. A key has 256 random bits, so a slow password hash would add nothing.
func HashAPIKey(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:])
}
