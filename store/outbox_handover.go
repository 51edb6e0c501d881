package store

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/jmoiron/sqlx"

	"postrider.dev/postrider"
)

// dueWithin is within how long of each other the next attempts of deliveries are that
// one workflow carries: it makes them in one try, each at its time.
const dueWithin = 2 * time.Second

// ClaimRetries takes deliveries that failed and that no workflow carries, fair as
// [Store.Claim] is, and says which workflow is to carry each: those of one webhook with
// the same policy, as many attempts and about the same time together. It is for the
// caller to start it; should it not, the rows are ready again when the lease is over and
// the attempt's time is past by a while.
func (s *Store) ClaimRetries(ctx context.Context, request postrider.HandoverRequest) ([]postrider.Handover, error) {
	due, err := s.lookForDue(ctx, "retry")
	if err != nil || due == (dueRows{}) {
		return nil, err
	}
	if due.Held {
		if err := s.endHolds(ctx, request.Limit); err != nil {
			return nil, err
		}
	}
	var h *handover
	err = s.write(ctx, "claim retries", func(tx *sqlx.Tx) error {
		h = &handover{s: s, tx: tx, request: request, now: s.now()}
		return h.run(ctx)
	})
	if err != nil {
		return nil, err
	}
	s.retries.ended(h.turns, h.taken == request.Limit)
	attempts, err := s.AttemptsOf(ctx, h.handedOver())
	if err != nil {
		return nil, errors.Join(failure("claim retries", err), s.Release(ctx, h.handedOver()))
	}
	for i := range h.made {
		h.made[i].Attempts = attempts
	}
	return h.made, nil
}

// handover is one run of [Store.ClaimRetries].
type handover struct {
	s       *Store
	tx      *sqlx.Tx
	request postrider.HandoverRequest
	now     time.Time
	turns   []*turn
	taken   int
	made    []postrider.Handover
}

func (h *handover) run(ctx context.Context) error {
	if err := h.findWebhooks(ctx); err != nil {
		return err
	}
	if err := allocate(ctx, h.tx, "retry", h.turns, h.request.Limit); err != nil {
		return err
	}
	var wanted []string
	for _, t := range h.turns {
		for _, row := range t.taken {
			wanted = append(wanted, row.DeliveryID)
		}
	}
	h.taken = len(wanted)
	for part := range slices.Chunk(wanted, chunkSize) {
		if err := h.handOver(ctx, part); err != nil {
			return err
		}
	}
	return nil
}

// handedOver returns the deliveries that were handed over.
func (h *handover) handedOver() []string {
	var all []string
	for _, m := range h.made {
		for _, d := range m.Deliveries {
			all = append(all, d.ID)
		}
	}
	return all
}

// findWebhooks gives every webhook that has ready rows a turn, as long as there may be
// something left for it: no limit holds up who makes no request now.
func (h *handover) findWebhooks(ctx context.Context) error {
	looked := seen{workspaces: map[string]bool{}}
	for len(h.turns) < h.request.Limit && !looked.all {
		walks, err := h.s.retries.walks(ctx, h.tx, "retry", &looked)
		if err != nil {
			return err
		}
		for len(h.turns) < h.request.Limit && len(walks) > 0 {
			found, err := next(ctx, h.tx, "retry", walks, max(max(h.request.Limit, queuesPage)/len(walks), 1))
			if err != nil {
				return err
			}
			for _, queue := range found {
				workspaceID, webhookID := split(queue)
				h.turns = append(h.turns, &turn{queue: queue, workspaceID: workspaceID, webhookID: webhookID, room: h.request.Limit})
			}
			walks = slices.DeleteFunc(walks, func(w *walk) bool { return w.ended })
		}
	}
	return nil
}

// handOver forms carriers of rows and lets the rows name them. It drops those of
// deliveries that are finished.
func (h *handover) handOver(ctx context.Context, wanted []string) error {
	free, err := ids(ctx, h.tx, sqlOf("SELECT delivery_id FROM outbox WHERE "+isRetry+" AND hold_until IS NULL AND delivery_id IN").
		in(wanted).add(" ORDER BY delivery_id"+h.s.dialect.lock("FOR UPDATE SKIP LOCKED")))
	if err != nil || len(free) == 0 {
		return err
	}
	rows, err := keyed(ctx, h.tx, selectStored, "id", free, deliveryRow.cursor)
	if err != nil {
		return err
	}
	var stale []string
	var waiting []postrider.Delivery
	for _, id := range free {
		row, found := rows[id]
		if !found || row.State.Finished() {
			stale = append(stale, id)
			continue
		}
		d, err := row.item()
		if err != nil {
			return err
		}
		waiting = append(waiting, d)
	}
	if len(stale) > 0 {
		if err := dropOutbox(ctx, h.tx, stale); err != nil {
			return err
		}
	}
	made := h.group(waiting)
	h.made = append(h.made, made...)
	return h.name(ctx, made)
}

// group forms carriers: neighbours in the order of webhook, policy, attempts and time.
func (h *handover) group(waiting []postrider.Delivery) []postrider.Handover {
	slices.SortFunc(waiting, func(a, b postrider.Delivery) int {
		return cmp.Or(cmp.Compare(a.WebhookID, b.WebhookID), cmp.Compare(a.Policy.TimeoutMS, b.Policy.TimeoutMS),
			cmp.Compare(a.Policy.MaxRetries, b.Policy.MaxRetries), cmp.Compare(a.Policy.BackoffMS, b.Policy.BackoffMS),
			cmp.Compare(a.AttemptCount, b.AttemptCount), dueAt(a).Compare(dueAt(b)))
	})
	most := postrider.MaxRetryMembers
	if h.request.Alone {
		most = 1
	}
	var made []postrider.Handover
	for _, d := range waiting {
		if last := len(made) - 1; last >= 0 && len(made[last].Deliveries) < most && together(made[last].Deliveries[0], d) {
			made[last].Deliveries = append(made[last].Deliveries, d)
			continue
		}
		id := postrider.RetryWorkflowID(h.s.IDs.New(postrider.PrefixBatch))
		made = append(made, postrider.Handover{WorkflowID: id, Deliveries: []postrider.Delivery{d}})
	}
	for i := range made {
		for j := range made[i].Deliveries {
			made[i].Deliveries[j].WorkflowID = made[i].WorkflowID
		}
	}
	return made
}

// together reports whether one workflow may carry both: the first of it, and one that
// comes after it in the order.
func together(first, d postrider.Delivery) bool {
	return first.WebhookID == d.WebhookID && first.Policy == d.Policy && first.AttemptCount == d.AttemptCount && dueAt(d).Sub(dueAt(first)) <= dueWithin
}

// dueAt is when the delivery's next attempt is due.
func dueAt(d postrider.Delivery) time.Time {
	if d.NextAttemptAt != nil {
		return *d.NextAttemptAt
	}
	return d.DueAt
}

// name lets the rows name their carriers.
func (h *handover) name(ctx context.Context, made []postrider.Handover) error {
	var rows [][]any
	for _, m := range made {
		for _, d := range m.Deliveries {
			rows = append(rows, []any{d.ID, m.WorkflowID, carriedUntil(dueAt(d), h.now).Add(h.request.Lease)})
		}
	}
	return h.s.setRows(ctx, h.tx, "workflow_id = news.workflow_id, hold_until = news.hold_until",
		"delivery_id text, workflow_id text, hold_until timestamptz", rows)
}

// carriedUntil is when a carrier that has not made an attempt due then is lost.
func carriedUntil(due, now time.Time) time.Time {
	if due.Before(now) {
		due = now
	}
	return due.Add(postrider.CarrierGrace)
}

// setRows changes outbox rows by their keys, the first of the columns.
func (s *Store) setRows(ctx context.Context, tx *sqlx.Tx, set, columns string, rows [][]any) error {
	for part := range slices.Chunk(rows, chunkSize) {
		st, err := s.rowsAs(columns, part)
		if err != nil {
			return err
		}
		keys := make([]string, len(part))
		for i, row := range part {
			keys[i] = row[0].(string) //nolint:errcheck,forcetypeassert // the key
		}
		err = st.add("UPDATE outbox SET "+set+" FROM news WHERE outbox.delivery_id = news.delivery_id AND outbox.delivery_id IN").in(keys).run(ctx, tx)
		if err != nil {
			return err
		}
	}
	return nil
}

// Leave makes retries ready to be handed over to another workflow, unless the one given
// does not carry them any more, or has an attempt of theirs under way.
func (s *Store) Leave(ctx context.Context, workflowID string, deliveryIDs []string) error {
	err := s.eachChunk(ctx, "leave", deliveryIDs, func(tx *sqlx.Tx, part []string) error {
		return sqlOf("UPDATE outbox SET "+readyAgain+" WHERE "+isRetry+" AND "+notLeased+" AND workflow_id || '' = ? AND delivery_id IN", workflowID).
			in(part).run(ctx, tx)
	})
	if err == nil && len(deliveryIDs) > 0 {
		signal(s.wakeRetries)
	}
	return err
}

// Keep says that the workflow goes on carrying retries that could not be attempted at
// their time, and will not before the one given.
func (s *Store) Keep(ctx context.Context, workflowID string, deliveryIDs []string, until time.Time) error {
	until = postrider.Timestamp(until)
	return s.eachChunk(ctx, "keep", deliveryIDs, func(tx *sqlx.Tx, part []string) error {
		return sqlOf("UPDATE outbox SET hold_until = ?, due_at = ? WHERE "+isRetry+" AND "+notLeased+" AND workflow_id || '' = ? AND delivery_id IN",
			carriedUntil(until, s.now()), until, workflowID).in(part).run(ctx, tx)
	})
}

// takeOverLease is how long deliveries stay leased to a workflow that another worker goes
// on with: the longest first attempt, and its record.
const takeOverLease = 45 * time.Second

// Carried returns the deliveries whose first attempts the workflow is to make, and leases
// them to it anew: the worker that had claimed them is no more. What was claimed ahead has
// no place to begin in, and waits for its lease's end.
func (s *Store) Carried(ctx context.Context, workflowID string) ([]string, error) {
	now := s.now()
	found, err := ids(ctx, s.db, sqlOf("UPDATE outbox SET hold_until = ? WHERE leased AND kind <> 'cancel' AND NOT ahead AND kind = 'start' AND workflow_id = ? AND COALESCE(hold_until, hold_until) > ?"+
		" RETURNING delivery_id", now.Add(takeOverLease), workflowID, now))
	slices.Sort(found)
	return found, failure("read what a workflow carries", err)
}

// ClaimCancellations returns up to so many workflows that are to be cancelled, for a
// lease of so long.
func (s *Store) ClaimCancellations(ctx context.Context, limit int, lease time.Duration) ([]postrider.Cancellation, error) {
	due, err := s.lookForDue(ctx, "cancel")
	if err != nil || due == (dueRows{}) {
		return nil, err
	}
	if due.Held {
		if err := s.endHolds(ctx, limit); err != nil {
			return nil, err
		}
	}
	var made []postrider.Cancellation
	err = s.write(ctx, "claim cancellations", func(tx *sqlx.Tx) error {
		var rows []struct {
			DeliveryID string `db:"delivery_id"`
			WorkflowID string `db:"workflow_id"`
		}
		err := sqlOf("SELECT delivery_id, workflow_id FROM outbox WHERE hold_until IS NULL AND kind = 'cancel' ORDER BY delivery_id LIMIT ?", limit).
			add(s.dialect.lock("FOR UPDATE SKIP LOCKED")).selectInto(ctx, tx, &rows)
		if err != nil || len(rows) == 0 {
			return err
		}
		made = nil
		taken := make([]string, len(rows))
		for i, row := range rows {
			taken[i] = row.DeliveryID
			made = append(made, postrider.Cancellation{DeliveryID: row.DeliveryID, WorkflowID: row.WorkflowID})
		}
		return sqlOf("UPDATE outbox SET hold_until = ?, leased = TRUE WHERE delivery_id IN", s.now().Add(lease)).in(taken).run(ctx, tx)
	})
	return made, err
}

// Cancelled drops the requests to cancel workflows, which was done.
func (s *Store) Cancelled(ctx context.Context, deliveryIDs []string) error {
	return s.eachChunk(ctx, "end cancellations", deliveryIDs, func(tx *sqlx.Tx, part []string) error {
		return sqlOf("DELETE FROM outbox WHERE kind || '' = 'cancel' AND delivery_id IN").in(part).run(ctx, tx)
	})
}
