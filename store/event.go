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
	eventOptions
}

// eventOptions are the columns of an event that few events have. Those without them are written
// without these columns.
type eventOptions struct {
	ExpiresAt         *sqldb.Time `db:"expires_at"`
	WebhookID         *string     `db:"webhook_id"`
	OrderingKey       *string     `db:"ordering_key"`
	Headers           *string     // as headersRow has them; null without any
	HeadersKeyID      *string     `db:"headers_key_id"`
	HeadersCiphertext []byte      `db:"headers_ciphertext"`
	SchemaValid       *bool       `db:"schema_valid"` // false, or null

	CalledOffAt *sqldb.Time `db:"called_off_at"` // so that no replay takes it for missed
}

func (o eventOptions) given() bool {
	return o.ExpiresAt != nil || o.WebhookID != nil || o.OrderingKey != nil || o.Headers != nil || o.SchemaValid != nil
}

func (r eventRow) cursor() string { return r.Key }

//nolint:unparam // it implements listed
func (r eventRow) item() (postrider.Event, error) { return r.event(), nil }

// event returns the event without its headers, which the store decrypts.
func (r eventRow) event() postrider.Event {
	return postrider.Event{
		Key: r.Key, ID: r.ID, WorkspaceID: r.WorkspaceID, Type: r.Type, PersonaID: r.PersonaID,
		Timestamp: r.OccurredAt.Time, DeliverAt: r.DeliverAt.Pointer(), Body: r.Body, CreatedAt: r.CreatedAt.Time,
		ExpiresAt: r.ExpiresAt.Pointer(), WebhookID: r.WebhookID, OrderingKey: r.OrderingKey, SchemaValid: r.SchemaValid,
	}
}

// Event returns an event by its public id, with its headers. Returns [postrider.CodeNotFound] if
// it is unknown, past its retention or another workspace's.
func (s *Store) Event(ctx context.Context, workspaceID, id string) (postrider.Event, error) {
	row, err := s.event(ctx, workspaceID, id)
	if err != nil {
		return postrider.Event{}, sqldb.Failure("read an event", err)
	}
	e := row.event()
	e.Headers, err = s.shownEventHeaders(ctx, row)
	return e, sqldb.Failure("read an event", err)
}

func (s *Store) event(ctx context.Context, workspaceID, id string) (eventRow, error) {
	// Most public ids are keys, and a key says which partition holds the event.
	var rows []eventRow
	err := sqldb.SQL(selectEvents+"key = ? AND id = key AND workspace_id = ?", id, workspaceID).Select(ctx, s.db.Reading, &rows)
	if err == nil && len(rows) == 0 {
		err = sqldb.SQL(selectEvents+"workspace_id = ? AND id = ? AND id <> key", workspaceID, id).
			Select(ctx, s.db.Reading, &rows)
	}
	if err != nil {
		return eventRow{}, err
	}
	if len(rows) == 0 {
		return eventRow{}, postrider.NotFound("event")
	}
	return rows[0], nil
}

// Events lists a workspace's events, newest first and without bodies and headers; its cursor is an
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
