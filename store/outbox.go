package store

import (
	"context"
	"slices"
	"time"

	"github.com/jmoiron/sqlx"

	"postrider.dev/postrider"
)

// The outbox has a row for every delivery that is not finished or parked, and for
// workflows that are to be cancelled. A row is in one of these states:
//
//	kind    hold_until  leased  workflow_id
//	start   null        no      '' or who had it  ready: the first attempt may be made
//	start   a time      no      ''                waits for its time (deliver_at)
//	start   a time      yes     its carrier       the first attempt is under way, or about to be: a place of the webhook's
//	start   a time      ahead   its carrier       waits in a process for the place of one that is under way
//	retry   null        no      ''                ready: a carrier is to be started
//	retry   a time      no      its carrier       waits for its next attempt in the carrier, which is lost when the time is over
//	retry   a time      yes     its carrier       an attempt is under way: a place of the webhook's
//	cancel  null        no      a carrier         ready: the carrier is to be cancelled
//	cancel  a time      yes     a carrier         that is being asked for
//
// A hold that is over makes the row ready again. The row goes when the delivery is
// finished or parked: a record turns start into retry, and either into nothing.
//
// queue is the workspace's id and the webhook's, joined by a stroke: by it claims go
// round.

// queueOf returns the queue of a webhook's rows.
func queueOf(workspaceID, webhookID string) string { return workspaceID + "/" + webhookID }

// Conditions for outbox rows that are looked up by their deliveries. They are written so
// that no partial index serves them: PostgreSQL plans a statement once, and if the table
// is empty then, it would go on to read all that is ready, or all that is leased, for a
// few rows that it has the keys of.
const (
	isStart   = "kind || '' = 'start'"
	isRetry   = "kind || '' = 'retry'"
	isLeased  = "leased IS NOT FALSE"
	notLeased = "leased IS NOT TRUE"
	isDue     = "COALESCE(hold_until, hold_until) <= ?"
)

// readyAgain is what makes a row ready: a retry is to be handed over.
const readyAgain = "hold_until = NULL, leased = FALSE, ahead = FALSE, workflow_id = CASE kind WHEN 'retry' THEN '' ELSE workflow_id END"

// NextDue returns when the next row becomes claimable that is not so now: the end
// of a lease or of a delivery's delay, or the time at which a rate-limited webhook
// may go on. It returns false when nothing is held. What it costs depends on the number
// of webhooks that have something waiting, not on how much waits.
func (s *Store) NextDue(ctx context.Context) (time.Time, bool, error) {
	var row struct {
		Held  *moment
		Paced *moment
	}
	err := hops("start", "", afterAll).add(`SELECT (SELECT MIN(hold_until) FROM outbox WHERE hold_until IS NOT NULL) AS held,
		(SELECT MIN((SELECT p.next_at FROM webhook_pace p WHERE p.webhook_id = `+webhookOfHop+` AND p.next_at > ?)) FROM hop) AS paced`, s.now()).
		get(ctx, s.reading, &row)
	if err != nil {
		return time.Time{}, false, failure("look for what is due next", err)
	}
	switch {
	case row.Held == nil && row.Paced == nil:
		return time.Time{}, false, nil
	case row.Held == nil || row.Paced != nil && row.Paced.Before(row.Held.Time):
		return row.Paced.Time, true, nil
	}
	return row.Held.Time, true, nil
}

// Leased returns those of the deliveries that are leased for a first attempt.
func (s *Store) Leased(ctx context.Context, deliveryIDs []string) ([]string, error) {
	leased := []string{}
	for part := range slices.Chunk(deliveryIDs, chunkSize) {
		some, err := ids(ctx, s.reading, sqlOf("SELECT delivery_id FROM outbox WHERE "+isLeased+" AND "+isStart+" AND delivery_id IN").in(part))
		if err != nil {
			return nil, failure("look for leases", err)
		}
		leased = append(leased, some...)
	}
	return leased, nil
}

// Release gives claimed deliveries back: they are ready again at once. The outbox
// remembers the workflow that was to make a first attempt, which may have been started
// although nobody knows. Deliveries that are not leased are left alone, and so are
// retries whose attempt is under way: their workflow was started after all.
func (s *Store) Release(ctx context.Context, deliveryIDs []string) error {
	return s.release(ctx, deliveryIDs, "CASE WHEN "+isRetry+" THEN "+notLeased+" ELSE "+isLeased+" END")
}

// release makes those of the deliveries ready again whose rows are such.
func (s *Store) release(ctx context.Context, deliveryIDs []string, such string) error {
	err := s.eachChunk(ctx, "release", deliveryIDs, func(tx *sqlx.Tx, part []string) error {
		return sqlOf("UPDATE outbox SET "+readyAgain+" WHERE "+such+" AND delivery_id IN").in(part).run(ctx, tx)
	})
	if err == nil && len(deliveryIDs) > 0 {
		s.notify()
	}
	return err
}

// ReleaseOrphans gives back at once what a process had leased that is no more,
// instead of when its leases run out, and retries that are due or about to be, for the
// round that was to make them may have died with it. It is for the start of a process that has the
// database to itself.
func (s *Store) ReleaseOrphans(ctx context.Context) error {
	leased, err := ids(ctx, s.reading, sqlOf("SELECT delivery_id FROM outbox WHERE leased OR kind = 'retry' AND due_at <= ?", s.now().Add(2*dueWithin)))
	if err != nil {
		return failure("look for orphans", err)
	}
	return s.release(ctx, leased, "("+isLeased+" OR "+isRetry+")")
}

// eachChunk runs work in a transaction for so many ids at a time.
func (s *Store) eachChunk(ctx context.Context, name string, deliveryIDs []string, work func(*sqlx.Tx, []string) error) error {
	for part := range slices.Chunk(deliveryIDs, chunkSize) {
		if err := s.write(ctx, name, func(tx *sqlx.Tx) error { return work(tx, part) }); err != nil {
			return err
		}
	}
	return nil
}

// CancelDelivery makes an unfinished delivery cancelled and takes it off the
// outbox. A finished one stays as it is. Returns [postrider.CodeNotFound] if it is
// unknown.
func (s *Store) CancelDelivery(ctx context.Context, deliveryID string) error {
	return s.write(ctx, "cancel a delivery", func(tx *sqlx.Tx) error {
		known, err := ids(ctx, tx, sqlOf("SELECT id FROM deliveries WHERE id = ?", deliveryID).add(s.dialect.lock("FOR UPDATE")))
		if err != nil {
			return err
		}
		if len(known) == 0 {
			return postrider.NotFound("delivery")
		}
		if _, err := cancelDeliveries(ctx, tx, known, s.now()); err != nil {
			return err
		}
		return dropOutbox(ctx, tx, known)
	})
}

// Backlog counts the deliveries that are due and that no workflow carries.
func (s *Store) Backlog(ctx context.Context) (postrider.Backlog, error) {
	var row struct {
		Pending int64
		Oldest  *moment
	}
	err := sqlOf("SELECT COUNT(*) AS pending, MIN(due_at) AS oldest FROM outbox WHERE kind <> 'cancel' AND (hold_until IS NULL OR hold_until <= ?)", s.now()).
		get(ctx, s.reading, &row)
	return postrider.Backlog{Pending: row.Pending, OldestAt: timeOf(row.Oldest)}, failure("count the backlog", err)
}
