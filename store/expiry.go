package store

import (
	"context"
	"slices"
	"time"

	"github.com/jmoiron/sqlx"

	"postrider.dev/postrider"
	"postrider.dev/postrider/store/sqldb"
)

// A delivery with expires_at has a row in the table expiries until it is finished or its time is
// over: whatever it waits for, the dispatchers' steps fail it then, without an attempt. Whoever
// gives a delivery another expires_at gives it another row. A delivery that does not expire has
// no row, and costs nothing.

const (
	// expireChunk is the most deliveries of a step.
	expireChunk = 200
	// expireAgain is when a delivery is looked at again whose attempt is under way at its time.
	// An attempt that fails then is the last one.
	expireAgain = time.Second
)

// selectExpiring finds what to look at.
const selectExpiring = "SELECT delivery_id FROM expiries WHERE due_at <= ? ORDER BY due_at LIMIT ?"

// expiryRow is a row of the table expiries.
type expiryRow struct {
	DeliveryID string     `db:"delivery_id"`
	DueAt      sqldb.Time `db:"due_at"`
}

// perishable is a delivery that expires and is not finished.
type perishable struct {
	ID        string
	WebhookID string `db:"webhook_id"`
	State     postrider.DeliveryState
	ExpiresAt *sqldb.Time `db:"expires_at"`
	Lane      *string
}

func (p perishable) over(now time.Time) bool { return p.ExpiresAt != nil && !p.ExpiresAt.After(now) }

// Expire makes one step: some of the deliveries fail whose time is over. It reports whether
// another step is due now.
func (s *Store) Expire(ctx context.Context) (more bool, err error) {
	due, err := sqldb.SQL(selectExpiring, s.now(), expireChunk).Strings(ctx, s.db.Delivering.Reading)
	if err != nil || len(due) == 0 {
		return false, sqldb.Failure("look for what expires", err)
	}
	var failed int
	err = s.db.Delivering.Write(ctx, "expire", func(tx *sqlx.Tx) error {
		var err error
		failed, err = s.expire(ctx, tx, due)
		return err
	})
	if err == nil {
		s.OnExpired(failed)
		s.notifyIf(failed > 0) // others may have had to wait for these
	}
	return len(due) == expireChunk, err
}

// expire fails those of the deliveries that nobody attempts at present, and lets the others come
// again.
func (s *Store) expire(ctx context.Context, tx *sqlx.Tx, due []string) (failed int, err error) {
	open, err := s.lockPerishables(ctx, tx, due)
	if err != nil {
		return 0, err
	}
	if err := dropExpiries(ctx, tx, due); err != nil {
		return 0, err
	}
	now := s.now()
	var over, again []expiryRow
	for _, d := range open {
		switch {
		case d.over(now):
			over = append(over, expiryRow{d.ID, sqldb.Time{Time: now.Add(expireAgain)}})
		case d.ExpiresAt != nil: // it was put off
			again = append(again, expiryRow{d.ID, *d.ExpiresAt})
		}
	}
	idle, err := takeIdle(ctx, tx, over, open)
	if err != nil {
		return 0, err
	}
	for _, row := range over {
		if !slices.Contains(idle, row.DeliveryID) {
			again = append(again, row)
		}
	}
	if _, err := expiriesTable.Insert(ctx, tx, again...); err != nil {
		return 0, err
	}
	return len(idle), s.failExpired(ctx, tx, idle, now)
}

// lockPerishables locks and returns the deliveries that are not finished, by id, and locks their lanes.
func (s *Store) lockPerishables(ctx context.Context, tx *sqlx.Tx, deliveryIDs []string) (map[string]perishable, error) {
	slices.Sort(deliveryIDs)
	var rows []perishable
	err := sqldb.SQL("SELECT "+sqldb.ColumnsOf[perishable]().List()+" FROM deliveries WHERE finished_at IS NULL AND ").
		InKeyRange("id", deliveryIDs).Add(" ORDER BY id"+s.db.Lock("FOR UPDATE")).Select(ctx, tx, &rows)
	if err != nil {
		return nil, err
	}
	byID := make(map[string]perishable, len(rows))
	var lanes []string
	for _, row := range rows {
		if byID[row.ID] = row; row.Lane != nil {
			lanes = append(lanes, *row.Lane)
		}
	}
	return byID, s.lockLanes(ctx, tx, lanes)
}

// takeIdle takes deliveries off the outbox that have no attempt under way, and returns them, with
// those that are parked, which are not in it.
func takeIdle(ctx context.Context, tx *sqlx.Tx, over []expiryRow, open map[string]perishable) ([]string, error) {
	if len(over) == 0 {
		return nil, nil
	}
	var parked []string
	ids := make([]string, len(over))
	for i, row := range over {
		if ids[i] = row.DeliveryID; open[row.DeliveryID].State == postrider.StateParked {
			parked = append(parked, row.DeliveryID)
		}
	}
	taken, err := sqldb.SQL("DELETE FROM outbox WHERE kind <> "+sqlCancel+" AND "+notLeased+" AND delivery_id IN").In(ids).
		Add(" RETURNING delivery_id").Strings(ctx, tx)
	return append(taken, parked...), err
}

// failExpired makes deliveries failed that expired, and counts them.
func (s *Store) failExpired(ctx context.Context, tx *sqlx.Tx, deliveryIDs []string, now time.Time) error {
	if len(deliveryIDs) == 0 {
		return nil
	}
	slices.Sort(deliveryIDs)
	const fail = "UPDATE deliveries SET state = ?, finished_at = ?, last_error = ?, next_attempt_at = NULL WHERE finished_at IS NULL AND "
	var failed []deliveryUpdate
	err := sqldb.SQL(fail, postrider.StateFailed, now, postrider.Expired).InKeyRange("id", deliveryIDs).
		Add(" RETURNING "+sqldb.ColumnsOf[deliveryUpdate]().List()).Select(ctx, tx, &failed)
	if err != nil {
		return err
	}
	if err := s.passOn(ctx, tx, membersOf(failed)); err != nil {
		return err
	}
	return s.countFailed(ctx, tx, failed, now)
}

// membersOf returns those of the deliveries that have an order.
func membersOf(deliveries []deliveryUpdate) []laneMember {
	var members []laneMember
	for _, d := range deliveries {
		if d.Lane != nil {
			members = append(members, laneMember{d.ID, *d.Lane})
		}
	}
	return members
}

// FailExpired fails a delivery whose attempt the workflow was to make now, and that has expired.
// It reports false, and does nothing, when another workflow carries the delivery, when it is
// finished, and when it was put off.
func (s *Store) FailExpired(ctx context.Context, workflowID, deliveryID string, now time.Time) (failed bool, err error) {
	now = postrider.Timestamp(now)
	err = s.db.Delivering.Write(ctx, "fail an expired delivery", func(tx *sqlx.Tx) error {
		failed = false
		open, err := s.lockPerishables(ctx, tx, []string{deliveryID})
		if err != nil || !open[deliveryID].over(now) {
			return err
		}
		mine, err := sqldb.SQL("DELETE FROM outbox WHERE kind <> "+sqlCancel+" AND "+isOf+" AND delivery_id IN", workflowID).
			In([]string{deliveryID}).Add(" RETURNING delivery_id").Strings(ctx, tx)
		if err != nil || len(mine) == 0 {
			return err
		}
		failed = true
		if err := dropExpiries(ctx, tx, mine); err != nil {
			return err
		}
		return s.failExpired(ctx, tx, mine, now)
	})
	if failed && err == nil {
		s.OnExpired(1)
		s.notify()
	}
	return failed, err
}

// lockExpiries locks the rows that there are of deliveries, which are locked before.
func lockExpiries(ctx context.Context, tx *sqlx.Tx, forUpdate string, deliveryIDs []string) error {
	_, err := sqldb.SQL("SELECT delivery_id FROM expiries WHERE delivery_id IN").In(deliveryIDs).
		Add(" ORDER BY delivery_id"+forUpdate).Strings(ctx, tx)
	return err
}

// dropExpiries forgets when deliveries expire, because they are finished or expire no more.
func dropExpiries(ctx context.Context, tx *sqlx.Tx, deliveryIDs []string) error {
	return sqldb.SQL("DELETE FROM expiries WHERE delivery_id IN").In(deliveryIDs).Run(ctx, tx)
}
