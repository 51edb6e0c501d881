package store

import (
	"context"

	"postrider.dev/postrider"
)

// CreateWorkspace stores a workspace. Returns [postrider.CodeConflict] when its id
// is taken.
func (s *Store) CreateWorkspace(ctx context.Context, w postrider.Workspace) error {
	st := sqlOf("INSERT INTO workspaces (id, name, created_at) VALUES (?, ?, ?)", w.ID, w.Name, postrider.Timestamp(w.CreatedAt))
	return failure("create a workspace", st.run(ctx, s.db))
}

type workspaceRow struct {
	ID        string
	Name      string
	CreatedAt moment `db:"created_at"`
}

func (r workspaceRow) item() (postrider.Workspace, error) {
	return postrider.Workspace{ID: r.ID, Name: r.Name, CreatedAt: r.CreatedAt.Time}, nil
}

func (r workspaceRow) cursor() string { return r.ID }

const selectWorkspaces = "SELECT id, name, created_at FROM workspaces "

// FirstWorkspace returns the oldest workspace. Returns [postrider.CodeNotFound]
// when there is none.
func (s *Store) FirstWorkspace(ctx context.Context) (postrider.Workspace, error) {
	return s.workspace(ctx, sqlOf(selectWorkspaces+"ORDER BY created_at, id LIMIT 1"))
}

// Workspace returns a workspace. Returns [postrider.CodeNotFound] when it is
// unknown.
func (s *Store) Workspace(ctx context.Context, id string) (postrider.Workspace, error) {
	return s.workspace(ctx, sqlOf(selectWorkspaces+"WHERE id = ?", id))
}

func (s *Store) workspace(ctx context.Context, st *statement) (postrider.Workspace, error) {
	var row workspaceRow
	if err := st.get(ctx, s.reading, &row); err != nil {
		return postrider.Workspace{}, failure("read a workspace", none("workspace", err))
	}
	return row.item()
}

// Workspaces lists the workspaces, newest first.
func (s *Store) Workspaces(ctx context.Context, p postrider.Page) (postrider.List[postrider.Workspace], error) {
	list, err := listOf[workspaceRow](ctx, s.reading, sqlOf(selectWorkspaces+"WHERE TRUE"), p, "id")
	return list, failure("list workspaces", err)
}
