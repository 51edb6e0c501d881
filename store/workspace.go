package store

import (
	"context"
	"encoding/json"

	"postrider"
)

// CreateWorkspace stores a workspace. Returns [postrider.CodeConflict] when its id
// is taken.
func (s *Store) CreateWorkspace(ctx context.Context, w postrider.Workspace) error {
	st := sqlOf("INSERT INTO workspaces (id, name, created_at) VALUES (?, ?, ?)", w.ID, w.Name, postrider.Timestamp(w.CreatedAt))
	return failure("create a workspace", st.run(ctx, s.db))
}

// FirstWorkspace returns the oldest workspace. Returns [postrider.CodeNotFound]
// when there is none.
func (s *Store) FirstWorkspace(ctx context.Context) (postrider.Workspace, error) {
	var row struct {
		ID        string
		Name      string
		CreatedAt moment `db:"created_at"`
	}
	err := sqlOf("SELECT id, name, created_at FROM workspaces ORDER BY created_at, id LIMIT 1").get(ctx, s.reading, &row)
	if err != nil {
		return postrider.Workspace{}, failure("read the first workspace", none("workspace", err))
	}
	return postrider.Workspace{ID: row.ID, Name: row.Name, CreatedAt: row.CreatedAt.Time}, nil
}

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
	var row struct {
		ID          string
		WorkspaceID string `db:"workspace_id"`
		Name        string
		Hash        string
		Scopes      string
		CreatedAt   moment  `db:"created_at"`
		ExpiresAt   *moment `db:"expires_at"`
		RevokedAt   *moment `db:"revoked_at"`
	}
	st := sqlOf("SELECT id, workspace_id, name, hash, scopes, created_at, expires_at, revoked_at FROM api_keys WHERE hash = ?", hash)
	if err := st.get(ctx, s.reading, &row); err != nil {
		return postrider.APIKey{}, failure("read an API key", none("API key", err))
	}
	key := postrider.APIKey{
		ID: row.ID, WorkspaceID: row.WorkspaceID, Name: row.Name, Hash: row.Hash,
		CreatedAt: row.CreatedAt.Time, ExpiresAt: timeOf(row.ExpiresAt), RevokedAt: timeOf(row.RevokedAt),
	}
	return key, failure("read an API key", json.Unmarshal([]byte(row.Scopes), &key.Scopes))
}
