package store

import (
	"context"
	"maps"
	"slices"
	"time"

	"postrider.dev/postrider"
	"postrider.dev/postrider/store/sqldb"
)

// deliveryProgress are the columns of a delivery that a record changes, with its id.
type deliveryProgress struct {
	ID            string
	State         postrider.DeliveryState
	AttemptCount  int         `db:"attempt_count"`
	NextAttemptAt *sqldb.Time `db:"next_attempt_at"`
	LastError     *string     `db:"last_error"`
	FinishedAt    *sqldb.Time `db:"finished_at"`
	WorkflowID    string      `db:"workflow_id"`
}

// deliveryUpdate is a delivery as it was, and then as the record leaves it.
type deliveryUpdate struct {
	deliveryProgress
	WorkspaceID string      `db:"workspace_id"`
	WebhookID   string      `db:"webhook_id"`
	EventID     string      `db:"event_id"`
	EventType   string      `db:"event_type"`
	ExpiresAt   *sqldb.Time `db:"expires_at"`
	postrider.Policy
	HeldAt *sqldb.Time `db:"held_at"`
	Lane   *string

	moved  bool // a new attempt says how the delivery goes on
	leaves bool // it leaves its workflow, for another
}

// statsDelta is added to a webhook's stats by a transaction.
type statsDelta struct {
	total, failed int64
	lastAt        *time.Time
	lastError     *string
	health        healthDelta
}

// apply moves a delivery, its webhook's stats and its rollup on by an attempt that is new.
func (r *recorder) apply(o postrider.Outcome) {
	d := r.deliveries[o.DeliveryID]
	stats := r.stats[d.WebhookID]
	if stats == nil {
		stats = &statsDelta{}
		r.stats[d.WebhookID] = stats
	}
	if o.Attempt.Error != nil {
		stats.lastError = o.Attempt.Error
	}
	stats.health.add(o, d.EventType)
	r.rollups.add(r.s.process, d, o.Attempt.Result, o.FinishedAt(), countsOfAttempt(o.Attempt))
	latest := o.Attempt.Number > d.AttemptCount
	d.AttemptCount = max(d.AttemptCount, o.Attempt.Number)
	if d.State.Finished() && d.State != o.State {
		delete(r.recordedBy, attemptKeyOf(o))
	}
	if d.State.Finished() || !latest {
		return
	}
	decided := d.decide(o)
	if decided.State != o.State || decided.Leaves != o.Leaves {
		delete(r.recordedBy, attemptKeyOf(o)) // the caller believes something else
	}
	o = decided
	d.move(o)
	if o.State == postrider.StateFailed {
		r.told = append(r.told, d.tellsOfFailure(&o.Attempt)...)
	}
	if o.State.Finished() && o.State != postrider.StateCancelled {
		stats.count(o)
		r.rollups.add(r.s.process, d, o.Attempt.Result, o.FinishedAt(), countsOfFinished(o.State))
	}
}

// noJitter is the middle of what [postrider.Policy.Judge] chooses from at random.
const noJitter = 0.5

// decide returns the outcome as operators want it who acted while the attempt was under way: under
// the terms that the delivery has by now, and not retried while it is paused. The workflow that
// made the attempt carries on with neither.
func (d *deliveryUpdate) decide(o postrider.Outcome) postrider.Outcome {
	terms := postrider.Terms{Policy: d.Policy, ExpiresAt: d.ExpiresAt.Pointer()}
	if !terms.Equal(postrider.Terms{Policy: o.Policy, ExpiresAt: o.ExpiresAt}) && o.Policy != (postrider.Policy{}) {
		o.ExpiresAt = terms.ExpiresAt
		o = o.Judged(d.Judge(o.Attempt, o.RetryAfter, noJitter))
		o.Leaves = o.State == postrider.StateRetrying
	}
	if o.State == postrider.StateRetrying && d.HeldAt != nil {
		o.State, o.NextAttempt, o.Leaves = postrider.StateParked, nil, false
	}
	return o
}

// move gives the delivery the state that the outcome of its latest attempt says.
func (d *deliveryUpdate) move(o postrider.Outcome) {
	d.State, d.NextAttemptAt, d.moved, d.leaves = o.State, nil, true, o.Leaves
	if o.WorkflowID != "" {
		d.WorkflowID = o.WorkflowID
	}
	if o.Attempt.Error != nil {
		d.LastError = o.Attempt.Error
	}
	if o.Expired {
		d.LastError = nullText(postrider.Expired)
	}
	if o.State == postrider.StateRetrying {
		d.NextAttemptAt = sqldb.NullTime(o.NextAttempt)
	}
	if o.State == postrider.StateParked { // no workflow carries it
		d.WorkflowID = ""
	}
	if o.State.Finished() {
		d.FinishedAt = &sqldb.Time{Time: o.FinishedAt()}
	}
}

// count counts a delivery that finished with the outcome.
func (s *statsDelta) count(o postrider.Outcome) {
	s.total++
	if o.State == postrider.StateFailed {
		s.failed++
	}
	if at := o.FinishedAt(); s.lastAt == nil || at.After(*s.lastAt) {
		s.lastAt = &at
	}
}

// updateDeliveries writes the deliveries, which are in the order of their ids.
func (r *recorder) updateDeliveries(ctx context.Context, changed []*deliveryUpdate) error {
	rows, deliveryIDs := make([]deliveryProgress, len(changed)), make([]string, len(changed))
	for i, d := range changed {
		rows[i], deliveryIDs[i] = d.deliveryProgress, d.ID
	}
	for part := range sqldb.Chunks(rows) {
		// The condition on ids says the same as the join. Without it PostgreSQL, which plans this
		// while there are few rows, would go on to read all rows between the first and the last.
		err := sqldb.With(r.s.db, part).Add(updateDeliveries).InKeyRange("deliveries.id", deliveryIDs[:len(part)]).Run(ctx, r.tx)
		if err != nil {
			return err
		}
		deliveryIDs = deliveryIDs[len(part):]
	}
	return nil
}

// addStats adds the deltas and the rollups, each in order: two transactions that wait for each
// other's webhooks would be a deadlock.
func (r *recorder) addStats(ctx context.Context) error {
	rows := make([]statsRow, 0, len(r.stats))
	for _, id := range slices.Sorted(maps.Keys(r.stats)) {
		delta := r.stats[id]
		counts := webhookStats{delta.total, delta.failed, sqldb.NullTime(delta.lastAt), delta.lastError}
		rows = append(rows, statsRow{id, counts, delta.health.row()})
	}
	_, err := countedRows.Write(ctx, r.s.db, r.tx, rollupMinutesTable.Rows(r.rollups.rows()), webhookStatsTable.Rows(rows))
	return err
}

// addToStats is the end of an INSERT that adds to the stats that there are.
const addToStats = `ON CONFLICT (webhook_id) DO UPDATE SET total_deliveries = webhook_stats.total_deliveries + excluded.total_deliveries,
	failed_deliveries = webhook_stats.failed_deliveries + excluded.failed_deliveries,
	last_delivery_at = CASE WHEN webhook_stats.last_delivery_at > excluded.last_delivery_at THEN webhook_stats.last_delivery_at
		ELSE COALESCE(excluded.last_delivery_at, webhook_stats.last_delivery_at) END,
	last_error = COALESCE(excluded.last_error, webhook_stats.last_error),
	` + addToHealth
