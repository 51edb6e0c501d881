package store

import (
	"context"
	"time"

	"github.com/jmoiron/sqlx"

	"postrider.dev/postrider"
	"postrider.dev/postrider/store/sqldb"
)

// ClaimCancellations returns workflows that are to be cancelled, up to the limit, and leases
// them for the time given.
func (s *Store) ClaimCancellations(ctx context.Context, limit int, lease time.Duration) ([]postrider.Cancellation, error) {
	if due, err := s.lookForDue(ctx, kindCancel, limit); err != nil || !due {
		return nil, err
	}
	var made []postrider.Cancellation
	err := s.db.Delivering.Write(ctx, "claim cancellations", func(tx *sqlx.Tx) error {
		var rows []carrierRow
		err := sqldb.SQL("SELECT delivery_id, workflow_id FROM outbox WHERE "+readyCancel+" ORDER BY delivery_id LIMIT ?", limit).
			Add(s.db.Lock("FOR UPDATE SKIP LOCKED")).Select(ctx, tx, &rows)
		if err != nil || len(rows) == 0 {
			return err
		}
		made = nil
		taken := make([]string, len(rows))
		for i, row := range rows {
			taken[i] = row.DeliveryID
			made = append(made, postrider.Cancellation{DeliveryID: row.DeliveryID, WorkflowID: row.WorkflowID})
		}
		return sqldb.SQL("UPDATE outbox SET hold_until = ?, leased = TRUE WHERE delivery_id IN", s.now().Add(lease)).In(taken).Run(ctx, tx)
	})
	return made, err
}

// carrierRow is the part of an outbox row that says which workflow carries the delivery.
type carrierRow struct {
	DeliveryID string `db:"delivery_id"`
	WorkflowID string `db:"workflow_id"`
}

// Cancelled drops requests to cancel workflows, because the workflows are cancelled.
func (s *Store) Cancelled(ctx context.Context, deliveryIDs []string) error {
	return s.eachChunk(ctx, "end cancellations", deliveryIDs, func(tx *sqlx.Tx, part []string) error {
		return sqldb.SQL("DELETE FROM outbox WHERE "+isCancel+" AND delivery_id IN").In(part).Run(ctx, tx)
	})
}
