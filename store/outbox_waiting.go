package store

import (
	"context"
	"time"

	"github.com/jmoiron/sqlx"

	"postrider.dev/postrider"
	"postrider.dev/postrider/store/sqldb"
)

// When a webhook stops being active, is active again, or is deleted, the deliveries that wait
// for it are parked, resumed or cancelled.

// park takes the webhook's deliveries off the outbox that no dispatcher has leased, and parks
// them.
func (s *Store) park(ctx context.Context, tx *sqlx.Tx, workspaceID, webhookID string) error {
	if _, err := s.lockPaces(ctx, tx, true, webhookID); err != nil {
		return err
	}
	for {
		waiting, err := waitingStarts(workspaceID, webhookID).Add(" LIMIT ?", sqldb.ChunkSize).Strings(ctx, tx)
		if err != nil || len(waiting) == 0 {
			return err
		}
		const toParked = "UPDATE deliveries SET state = " + sqlParked + ", workflow_id = ''" +
			" WHERE state IN (" + sqlPending + ", " + sqlDelivering + ") AND id IN"
		if err := sqldb.SQL(toParked).In(waiting).Run(ctx, tx); err != nil {
			return err
		}
		if err := dropWaiting(ctx, tx, waiting); err != nil {
			return err
		}
	}
}

// resume puts the webhook's parked deliveries back into the outbox, except deliveries that a
// workflow of their own holds.
func (s *Store) resume(ctx context.Context, tx *sqlx.Tx, workspaceID, webhookID string) error {
	now := s.now()
	for {
		parked, err := sqldb.SQL("UPDATE deliveries SET state = "+sqlPending+" WHERE id IN (SELECT id FROM deliveries WHERE ").
			PinnedTo("webhook_id", webhookID).
			Add(" AND trouble = "+sqlParked+" AND workflow_id = '' ORDER BY webhook_id, id LIMIT ?) RETURNING id", sqldb.ChunkSize).
			Strings(ctx, tx)
		if err != nil || len(parked) == 0 {
			return err
		}
		err = sqldb.SQL(`INSERT INTO outbox (delivery_id, webhook_id, queue, kind, hold_until, leased, due_at)
			SELECT id, webhook_id, CAST(? AS text), `+sqlStart+`, CASE WHEN due_at > ? THEN due_at END, FALSE, due_at
			FROM deliveries WHERE id IN`, queueOf(workspaceID, webhookID), now).
			In(parked).Add(" ON CONFLICT (delivery_id) DO NOTHING").Run(ctx, tx)
		if err != nil {
			return err
		}
	}
}

// waitingStarts finds the webhook's deliveries in the outbox that wait for their first
// attempt: a chunk of the ready ones and a chunk of the scheduled ones.
func waitingStarts(workspaceID, webhookID string) *sqldb.Statement {
	return sqldb.SQL("SELECT delivery_id FROM (SELECT delivery_id FROM outbox WHERE ").PinnedTo("queue", queueOf(workspaceID, webhookID)).
		Add(" AND "+readyStart+" ORDER BY queue, delivery_id LIMIT ?) ready", sqldb.ChunkSize).
		Add(" UNION ALL SELECT delivery_id FROM (SELECT delivery_id FROM outbox WHERE ").PinnedTo("webhook_id", webhookID).
		Add(" AND "+scheduledStart+" ORDER BY webhook_id LIMIT ?) scheduled", sqldb.ChunkSize)
}

// unfinished finds a chunk of a webhook's unfinished deliveries without reading through the
// finished ones: they are in the outbox, or the column trouble has their state.
func unfinished(workspaceID, webhookID string) *sqldb.Statement {
	st := waitingStarts(workspaceID, webhookID).
		Add(" UNION SELECT delivery_id FROM (SELECT delivery_id FROM outbox WHERE ").PinnedTo("webhook_id", webhookID).
		Add(" AND "+leasedAttempt+" ORDER BY webhook_id LIMIT ?) leased", sqldb.ChunkSize)
	for _, state := range []postrider.DeliveryState{postrider.StateRetrying, postrider.StateParked, postrider.StateDelivering} {
		st.Add(" UNION SELECT id FROM (SELECT id FROM deliveries WHERE ").PinnedTo("webhook_id", webhookID).
			Add(" AND trouble = ? ORDER BY webhook_id, id LIMIT ?) "+string(state), state, sqldb.ChunkSize)
	}
	return st.Add(" LIMIT ?", sqldb.ChunkSize)
}

// cancelAll makes a webhook's unfinished deliveries cancelled. A workflow that carries one of
// them alone, or with others of the webhook, gets an outbox row that asks for its
// cancellation. It returns how many there were.
func (s *Store) cancelAll(ctx context.Context, tx *sqlx.Tx, workspaceID, webhookID string, now time.Time) (total int, err error) {
	if _, err := s.lockPaces(ctx, tx, true, webhookID); err != nil {
		return 0, err
	}
	for {
		open, err := unfinished(workspaceID, webhookID).Strings(ctx, tx)
		if err != nil || len(open) == 0 {
			return total, err
		}
		carriers, err := carriersOf(ctx, tx, open)
		if err != nil {
			return total, err
		}
		cancelled, err := cancelDeliveries(ctx, tx, open, now)
		if err != nil {
			return total, err
		}
		if err := dropOutbox(ctx, tx, open); err != nil {
			return total, err
		}
		total += len(cancelled)
		asked := map[string]bool{}
		var rows []outboxRow
		for _, id := range cancelled {
			if carrier := carriers[id]; postrider.CancelledWith(carrier) && !asked[carrier] {
				asked[carrier] = true
				rows = append(rows, outboxRow{
					DeliveryID: id, WebhookID: webhookID, Queue: queueOf(workspaceID, webhookID), Kind: kindCancel,
					DueAt: sqldb.Time{Time: now}, WorkflowID: carrier,
				})
			}
		}
		if _, err := outboxTable.Insert(ctx, tx, rows...); err != nil {
			return total, err
		}
	}
}

// carriersOf returns the workflows that carry deliveries, or may carry them, by delivery.
func carriersOf(ctx context.Context, tx *sqlx.Tx, deliveryIDs []string) (map[string]string, error) {
	var rows []carrierRow
	err := sqldb.SQL("SELECT delivery_id, workflow_id FROM outbox WHERE workflow_id <> '' AND delivery_id IN").In(deliveryIDs).
		Select(ctx, tx, &rows)
	byDelivery := make(map[string]string, len(rows))
	for _, row := range rows {
		byDelivery[row.DeliveryID] = row.WorkflowID
	}
	return byDelivery, err
}

// cancelDeliveries makes the unfinished ones of the deliveries cancelled, and returns them.
func cancelDeliveries(ctx context.Context, tx *sqlx.Tx, deliveryIDs []string, now time.Time) ([]string, error) {
	const cancel = "UPDATE deliveries SET state = ?, finished_at = ?, next_attempt_at = NULL WHERE finished_at IS NULL AND id IN"
	return sqldb.SQL(cancel, postrider.StateCancelled, now).In(deliveryIDs).Add(" RETURNING id").Strings(ctx, tx)
}

// dropWaiting drops the rows of deliveries that wait for their first attempt. If an attempt
// was recorded meanwhile, the row has become another by now and must stay.
func dropWaiting(ctx context.Context, tx *sqlx.Tx, deliveryIDs []string) error {
	return sqldb.SQL("DELETE FROM outbox WHERE kind = "+sqlStart+" AND NOT leased AND delivery_id IN").In(deliveryIDs).Run(ctx, tx)
}

func dropOutbox(ctx context.Context, tx *sqlx.Tx, deliveryIDs []string) error {
	return sqldb.SQL("DELETE FROM outbox WHERE delivery_id IN").In(deliveryIDs).Run(ctx, tx)
}
