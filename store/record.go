package store

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/jmoiron/sqlx"

	"postrider.dev/postrider"
	"postrider.dev/postrider/store/sqldb"
)

// Record commits attempts and what they mean for their deliveries. Concurrent calls share a
// transaction. An attempt that is recorded already changes nothing. A finished delivery, such
// as one that was cancelled in the meantime, keeps its state; the attempt is kept all the
// same. In both cases it returns [postrider.CodeConflict], after everything else in the call
// was recorded: the caller believes something else than the database holds. Returns
// [postrider.CodeNotFound], and records nothing, when one of the deliveries is unknown.
func (s *Store) Record(ctx context.Context, outcomes []postrider.Outcome) error {
	if len(outcomes) == 0 {
		return nil
	}
	_, err := s.recording.Do(ctx, outcomes)
	return sqldb.Failure("record", err)
}

func (s *Store) recordAll(ctx context.Context, calls [][]postrider.Outcome) ([]sqldb.Answer[struct{}], error) {
	var answers []sqldb.Answer[struct{}]
	var released bool
	var r *recorder
	err := s.db.Delivering.Write(ctx, "record", func(tx *sqlx.Tx) error {
		answers = make([]sqldb.Answer[struct{}], len(calls))
		r = &recorder{s: s, tx: tx, stats: map[string]*statsDelta{}, rollups: rollups{}, recordedBy: map[attemptKey]int{}}
		if err := r.load(ctx, calls); err != nil {
			return err
		}
		known := r.known(calls, answers)
		var err error
		if released, err = r.record(ctx, known); err == nil {
			err = r.promoteSuccessors(ctx, known)
		}
		for i, call := range calls {
			if answers[i].Err == nil && slices.ContainsFunc(call, func(o postrider.Outcome) bool { return r.superseded(i, o) }) {
				answers[i].Err = &postrider.Error{Code: postrider.CodeConflict, Message: "the attempt was recorded or its delivery finished before"}
			}
		}
		return err
	})
	if err == nil {
		s.wakeAfter(released, r)
		s.disableOverdue(ctx, r.overdue)
	}
	return answers, err
}

// known returns the outcomes of the calls whose deliveries are known, and answers the other
// calls.
func (r *recorder) known(calls [][]postrider.Outcome, answers []sqldb.Answer[struct{}]) []postrider.Outcome {
	var known []postrider.Outcome
	for i, call := range calls {
		if slices.ContainsFunc(call, func(o postrider.Outcome) bool { return r.deliveries[o.DeliveryID] == nil }) {
			answers[i].Err = postrider.NotFound("delivery")
			continue
		}
		for _, o := range call {
			if _, taken := r.recordedBy[attemptKeyOf(o)]; !taken {
				r.recordedBy[attemptKeyOf(o)] = i
			}
		}
		known = append(known, call...)
	}
	return known
}

// wakeAfter wakes the dispatchers of this process when a record released permits that
// something waits for, left retries to be handed over, or disabled a webhook.
func (s *Store) wakeAfter(released bool, r *recorder) {
	if released {
		s.signal()
	}
	if r.leftRetries {
		signal(s.wakeRetries)
	}
	if r.disabled {
		signal(s.wakeSweeps)
	}
}

// recorder is one transaction of [Store.Record].
type recorder struct {
	s           *Store
	tx          *sqlx.Tx
	deliveries  map[string]*deliveryUpdate // by id
	stats       map[string]*statsDelta     // by webhook
	rollups     rollups
	recordedBy  map[attemptKey]int // the call whose attempt is stored and changes its delivery
	leftRetries bool               // retries were left to the dispatchers
	disabled    bool               // a webhook may have been disabled
	told        []postrider.OperationalEvent
	overdue     []string // webhooks to disable, because every attempt has failed for too long
}

func attemptKeyOf(o postrider.Outcome) attemptKey {
	return attemptKey{o.DeliveryID, o.Attempt.Number}
}

// superseded reports whether another outcome is stored in place of the call's.
func (r *recorder) superseded(call int, o postrider.Outcome) bool {
	by, stored := r.recordedBy[attemptKeyOf(o)]
	return !stored || by != call
}

// load locks the deliveries, after the webhooks that will be disabled, their workspaces and
// sweeps.
func (r *recorder) load(ctx context.Context, calls [][]postrider.Outcome) error {
	var deliveryIDs, disabled []string
	for _, call := range calls {
		for _, o := range call {
			deliveryIDs = append(deliveryIDs, o.DeliveryID)
			if o.DisableWebhook != "" {
				disabled = append(disabled, o.WebhookID)
			}
		}
	}
	for _, id := range slices.Compact(slices.Sorted(slices.Values(disabled))) {
		if err := r.s.lockToDisable(ctx, r.tx, id); err != nil {
			return err
		}
		r.disabled = true
	}
	r.deliveries = map[string]*deliveryUpdate{}
	for part := range slices.Chunk(slices.Compact(slices.Sorted(slices.Values(deliveryIDs))), sqldb.ChunkSize) {
		var rows []*deliveryUpdate
		err := sqldb.SQL(selectUpdates).InKeyRange("id", part).Add(" ORDER BY id"+r.s.db.Lock("FOR UPDATE")).Select(ctx, r.tx, &rows)
		if err != nil {
			return err
		}
		for _, row := range rows {
			r.deliveries[row.ID] = row
		}
	}
	return nil
}

// record writes the outcomes and reports whether that made something claimable.
func (r *recorder) record(ctx context.Context, outcomes []postrider.Outcome) (released bool, err error) {
	newAttempts, err := r.insertAttempts(ctx, outcomes)
	if err != nil || len(newAttempts) == 0 {
		return false, err
	}
	touched, queues := map[string]*deliveryUpdate{}, map[string]bool{}
	for _, o := range newAttempts {
		r.apply(o)
		d := r.deliveries[o.DeliveryID]
		touched[d.ID], queues[queueOf(d.WorkspaceID, d.WebhookID)] = d, true
	}
	changed := make([]*deliveryUpdate, 0, len(touched))
	for _, id := range slices.Sorted(maps.Keys(touched)) {
		changed = append(changed, touched[id])
	}
	if err := r.updateDeliveries(ctx, changed); err != nil {
		return false, err
	}
	if err := r.s.lockLanes(ctx, r.tx, lanesOf(changed)); err != nil {
		return false, err
	}
	if err := r.settle(ctx, changed); err != nil {
		return false, err
	}
	if err := r.passOn(ctx, changed); err != nil {
		return false, err
	}
	if err := r.disable(ctx, newAttempts); err != nil {
		return false, err
	}
	if err := r.s.emit(ctx, r.tx, r.told...); err != nil {
		return false, err
	}
	if err := r.addStats(ctx); err != nil {
		return false, err
	}
	var found struct{ Released, Followed bool }
	// Rows that wait for other webhooks' permits could have been claimed before.
	err = sqldb.SQL("SELECT EXISTS (SELECT 1 FROM outbox WHERE "+readyStart+" AND queue IN").In(slices.Sorted(maps.Keys(queues))).
		Add(") AS released, EXISTS (SELECT 1"+statsAndGates+" WHERE "+toFollow).In(slices.Sorted(maps.Keys(r.stats))).Add(") AS followed").
		Get(ctx, r.tx, &found)
	if err == nil && found.Followed {
		err = r.followHealth(ctx)
	}
	return found.Released, err
}

// settle drops the outbox rows of deliveries that are finished or parked, and makes the rows of the
// others retries.
func (r *recorder) settle(ctx context.Context, changed []*deliveryUpdate) error {
	var gone, perishable []string
	var retries []outboxRow
	for _, d := range changed {
		switch {
		case !d.moved:
		case d.State == postrider.StateRetrying:
			retries = append(retries, r.retryRow(d))
			r.leftRetries = r.leftRetries || d.leaves
		default:
			gone = append(gone, d.ID)
			if d.ExpiresAt != nil && d.State.Finished() { // what is parked expires still
				perishable = append(perishable, d.ID)
			}
		}
	}
	if len(perishable) > 0 {
		if err := dropExpiries(ctx, r.tx, perishable); err != nil {
			return err
		}
	}
	for part := range slices.Chunk(gone, sqldb.ChunkSize) {
		if err := sqldb.SQL("DELETE FROM outbox WHERE kind <> "+sqlCancel+" AND delivery_id IN").In(part).Run(ctx, r.tx); err != nil {
			return err
		}
	}
	for part := range sqldb.Chunks(retries) {
		if err := sqldb.With(r.s.db, part).Add(insertRetries).Run(ctx, r.tx); err != nil {
			return err
		}
	}
	return nil
}

// lanesOf returns the lanes of deliveries that are finished.
func lanesOf(changed []*deliveryUpdate) []string {
	var lanes []string
	for _, d := range changed {
		if d.Lane != nil && d.State.Finished() {
			lanes = append(lanes, *d.Lane)
		}
	}
	return lanes
}

// passOn lets the next ones go in the lanes of deliveries that are finished.
func (r *recorder) passOn(ctx context.Context, changed []*deliveryUpdate) error {
	var over, exhausted, landed []laneMember
	for _, d := range changed {
		if d.Lane == nil || !d.State.Finished() {
			continue
		}
		member := laneMember{d.ID, *d.Lane}
		switch {
		case !d.moved:
			landed = append(landed, member)
		case d.State == postrider.StateFailed && !d.hasExpired():
			exhausted = append(exhausted, member)
		default:
			over = append(over, member)
		}
	}
	if err := r.s.landed(ctx, r.tx, landed); err != nil {
		return err
	}
	if err := r.s.exhausted(ctx, r.tx, exhausted); err != nil {
		return err
	}
	return r.s.passOn(ctx, r.tx, over)
}

// hasExpired reports whether the delivery failed because its event expired.
func (d *deliveryUpdate) hasExpired() bool {
	return d.LastError != nil && *d.LastError == postrider.Expired
}

// retryRow returns the outbox row of a delivery that is to be retried: it waits in its
// carrier, or is ready for another.
func (r *recorder) retryRow(d *deliveryUpdate) outboxRow {
	next := r.s.now()
	if d.NextAttemptAt != nil {
		next = d.NextAttemptAt.Time
	}
	row := outboxRow{
		DeliveryID: d.ID, WebhookID: d.WebhookID, Queue: queueOf(d.WorkspaceID, d.WebhookID), Kind: kindRetry, DueAt: sqldb.Time{Time: next},
	}
	if !d.leaves {
		row.HoldUntil, row.WorkflowID = &sqldb.Time{Time: carriedUntil(next, r.s.now())}, d.WorkflowID
	}
	return row
}

// promoteSuccessors gives the permits of answered attempts to their successors. A successor
// whose row another transaction has locked is about to be finished, or given back, and needs
// no permit. Waiting for that transaction could be a deadlock, because it may wait for this one.
func (r *recorder) promoteSuccessors(ctx context.Context, outcomes []postrider.Outcome) error {
	var successors []string
	for _, o := range outcomes {
		if o.Successor != "" {
			successors = append(successors, o.Successor)
		}
	}
	for part := range slices.Chunk(successors, sqldb.ChunkSize) {
		err := sqldb.SQL("UPDATE outbox SET ahead = FALSE WHERE delivery_id IN").In(part).
			Add(" AND delivery_id IN (SELECT delivery_id FROM outbox WHERE delivery_id IN").In(part).
			Add(r.s.db.Lock("FOR UPDATE SKIP LOCKED")+")").Run(ctx, r.tx)
		if err != nil {
			return err
		}
	}
	return nil
}

// insertAttempts stores the attempts and returns the outcomes of the attempts that are new, in
// the order of deliveries and numbers.
func (r *recorder) insertAttempts(ctx context.Context, outcomes []postrider.Outcome) ([]postrider.Outcome, error) {
	byKey := map[attemptKey]postrider.Outcome{}
	rows := make([]attemptRow, 0, len(outcomes))
	for _, o := range outcomes {
		key := attemptKeyOf(o)
		if _, twice := byKey[key]; !twice {
			o.Attempt.Error, o.Attempt.ResponseExcerpt = storable(o.Attempt.Error), storable(o.Attempt.ResponseExcerpt)
			byKey[key] = o
			rows = append(rows, attemptRowOf(key, o.Attempt))
		}
	}
	var newAttempts []postrider.Outcome
	isNew := map[attemptKey]bool{}
	for part := range sqldb.Chunks(rows) {
		var stored []attemptKey
		if err := sqldb.With(r.s.db, part).Add(insertAttempts).Select(ctx, r.tx, &stored); err != nil {
			return nil, err
		}
		for _, key := range stored {
			newAttempts = append(newAttempts, byKey[key])
			isNew[key] = true
		}
	}
	maps.DeleteFunc(r.recordedBy, func(key attemptKey, _ int) bool { return !isNew[key] })
	slices.SortFunc(newAttempts, func(a, b postrider.Outcome) int {
		return cmp.Or(strings.Compare(a.DeliveryID, b.DeliveryID), a.Attempt.Number-b.Attempt.Number)
	})
	return newAttempts, nil
}

// storable returns text that both databases take. PostgreSQL refuses U+0000, and a receiver
// that sends one must not keep its own attempts from being recorded.
func storable(text *string) *string {
	if text == nil {
		return nil
	}
	clean := strings.ReplaceAll(strings.ToValidUTF8(*text, "\uFFFD"), "\x00", "\uFFFD")
	return &clean
}

// disable disables the webhooks whose receivers want no more deliveries. Nobody is told of one that
// refused an operational event: a delivery of those never makes another.
func (r *recorder) disable(ctx context.Context, newAttempts []postrider.Outcome) error {
	reasons, tell := map[string]string{}, map[string]bool{}
	for _, o := range newAttempts {
		if d := r.deliveries[o.DeliveryID]; o.DisableWebhook != "" {
			reasons[d.WebhookID] = o.DisableWebhook
			tell[d.WebhookID] = tell[d.WebhookID] || !postrider.Operational(d.EventType)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(reasons)) {
		var found []followedWebhook
		if err := sqldb.SQL(selectFollowed+"t.webhook_id = ?", id).Select(ctx, r.tx, &found); err != nil {
			return err
		}
		for _, w := range found {
			if err := r.s.disableWebhook(ctx, r.tx, w, reasons[id], tell[id]); err != nil {
				return err
			}
		}
	}
	return nil
}
