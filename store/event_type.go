package store

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/jmoiron/sqlx"

	"postrider.dev/postrider"
	"postrider.dev/postrider/catalogue"
	"postrider.dev/postrider/store/sqldb"
)

// eventTypeRow is a row of the table event_types.
type eventTypeRow struct {
	ID          string
	WorkspaceID string `db:"workspace_id"`
	Type        string
	Description *string
	eventTypeTexts
	Enforcement postrider.Enforcement
	Deprecated  bool
	ReplacedBy  *string    `db:"replaced_by"`
	CreatedAt   sqldb.Time `db:"created_at"`
	UpdatedAt   sqldb.Time `db:"updated_at"`
}

// eventTypeTexts are the columns of an event type that lists leave out, as they may be long.
type eventTypeTexts struct {
	Schema   *string
	SchemaID *string `db:"schema_id"`
	Example  *string
}

func (r eventTypeRow) cursor() string { return r.ID }

func (r eventTypeRow) item() (postrider.EventType, error) {
	return postrider.EventType{
		ID: r.ID, WorkspaceID: r.WorkspaceID, Type: r.Type,
		EventTypeSettings: postrider.EventTypeSettings{
			Description: r.Description, Schema: jsonOf(r.Schema), Example: jsonOf(r.Example),
			Enforcement: r.Enforcement, Deprecated: r.Deprecated, ReplacedBy: r.ReplacedBy,
		},
		CreatedAt: r.CreatedAt.Time, UpdatedAt: r.UpdatedAt.Time,
	}, nil
}

func eventTypeRowOf(e postrider.EventType) eventTypeRow {
	row := eventTypeRow{
		ID: e.ID, WorkspaceID: e.WorkspaceID, Type: e.Type, Description: e.Description, Enforcement: e.Enforcement,
		Deprecated: e.Deprecated, ReplacedBy: e.ReplacedBy, CreatedAt: sqldb.TimeOf(e.CreatedAt), UpdatedAt: sqldb.TimeOf(e.UpdatedAt),
		eventTypeTexts: eventTypeTexts{Schema: nullText(string(e.Schema)), Example: nullText(string(e.Example))},
	}
	if row.Schema != nil {
		id := catalogue.IDOf(e.Schema)
		row.SchemaID = &id
	}
	return row
}

func jsonOf(text *string) json.RawMessage {
	if text == nil {
		return nil
	}
	return json.RawMessage(*text)
}

// CreateEventType stores an event type and returns it with its times. Returns [postrider.CodeConflict] if the
// workspace has one of this type, or as many as it may.
func (s *Store) CreateEventType(ctx context.Context, e postrider.EventType) (postrider.EventType, error) {
	e.ID, e.CreatedAt = s.IDs.New(postrider.PrefixEventType), s.now()
	e.UpdatedAt = e.CreatedAt
	err := s.changeCatalogue(ctx, e.WorkspaceID, "create an event type", func(tx *sqlx.Tx) error {
		if _, err := s.eventType(ctx, tx, e.WorkspaceID, e.Type); postrider.CodeOf(err) != postrider.CodeNotFound {
			if err == nil {
				err = &postrider.Error{Code: postrider.CodeConflict, Message: "the catalogue has this type already; change it by PATCH"}
			}
			return err
		}
		var types int
		if err := sqldb.SQL("SELECT COUNT(*) FROM event_types WHERE workspace_id = ?", e.WorkspaceID).Get(ctx, tx, &types); err != nil {
			return err
		}
		if types >= postrider.MaxEventTypes {
			return &postrider.Error{Code: postrider.CodeConflict, Message: fmt.Sprintf(
				"the workspace has %d event types, as many as it may have; delete one", types)}
		}
		if _, err := eventTypesTable.Insert(ctx, tx, eventTypeRowOf(e)); err != nil {
			return err
		}
		return s.auditEventType(ctx, tx, postrider.ActionCreateEventType, nil, &e)
	})
	return e, err
}

// changeCatalogue runs a transaction that changes a workspace's event types. No publish goes on meanwhile, and no
// other such transaction; whoever remembers the catalogue reads it again.
func (s *Store) changeCatalogue(ctx context.Context, workspaceID, name string, change func(*sqlx.Tx) error) error {
	return s.db.Write(ctx, name, func(tx *sqlx.Tx) error {
		err := sqldb.SQL("UPDATE workspaces SET catalogue = ? WHERE id = ?", s.IDs.New(postrider.PrefixEventType), workspaceID).Run(ctx, tx)
		if err != nil {
			return err
		}
		return change(tx)
	})
}

// auditEventType stores what a caller changed of an event type; before is nil for a new one.
func (s *Store) auditEventType(
	ctx context.Context, tx *sqlx.Tx, action postrider.AuditAction, before, after *postrider.EventType,
) error {
	fields := func(e *postrider.EventType) any {
		if e == nil {
			return nil
		}
		return e.EventTypeSettings
	}
	return s.audit(ctx, tx, postrider.AuditEntry{
		WorkspaceID: after.WorkspaceID, Action: action, ResourceID: after.Type, Changes: postrider.Changes(fields(before), fields(after)),
	})
}

// EventType returns an event type of the catalogue. Returns [postrider.CodeNotFound] if it is not there.
func (s *Store) EventType(ctx context.Context, workspaceID, name string) (postrider.EventType, error) {
	e, err := s.eventType(ctx, s.db.Reading, workspaceID, name)
	return e, sqldb.Failure("read an event type", err)
}

func (s *Store) eventType(ctx context.Context, q sqldb.Querier, workspaceID, name string) (postrider.EventType, error) {
	var row eventTypeRow
	err := sqldb.SQL(selectEventTypes+"workspace_id = ? AND type = ?", workspaceID, name).Get(ctx, q, &row)
	if err != nil {
		return postrider.EventType{}, sqldb.OrNotFound("event type", err)
	}
	return row.item()
}

// EventTypes lists the catalogue, newest first and without schemas and examples.
func (s *Store) EventTypes(ctx context.Context, workspaceID string, p postrider.Page) (postrider.List[postrider.EventType], error) {
	list, err := listOf[eventTypeRow](ctx, s.db.Reading, listing{
		rows: sqldb.SQL(selectEventTypesShortly), table: "event_types",
		walk: (&sqldb.Statement{}).PinnedTo("workspace_id", workspaceID), order: []string{"workspace_id", "id"},
	}, p)
	return list, sqldb.Failure("list event types", err)
}

// UpdateEventType changes an event type by edit, in one transaction. An error of edit is returned as it is and
// changes nothing. Returns [postrider.CodeNotFound] if it is not there.
func (s *Store) UpdateEventType(
	ctx context.Context, workspaceID, name string, edit func(*postrider.EventType) error,
) (postrider.EventType, error) {
	var e postrider.EventType
	err := s.changeCatalogue(ctx, workspaceID, "update an event type", func(tx *sqlx.Tx) error {
		before, err := s.eventType(ctx, tx, workspaceID, name)
		if err != nil {
			return err
		}
		e = before
		if err := edit(&e); err != nil {
			return err
		}
		e.ID, e.WorkspaceID, e.Type, e.CreatedAt, e.UpdatedAt = before.ID, workspaceID, name, before.CreatedAt, s.now()
		row := eventTypeRowOf(e)
		changing := sqldb.ColumnsOf[eventTypeRow]().Except("id", "workspace_id", "type", "created_at")
		err = sqldb.SQL("UPDATE event_types SET "+changing.Assignments(), changing.Values(&row)...).Add(" WHERE id = ?", e.ID).Run(ctx, tx)
		if err != nil {
			return err
		}
		return s.auditEventType(ctx, tx, postrider.ActionUpdateEventType, &before, &e)
	})
	return e, err
}

// DeleteEventType takes an event type out of the catalogue; events of it go on being accepted. Returns
// [postrider.CodeNotFound] if it is not there.
func (s *Store) DeleteEventType(ctx context.Context, workspaceID, name string) error {
	return s.changeCatalogue(ctx, workspaceID, "delete an event type", func(tx *sqlx.Tx) error {
		deleted, err := sqldb.SQL("DELETE FROM event_types WHERE workspace_id = ? AND type = ?", workspaceID, name).Affect(ctx, tx)
		if err == nil && deleted == 0 {
			err = postrider.NotFound("event type")
		}
		if err != nil {
			return err
		}
		return s.audit(ctx, tx, postrider.AuditEntry{WorkspaceID: workspaceID, Action: postrider.ActionDeleteEventType, ResourceID: name})
	})
}
