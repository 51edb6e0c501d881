package postrider

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"time"
	"unicode/utf8"
)

// Workspace is a tenant. Every webhook, event and key belongs to exactly one.
type Workspace struct {
	ID        string
	Name      string
	CreatedAt time.Time
}

// Scope is a permission of an API key.
type Scope string

// The scopes.
const (
	ScopePublish Scope = "publish" // publish events
	ScopeManage  Scope = "manage"  // create, change, test and delete webhooks
	ScopeRead    Scope = "read"    // read everything except secrets
	ScopeSecrets Scope = "secrets" // reveal and rotate signing secrets
	ScopeAdmin   Scope = "admin"   // workspaces and keys
)

// Scopes returns every scope.
func Scopes() []Scope {
	return []Scope{ScopePublish, ScopeManage, ScopeRead, ScopeSecrets, ScopeAdmin}
}

// Validate returns every rule that the workspace breaks.
func (w Workspace) Validate() []FieldError { return checkName(nil, w.Name) }

func checkName(broken []FieldError, name string) []FieldError {
	if n := utf8.RuneCountInString(name); n < 1 || n > MaxNameLength {
		broken = append(broken, FieldError{Field: "name", Message: fmt.Sprintf("must be from 1 to %d characters", MaxNameLength), Value: name})
	}
	return broken
}

// APIKey is a workspace's key as it is stored: with its hash, without the key itself.
type APIKey struct {
	ID          string
	WorkspaceID string
	Name        string
	Hash        string // [HashAPIKey] of the key
	Scopes      []Scope
	CreatedAt   time.Time
	ExpiresAt   *time.Time // nil when it never expires
	RevokedAt   *time.Time // nil when it was not revoked
	LastUsedAt  *time.Time // precise to about a minute; nil when it was never used
}

// Allows reports whether the key has the scope.
func (k APIKey) Allows(s Scope) bool { return slices.Contains(k.Scopes, s) }

// LiveAt reports whether the key may be used at t.
func (k APIKey) LiveAt(t time.Time) bool {
	return k.RevokedAt == nil && (k.ExpiresAt == nil || t.Before(*k.ExpiresAt))
}

// Validate returns every rule that a new key breaks. now is the time of its creation.
func (k APIKey) Validate(now time.Time) []FieldError {
	broken := checkName(nil, k.Name)
	if len(k.Scopes) == 0 {
		broken = append(broken, FieldError{Field: "scopes", Message: "must name at least one scope"})
	}
	for i, scope := range k.Scopes {
		field := fmt.Sprintf("scopes[%d]", i)
		switch {
		case !slices.Contains(Scopes(), scope):
			broken = append(broken, FieldError{Field: field, Message: "must be one of publish, manage, read, secrets, admin", Value: string(scope)})
		case slices.Contains(k.Scopes[:i], scope):
			broken = append(broken, FieldError{Field: field, Message: "must not be named twice", Value: string(scope)})
		}
	}
	if k.ExpiresAt != nil && !k.ExpiresAt.After(now) {
		broken = append(broken, FieldError{Field: "expires_at", Message: "must be in the future", Value: k.ExpiresAt})
	}
	return broken
}

// apiKeyPrefix lets secret scanners find leaked keys.
const apiKeyPrefix = "prk_"

// NewAPIKeySecret returns a new key, as callers send it in X-API-Key: 256 random bits. It is
// shown once and never stored.
func NewAPIKeySecret(entropy io.Reader) (string, error) {
	var raw [32]byte
	if _, err := io.ReadFull(entropy, raw[:]); err != nil {
		return "", err
	}
	return apiKeyPrefix + base64.RawURLEncoding.EncodeToString(raw[:]), nil
}

// Issue returns the key as it is stored, with id, hash and times, and the secret that its owner
// sends. The secret comes from entropy and is shown once. Issue returns an error with
// [CodeInvalid] when the key breaks a rule.
func (k APIKey) Issue(ids *IDs, entropy io.Reader, now time.Time) (APIKey, string, error) {
	if err := Invalid(k.Validate(now)); err != nil {
		return k, "", err
	}
	secret, err := NewAPIKeySecret(entropy)
	if err != nil {
		return k, "", err
	}
	k.ID, k.Hash, k.CreatedAt = ids.New(PrefixAPIKey), HashAPIKey(secret), Timestamp(now)
	if k.ExpiresAt != nil {
		end := Timestamp(*k.ExpiresAt)
		k.ExpiresAt = &end
	}
	return k, secret, nil
}

// HashAPIKey returns the hex SHA-256 of a key, by which it is stored and looked up. A key has
// 256 random bits, so a slow password hash would not make it safer.
func HashAPIKey(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:])
}
