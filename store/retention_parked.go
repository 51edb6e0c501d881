package store

import (
	"context"
	"maps"
	"slices"
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
			Select(ctx, r.db.Delivering.Reading, &idle)
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
	before := r.parkedSince(w.ParkSeconds)
	if w.InactiveSince.After(before) {
		return nil
	}
	for {
		parked, err := sqldb.SQL("SELECT id FROM deliveries WHERE ").PinnedTo("webhook_id", w.ID).
			Add(" AND trouble = "+sqlParked+" AND held_at IS NULL AND id < ? AND due_at < ? ORDER BY webhook_id, id LIMIT ?",
				postrider.IDFloor(postrider.PrefixDelivery, before), before, retainChunk).Strings(ctx, r.db.Delivering.Reading)
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
	return r.failIf(ctx, deliveryIDs,
		sqldb.SQL("EXISTS (SELECT 1 FROM webhooks w WHERE w.id = ? AND w.status <> "+sqlActive+")", webhookID))
}

// failIf fails those of the deliveries that are parked and meet the condition.
func (r *retention) failIf(
	ctx context.Context, deliveryIDs []string, condition *sqldb.Statement,
) (failed int, err error) {
	err = r.db.Delivering.Write(ctx, "fail parked deliveries", func(tx *sqlx.Tx) error {
		now, reason := r.now(), parkedTooLong
		const fail = "UPDATE deliveries SET state = ?, finished_at = ?, last_error = ? WHERE state = " + sqlParked + " AND "
		var changed []deliveryUpdate
		err := sqldb.SQL(fail, postrider.StateFailed, now, reason).Append(condition).Add(" AND id IN").In(deliveryIDs).
			Add(" RETURNING "+sqldb.ColumnsOf[deliveryUpdate]().List()).Select(ctx, tx, &changed)
		if failed = len(changed); err != nil || failed == 0 {
			return err
		}
		if err := r.passOn(ctx, tx, membersOf(changed)); err != nil {
			return err
		}
		return r.countFailed(ctx, tx, changed, now)
	})
	return failed, err
}

// heldDelivery is a delivery that an operator paused, and that is parked.
type heldDelivery struct {
	ID          string
	WebhookID   string     `db:"webhook_id"`
	HeldAt      sqldb.Time `db:"held_at"`
	ParkSeconds int        `db:"park_seconds"`
}

// failHeld fails deliveries that operators paused and nobody resumed, after as long as their
// webhooks keep what is parked.
func (r *retention) failHeld(ctx context.Context) error {
	const held = "SELECT d.id, d.webhook_id, d.held_at, w.park_seconds FROM deliveries d JOIN webhooks w ON w.id = d.webhook_id" +
		" WHERE d.held_at IS NOT NULL AND d.trouble = " + sqlParked + " AND (d.held_at, d.id) > (?, ?) ORDER BY d.held_at, d.id LIMIT ?"
	last := heldDelivery{}
	for {
		var page []heldDelivery
		err := sqldb.SQL(held, last.HeldAt, last.ID, retainChunk).Select(ctx, r.db.Delivering.Reading, &page)
		if err != nil || len(page) == 0 {
			return err
		}
		last = page[len(page)-1]
		tooLong := map[string][]string{}
		for _, d := range page {
			if d.HeldAt.Before(r.parkedSince(d.ParkSeconds)) {
				tooLong[d.WebhookID] = append(tooLong[d.WebhookID], d.ID)
			}
		}
		for _, webhookID := range slices.Sorted(maps.Keys(tooLong)) {
			failed, err := r.failIf(ctx, tooLong[webhookID], sqldb.SQL("held_at IS NOT NULL"))
			if err != nil {
				return err
			}
			r.removed.Parked += int64(failed)
			r.progress(r.removed)
		}
	}
}

// parkedSince returns since when a delivery may be parked for a webhook with the setting.
func (r *retention) parkedSince(parkSeconds int) time.Time {
	if parkSeconds == 0 {
		return r.end
	}
	return r.now().Add(-time.Duration(parkSeconds) * time.Second)
}
