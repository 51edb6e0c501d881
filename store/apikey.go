package store

import (
	"context"
	"encoding/json"
	"time"

	"postrider.dev/postrider"
)

type apiKeyRow struct {
	ID          string
	WorkspaceID string `db:"workspace_id"`
	Name        string
	Hash        string
	Scopes      string
	CreatedAt   moment  `db:"created_at"`
	ExpiresAt   *moment `db:"expires_at"`
	RevokedAt   *moment `db:"revoked_at"`
	LastUsedAt  *moment `db:"last_used_at"`
}

func (r apiKeyRow) item() (postrider.APIKey, error) {
	key := postrider.APIKey{
		ID: r.ID, WorkspaceID: r.WorkspaceID, Name: r.Name, Hash: r.Hash, CreatedAt: r.CreatedAt.Time,
		ExpiresAt: timeOf(r.ExpiresAt), RevokedAt: timeOf(r.RevokedAt), LastUsedAt: timeOf(r.LastUsedAt),
	}
	return key, json.Unmarshal([]byte(r.Scopes), &key.Scopes)
}

func (r apiKeyRow) cursor() string { return r.ID }

const selectAPIKeys = "SELECT id, workspace_id, name, hash, scopes, created_at, expires_at, revoked_at, last_used_at FROM api_keys WHERE " //nolint:gosec // hashes, not keys

// CreateAPIKey stores a key, by its hash. Returns [postrider.CodeConflict] when id
// or hash are taken or the workspace is unknown.
func (s *Store) CreateAPIKey(ctx context.Context, k postrider.APIKey) error {
	scopes, err := json.Marshal(k.Scopes)
	if err != nil {
		return failure("create an API key", err)
	}
	st := sqlOf(`INSERT INTO api_keys (id, workspace_id, name, hash, scopes, created_at, expires_at, revoked_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
		k.ID, k.WorkspaceID, k.Name, k.Hash, string(scopes), postrider.Timestamp(k.CreatedAt), stampOf(k.ExpiresAt), stampOf(k.RevokedAt))
	return failure("create an API key", st.run(ctx, s.db))
}

// APIKeyByHash returns the key with the hash, also an expired or revoked one.
// Returns [postrider.CodeNotFound] when there is none.
func (s *Store) APIKeyByHash(ctx context.Context, hash string) (postrider.APIKey, error) {
	var row apiKeyRow
	if err := sqlOf(selectAPIKeys+"hash = ?", hash).get(ctx, s.reading, &row); err != nil {
		return postrider.APIKey{}, failure("read an API key", none("API key", err))
	}
	key, err := row.item()
	return key, failure("read an API key", err)
}

// APIKeys lists a workspace's keys, newest first, expired and revoked ones too.
func (s *Store) APIKeys(ctx context.Context, workspaceID string, p postrider.Page) (postrider.List[postrider.APIKey], error) {
	list, err := listOf[apiKeyRow](ctx, s.reading, sqlOf(selectAPIKeys).only("workspace_id", workspaceID), p, "workspace_id", "id")
	return list, failure("list API keys", err)
}

// RevokeAPIKey ends a key for good; one that is revoked stays as it is. All processes
// are told, see [Store.Revocations]. Returns [postrider.CodeNotFound] when it is
// unknown.
func (s *Store) RevokeAPIKey(ctx context.Context, id string) error {
	ended, err := sqlOf("UPDATE api_keys SET revoked_at = COALESCE(revoked_at, ?) WHERE id = ?", s.now(), id).affect(ctx, s.db)
	switch {
	case err != nil:
		return failure("revoke an API key", err)
	case ended == 0:
		return postrider.NotFound("API key")
	}
	s.revoked(ctx)
	return nil
}

// UsedAPIKey notes that a key was used. An earlier time than the noted one changes
// nothing.
func (s *Store) UsedAPIKey(ctx context.Context, id string, at time.Time) error {
	at = postrider.Timestamp(at)
	st := sqlOf("UPDATE api_keys SET last_used_at = ? WHERE id = ? AND (last_used_at IS NULL OR last_used_at < ?)", at, id, at)
	return failure("note an API key's use", st.run(ctx, s.db))
}
