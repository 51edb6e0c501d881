package store

import (
	"context"
	"slices"
	"time"

	"github.com/jmoiron/sqlx"

	"postrider.dev/postrider"
	"postrider.dev/postrider/store/sqldb"
)

// This file has one method for each kind of action, and what they do to a delivery's rows.

// stuckAfter is how long after its time a retry is not taken for being about to be made: its
// workflow has waited for a slot and a permit by then, and has said so, or is lost.
const stuckAfter = 15 * time.Second

// retry makes the next attempt due now. While it is under way, or due already, that one is it.
func (a *acting) retry(ctx context.Context, x *acted) error {
	switch {
	case x.State.Finished():
		return a.replay(ctx, x)
	case x.HeldAt != nil:
		x.refuse("it is paused; resume, cancel and a change of its policy are possible")
		return nil
	case x.onTheWire(a.now):
		a.noteOnce(x, "attempt %d is under way", x.next())
		return nil
	case !x.webhook.active():
		x.refuseInactive()
		return nil
	case x.waitsBehind():
		x.refuse("it waits behind delivery %s; retry, skip or cancel that one", *x.lane.Head)
		return nil
	case x.waitsForWire(a.now):
		a.noteOnce(x, "attempt %d is made when that of delivery %s before it has ended", x.next(), *x.lane.WireID)
		return nil
	case a.isDue(x):
		a.noteOnce(x, "attempt %d is due", x.next())
		return probeSoon(ctx, a.tx, x.WebhookID, a.now)
	}
	a.note(x, x.carried(), "attempt %d is made now", x.next())
	if err := probeSoon(ctx, a.tx, x.WebhookID, a.now); err != nil {
		return err
	}
	if x.row == nil {
		return a.enqueue(ctx, x)
	}
	return a.makeDue(ctx, x)
}

// refuseInactive refuses what the webhook's status forbids.
func (x *acted) refuseInactive() {
	x.refuse("its webhook is %s; resume the webhook, or cancel the delivery", x.webhook.Status)
}

// noteOnce notes a retry that changes nothing, unless the retry of this attempt is noted already.
func (a *acting) noteOnce(x *acted, detail string, args ...any) {
	if x.latest.Action != postrider.ActionRetry || x.latest.Attempt != x.next() {
		a.note(x, false, detail, args...)
	}
}

// isDue reports whether the next attempt is about to be made without anybody's doing.
func (a *acting) isDue(x *acted) bool {
	switch {
	case x.row == nil || x.row.Leased: // parked, or its lease is over
		return false
	case x.row.Kind == kindStart:
		return x.row.HoldUntil == nil
	case x.NextAttemptAt == nil || x.NextAttemptAt.After(a.now):
		return false
	}
	return !x.carried() || a.now.Sub(x.row.DueAt.Time) < stuckAfter
}

// makeDue makes the outbox row ready, and its attempt due now.
func (a *acting) makeDue(ctx context.Context, x *acted) error {
	due := "due_at"
	if x.row.Kind == kindRetry {
		due = "next_attempt_at"
	}
	if err := sqldb.SQL("UPDATE deliveries SET "+due+" = ? WHERE id = ?", a.now, x.ID).Run(ctx, a.tx); err != nil {
		return err
	}
	return sqldb.SQL("UPDATE outbox SET "+makeReady+", due_at = ? WHERE delivery_id = ?", a.now, x.ID).Run(ctx, a.tx)
}

// enqueue puts a parked delivery back into the outbox.
func (a *acting) enqueue(ctx context.Context, x *acted) error {
	if err := sqldb.SQL(unpark+" AND id = ?", x.ID).Run(ctx, a.tx); err != nil {
		return err
	}
	return enqueueParked(ctx, a.tx, queueOf(x.WorkspaceID, x.WebhookID), []string{x.ID}, a.now)
}

// sameWish is for how long a retry that succeeded is the answer to further ones: calls that were
// made together with it must not send the event again because its receiver was quick.
const sameWish = 10 * time.Second

// answered reports whether the retry before is the answer to this one, too: what it made is not
// finished, or has succeeded just now.
func (a *acting) answered(ctx context.Context, x *acted) (bool, error) {
	if x.latest.Action != postrider.ActionRetry {
		return false, nil
	}
	recent := a.now.Sub(x.latest.At.Time) < sameWish
	if x.latest.Made == nil {
		return recent && x.State == postrider.StateSucceeded, nil
	}
	var made []postrider.DeliveryState
	err := sqldb.SQL("SELECT state FROM deliveries WHERE id = ?", *x.latest.Made).Select(ctx, a.tx, &made)
	if err != nil || len(made) == 0 {
		return false, err
	}
	if made[0].Finished() && (!recent || made[0] != postrider.StateSucceeded) {
		return false, nil
	}
	x.shown = *x.latest.Made
	return true, nil
}

// replay sends the event of a finished delivery again: by a new delivery, under the policy that
// the webhook has now.
func (a *acting) replay(ctx context.Context, x *acted) error {
	if answered, err := a.answered(ctx, x); err != nil || answered {
		return err
	}
	if x.webhook.Deleted || x.webhook.ID == "" {
		x.refuse("its webhook is deleted, so that its event cannot be sent again")
		return nil
	}
	key, err := a.orderingKey(ctx, x)
	if err != nil || x.err != nil {
		return err
	}
	again := x.repeated(a.s.IDs.New(postrider.PrefixDelivery), sqldb.Time{Time: a.now})
	hold, err := a.takePlace(ctx, x, &again, key)
	if err != nil {
		return err
	}
	x.shown = again.ID
	a.note(x, false, "its event is sent again by %s", again.ID).Made = &again.ID
	if _, err := replaysTable.Insert(ctx, a.tx, again); err != nil || again.State == postrider.StateParked {
		return err
	}
	_, err = outboxTable.Insert(ctx, a.tx, outboxRow{
		DeliveryID: again.ID, WebhookID: again.WebhookID, Queue: queueOf(again.WorkspaceID, again.WebhookID), Kind: kindStart, DueAt: again.DueAt,
		HoldUntil: hold,
	})
	return err
}

// orderingKey returns the key of the delivery's event, or refuses to send again what is not kept.
func (a *acting) orderingKey(ctx context.Context, x *acted) (*string, error) {
	var kept []eventOptions
	err := sqldb.SQL("SELECT ordering_key FROM events WHERE key = ?", x.EventKey).Select(ctx, a.tx, &kept)
	switch {
	case err != nil:
		return nil, err
	case len(kept) == 0:
		x.refuse("its event is past its retention, so that it cannot be sent again")
		return nil, nil
	}
	return kept[0].OrderingKey, nil
}

// repeated returns the row of a new delivery of the same event to the same webhook, as that is now.
// It does not expire: somebody wants it although its time may be over.
func (x *acted) repeated(id string, now sqldb.Time) deliveryRow {
	again := deliveryRow{
		ID: id, WorkspaceID: x.WorkspaceID, WebhookID: x.WebhookID, EventID: x.EventID, EventKey: x.EventKey, EventType: x.EventType,
		State: postrider.StateParked, Policy: x.webhook.Policy, ReplayOf: &x.ID, CreatedAt: now, DueAt: now,
		ShapeID: x.webhook.ShapeID,
	}
	if x.webhook.active() {
		again.State = postrider.StatePending
	}
	return again
}

// cancel ends the delivery. An attempt that is under way ends as it ends, and is kept.
func (a *acting) cancel(ctx context.Context, x *acted) error {
	switch {
	case x.State == postrider.StateCancelled:
		return nil
	case x.blocks():
		return a.unblock(ctx, x)
	case x.refuseIfFinished():
		return nil
	case x.onTheWire(a.now):
		a.note(x, true, "attempt %d is under way and the last", x.next())
	default:
		a.note(x, true, "no more attempts are made")
	}
	cancelled, err := a.s.cancelDeliveries(ctx, a.tx, []string{x.ID}, a.now)
	if err != nil {
		return err
	}
	a.cancelled += len(cancelled)
	return dropOutbox(ctx, a.tx, cancelled)
}

// pause parks the delivery, whatever its webhook does. An attempt that is under way ends as it
// ends; when it fails the delivery is parked by its record, see [deliveryUpdate.decide].
func (a *acting) pause(ctx context.Context, x *acted) error {
	if x.refuseIfFinished() || x.HeldAt != nil {
		return nil
	}
	if err := sqldb.SQL("UPDATE deliveries SET held_at = ? WHERE id = ?", a.now, x.ID).Run(ctx, a.tx); err != nil {
		return err
	}
	if x.onTheWire(a.now) {
		a.note(x, false, "attempt %d is under way; no other is made", x.next())
		return nil
	}
	a.note(x, true, "attempt %d is not made before it is resumed", x.next())
	if x.parked() {
		return nil
	}
	return a.s.parkHeld(ctx, a.tx, []string{x.ID})
}

// lockHeld locks those of the deliveries that are paused and not finished, and returns them.
func (s *Store) lockHeld(ctx context.Context, tx *sqlx.Tx, deliveryIDs []string) ([]string, error) {
	if len(deliveryIDs) == 0 {
		return nil, nil
	}
	slices.Sort(deliveryIDs)
	return sqldb.SQL("SELECT id FROM deliveries WHERE held_at IS NOT NULL AND finished_at IS NULL AND ").
		InKeyRange("id", deliveryIDs).Add(" ORDER BY id"+s.db.Lock("FOR UPDATE")).Strings(ctx, tx)
}

// parkHeld parks those of the deliveries that are paused.
func (s *Store) parkHeld(ctx context.Context, tx *sqlx.Tx, deliveryIDs []string) error {
	held, err := s.lockHeld(ctx, tx, deliveryIDs)
	if err != nil || len(held) == 0 {
		return err
	}
	return parkDeliveries(ctx, tx, held, "TRUE")
}

// resume ends the pause of a delivery. Its next attempt is due at once, unless the event is to be
// delivered later, or the webhook is not active.
func (a *acting) resume(ctx context.Context, x *acted) error {
	switch {
	case x.refuseIfFinished():
		return nil
	case x.HeldAt == nil:
		if x.parked() && !x.webhook.active() {
			x.refuseInactive()
		}
		return nil
	}
	if err := sqldb.SQL("UPDATE deliveries SET held_at = NULL WHERE id = ?", x.ID).Run(ctx, a.tx); err != nil {
		return err
	}
	switch {
	case !x.parked():
		a.note(x, false, "attempt %d is under way", x.next())
		return nil
	case !x.webhook.active():
		a.note(x, false, "it goes on waiting for its webhook, which is %s", x.webhook.Status)
		return nil
	}
	a.note(x, false, "attempt %d is made now", x.next())
	return a.enqueue(ctx, x)
}
