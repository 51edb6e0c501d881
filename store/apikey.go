package store

import (
	"context"
	"encoding/json"
	"time"

	"github.com/jmoiron/sqlx"

	"postrider.dev/postrider"
	"postrider.dev/postrider/store/sqldb"
)

// apiKeyRow is a row of the table api_keys.
type apiKeyRow struct {
	ID          string
	WorkspaceID string `db:"workspace_id"`
	Name        string
	Hash        string
	Scopes      string      // JSON
	CreatedAt   sqldb.Time  `db:"created_at"`
	ExpiresAt   *sqldb.Time `db:"expires_at"`
	RevokedAt   *sqldb.Time `db:"revoked_at"`
	LastUsedAt  *sqldb.Time `db:"last_used_at"`
}

func (r apiKeyRow) item() (postrider.APIKey, error) {
	key := postrider.APIKey{
		ID: r.ID, WorkspaceID: r.WorkspaceID, Name: r.Name, Hash: r.Hash, CreatedAt: r.CreatedAt.Time,
		ExpiresAt: r.ExpiresAt.Pointer(), RevokedAt: r.RevokedAt.Pointer(), LastUsedAt: r.LastUsedAt.Pointer(),
	}
	return key, json.Unmarshal([]byte(r.Scopes), &key.Scopes)
}

func (r apiKeyRow) cursor() string { return r.ID }

// CreateAPIKey stores a key, by its hash. Returns [postrider.CodeConflict] when id
// or hash are taken or the workspace is unknown.
func (s *Store) CreateAPIKey(ctx context.Context, k postrider.APIKey) error {
	scopes, err := json.Marshal(k.Scopes)
	if err != nil {
		return sqldb.Failure("create an API key", err)
	}
	row := apiKeyRow{
		ID: k.ID, WorkspaceID: k.WorkspaceID, Name: k.Name, Hash: k.Hash, Scopes: string(scopes), CreatedAt: sqldb.TimeOf(k.CreatedAt),
		ExpiresAt: sqldb.NullTime(k.ExpiresAt), RevokedAt: sqldb.NullTime(k.RevokedAt),
	}
	return s.db.Write(ctx, "create an API key", func(tx *sqlx.Tx) error {
		if _, err := apiKeysTable.Insert(ctx, tx, row); err != nil {
			return err
		}
		return s.audit(ctx, tx, postrider.AuditEntry{
			WorkspaceID: k.WorkspaceID, Action: postrider.ActionCreateAPIKey, ResourceID: k.ID,
			Changes: postrider.Changes(nil, map[string]any{"name": k.Name, "scopes": k.Scopes, "expires_at": k.ExpiresAt}),
		})
	})
}

// APIKeyByHash returns the key with the hash, also an expired or revoked one.
// Returns [postrider.CodeNotFound] when there is none.
func (s *Store) APIKeyByHash(ctx context.Context, hash string) (postrider.APIKey, error) {
	var row apiKeyRow
	if err := sqldb.SQL(selectAPIKeys+"hash = ?", hash).Get(ctx, s.db.Authenticating, &row); err != nil {
		return postrider.APIKey{}, sqldb.Failure("read an API key", sqldb.OrNotFound("API key", err))
	}
	key, err := row.item()
	return key, sqldb.Failure("read an API key", err)
}

// APIKeys lists a workspace's keys, newest first, expired and revoked ones too.
func (s *Store) APIKeys(ctx context.Context, workspaceID string, p postrider.Page) (postrider.List[postrider.APIKey], error) {
	list, err := listOf[apiKeyRow](ctx, s.db.Reading, listing{
		rows: sqldb.SQL(selectAPIKeys), table: "api_keys", walk: (&sqldb.Statement{}).PinnedTo("workspace_id", workspaceID),
		order: []string{"workspace_id", "id"},
	}, p)
	return list, sqldb.Failure("list API keys", err)
}

// RevokeAPIKey ends a key for good; one that is revoked stays as it is. All processes
// are told, see [Store.Revocations]. Returns [postrider.CodeNotFound] when it is
// unknown.
func (s *Store) RevokeAPIKey(ctx context.Context, id string) error {
	err := s.db.Write(ctx, "revoke an API key", func(tx *sqlx.Tx) error {
		var key apiKeyRow
		if err := sqldb.SQL(selectAPIKeys+"id = ?"+s.db.Lock("FOR UPDATE"), id).Get(ctx, tx, &key); err != nil {
			return sqldb.OrNotFound("API key", err)
		}
		entry := postrider.AuditEntry{WorkspaceID: key.WorkspaceID, Action: postrider.ActionRevokeAPIKey, ResourceID: id}
		if key.RevokedAt == nil {
			now := s.now()
			if err := sqldb.SQL("UPDATE api_keys SET revoked_at = ? WHERE id = ?", now, id).Run(ctx, tx); err != nil {
				return err
			}
			entry.Changes = postrider.Changes(nil, map[string]any{"revoked_at": now})
		}
		return s.audit(ctx, tx, entry)
	})
	if err == nil {
		s.revoked(ctx)
	}
	return err
}

// UsedAPIKey notes that a key was used. A time before the noted one is ignored.
func (s *Store) UsedAPIKey(ctx context.Context, id string, at time.Time) error {
	at = postrider.Timestamp(at)
	st := sqldb.SQL("UPDATE api_keys SET last_used_at = ? WHERE id = ? AND (last_used_at IS NULL OR last_used_at < ?)", at, id, at)
	return sqldb.Failure("note an API key's use", st.Run(ctx, s.db.Writing))
}
