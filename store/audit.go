package store

import (
	"context"
	"encoding/json"
	"time"

	"github.com/jmoiron/sqlx"

	"postrider.dev/postrider"
	"postrider.dev/postrider/store/sqldb"
)

// auditRow is a row of the table audit.
type auditRow struct {
	ID          string
	WorkspaceID string `db:"workspace_id"`
	Actor       string
	Route       string
	RequestID   string `db:"request_id"`
	Action      postrider.AuditAction
	ResourceID  string     `db:"resource_id"`
	Changes     string     // JSON
	CreatedAt   sqldb.Time `db:"created_at"`
}

func (r auditRow) cursor() string { return r.ID }

func (r auditRow) item() (postrider.AuditEntry, error) {
	entry := postrider.AuditEntry{
		ID: r.ID, WorkspaceID: r.WorkspaceID, At: r.CreatedAt.Time,
		Caller: postrider.Caller{Actor: r.Actor, Route: r.Route, RequestID: r.RequestID},
		Action: r.Action, ResourceID: r.ResourceID,
	}
	return entry, json.Unmarshal([]byte(r.Changes), &entry.Changes)
}

// audit stores entries in the transaction of the changes that they tell, so that neither is without the
// other. Who made them is the context's caller, see [postrider.WithCaller].
func (s *Store) audit(ctx context.Context, tx *sqlx.Tx, entries ...postrider.AuditEntry) error {
	for i := range entries {
		entries[i].Caller = postrider.CallerOf(ctx)
	}
	return s.insertAudit(ctx, tx, entries)
}

// insertAudit stores entries that have their callers.
func (s *Store) insertAudit(ctx context.Context, tx *sqlx.Tx, entries []postrider.AuditEntry) error {
	rows := make([]auditRow, len(entries))
	for i, e := range entries {
		changes := []byte("[]")
		if len(e.Changes) > 0 {
			var err error
			if changes, err = json.Marshal(e.Changes); err != nil {
				return err
			}
		}
		rows[i] = auditRow{
			ID: s.IDs.New(postrider.PrefixAudit), WorkspaceID: e.WorkspaceID, Actor: e.Actor, Route: e.Route, RequestID: e.RequestID,
			Action: e.Action, ResourceID: e.ResourceID, Changes: string(changes), CreatedAt: sqldb.TimeOf(s.now()),
		}
	}
	_, err := auditTable.Insert(ctx, tx, rows...)
	return err
}

// Audit lists who did what to a workspace and its resources, newest first.
func (s *Store) Audit(
	ctx context.Context, workspaceID string, f postrider.AuditFilter, p postrider.Page,
) (postrider.List[postrider.AuditEntry], error) {
	list, err := listOf[auditRow](ctx, s.db.Reading, auditOf(workspaceID, f), p)
	return list, sqldb.Failure("list the audit log", err)
}

// auditOf returns the list of a workspace's entries. One of actor and resource is looked up, by the
// index that has it.
func auditOf(workspaceID string, f postrider.AuditFilter) listing {
	l := listing{
		rows: sqldb.SQL(selectAudit), table: "audit", walk: (&sqldb.Statement{}).PinnedTo("workspace_id", workspaceID),
		filter: &sqldb.Statement{}, order: []string{"workspace_id"},
	}
	pin := func(column, value string) {
		l.walk.Add(" AND ").PinnedTo(column, value)
		l.order = append(l.order, column)
	}
	switch {
	case f.ResourceID != "":
		pin("resource_id", f.ResourceID)
		if f.Actor != "" {
			l.filter.Add(" AND actor || '' = ?", f.Actor)
		}
	case f.Actor != "":
		pin("actor", f.Actor)
	}
	l.order = append(l.order, "id")
	if f.Action != "" {
		l.filter.Add(" AND action = ?", f.Action)
	}
	if !f.Since.IsZero() {
		l.walk.Add(" AND id >= ?", postrider.IDFloor(postrider.PrefixAudit, f.Since))
	}
	if !f.Until.IsZero() {
		l.walk.Add(" AND id < ?", postrider.IDFloor(postrider.PrefixAudit, f.Until))
	}
	return l
}

// RetainAudit removes entries of the audit log from before the given time, in steps. It calls progress
// with how many are removed.
func (s *Store) RetainAudit(ctx context.Context, before time.Time, progress func(removed int64)) error {
	return s.deleteInSteps(ctx, "delete old entries of the audit log", progress, func() *sqldb.Statement {
		return sqldb.SQL("DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE id < ? ORDER BY id LIMIT ?)",
			postrider.IDFloor(postrider.PrefixAudit, before), retainChunk)
	})
}

// deleteInSteps runs a statement that deletes up to retainChunk rows until it finds less, each time in a
// transaction of its own. It calls progress with how many rows are deleted.
func (s *Store) deleteInSteps(ctx context.Context, name string, progress func(removed int64), step func() *sqldb.Statement) error {
	for total := int64(0); ; {
		var gone int64
		err := s.db.Delivering.Write(ctx, name, func(tx *sqlx.Tx) (err error) {
			gone, err = step().Affect(ctx, tx)
			return err
		})
		if err != nil {
			return err
		}
		if total += gone; gone > 0 {
			progress(total)
		}
		if gone < retainChunk {
			return nil
		}
	}
}
