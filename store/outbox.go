package store

import (
	"context"
	"slices"
	"time"

	"github.com/jmoiron/sqlx"

	"postrider"
)

// Conditions for outbox rows that are looked up by their deliveries. They are written so
// that no partial index serves them: PostgreSQL plans a statement once, and if the table
// is empty then, it would go on to read all that is ready, or all that is leased, for a
// few rows that it has the keys of.
const (
	isStart  = "kind || '' = 'start'"
	isRetry  = "kind || '' = 'retry'"
	isLeased = "leased IS NOT FALSE"
	isDue    = "COALESCE(hold_until, hold_until) <= ?"
)

// NextDue returns when the next row becomes claimable that is not so now: the end
// of a lease or of a delivery's delay, or the time at which a rate-limited webhook
// may go on. It returns false when nothing is held. What it costs depends on the number
// of webhooks that have something waiting, not on how much waits.
func (s *Store) NextDue(ctx context.Context) (time.Time, bool, error) {
	var row struct {
		Held  *moment
		Paced *moment
	}
	err := sqlOf(hops, "").add(`SELECT (SELECT MIN(hold_until) FROM outbox WHERE hold_until IS NOT NULL) AS held,
		(SELECT MIN((SELECT p.next_at FROM webhook_pace p WHERE p.webhook_id = hop.webhook_id AND p.next_at > ?)) FROM hop) AS paced`, s.now()).
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
// remembers the workflow that each was to be handed to, which may have been started
// although nobody knows. Retries give up their places. Deliveries that are not leased
// are left alone.
func (s *Store) Release(ctx context.Context, deliveryIDs []string) error {
	err := s.eachChunk(ctx, "release", deliveryIDs, func(tx *sqlx.Tx, part []string) error {
		if err := sqlOf("DELETE FROM outbox WHERE "+isRetry+" AND delivery_id IN").in(part).run(ctx, tx); err != nil {
			return err
		}
		return sqlOf("UPDATE outbox SET hold_until = NULL, leased = FALSE WHERE "+isLeased+" AND delivery_id IN").in(part).run(ctx, tx)
	})
	if err == nil && len(deliveryIDs) > 0 {
		s.notify()
	}
	return err
}

// ReleaseOrphans gives back at once what a process had leased that is no more,
// instead of when its leases run out. It is for the start of a process that has
// the database to itself.
func (s *Store) ReleaseOrphans(ctx context.Context) error {
	leased, err := ids(ctx, s.reading, sqlOf("SELECT delivery_id FROM outbox WHERE leased"))
	if err != nil {
		return failure("look for orphans", err)
	}
	return s.Release(ctx, leased)
}

// HandedOver takes deliveries off the outbox whose workflow is known to exist, or
// whose workflow's cancellation was asked for.
func (s *Store) HandedOver(ctx context.Context, deliveryIDs []string) error {
	return s.eachChunk(ctx, "hand over", deliveryIDs, func(tx *sqlx.Tx, part []string) error {
		err := sqlOf(`UPDATE deliveries SET state = 'delivering', handed_over = TRUE,
			workflow_id = CASE WHEN o.workflow_id = '' THEN deliveries.workflow_id ELSE o.workflow_id END
			FROM outbox o WHERE o.delivery_id = deliveries.id AND `+isStart+` AND deliveries.state IN ('pending', 'delivering') AND o.delivery_id IN`).
			in(part).add(" AND deliveries.id IN").in(part).run(ctx, tx)
		if err != nil {
			return err
		}
		// A retry that has its place already keeps it.
		return sqlOf("DELETE FROM outbox WHERE kind <> 'retry' AND delivery_id IN").in(part).run(ctx, tx)
	})
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
		if _, err := cancelDeliveries(ctx, tx, known, nil, s.now()); err != nil {
			return err
		}
		return dropOutbox(ctx, tx, known)
	})
}

// Backlog counts the deliveries that are due and that no dispatcher holds.
func (s *Store) Backlog(ctx context.Context) (postrider.Backlog, error) {
	var row struct {
		Pending int64
		Oldest  *moment
	}
	err := sqlOf("SELECT COUNT(*) AS pending, MIN(due_at) AS oldest FROM outbox WHERE kind = 'start' AND (hold_until IS NULL OR hold_until <= ?)", s.now()).
		get(ctx, s.reading, &row)
	return postrider.Backlog{Pending: row.Pending, OldestAt: timeOf(row.Oldest)}, failure("count the backlog", err)
}
