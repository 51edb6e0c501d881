package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/jmoiron/sqlx"

	"postrider.dev/postrider"
	"postrider.dev/postrider/store/sqldb"
)

// Operational events are stored in the transaction of what they tell, as a row each, and published
// in steps after it, like any other event: a record that others share neither matches webhooks for
// them nor makes deliveries. A row goes in the transaction that publishes it, so that its event is
// published once, whatever crashes. docs/decisions/0017-operational-events.md says why.

// operationalChunk is the most operational events of a step. One takes some 10 ms.
const operationalChunk = 100

// operationalRow is a row of the table operational_events: an event that has still to be published.
type operationalRow struct {
	ID          string
	WorkspaceID string `db:"workspace_id"`
	Type        string
	ResourceID  string     `db:"resource_id"`
	Data        string     // JSON
	CreatedAt   sqldb.Time `db:"created_at"`
}

// emit stores operational events in the transaction of what they tell; they are published after it.
// Events that no webhook subscribes to are left out: the transaction asks the database, once for
// all of them and not what this process remembers, which may be too old.
func (s *Store) emit(ctx context.Context, tx *sqlx.Tx, events ...postrider.OperationalEvent) error {
	subscribed := matches{}
	for _, e := range events {
		subscribed[keyOfOperational(e)] = nil
	}
	if err := readMatches(ctx, s.db, tx, slices.Collect(maps.Keys(subscribed)), subscribed); err != nil {
		return err
	}
	var rows []operationalRow
	for _, e := range events {
		if len(subscribed[keyOfOperational(e)]) == 0 {
			continue
		}
		data, err := jsonText(e.Data)
		if err != nil {
			return err
		}
		rows = append(rows, operationalRow{
			ID: s.IDs.New(postrider.PrefixOperational), WorkspaceID: e.WorkspaceID, Type: e.Type, ResourceID: e.ResourceID,
			Data: data, CreatedAt: sqldb.TimeOf(s.now()),
		})
	}
	if len(rows) == 0 {
		return nil
	}
	_, err := operationalRows.Write(ctx, s.db, tx, operationalTable.Rows(rows))
	return err
}

// keyOfOperational returns what the event matches by: it is no persona's.
func keyOfOperational(e postrider.OperationalEvent) matchKey {
	return matchKey{workspaceID: e.WorkspaceID, eventType: e.Type}
}

// tellsOfFailure returns the event that a delivery has failed, and none for the delivery of an
// operational event: those never make another. attempt is what it failed by; nil for another reason.
func (d *deliveryUpdate) tellsOfFailure(attempt *postrider.Attempt) []postrider.OperationalEvent {
	if postrider.Operational(d.EventType) {
		return nil
	}
	data := postrider.FailedDelivery{
		DeliveryID: d.ID, WebhookID: d.WebhookID, EventID: d.EventID, EventType: d.EventType,
		AttemptCount: d.AttemptCount, LastError: d.LastError, FailedAt: d.FinishedAt.Time,
	}
	if attempt != nil {
		data.Result, data.StatusCode = &attempt.Result, attempt.StatusCode
	}
	return []postrider.OperationalEvent{{
		WorkspaceID: d.WorkspaceID, Type: postrider.EventDeliveryFailed, ResourceID: d.ID, Data: data,
	}}
}

// PublishOperational makes one step: some of the operational events of a workspace are published.
// Workspaces take turns. It reports whether another step is due now.
func (s *Store) PublishOperational(ctx context.Context) (more bool, err error) {
	waiting, err := s.nextOperational(ctx)
	if err != nil || len(waiting) == 0 {
		return false, sqldb.Failure("look for operational events", err)
	}
	n := len(waiting)
	for ; n > 0; n /= 2 { // filters may take too long for so many, or more deliveries have an order than a publication may make
		err = s.publishOperational(ctx, waiting[:n])
		if code := postrider.CodeOf(err); code != postrider.CodeUnavailable && code != postrider.CodeInvalid {
			break
		}
	}
	if n == 0 && postrider.CodeOf(err) == postrider.CodeInvalid { // the others must not wait for it for ever
		err = errors.Join(err, s.dropOperational(ctx, waiting[0].ID))
	}
	if err != nil {
		err = fmt.Errorf("operational events of workspace %s: %w", waiting[0].WorkspaceID, err)
	}
	return true, err
}

// dropOperational gives up an operational event that cannot be published.
func (s *Store) dropOperational(ctx context.Context, id string) error {
	return s.db.Delivering.Write(ctx, "drop an operational event", func(tx *sqlx.Tx) error {
		return sqldb.SQL("DELETE FROM operational_events WHERE id = ?", id).Run(ctx, tx)
	})
}

// nextOperational reads the oldest events of the workspace whose turn it is.
func (s *Store) nextOperational(ctx context.Context) ([]operationalRow, error) {
	s.operationalTurn.Lock()
	defer s.operationalTurn.Unlock()
	for _, after := range slices.Compact([]string{s.operationalTurn.workspaceID, ""}) {
		var rows []operationalRow
		err := sqldb.SQL(selectOperational+"workspace_id = (SELECT MIN(workspace_id) FROM operational_events WHERE workspace_id > ?)"+
			" ORDER BY workspace_id, id LIMIT ?", after, operationalChunk).Select(ctx, s.db.Delivering.Reading, &rows)
		if err != nil {
			return nil, err
		}
		if len(rows) > 0 {
			s.operationalTurn.workspaceID = rows[0].WorkspaceID
			return rows, nil
		}
	}
	s.operationalTurn.workspaceID = ""
	return nil, nil
}

// publishOperational publishes events of one workspace, and takes their rows. It does nothing where
// another process is at one of them.
func (s *Store) publishOperational(ctx context.Context, waiting []operationalRow) error {
	p := publication{Publication: postrider.Publication{WorkspaceID: waiting[0].WorkspaceID}, verdicts: filterVerdicts{}}
	for _, row := range waiting {
		key := s.IDs.New(postrider.PrefixEvent)
		e := postrider.Event{
			Key: key, ID: key, WorkspaceID: row.WorkspaceID, Type: row.Type, Timestamp: row.CreatedAt.Time, CreatedAt: s.now(),
		}
		var err error
		if e.Body, err = postrider.RenderBody(e, json.RawMessage(row.Data)); err != nil {
			return err
		}
		p.Events = append(p.Events, postrider.PublishedEvent{Event: e})
		p.takes = append(p.takes, row.ID)
	}
	if _, err := s.publishJudged(ctx, p); postrider.CodeOf(err) != postrider.CodeConflict {
		return err
	}
	return nil
}

// takeOperational deletes the rows of operational events that are published. Returns
// [postrider.CodeConflict], and deletes none, when another process has published one of them, or is
// at it.
func (s *Store) takeOperational(ctx context.Context, tx *sqlx.Tx, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	free, err := sqldb.SQL("SELECT id FROM operational_events WHERE id IN").In(ids).Add(s.db.Lock("FOR UPDATE SKIP LOCKED")).Strings(ctx, tx)
	switch {
	case err != nil:
		return err
	case len(free) < len(ids):
		return &postrider.Error{Code: postrider.CodeConflict, Message: "another process publishes these operational events"}
	}
	return sqldb.SQL("DELETE FROM operational_events WHERE id IN").In(ids).Run(ctx, tx)
}
