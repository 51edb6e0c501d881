package store

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/jmoiron/sqlx"

	"postrider.dev/postrider"
	"postrider.dev/postrider/store/sqldb"
)

// outboxRow is a row of the outbox. The outbox has a row for every delivery that is neither
// finished nor parked, and for workflows that are to be cancelled. Its kind and three other
// columns say in which of these states a row is; docs/states.md says what moves it:
//
//	kind    hold_until  leased  ahead  workflow_id
//	start   null        no      no     '' or its last     ready: the first attempt may be made
//	start   a time      no      no     ''                scheduled: waits for its time (deliver_at)
//	start   year 9999   no      no     ''                behind: another delivery of its lane is the head, see order.go
//	start   a time      yes     no     its carrier       the first attempt is under way, or about to be; it has a permit
//	start   a time      yes     yes    its carrier       claimed ahead: waits in a process for the slot of an attempt that is under way
//	retry   null        no      no     ''                ready: a carrier is to be started
//	retry   a time      no      no     its carrier       waits for its next attempt in the carrier, which is lost when the time is over
//	retry   a time      yes     no     its carrier       an attempt is under way; it has a permit
//	cancel  null        no      no     a carrier         ready: the carrier is to be cancelled
//	cancel  a time      yes     no     a carrier         the cancellation is under way
//
// A hold that is over makes the row ready again. A record turns start into retry, and
// deletes the row when the delivery is finished. A row is deleted too when its delivery is
// parked.
type outboxRow struct {
	DeliveryID string `db:"delivery_id"`
	WebhookID  string `db:"webhook_id"`
	Queue      string // the workspace's id and the webhook's, see queueOf; claims take turns by it
	Kind       outboxKind
	HoldUntil  *sqldb.Time `db:"hold_until"`
	Leased     bool
	DueAt      sqldb.Time `db:"due_at"`
	WorkflowID string     `db:"workflow_id"`
}

// queueOf returns the queue of a webhook's rows.
func queueOf(workspaceID, webhookID string) string { return workspaceID + "/" + webhookID }

// Conditions that partial indexes of the outbox have, with the indexes' names. A test
// compares them with both databases.
const (
	readyStart     = "hold_until IS NULL AND kind = " + sqlStart                         // outbox_ready
	readyRetry     = "hold_until IS NULL AND kind = " + sqlRetry                         // outbox_handover
	readyCancel    = "hold_until IS NULL AND kind = " + sqlCancel                        // outbox_cancel
	onHold         = "hold_until IS NOT NULL"                                            // outbox_held
	leasedAttempt  = "leased AND kind <> " + sqlCancel                                   // outbox_leased
	scheduledStart = "hold_until IS NOT NULL AND kind = " + sqlStart + " AND NOT leased" // outbox_scheduled
	waitingRetry   = "kind = " + sqlRetry + " AND NOT leased"                            // outbox_retrying
)

// ready returns the condition for rows of the kind that a claim may take now.
func ready(kind outboxKind) string {
	switch kind {
	case kindRetry:
		return readyRetry
	case kindCancel:
		return readyCancel
	default:
		return readyStart
	}
}

// Conditions for rows that are looked up by their deliveries. They are written so that no
// partial index serves them. PostgreSQL plans a statement once. If the table is empty then,
// it would take a partial index, and go on to read all rows that are ready, or all that are
// leased, for a few rows whose keys it was given.
const (
	isStart   = "kind || '' = " + sqlStart
	isRetry   = "kind || '' = " + sqlRetry
	isCancel  = "kind || '' = " + sqlCancel
	isLeased  = "leased IS NOT FALSE"
	notLeased = "leased IS NOT TRUE"
	isDue     = "COALESCE(hold_until, hold_until) <= ?"
	isOf      = "workflow_id || '' = ?"
)

// makeReady is the SET that makes a row ready: a retry is to be handed over.
const makeReady = "hold_until = NULL, leased = FALSE, ahead = FALSE, " +
	"workflow_id = CASE kind WHEN " + sqlRetry + " THEN '' ELSE workflow_id END"

// NextDue returns when the next row becomes claimable that is not claimable now: the end of
// a lease or of a delivery's delay, or the time at which a rate-limited webhook may go on.
// It returns false when no row is held. Its cost grows with the number of webhooks that have
// something waiting, not with how much waits.
func (s *Store) NextDue(ctx context.Context) (time.Time, bool, error) {
	var row struct {
		Held  *sqldb.Time
		Paced *sqldb.Time
	}
	const held = "(SELECT MIN(hold_until) FROM outbox WHERE " + onHold + ")"
	const pace = "(SELECT p.next_at FROM webhook_pace p WHERE p.webhook_id = " + webhookOfQueue + " AND p.next_at > ?)"
	err := skipScan(kindStart, "", afterAll).Add("SELECT "+held+" AS held, (SELECT MIN("+pace+") FROM found) AS paced", s.now()).
		Get(ctx, s.db.Delivering.Reading, &row)
	if err != nil {
		return time.Time{}, false, sqldb.Failure("look for what is due next", err)
	}
	switch {
	case row.Held == nil && row.Paced == nil:
		return time.Time{}, false, nil
	case row.Held == nil || row.Paced != nil && row.Paced.Before(row.Held.Time):
		return row.Paced.Time, true, nil
	}
	return row.Held.Time, true, nil
}

// dueRows says which rows a claim finds in the outbox.
type dueRows struct {
	Held  bool // a lease or a delay is over
	Ready bool // of the kind that is looked for
}

// lookForDue looks for claimable rows of the kind before a transaction is begun: most claims
// find no row. It makes rows ready whose hold is over, enough for a claim of the limit, and
// reports whether a claim is worth making.
func (s *Store) lookForDue(ctx context.Context, kind outboxKind, limit int) (bool, error) {
	var due dueRows
	err := sqldb.SQL("SELECT EXISTS (SELECT 1 FROM outbox WHERE hold_until <= ?) AS held, ", s.now()).
		Add("EXISTS (SELECT 1 FROM outbox WHERE "+ready(kind)+") AS ready").Get(ctx, s.db.Delivering.Reading, &due)
	if err != nil {
		return false, sqldb.Failure("look for what is due", err)
	}
	if due.Held {
		return true, s.endHolds(ctx, limit)
	}
	return due.Ready, nil
}

// endHolds makes rows ready whose lease ran out or whose time has come, up to a chunk or the
// limit, so that a claim has enough to choose from. It is a transaction of its own: inside
// the claim's it would lock outbox before deliveries, against the order.
func (s *Store) endHolds(ctx context.Context, limit int) error {
	now := s.now()
	const over = "SELECT delivery_id FROM outbox WHERE hold_until <= ? ORDER BY hold_until LIMIT ?"
	due, err := sqldb.SQL(over, now, max(limit, sqldb.ChunkSize)).Strings(ctx, s.db.Delivering.Reading)
	if err != nil || len(due) == 0 {
		return sqldb.Failure("end holds", err)
	}
	var lost []string
	err = s.db.Delivering.Write(ctx, "end holds", func(tx *sqlx.Tx) error {
		var over []struct {
			DeliveryID string `db:"delivery_id"`
			Lost       bool
		}
		const selectOver = "SELECT delivery_id, (leased AND kind <> " + sqlCancel + " OR kind = " + sqlRetry + ") AS lost FROM outbox WHERE " +
			isDue + " AND delivery_id IN"
		err := sqldb.SQL(selectOver, now).In(due).
			Add(" ORDER BY delivery_id"+s.db.Lock("FOR UPDATE SKIP LOCKED")).Select(ctx, tx, &over)
		if err != nil || len(over) == 0 {
			return err
		}
		lost = nil
		free := make([]string, len(over))
		for i, row := range over {
			if free[i] = row.DeliveryID; row.Lost {
				lost = append(lost, row.DeliveryID)
			}
		}
		return sqldb.SQL("UPDATE outbox SET "+makeReady+" WHERE delivery_id IN").In(free).Run(ctx, tx)
	})
	if err == nil && len(lost) > 0 {
		s.recovered.Add(int64(len(lost)))
		s.Logger.LogAttrs(ctx, slog.LevelWarn, "what carried deliveries is lost; they are carried on by others",
			slog.Int("deliveries", len(lost)), slog.String("one_of_them", lost[0]))
	}
	return err
}

// Recovered returns how many deliveries this process gave to other workflows because what
// carried them was lost: a workflow that was terminated or forgotten, or a process that died.
func (s *Store) Recovered() int64 { return s.recovered.Load() }

// Leased returns which of the deliveries are leased for a first attempt.
func (s *Store) Leased(ctx context.Context, deliveryIDs []string) ([]string, error) {
	leased := []string{}
	for part := range slices.Chunk(deliveryIDs, sqldb.ChunkSize) {
		some, err := sqldb.SQL("SELECT delivery_id FROM outbox WHERE "+isLeased+" AND "+isStart+" AND delivery_id IN").In(part).
			Strings(ctx, s.db.Delivering.Reading)
		if err != nil {
			return nil, sqldb.Failure("look for leases", err)
		}
		leased = append(leased, some...)
	}
	return leased, nil
}

// Release gives claimed deliveries back: they are ready again at once. The outbox remembers
// the workflow that was to make a first attempt, because that workflow may have been started
// although its start was not confirmed. Deliveries that are not leased are left alone, and
// so are retries whose attempt is under way: their workflow was started after all.
func (s *Store) Release(ctx context.Context, deliveryIDs []string) error {
	return s.release(ctx, deliveryIDs, "CASE WHEN "+isRetry+" THEN "+notLeased+" ELSE "+isLeased+" END")
}

// release makes the deliveries ready again whose rows meet the condition.
func (s *Store) release(ctx context.Context, deliveryIDs []string, condition string) error {
	err := s.eachChunk(ctx, "release", deliveryIDs, func(tx *sqlx.Tx, part []string) error {
		return sqldb.SQL("UPDATE outbox SET "+makeReady+" WHERE "+condition+" AND delivery_id IN").In(part).Run(ctx, tx)
	})
	if err == nil && len(deliveryIDs) > 0 {
		s.notify()
	}
	return err
}

// ReleaseOrphans gives back at once the deliveries that a process had leased which no longer
// runs, instead of when its leases run out. It gives back retries, too, that are due or soon
// will be, because the round that was to make them may have ended with the process. It is
// for the start of a process that has the database to itself.
func (s *Store) ReleaseOrphans(ctx context.Context) error {
	leased, err := sqldb.SQL("SELECT delivery_id FROM outbox WHERE leased OR kind = "+sqlRetry+" AND due_at <= ?", s.now().Add(2*dueWithin)).
		Strings(ctx, s.db.Delivering.Reading)
	if err != nil {
		return sqldb.Failure("look for orphans", err)
	}
	return s.release(ctx, leased, "("+isLeased+" OR "+isRetry+")")
}

// eachChunk runs work for the ids in parts, each in a transaction of its own.
func (s *Store) eachChunk(ctx context.Context, name string, deliveryIDs []string, work func(*sqlx.Tx, []string) error) error {
	for part := range slices.Chunk(deliveryIDs, sqldb.ChunkSize) {
		if err := s.db.Delivering.Write(ctx, name, func(tx *sqlx.Tx) error { return work(tx, part) }); err != nil {
			return err
		}
	}
	return nil
}

// CancelDelivery makes an unfinished delivery cancelled and takes it off the outbox, because
// the workflow was cancelled that carries it. It leaves alone a delivery that is finished, that
// is parked, or that another workflow carries. Returns [postrider.CodeNotFound] if it is
// unknown.
func (s *Store) CancelDelivery(ctx context.Context, workflowID, deliveryID string) error {
	var cancelled []string
	err := s.db.Delivering.Write(ctx, "cancel a delivery", func(tx *sqlx.Tx) error {
		cancelled = nil
		known, err := sqldb.SQL("SELECT id FROM deliveries WHERE id = ?", deliveryID).Add(s.db.Lock("FOR UPDATE")).Strings(ctx, tx)
		if err != nil {
			return err
		}
		if len(known) == 0 {
			return postrider.NotFound("delivery")
		}
		carried, err := sqldb.SQL("SELECT delivery_id FROM outbox WHERE "+isOf+" AND delivery_id IN", workflowID).
			In(known).Strings(ctx, tx)
		if err != nil || len(carried) == 0 {
			return err
		}
		if cancelled, err = s.cancelDeliveries(ctx, tx, carried, s.now()); err != nil {
			return err
		}
		return dropOutbox(ctx, tx, carried)
	})
	if err == nil {
		s.OnCancelled(len(cancelled))
		s.notifyIf(len(cancelled) > 0) // others may have had to wait for it
	}
	return err
}

// Backlog counts the deliveries that are due and that no workflow carries, without those that
// their webhook's own limits hold back: they are not late by anything that operators can mend.
func (s *Store) Backlog(ctx context.Context) (postrider.Backlog, error) {
	var row struct {
		Pending int64
		Oldest  *sqldb.Time
		Open    int64
	}
	const query = "SELECT COUNT(*) AS pending, MIN(due_at) AS oldest," +
		" (SELECT COUNT(*) FROM webhook_gates g JOIN webhooks w ON w.id = g.webhook_id WHERE g.allowance = 0 AND g.openings > 0" +
		" AND w.status = " + sqlActive + " AND w.deleted_at IS NULL) AS open FROM outbox" +
		" WHERE kind <> " + sqlCancel + " AND (hold_until IS NULL OR hold_until <= ?) AND webhook_id NOT IN (" + atTheirLimits + ")"
	now := s.now()
	err := sqldb.SQL(query, now, now, now.Add(-time.Second)).Get(ctx, s.db.Delivering.Reading, &row)
	return postrider.Backlog{Pending: row.Pending, OldestAt: row.Oldest.Pointer(), Open: row.Open}, sqldb.Failure("count the backlog", err)
}

// atTheirLimits selects the webhooks that have as many attempts under way now as they allow,
// whose rate is used up later than the second time given, or that are behind a gate.
const atTheirLimits = `SELECT w.id FROM webhooks w JOIN (SELECT webhook_id, COUNT(*) AS leased FROM outbox
		WHERE ` + leasedAttempt + ` AND NOT ahead AND hold_until > ? GROUP BY webhook_id) o ON o.webhook_id = w.id
	WHERE o.leased >= w.max_in_flight
	UNION ALL SELECT w.id FROM webhooks w JOIN webhook_pace p ON p.webhook_id = w.id WHERE w.rate_limit IS NOT NULL AND p.next_at > ?
	UNION ALL SELECT webhook_id FROM webhook_gates`
