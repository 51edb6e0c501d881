package store

import (
	"context"
	"time"

	"github.com/jmoiron/sqlx"

	"postrider.dev/postrider"
	"postrider.dev/postrider/store/sqldb"
)

// A row of webhook_gates lets a webhook have fewer attempts under way than its max_in_flight: after it
// was resumed, and after its circuit has opened. Claims, permits and hand-overs go by it, in
// all processes, and records change it (health.go). So what waits behind a gate waits in the outbox, as
// what waits for max_in_flight does: it costs no workflow, and keeps its attempts and its place.

// gateColumns are the columns of a gate that are read with its webhook; all are null without one.
type gateColumns struct {
	Allowance *int
	ProbeAt   *sqldb.Time `db:"probe_at"`
	ChangedAt *sqldb.Time `db:"changed_at"`
	Openings  *int
}

// gate returns the gate; nil without one.
func (c gateColumns) gate() *postrider.Gate {
	if c.Allowance == nil {
		return nil
	}
	return &postrider.Gate{Allowance: *c.Allowance, ProbeAt: c.ProbeAt.Time, ChangedAt: c.ChangedAt.Time, Openings: *c.Openings}
}

// gateRow is a row of the table webhook_gates.
type gateRow struct {
	WebhookID string `db:"webhook_id"`
	Allowance int
	ProbeAt   sqldb.Time `db:"probe_at"`
	ChangedAt sqldb.Time `db:"changed_at"`
	Openings  int
}

// upsertGate is the end of an INSERT that replaces the gate that there is.
const upsertGate = "ON CONFLICT (webhook_id) DO UPDATE SET allowance = excluded.allowance, probe_at = excluded.probe_at," +
	" changed_at = excluded.changed_at, openings = excluded.openings"

// setGate gives the webhook the gate, or none.
func setGate(ctx context.Context, tx *sqlx.Tx, webhookID string, gate *postrider.Gate) error {
	if gate == nil {
		return sqldb.SQL("DELETE FROM webhook_gates WHERE webhook_id = ?", webhookID).Run(ctx, tx)
	}
	_, err := webhookGatesTable.Insert(ctx, tx, gateRow{
		webhookID, gate.Allowance, sqldb.TimeOf(gate.ProbeAt), sqldb.TimeOf(gate.ChangedAt), gate.Openings,
	})
	return err
}

// beginAgain lets a webhook that is resumed begin with a probe, and forgets how long it has failed.
func (s *Store) beginAgain(ctx context.Context, tx *sqlx.Tx, webhookID string) error {
	const forget = "UPDATE webhook_stats SET consecutive_failures = 0, failing_since = NULL WHERE webhook_id = ?"
	if err := sqldb.SQL(forget, webhookID).Run(ctx, tx); err != nil {
		return err
	}
	gate := postrider.ProbeFirst(s.now())
	return setGate(ctx, tx, webhookID, &gate)
}

// probeSoon lets the next probe of a webhook whose circuit is open be made now: somebody has changed
// something, or wants to know.
func probeSoon(ctx context.Context, tx *sqlx.Tx, webhookID string, now time.Time) error {
	return sqldb.SQL("UPDATE webhook_gates SET probe_at = ? WHERE webhook_id = ? AND allowance = 0 AND probe_at > ?", now, webhookID, now).
		Run(ctx, tx)
}
