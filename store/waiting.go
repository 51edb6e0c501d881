package store

import (
	"context"
	"slices"
	"time"

	"github.com/jmoiron/sqlx"

	"postrider"
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
func (s *Store) park(ctx context.Context, tx *sqlx.Tx, webhookID string) error {
	if err := s.lockPace(ctx, tx, webhookID); err != nil {
		return err
	}
	for {
		waiting, err := ids(ctx, tx, waitingStarts(webhookID, " AND NOT leased").add(" LIMIT ?", chunkSize))
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
func (s *Store) resume(ctx context.Context, tx *sqlx.Tx, webhookID string) error {
	now := s.now()
	for {
		parked, err := ids(ctx, tx, sqlOf("UPDATE deliveries SET state = 'pending' WHERE id IN (SELECT id FROM deliveries WHERE ").
			only("webhook_id", webhookID).add(" AND trouble = 'parked' AND workflow_id = '' ORDER BY webhook_id, id LIMIT ?) RETURNING id", chunkSize))
		if err != nil || len(parked) == 0 {
			return err
		}
		err = sqlOf(`INSERT INTO outbox (delivery_id, webhook_id, kind, hold_until, leased, due_at)
			SELECT id, webhook_id, 'start', CASE WHEN due_at > ? THEN due_at END, FALSE, due_at FROM deliveries WHERE id IN`, now).
			in(parked).add(" ON CONFLICT (delivery_id) DO NOTHING").run(ctx, tx)
		if err != nil {
			return err
		}
	}
}

// waitingStarts finds the webhook's deliveries in the outbox that have made no attempt,
// a chunk of the ready ones and one of those that are held. Of other webhooks it reads
// only what is held: it does not matter how much waits for them.
func waitingStarts(webhookID, condition string) *statement {
	return sqlOf("SELECT delivery_id FROM (SELECT delivery_id FROM outbox WHERE ").only("webhook_id", webhookID).
		add(" AND hold_until IS NULL AND kind = 'start'"+condition+" ORDER BY webhook_id, delivery_id LIMIT ?) ready", chunkSize).
		add(" UNION ALL SELECT delivery_id FROM (SELECT delivery_id FROM outbox WHERE hold_until IS NOT NULL").
		add(" AND webhook_id = ? AND kind = 'start'"+condition+" ORDER BY hold_until LIMIT ?) held", webhookID, chunkSize)
}

// unfinished finds a chunk of a webhook's unfinished deliveries without reading through
// the finished ones: they are in the outbox, or their state is one of trouble.
func unfinished(webhookID string) *statement {
	st := waitingStarts(webhookID, "")
	for _, state := range []postrider.DeliveryState{postrider.StateRetrying, postrider.StateParked, postrider.StateDelivering} {
		st.add(" UNION SELECT id FROM (SELECT id FROM deliveries WHERE ").only("webhook_id", webhookID).
			add(" AND trouble = ? ORDER BY webhook_id, id LIMIT ?) "+string(state), state, chunkSize)
	}
	return st.add(" LIMIT ?", chunkSize)
}

// cancelAll makes a webhook's unfinished deliveries cancelled. A delivery that may
// have a workflow gets an outbox row that asks for the workflow's cancellation.
func (s *Store) cancelAll(ctx context.Context, tx *sqlx.Tx, webhookID string, now time.Time) error {
	if err := s.lockPace(ctx, tx, webhookID); err != nil {
		return err
	}
	for {
		open, err := ids(ctx, tx, unfinished(webhookID))
		if err != nil || len(open) == 0 {
			return err
		}
		begun, err := ids(ctx, tx, sqlOf("SELECT delivery_id FROM outbox WHERE workflow_id <> '' AND delivery_id IN").in(open))
		if err != nil {
			return err
		}
		running, err := cancelDeliveries(ctx, tx, open, begun, now)
		if err != nil {
			return err
		}
		if err := dropOutbox(ctx, tx, open); err != nil {
			return err
		}
		rows := make([][]any, len(running))
		for i, id := range running {
			rows[i] = []any{id, webhookID, "cancel", false, now}
		}
		if _, err := insert(ctx, tx, "INSERT INTO outbox (delivery_id, webhook_id, kind, leased, due_at) VALUES", rows, ""); err != nil {
			return err
		}
	}
}

// cancelDeliveries makes those of the deliveries cancelled that are not finished,
// and returns which of these may have a workflow: their row says so, or begun does.
func cancelDeliveries(ctx context.Context, tx *sqlx.Tx, deliveryIDs, begun []string, now time.Time) (running []string, err error) {
	var cancelled []struct {
		ID         string
		WorkflowID string `db:"workflow_id"`
	}
	err = sqlOf("UPDATE deliveries SET state = ?, finished_at = ?, next_attempt_at = NULL WHERE finished_at IS NULL AND id IN", postrider.StateCancelled, now).
		in(deliveryIDs).add(" RETURNING id, workflow_id").selectInto(ctx, tx, &cancelled)
	for _, d := range cancelled {
		if d.WorkflowID != "" || slices.Contains(begun, d.ID) {
			running = append(running, d.ID)
		}
	}
	return running, err
}

// dropWaiting drops the rows of deliveries that wait for their first attempt. One whose
// attempt was recorded meanwhile has another row by now, which must stay.
func dropWaiting(ctx context.Context, tx *sqlx.Tx, deliveryIDs []string) error {
	return sqlOf("DELETE FROM outbox WHERE kind = 'start' AND NOT leased AND delivery_id IN").in(deliveryIDs).run(ctx, tx)
}

func dropOutbox(ctx context.Context, tx *sqlx.Tx, deliveryIDs []string) error {
	return sqlOf("DELETE FROM outbox WHERE delivery_id IN").in(deliveryIDs).run(ctx, tx)
}
