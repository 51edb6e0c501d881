package store

import (
	"context"
	"time"

	"github.com/jmoiron/sqlx"

	"postrider.dev/postrider"
	"postrider.dev/postrider/store/sqldb"
)

// parkedTooLong is the LastError of a delivery that failed because it was parked for longer
// than its webhook's park_seconds.
const parkedTooLong = "parked for too long"

// idleWebhook is a webhook that is not active.
type idleWebhook struct {
	ID            string
	ParkSeconds   int        `db:"park_seconds"`
	InactiveSince sqldb.Time `db:"inactive_since"`
}

// failParked fails deliveries that have waited for too long for webhooks that are not active,
// so that they do not keep their days for ever.
func (r *retention) failParked(ctx context.Context) error {
	after := ""
	for {
		var idle []idleWebhook
		err := sqldb.SQL("SELECT id, park_seconds, COALESCE(inactive_since, updated_at) AS inactive_since FROM webhooks"+
			" WHERE id > ? AND status <> "+sqlActive+" AND deleted_at IS NULL ORDER BY id LIMIT ?", after, retainChunk).
			Select(ctx, r.db.Reading, &idle)
		if err != nil || len(idle) == 0 {
			return err
		}
		after = idle[len(idle)-1].ID
		for _, w := range idle {
			if err := r.failParkedOf(ctx, w); err != nil {
				return err
			}
		}
	}
}

func (r *retention) failParkedOf(ctx context.Context, w idleWebhook) error {
	before := r.now().Add(-time.Duration(w.ParkSeconds) * time.Second)
	if w.ParkSeconds == 0 {
		before = r.end
	}
	if w.InactiveSince.After(before) {
		return nil
	}
	for {
		parked, err := sqldb.SQL("SELECT id FROM deliveries WHERE ").PinnedTo("webhook_id", w.ID).
			Add(" AND trouble = "+sqlParked+" AND id < ? AND due_at < ? ORDER BY webhook_id, id LIMIT ?",
				postrider.IDFloor(postrider.PrefixDelivery, before), before, retainChunk).Strings(ctx, r.db.Reading)
		if err != nil || len(parked) == 0 {
			return err
		}
		failed, err := r.failIfParked(ctx, w.ID, parked)
		if err != nil || failed == 0 { // it is active again
			return err
		}
		r.removed.Parked += int64(failed)
		r.progress(r.removed)
	}
}

// failIfParked fails those of the deliveries that are still parked for the webhook.
func (r *retention) failIfParked(ctx context.Context, webhookID string, deliveryIDs []string) (failed int, err error) {
	err = r.db.Write(ctx, "fail parked deliveries", func(tx *sqlx.Tx) error {
		now, reason := r.now(), parkedTooLong
		const fail = "UPDATE deliveries SET state = ?, finished_at = ?, last_error = ? WHERE state = " + sqlParked +
			" AND EXISTS (SELECT 1 FROM webhooks w WHERE w.id = ? AND w.status <> " + sqlActive + ") AND id IN"
		var changed []deliveryUpdate
		err := sqldb.SQL(fail, postrider.StateFailed, now, reason, webhookID).In(deliveryIDs).
			Add(" RETURNING "+sqldb.ColumnsOf[deliveryUpdate]().List()).Select(ctx, tx, &changed)
		if failed = len(changed); err != nil || failed == 0 {
			return err
		}
		stats, counted := statsRow{webhookID, webhookStats{int64(failed), int64(failed), sqldb.NullTime(&now), &reason}}, rollups{}
		for _, d := range changed {
			counted.add(r.process, &d, withoutAttempt, now, countsOfFinished(postrider.StateFailed))
		}
		_, err = countedRows.Write(ctx, r.db, tx, rollupMinutesTable.Rows(counted.rows()), webhookStatsTable.Rows([]statsRow{stats}))
		return err
	})
	return failed, err
}
