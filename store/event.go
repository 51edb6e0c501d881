package store

import (
	"context"

	"postrider.dev/postrider"
)

type eventRow struct {
	Key         string
	ID          string
	WorkspaceID string `db:"workspace_id"`
	Type        string
	PersonaID   *string `db:"persona_id"`
	OccurredAt  moment  `db:"occurred_at"`
	DeliverAt   *moment `db:"deliver_at"`
	Body        []byte
	CreatedAt   moment `db:"created_at"`
}

const selectEvents = "SELECT key, id, workspace_id, type, persona_id, occurred_at, deliver_at, body, created_at FROM events WHERE "

func (r eventRow) cursor() string { return r.Key }

func (r eventRow) item() (postrider.Event, error) {
	return postrider.Event{
		Key: r.Key, ID: r.ID, WorkspaceID: r.WorkspaceID, Type: r.Type, PersonaID: r.PersonaID,
		Timestamp: r.OccurredAt.Time, DeliverAt: timeOf(r.DeliverAt), Body: r.Body, CreatedAt: r.CreatedAt.Time,
	}, nil
}

// Event returns an event by its public id. Returns [postrider.CodeNotFound] if it
// is unknown, past its retention or another workspace's.
func (s *Store) Event(ctx context.Context, workspaceID, id string) (postrider.Event, error) {
	e, err := s.event(ctx, workspaceID, id)
	return e, failure("read an event", err)
}

func (s *Store) event(ctx context.Context, workspaceID, id string) (postrider.Event, error) {
	// Most public ids are keys, and a key says in which partition it is.
	var rows []eventRow
	err := sqlOf(selectEvents+"key = ? AND id = key AND workspace_id = ?", id, workspaceID).selectInto(ctx, s.reading, &rows)
	if err == nil && len(rows) == 0 {
		err = sqlOf(selectEvents+"workspace_id = ? AND id = ? AND id <> key", workspaceID, id).
			selectInto(ctx, s.reading, &rows)
	}
	if err != nil {
		return postrider.Event{}, err
	}
	if len(rows) == 0 {
		return postrider.Event{}, postrider.NotFound("event")
	}
	return rows[0].item()
}

// Events lists a workspace's events, newest first; its cursor is an event's Key.
func (s *Store) Events(ctx context.Context, workspaceID string, f postrider.EventFilter, p postrider.Page) (postrider.List[postrider.Event], error) {
	st := sqlOf(selectEvents).only("workspace_id", workspaceID)
	if f.Type != "" {
		st.add(" AND type = ?", f.Type)
	}
	if !f.Since.IsZero() {
		st.add(" AND key >= ?", postrider.IDFloor(postrider.PrefixEvent, f.Since))
	}
	if !f.Until.IsZero() {
		st.add(" AND key < ?", postrider.IDFloor(postrider.PrefixEvent, f.Until))
	}
	list, err := listOf[eventRow](ctx, s.reading, st, p, "workspace_id", "key")
	return list, failure("list events", err)
}
