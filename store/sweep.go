package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/jmoiron/sqlx"

	"postrider.dev/postrider"
	"postrider.dev/postrider/store/sqldb"
)

// A webhook is paused, disabled, made active again or deleted by a change of its own row
// alone. What waits for it may be millions of deliveries. They follow in steps, each a short
// transaction of its own, so that nothing else waits for them: a row of the table sweeps says
// that a webhook's deliveries may differ from its status, and is deleted when none does.
//
// Meanwhile the webhook's row is what counts: claims, permits and attempts look at it.

const (
	// sweepChunk is the most deliveries of a step. One takes some milliseconds.
	sweepChunk = 200
	// sweepAgain is when a webhook that is not active is looked at again while attempts are
	// under way, since those that fail are to be retried.
	sweepAgain = time.Second
	// sweepFailed is when a webhook has its next step after one that failed.
	sweepFailed = 30 * time.Second
)

// sweepRow is a row of the table sweeps.
type sweepRow struct {
	WebhookID string     `db:"webhook_id"`
	DueAt     sqldb.Time `db:"due_at"`
}

// requestSweeps lets the deliveries of webhooks follow their new status. The transaction must
// have locked the webhooks' rows, and none of what comes later in the order of locks.
func (s *Store) requestSweeps(ctx context.Context, tx *sqlx.Tx, webhookIDs ...string) error {
	return s.insertSweeps(ctx, tx, sweepsTable, webhookIDs)
}

// noteInactive requests sweeps of webhooks for which something waits although they are not
// active. It is for transactions that come upon them and have locked their paces, so that no
// sweep of theirs is under way.
func (s *Store) noteInactive(ctx context.Context, tx *sqlx.Tx, webhookIDs []string) error {
	return s.insertSweeps(ctx, tx, missingSweepsTable, webhookIDs)
}

func (s *Store) insertSweeps(ctx context.Context, tx *sqlx.Tx, table *sqldb.Table[sweepRow], webhookIDs []string) error {
	rows := make([]sweepRow, len(webhookIDs))
	for i, id := range slices.Sorted(slices.Values(webhookIDs)) {
		rows[i] = sweepRow{id, sqldb.TimeOf(s.now())}
	}
	_, err := table.Insert(ctx, tx, rows...)
	return err
}

// Sweep makes one step: some of the deliveries that wait for a webhook that was changed are
// parked, resumed or cancelled. It reports whether another step is due now.
func (s *Store) Sweep(ctx context.Context) (more bool, err error) {
	err = sqldb.SQL("SELECT EXISTS (SELECT 1 FROM sweeps WHERE due_at <= ?)", s.now()).Get(ctx, s.db.Delivering.Reading, &more)
	if err != nil || !more {
		return false, sqldb.Failure("look for sweeps", err)
	}
	found, err := s.sweep(ctx, sqldb.SQL("due_at <= ? ORDER BY due_at, webhook_id LIMIT 1", s.now()))
	if err != nil && found != "" {
		// One webhook's trouble must not be that of all others.
		err = fmt.Errorf("webhook %s: %w", found, err)
		later := s.now().Add(sweepFailed)
		err = errors.Join(err, sqldb.SQL("UPDATE sweeps SET due_at = ? WHERE webhook_id = ?", later, found).Run(ctx, s.db.Delivering.Writing))
	}
	return found != "", err // where other processes are at all of them, there is nothing to do here
}

// sweepSoon makes the first step for a webhook that was just changed, so that few deliveries
// have followed when the change is answered. The dispatchers make the other steps, and this
// one when it fails.
func (s *Store) sweepSoon(ctx context.Context, webhookID string) {
	if _, err := s.sweep(ctx, sqldb.SQL("webhook_id = ?", webhookID)); err != nil && ctx.Err() == nil {
		s.Logger.LogAttrs(ctx, slog.LevelWarn, "could not sweep a webhook's deliveries yet",
			slog.String("webhook_id", webhookID), slog.Any("error", err))
	}
	signal(s.wakeSweeps)
}

// sweep makes a step for the webhook that the condition on sweeps finds, and returns its id: "" when
// there is none, or another process is at it.
func (s *Store) sweep(ctx context.Context, condition *sqldb.Statement) (webhookID string, err error) {
	var w sweptWebhook
	err = s.db.Delivering.Write(ctx, "sweep", func(tx *sqlx.Tx) error {
		w, webhookID = sweptWebhook{s: s, tx: tx, now: s.now()}, ""
		found, err := sqldb.SQL("SELECT webhook_id FROM sweeps WHERE ").Append(condition).
			Add(s.db.Lock("FOR UPDATE SKIP LOCKED")).Strings(ctx, tx)
		if err != nil || len(found) == 0 {
			return err
		}
		// A statement of its own: it must see the status that the sweep was requested for.
		const selectSwept = "SELECT id, workspace_id, status, deleted_at IS NOT NULL AS deleted FROM webhooks WHERE id = ?"
		webhookID = found[0]
		if err := sqldb.SQL(selectSwept, webhookID).Get(ctx, tx, &w); err != nil {
			return err
		}
		return w.step(ctx)
	})
	if err != nil {
		return webhookID, err
	}
	if w.cancelled > 0 {
		s.OnCancelled(w.cancelled)
	}
	if w.resumed > 0 {
		s.notify()
		signal(s.wakeRetries)
	}
	return webhookID, nil
}

// sweptWebhook is one step of a sweep.
type sweptWebhook struct {
	s   *Store
	tx  *sqlx.Tx
	now time.Time

	ID          string
	WorkspaceID string `db:"workspace_id"`
	Status      postrider.WebhookStatus
	Deleted     bool
	resumed     int
	cancelled   int
}

// step moves some deliveries, and says when the next step is due.
func (w *sweptWebhook) step(ctx context.Context) error {
	if _, err := w.s.lockPaces(ctx, w.tx, true, w.ID); err != nil { // claims and permits stay off
		return err
	}
	var moved int
	var err error
	switch {
	case w.Deleted:
		if moved, err = w.cancel(ctx); moved == 0 && err == nil {
			moved, err = w.unblock(ctx)
		}
	case w.Status == postrider.WebhookActive:
		moved, err = w.resume(ctx)
		w.resumed = moved
	default:
		moved, err = w.park(ctx)
	}
	if err != nil {
		return err
	}
	if moved > 0 {
		return w.again(ctx, w.now)
	}
	underWay := false
	if w.Deleted || w.Status != postrider.WebhookActive {
		err = sqldb.SQL("SELECT EXISTS (SELECT 1 FROM outbox WHERE ").PinnedTo("webhook_id", w.ID).Add(" AND "+leasedAttempt+")").
			Get(ctx, w.tx, &underWay)
	}
	switch {
	case err != nil:
		return err
	case underWay:
		return w.again(ctx, w.now.Add(sweepAgain))
	}
	return sqldb.SQL("DELETE FROM sweeps WHERE webhook_id = ?", w.ID).Run(ctx, w.tx)
}

// again lets another step come at the time, after those of other webhooks.
func (w *sweptWebhook) again(ctx context.Context, at time.Time) error {
	return sqldb.SQL("UPDATE sweeps SET due_at = ? WHERE webhook_id = ?", at, w.ID).Run(ctx, w.tx)
}

// park takes deliveries off the outbox that have no attempt under way. A workflow that
// carries one finds at its time that it carries it no more.
func (w *sweptWebhook) park(ctx context.Context) (int, error) {
	waiting, err := w.waiting().Add(" LIMIT ?", sweepChunk).Strings(ctx, w.tx)
	if err != nil || len(waiting) == 0 {
		return 0, err
	}
	return len(waiting), parkDeliveries(ctx, w.tx, waiting, notLeased)
}

// parkDeliveries parks deliveries whose outbox rows meet the condition.
func parkDeliveries(ctx context.Context, tx *sqlx.Tx, deliveryIDs []string, condition string, args ...any) error {
	const toParked = "UPDATE deliveries SET state = " + sqlParked + ", workflow_id = '', next_attempt_at = NULL" +
		" WHERE finished_at IS NULL AND "
	slices.Sort(deliveryIDs)
	if err := sqldb.SQL(toParked).InKeyRange("id", deliveryIDs).Run(ctx, tx); err != nil {
		return err
	}
	return sqldb.SQL("DELETE FROM outbox WHERE kind <> "+sqlCancel+" AND "+condition+" AND delivery_id IN", args...).
		In(deliveryIDs).Run(ctx, tx)
}

// waiting finds the webhook's deliveries in the outbox that have no attempt under way.
func (w *sweptWebhook) waiting() *sqldb.Statement {
	return sqldb.SQL("SELECT delivery_id FROM (SELECT delivery_id FROM outbox WHERE ").PinnedTo("queue", queueOf(w.WorkspaceID, w.ID)).
		Add(" AND "+readyStart+" ORDER BY queue, delivery_id LIMIT ?) ready", sweepChunk).
		Add(" UNION ALL SELECT delivery_id FROM (SELECT delivery_id FROM outbox WHERE ").PinnedTo("webhook_id", w.ID).
		Add(" AND "+scheduledStart+" ORDER BY webhook_id LIMIT ?) scheduled", sweepChunk).
		Add(" UNION ALL SELECT delivery_id FROM (SELECT delivery_id FROM outbox WHERE ").PinnedTo("webhook_id", w.ID).
		Add(" AND "+waitingRetry+" ORDER BY webhook_id, due_at LIMIT ?) retries", sweepChunk)
}

// resume puts parked deliveries back into the outbox, in the order in which they were
// accepted, but for those that an operator has paused.
func (w *sweptWebhook) resume(ctx context.Context) (int, error) {
	parked, err := sqldb.SQL(unpark+" AND id IN (SELECT id FROM deliveries WHERE ").PinnedTo("webhook_id", w.ID).
		Add(" AND trouble = "+sqlParked+" AND workflow_id = '' AND held_at IS NULL ORDER BY webhook_id, id LIMIT ?) RETURNING id", sweepChunk).
		Strings(ctx, w.tx)
	if err != nil || len(parked) == 0 {
		return 0, err
	}
	if err := w.s.lockLanesOf(ctx, w.tx, parked); err != nil {
		return 0, err
	}
	return len(parked), enqueueParked(ctx, w.tx, queueOf(w.WorkspaceID, w.ID), parked, w.now)
}

// unpark gives parked deliveries the state that they go on with; more conditions and
// [enqueueParked] follow.
const unpark = "UPDATE deliveries SET state = CASE attempt_count WHEN 0 THEN " + sqlPending + " ELSE " + sqlRetrying + " END" +
	" WHERE trouble = " + sqlParked + " AND finished_at IS NULL AND held_at IS NULL"

// enqueueParked puts deliveries of one queue that were parked into the outbox. Those that were
// attempted before go on with their retries. Their lanes are locked: those that are not their lanes'
// heads wait for their turn.
func enqueueParked(ctx context.Context, tx *sqlx.Tx, queue string, deliveryIDs []string, now time.Time) error {
	slices.Sort(deliveryIDs)
	err := sqldb.SQL("UPDATE deliveries SET next_attempt_at = ? WHERE attempt_count > 0 AND ", now).InKeyRange("id", deliveryIDs).Run(ctx, tx)
	if err != nil {
		return err
	}
	// A first attempt may have been claimed before, and its own workflow have ended: the row says so.
	return sqldb.SQL(`INSERT INTO outbox (delivery_id, webhook_id, queue, kind, hold_until, leased, due_at, workflow_id)
		SELECT id, webhook_id, CAST(? AS text), CASE attempt_count WHEN 0 THEN `+sqlStart+` ELSE `+sqlRetry+` END,
			hold_until, FALSE, COALESCE(next_attempt_at, due_at),
			CASE WHEN attempt_count = 0 AND hold_until IS NULL THEN CAST(? AS text) || id ELSE '' END
		FROM (SELECT d.id, d.webhook_id, d.attempt_count, d.next_attempt_at, d.due_at, COALESCE((`+holdInLane+`),
			CASE WHEN d.due_at > ? THEN d.due_at END) AS hold_until FROM deliveries d WHERE `,
		queue, postrider.DeliveryWorkflowID(""), behindUntil(), now, now).
		InKeyRange("d.id", deliveryIDs).Add(") w WHERE TRUE ON CONFLICT (delivery_id) DO NOTHING").Run(ctx, tx)
}

// unfinished finds unfinished deliveries without reading through the finished ones: they are
// in the outbox, or the column trouble has their state.
func (w *sweptWebhook) unfinished() *sqldb.Statement {
	st := w.waiting().
		Add(" UNION SELECT delivery_id FROM (SELECT delivery_id FROM outbox WHERE ").PinnedTo("webhook_id", w.ID).
		Add(" AND "+leasedAttempt+" ORDER BY webhook_id LIMIT ?) leased", sweepChunk)
	for _, state := range []postrider.DeliveryState{postrider.StateRetrying, postrider.StateParked, postrider.StateDelivering} {
		st.Add(" UNION SELECT id FROM (SELECT id FROM deliveries WHERE ").PinnedTo("webhook_id", w.ID).
			Add(" AND trouble = ? ORDER BY webhook_id, id LIMIT ?) "+string(state), state, sweepChunk)
	}
	return st.Add(" LIMIT ?", sweepChunk)
}

// cancel makes unfinished deliveries cancelled. A workflow that carries one of them alone, or
// with others of the webhook, gets an outbox row that asks for its cancellation.
func (w *sweptWebhook) cancel(ctx context.Context) (int, error) {
	open, err := w.unfinished().Strings(ctx, w.tx)
	if err != nil || len(open) == 0 {
		return 0, err
	}
	carriers, err := carriersOf(ctx, w.tx, open)
	if err != nil {
		return 0, err
	}
	cancelled, err := w.s.cancelDeliveries(ctx, w.tx, open, w.now)
	if err != nil {
		return 0, err
	}
	w.cancelled = len(cancelled)
	asked := map[string]bool{}
	var rows []outboxRow
	for _, id := range cancelled {
		if carrier := carriers[id]; postrider.CancelledWith(carrier) && !asked[carrier] {
			asked[carrier] = true
			rows = append(rows, outboxRow{
				DeliveryID: id, WebhookID: w.ID, Queue: queueOf(w.WorkspaceID, w.ID), Kind: kindCancel,
				DueAt: sqldb.Time{Time: w.now}, WorkflowID: carrier,
			})
		}
	}
	err = dropOutbox(ctx, w.tx, open)
	_, insertErr := outboxTable.Insert(ctx, w.tx, rows...)
	return len(open), errors.Join(err, insertErr)
}

// unblock takes deliveries that failed and block out of their lanes: nobody can say any more how to go on.
func (w *sweptWebhook) unblock(ctx context.Context) (int, error) {
	var blocked []laneRow
	err := sqldb.SQL(selectLanes).PinnedTo("webhook_id", w.ID).Add(" AND blocked ORDER BY webhook_id, id LIMIT ?", sweepChunk).
		Select(ctx, w.tx, &blocked)
	if err != nil {
		return 0, err
	}
	heads := make([]laneMember, len(blocked))
	for i, lane := range blocked {
		heads[i] = laneMember{*lane.Head, lane.ID}
	}
	return len(heads), w.s.passOn(ctx, w.tx, heads)
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

// cancelDeliveries makes the unfinished ones of the deliveries cancelled, lets go what waits behind
// them, and returns them. Their outbox rows must be there still.
func (s *Store) cancelDeliveries(ctx context.Context, tx *sqlx.Tx, deliveryIDs []string, now time.Time) ([]string, error) {
	const cancel = "UPDATE deliveries SET state = ?, finished_at = ?, next_attempt_at = NULL WHERE finished_at IS NULL AND "
	slices.Sort(deliveryIDs)
	var rows []struct {
		ID   string
		Lane *string
	}
	err := sqldb.SQL(cancel, postrider.StateCancelled, now).InKeyRange("id", deliveryIDs).Add(" RETURNING id, lane").Select(ctx, tx, &rows)
	if err != nil {
		return nil, err
	}
	cancelled := make([]string, len(rows))
	var members []laneMember
	for i, row := range rows {
		if cancelled[i] = row.ID; row.Lane != nil {
			members = append(members, laneMember{row.ID, *row.Lane})
		}
	}
	return cancelled, s.passOn(ctx, tx, members)
}

// dropWaiting drops the rows of deliveries that wait for their first attempt. If an attempt
// was recorded meanwhile, the row has become another by now and must stay.
func dropWaiting(ctx context.Context, tx *sqlx.Tx, deliveryIDs []string) error {
	return sqldb.SQL("DELETE FROM outbox WHERE kind = "+sqlStart+" AND NOT leased AND delivery_id IN").In(deliveryIDs).Run(ctx, tx)
}

func dropOutbox(ctx context.Context, tx *sqlx.Tx, deliveryIDs []string) error {
	return sqldb.SQL("DELETE FROM outbox WHERE delivery_id IN").In(deliveryIDs).Run(ctx, tx)
}

// Park parks a delivery whose attempt found the webhook not active: it makes no request, and
// leaves the workflow that was to make it. It does nothing when another workflow carries the
// delivery.
func (s *Store) Park(ctx context.Context, workflowID string, d postrider.Delivery) error {
	err := s.db.Delivering.Write(ctx, "park", func(tx *sqlx.Tx) error {
		// The webhook may be active again by now, and have been swept.
		if err := s.requestSweeps(ctx, tx, d.WebhookID); err != nil {
			return err
		}
		mine, err := sqldb.SQL("SELECT delivery_id FROM outbox WHERE kind <> "+sqlCancel+" AND "+isOf+" AND delivery_id = ?", workflowID, d.ID).
			Strings(ctx, tx)
		if err != nil || len(mine) == 0 {
			return err
		}
		return parkDeliveries(ctx, tx, mine, isOf, workflowID)
	})
	signal(s.wakeSweeps)
	return err
}
