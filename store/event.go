package store

import (
	"context"

	"postrider.dev/postrider"
	"postrider.dev/postrider/store/sqldb"
)

// eventRow is a row of the table events.
type eventRow struct {
	Key         string
	ID          string
	WorkspaceID string `db:"workspace_id"`
	Type        string
	PersonaID   *string     `db:"persona_id"`
	OccurredAt  sqldb.Time  `db:"occurred_at"`
	DeliverAt   *sqldb.Time `db:"deliver_at"`
	Body        []byte
	CreatedAt   sqldb.Time `db:"created_at"`
}

func (r eventRow) cursor() string { return r.Key }

func (r eventRow) item() (postrider.Event, error) {
	return postrider.Event{
		Key: r.Key, ID: r.ID, WorkspaceID: r.WorkspaceID, Type: r.Type, PersonaID: r.PersonaID,
		Timestamp: r.OccurredAt.Time, DeliverAt: r.DeliverAt.Pointer(), Body: r.Body, CreatedAt: r.CreatedAt.Time,
	}, nil
}

// Event returns an event by its public id. Returns [postrider.CodeNotFound] if it
// is unknown, past its retention or another workspace's.
func (s *Store) Event(ctx context.Context, workspaceID, id string) (postrider.Event, error) {
	e, err := s.event(ctx, workspaceID, id)
	return e, sqldb.Failure("read an event", err)
}

func (s *Store) event(ctx context.Context, workspaceID, id string) (postrider.Event, error) {
	// Most public ids are keys, and a key says which partition holds the event.
	var rows []eventRow
	err := sqldb.SQL(selectEvents+"key = ? AND id = key AND workspace_id = ?", id, workspaceID).Select(ctx, s.db.Reading, &rows)
	if err == nil && len(rows) == 0 {
		err = sqldb.SQL(selectEvents+"workspace_id = ? AND id = ? AND id <> key", workspaceID, id).
			Select(ctx, s.db.Reading, &rows)
	}
	if err != nil {
		return postrider.Event{}, err
	}
	if len(rows) == 0 {
		return postrider.Event{}, postrider.NotFound("event")
	}
	return rows[0].item()
}

// Events lists a workspace's events, newest first and without their bodies; its cursor is an
// event's Key.
func (s *Store) Events(
	ctx context.Context, workspaceID string, f postrider.EventFilter, p postrider.Page,
) (postrider.List[postrider.Event], error) {
	list, err := listOf[eventRow](ctx, s.db.Reading, eventsOf(workspaceID, f), p)
	return list, sqldb.Failure("list events", err)
}

// eventsOf returns the list of a workspace's events.
func eventsOf(workspaceID string, f postrider.EventFilter) listing {
	l := listing{
		rows: sqldb.SQL(selectEventsWithoutBodies), table: "events", walk: (&sqldb.Statement{}).PinnedTo("workspace_id", workspaceID),
		filter: &sqldb.Statement{}, order: []string{"workspace_id", "key"},
	}
	if f.Type != "" {
		l.filter.Add(" AND type = ?", f.Type)
	}
	if !f.Since.IsZero() {
		l.walk.Add(" AND key >= ?", postrider.IDFloor(postrider.PrefixEvent, f.Since))
	}
	if !f.Until.IsZero() {
		l.walk.Add(" AND key < ?", postrider.IDFloor(postrider.PrefixEvent, f.Until))
	}
	return l
}
