package store

import (
	"context"

	"github.com/jmoiron/sqlx"

	"postrider.dev/postrider"
	"postrider.dev/postrider/store/sqldb"
)

// CreateWorkspace stores a workspace. Returns [postrider.CodeConflict] when its id
// is taken.
func (s *Store) CreateWorkspace(ctx context.Context, w postrider.Workspace) error {
	return s.db.Write(ctx, "create a workspace", func(tx *sqlx.Tx) error {
		row := workspaceRow{ID: w.ID, Name: w.Name, CreatedAt: sqldb.TimeOf(w.CreatedAt)}
		if _, err := workspacesTable.Insert(ctx, tx, row); err != nil {
			return err
		}
		return s.audit(ctx, tx, postrider.AuditEntry{
			WorkspaceID: w.ID, Action: postrider.ActionCreateWorkspace, ResourceID: w.ID,
			Changes: postrider.Changes(nil, map[string]any{"name": w.Name}),
		})
	})
}

// workspaceRow is a row of the table workspaces as the store reads and writes it; its
// generation is the database's own.
type workspaceRow struct {
	ID        string
	Name      string
	CreatedAt sqldb.Time `db:"created_at"`
}

func (r workspaceRow) item() (postrider.Workspace, error) {
	return postrider.Workspace{ID: r.ID, Name: r.Name, CreatedAt: r.CreatedAt.Time}, nil
}

func (r workspaceRow) cursor() string { return r.ID }

// FirstWorkspace returns the oldest workspace. Returns [postrider.CodeNotFound]
// when there is none.
func (s *Store) FirstWorkspace(ctx context.Context) (postrider.Workspace, error) {
	return s.workspace(ctx, sqldb.SQL(selectWorkspaces+"TRUE ORDER BY created_at, id LIMIT 1"))
}

// Workspace returns a workspace. Returns [postrider.CodeNotFound] when it is
// unknown.
func (s *Store) Workspace(ctx context.Context, id string) (postrider.Workspace, error) {
	return s.workspace(ctx, sqldb.SQL(selectWorkspaces+"id = ?", id))
}

func (s *Store) workspace(ctx context.Context, st *sqldb.Statement) (postrider.Workspace, error) {
	var row workspaceRow
	if err := st.Get(ctx, s.db.Reading, &row); err != nil {
		return postrider.Workspace{}, sqldb.Failure("read a workspace", sqldb.OrNotFound("workspace", err))
	}
	return row.item()
}

// Workspaces lists the workspaces, newest first.
func (s *Store) Workspaces(ctx context.Context, p postrider.Page) (postrider.List[postrider.Workspace], error) {
	list, err := listOf[workspaceRow](ctx, s.db.Reading, listing{
		rows: sqldb.SQL(selectWorkspaces), table: "workspaces", walk: sqldb.SQL("TRUE"), order: []string{"id"},
	}, p)
	return list, sqldb.Failure("list workspaces", err)
}
