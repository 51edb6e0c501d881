package store

import (
	"context"
	"time"

	"github.com/jmoiron/sqlx"

	"postrider.dev/postrider"
)

// What happens to the deliveries that wait for a webhook when it stops being
// active, is active again, or is deleted.

// lockPace keeps claims off the webhook until the transaction ends.
func (s *Store) lockPace(ctx context.Context, tx *sqlx.Tx, webhookID string) error {
	_, err := ids(ctx, tx, sqlOf("SELECT webhook_id FROM webhook_pace WHERE webhook_id = ?"+s.dialect.lock("FOR UPDATE"), webhookID))
	return err
}

// park takes the webhook's deliveries off the outbox that no dispatcher has
// leased, and parks them.
func (s *Store) park(ctx context.Context, tx *sqlx.Tx, workspaceID, webhookID string) error {
	if err := s.lockPace(ctx, tx, webhookID); err != nil {
		return err
	}
	for {
		waiting, err := ids(ctx, tx, waitingStarts(workspaceID, webhookID).add(" LIMIT ?", chunkSize))
		if err != nil || len(waiting) == 0 {
			return err
		}
		err = sqlOf("UPDATE deliveries SET state = 'parked', workflow_id = '' WHERE state IN ('pending', 'delivering') AND id IN").
			in(waiting).run(ctx, tx)
		if err != nil {
			return err
		}
		if err := dropWaiting(ctx, tx, waiting); err != nil {
			return err
		}
	}
}

// resume puts the webhook's parked deliveries back into the outbox, but for those
// that a workflow of their own holds.
func (s *Store) resume(ctx context.Context, tx *sqlx.Tx, workspaceID, webhookID string) error {
	now := s.now()
	for {
		parked, err := ids(ctx, tx, sqlOf("UPDATE deliveries SET state = 'pending' WHERE id IN (SELECT id FROM deliveries WHERE ").
			only("webhook_id", webhookID).add(" AND trouble = 'parked' AND workflow_id = '' ORDER BY webhook_id, id LIMIT ?) RETURNING id", chunkSize))
		if err != nil || len(parked) == 0 {
			return err
		}
		err = sqlOf(`INSERT INTO outbox (delivery_id, webhook_id, queue, kind, hold_until, leased, due_at)
			SELECT id, webhook_id, CAST(? AS text), 'start', CASE WHEN due_at > ? THEN due_at END, FALSE, due_at FROM deliveries WHERE id IN`, queueOf(workspaceID, webhookID), now).
			in(parked).add(" ON CONFLICT (delivery_id) DO NOTHING").run(ctx, tx)
		if err != nil {
			return err
		}
	}
}

// waitingStarts finds the webhook's deliveries in the outbox that wait for their first
// attempt, a chunk of the ready ones and one of those whose time is to come.
func waitingStarts(workspaceID, webhookID string) *statement {
	return sqlOf("SELECT delivery_id FROM (SELECT delivery_id FROM outbox WHERE ").only("queue", queueOf(workspaceID, webhookID)).
		add(" AND hold_until IS NULL AND kind = 'start' ORDER BY queue, delivery_id LIMIT ?) ready", chunkSize).
		add(" UNION ALL SELECT delivery_id FROM (SELECT delivery_id FROM outbox WHERE ").only("webhook_id", webhookID).
		add(" AND hold_until IS NOT NULL AND kind = 'start' AND NOT leased ORDER BY webhook_id LIMIT ?) scheduled", chunkSize)
}

// unfinished finds a chunk of a webhook's unfinished deliveries without reading through
// the finished ones: they are in the outbox, or their state is one of trouble.
func unfinished(workspaceID, webhookID string) *statement {
	st := waitingStarts(workspaceID, webhookID).
		add(" UNION SELECT delivery_id FROM (SELECT delivery_id FROM outbox WHERE ").only("webhook_id", webhookID).
		add(" AND leased AND kind <> 'cancel' ORDER BY webhook_id LIMIT ?) leased", chunkSize)
	for _, state := range []postrider.DeliveryState{postrider.StateRetrying, postrider.StateParked, postrider.StateDelivering} {
		st.add(" UNION SELECT id FROM (SELECT id FROM deliveries WHERE ").only("webhook_id", webhookID).
			add(" AND trouble = ? ORDER BY webhook_id, id LIMIT ?) "+string(state), state, chunkSize)
	}
	return st.add(" LIMIT ?", chunkSize)
}

// cancelAll makes a webhook's unfinished deliveries cancelled. One that a workflow
// carries with others of the webhook, or alone, gets an outbox row that asks for the
// workflow's cancellation.
func (s *Store) cancelAll(ctx context.Context, tx *sqlx.Tx, workspaceID, webhookID string, now time.Time) error {
	if err := s.lockPace(ctx, tx, webhookID); err != nil {
		return err
	}
	for {
		open, err := ids(ctx, tx, unfinished(workspaceID, webhookID))
		if err != nil || len(open) == 0 {
			return err
		}
		carriers, err := carriersOf(ctx, tx, open)
		if err != nil {
			return err
		}
		cancelled, err := cancelDeliveries(ctx, tx, open, now)
		if err != nil {
			return err
		}
		if err := dropOutbox(ctx, tx, open); err != nil {
			return err
		}
		asked := map[string]bool{}
		var rows [][]any
		for _, id := range cancelled {
			if by := carriers[id]; postrider.CancelledWith(by) && !asked[by] {
				asked[by] = true
				rows = append(rows, []any{id, webhookID, queueOf(workspaceID, webhookID), "cancel", false, now, by})
			}
		}
		if _, err := insert(ctx, tx, "INSERT INTO outbox (delivery_id, webhook_id, queue, kind, leased, due_at, workflow_id) VALUES", rows, ""); err != nil {
			return err
		}
	}
}

// carriersOf returns the workflows that carry deliveries, or may, by delivery.
func carriersOf(ctx context.Context, tx *sqlx.Tx, deliveryIDs []string) (map[string]string, error) {
	var rows []struct {
		DeliveryID string `db:"delivery_id"`
		WorkflowID string `db:"workflow_id"`
	}
	err := sqlOf("SELECT delivery_id, workflow_id FROM outbox WHERE workflow_id <> '' AND delivery_id IN").in(deliveryIDs).selectInto(ctx, tx, &rows)
	of := make(map[string]string, len(rows))
	for _, row := range rows {
		of[row.DeliveryID] = row.WorkflowID
	}
	return of, err
}

// cancelDeliveries makes those of the deliveries cancelled that are not finished,
// and returns them.
func cancelDeliveries(ctx context.Context, tx *sqlx.Tx, deliveryIDs []string, now time.Time) ([]string, error) {
	return ids(ctx, tx, sqlOf("UPDATE deliveries SET state = ?, finished_at = ?, next_attempt_at = NULL WHERE finished_at IS NULL AND id IN", postrider.StateCancelled, now).
		in(deliveryIDs).add(" RETURNING id"))
}

// dropWaiting drops the rows of deliveries that wait for their first attempt. One whose
// attempt was recorded meanwhile has another row by now, which must stay.
func dropWaiting(ctx context.Context, tx *sqlx.Tx, deliveryIDs []string) error {
	return sqlOf("DELETE FROM outbox WHERE kind = 'start' AND NOT leased AND delivery_id IN").in(deliveryIDs).run(ctx, tx)
}

func dropOutbox(ctx context.Context, tx *sqlx.Tx, deliveryIDs []string) error {
	return sqlOf("DELETE FROM outbox WHERE delivery_id IN").in(deliveryIDs).run(ctx, tx)
}
