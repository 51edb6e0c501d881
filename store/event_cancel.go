package store

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/jmoiron/sqlx"

	"postrider.dev/postrider"
	"postrider.dev/postrider/store/sqldb"
)

// calledOffChunk is the most deliveries of a step of [Store.CancelEvent], and maxCalledOff about
// the most of one call.
const (
	calledOffChunk = 500
	maxCalledOff   = 100_000
)

// CancelEvent calls off every delivery of an event that is not finished, and returns how many:
// those that wait, whatever they wait for, those that are parked, and those that a fan-out has
// still to make. A request that is under way ends, and is recorded as an attempt. One call
// calls off some 100,000 at most; another one goes on, and 0 says that nothing is left. Returns
// [postrider.CodeNotFound] if the event is unknown, past its retention or another workspace's.
func (s *Store) CancelEvent(ctx context.Context, workspaceID, id string) (cancelled int, err error) {
	event, err := s.event(ctx, workspaceID, id)
	if err != nil {
		return 0, sqldb.Failure("cancel an event", err)
	}
	if err := s.auditCancelledEvent(ctx, event); err != nil {
		return 0, err
	}
	// First what would make more of them.
	if cancelled, err = s.cancelFanOuts(ctx, event); err != nil {
		return cancelled, err
	}
	for after := ""; cancelled < maxCalledOff; {
		open, err := sqldb.SQL("SELECT id FROM deliveries WHERE ").PinnedTo("event_key", event.Key).
			Add(" AND id > ? AND finished_at IS NULL ORDER BY event_key, id LIMIT ?", after, calledOffChunk).Strings(ctx, s.db.Reading)
		if err != nil || len(open) == 0 {
			return cancelled, sqldb.Failure("cancel an event", err)
		}
		after = open[len(open)-1]
		n, err := s.callOff(ctx, open)
		if cancelled += n; err != nil {
			return cancelled, err
		}
	}
	return cancelled, nil
}

// auditCancelledEvent says of the event, and in the audit log, that it is called off. The steps that do it follow,
// each a transaction of its own, so the entry comes before them all: nothing is done without it.
func (s *Store) auditCancelledEvent(ctx context.Context, event eventRow) error {
	return s.db.Write(ctx, "audit a cancelled event", func(tx *sqlx.Tx) error {
		if err := sqldb.SQL("UPDATE events SET called_off_at = ? WHERE key = ?", s.now(), event.Key).Run(ctx, tx); err != nil {
			return err
		}
		return s.audit(ctx, tx, postrider.AuditEntry{WorkspaceID: event.WorkspaceID, Action: postrider.ActionCancelEvent, ResourceID: event.ID})
	})
}

// cancelFanOuts takes the event out of the fan-outs that have still to make deliveries of it, and
// returns how many. It waits for steps that are under way.
func (s *Store) cancelFanOuts(ctx context.Context, event eventRow) (cancelled int, err error) {
	of := sqldb.SQL("SELECT id, events, total, done FROM fanouts WHERE ").PinnedTo("workspace_id", event.WorkspaceID).
		Add(" AND events LIKE ? ORDER BY id", `%"`+event.Key+`"%`)
	var open []fanOutRow
	if err := of.Select(ctx, s.db.Reading, &open); err != nil || len(open) == 0 {
		return 0, sqldb.Failure("cancel an event", err)
	}
	of.Add(s.db.Lock("FOR UPDATE"))
	err = s.db.Write(ctx, "cancel fan-outs", func(tx *sqlx.Tx) error {
		cancelled, open = 0, nil
		if err := of.Select(ctx, tx, &open); err != nil {
			return err
		}
		for _, row := range open {
			n, err := row.without(event.Key)
			if err == nil {
				err = row.goOn(ctx, tx)
			}
			if cancelled += n; err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil && cancelled > 0 {
		s.OnCancelled(cancelled)
	}
	return cancelled, err
}

// without takes an event out of the fan-out, as if it had never been in it, and returns how many
// deliveries of it were still to be made.
func (r *fanOutRow) without(key string) (open int, err error) {
	var keys []string
	if err := json.Unmarshal([]byte(r.Events), &keys); err != nil {
		return 0, err
	}
	at := slices.Index(keys, key)
	if at < 0 {
		return 0, nil
	}
	each := r.Total / len(keys) // deliveries of an event
	made := min(max(r.Done-at*each, 0), each)
	r.Total, r.Done = r.Total-each, r.Done-made
	r.Events, err = jsonText(slices.Delete(keys, at, at+1))
	return each - made, err
}

// goOn stores how far the fan-out has come, and of what; one that has nothing left to make is deleted.
func (r *fanOutRow) goOn(ctx context.Context, tx *sqlx.Tx) error {
	if r.Done == r.Total {
		return sqldb.SQL("DELETE FROM fanouts WHERE id = ?", r.ID).Run(ctx, tx)
	}
	return sqldb.SQL("UPDATE fanouts SET events = ?, total = ?, done = ? WHERE id = ?", r.Events, r.Total, r.Done, r.ID).Run(ctx, tx)
}

// calledOff is a delivery of an event that is called off.
type calledOff struct {
	ID          string
	WorkspaceID string `db:"workspace_id"`
	WebhookID   string `db:"webhook_id"`
}

// callOff makes those of the deliveries cancelled that are not finished, and returns how many.
func (s *Store) callOff(ctx context.Context, deliveryIDs []string) (cancelled int, err error) {
	err = s.db.Write(ctx, "cancel deliveries of an event", func(tx *sqlx.Tx) error {
		var open []calledOff
		err := sqldb.SQL("SELECT "+sqldb.ColumnsOf[calledOff]().List()+" FROM deliveries WHERE finished_at IS NULL AND ").
			InKeyRange("id", deliveryIDs).Add(" ORDER BY id"+s.db.Lock("FOR UPDATE")).Select(ctx, tx, &open)
		if cancelled = len(open); err != nil || cancelled == 0 {
			return err
		}
		ids := make([]string, len(open))
		for i, d := range open {
			ids[i] = d.ID
		}
		if _, err := s.cancelDeliveries(ctx, tx, ids, s.now()); err != nil {
			return err
		}
		if err := dropExpiries(ctx, tx, ids); err != nil {
			return err
		}
		return s.endCarriers(ctx, tx, open, ids)
	})
	if err != nil {
		return 0, err
	}
	s.OnCancelled(cancelled)
	s.notify() // others may have had to wait for them
	return cancelled, nil
}

// endCarriers drops the outbox rows of deliveries, and asks for the cancellation of the workflows
// that do nothing but wait for one of them. A workflow with an attempt under way ends with it, and
// one that carries others too finds at its time that this one is cancelled.
func (s *Store) endCarriers(ctx context.Context, tx *sqlx.Tx, open []calledOff, ids []string) error {
	var waiting []carrierRow
	const carriers = "SELECT delivery_id, workflow_id FROM outbox WHERE " + isRetry + " AND " + notLeased + " AND workflow_id <> ''"
	err := sqldb.SQL(carriers+" AND delivery_id IN").In(ids).Select(ctx, tx, &waiting)
	if err != nil {
		return err
	}
	if err := dropOutbox(ctx, tx, ids); err != nil {
		return err
	}
	byID := make(map[string]calledOff, len(open))
	for _, d := range open {
		byID[d.ID] = d
	}
	var rows []outboxRow
	for _, w := range waiting {
		if d := byID[w.DeliveryID]; postrider.CarriesOne(w.WorkflowID) {
			rows = append(rows, outboxRow{
				DeliveryID: d.ID, WebhookID: d.WebhookID, Queue: queueOf(d.WorkspaceID, d.WebhookID), Kind: kindCancel,
				DueAt: sqldb.TimeOf(s.now()), WorkflowID: w.WorkflowID,
			})
		}
	}
	_, err = outboxTable.Insert(ctx, tx, rows...)
	return err
}
