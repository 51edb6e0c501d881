package store

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/jmoiron/sqlx"

	"postrider.dev/postrider"
	"postrider.dev/postrider/store/sqldb"
)

// dueWithin is within how long of each other the next attempts of deliveries are that one
// workflow carries: it makes them in one try, each at its time.
const dueWithin = 2 * time.Second

// ClaimRetries takes deliveries that failed and that no workflow carries, fair as
// [Store.Claim] is, and says which workflow is to carry each. Deliveries go together that are
// of one webhook and have the same policy, as many attempts, and about the same time. It is
// for the caller to start the workflow. If the caller does not, the rows are ready again when
// the lease is over and the attempt's time is past by a while.
func (s *Store) ClaimRetries(ctx context.Context, request postrider.HandoverRequest) ([]postrider.Handover, error) {
	if due, err := s.lookForDue(ctx, kindRetry, request.Limit); err != nil || !due {
		return nil, err
	}
	var h *handover
	err := s.db.Delivering.Write(ctx, "claim retries", func(tx *sqlx.Tx) error {
		h = &handover{s: s, tx: tx, request: request, now: s.now(), gated: map[string]bool{}}
		return h.run(ctx)
	})
	if err != nil {
		return nil, err
	}
	if err := s.parkFound(ctx, h.held); err != nil {
		return nil, errors.Join(err, s.Release(ctx, h.handedOver()))
	}
	s.retries.ended(h.shares, h.claimed == request.Limit)
	if err := h.complete(ctx); err != nil {
		return nil, errors.Join(sqldb.Failure("claim retries", err), s.Release(ctx, h.handedOver()))
	}
	return h.made, nil
}

// complete reads what a start tells of the deliveries' past, and of their receivers.
func (h *handover) complete(ctx context.Context) error {
	if len(h.made) == 0 {
		return nil
	}
	attempts, err := h.s.AttemptsOf(ctx, h.handedOver())
	if err != nil {
		return err
	}
	webhookIDs := make([]string, len(h.made))
	for i, m := range h.made {
		webhookIDs[i] = m.Deliveries[0].WebhookID
	}
	urls := map[string]string{}
	for part := range slices.Chunk(slices.Compact(slices.Sorted(slices.Values(webhookIDs))), sqldb.ChunkSize) {
		rows, err := keyed(ctx, h.s.db.Delivering.Reading, "SELECT id, url FROM webhooks WHERE ", "id", part, receiverRow.key)
		if err != nil {
			return err
		}
		for id, row := range rows {
			urls[id] = row.URL
		}
	}
	for i := range h.made {
		h.made[i].Attempts, h.made[i].URL = attempts, urls[webhookIDs[i]]
	}
	return nil
}

// receiverRow is where a webhook's deliveries go.
type receiverRow struct {
	ID  string `db:"id"`
	URL string `db:"url"`
}

func (r receiverRow) key() string { return r.ID }

// handover is one run of [Store.ClaimRetries].
type handover struct {
	s       *Store
	tx      *sqlx.Tx
	request postrider.HandoverRequest
	now     time.Time
	shares  []*webhookShare
	gated   map[string]bool // webhooks behind a gate, whose retries are handed over with their permits
	claimed int
	made    []postrider.Handover
	held    []string // deliveries that operators have paused
}

func (h *handover) run(ctx context.Context) error {
	if err := h.findWebhooks(ctx); err != nil {
		return err
	}
	if err := fillShares(ctx, h.tx, kindRetry, h.shares, h.request.Limit); err != nil {
		return err
	}
	var wanted []string
	for _, share := range h.shares {
		for _, row := range share.claimed {
			wanted = append(wanted, row.DeliveryID)
		}
	}
	h.claimed = len(wanted)
	for part := range slices.Chunk(wanted, sqldb.ChunkSize) {
		if err := h.handOver(ctx, part); err != nil {
			return err
		}
	}
	return nil
}

// parkFound parks deliveries that a hand-over found paused. It is a transaction of its own, because
// a hand-over locks the outbox first.
func (s *Store) parkFound(ctx context.Context, deliveryIDs []string) error {
	if len(deliveryIDs) == 0 {
		return nil
	}
	return s.db.Delivering.Write(ctx, "park paused deliveries", func(tx *sqlx.Tx) error {
		held, err := s.lockHeld(ctx, tx, deliveryIDs)
		if err != nil || len(held) == 0 {
			return err
		}
		ready, err := sqldb.SQL("SELECT delivery_id FROM outbox WHERE "+isRetry+" AND hold_until IS NULL AND delivery_id IN").In(held).
			Add(" ORDER BY delivery_id"+s.db.Lock("FOR UPDATE")).Strings(ctx, tx)
		if err != nil || len(ready) == 0 {
			return err
		}
		return parkDeliveries(ctx, tx, ready, "TRUE")
	})
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

// findWebhooks gives every webhook that has ready rows a share, as long as rows may be left
// for it. A hand-over makes no request, so no limit of the webhook holds it up but a gate: what waits
// behind that may wait for long, and costs no workflow.
func (h *handover) findWebhooks(ctx context.Context) error {
	looked := seen{workspaces: map[string]bool{}}
	for len(h.shares) < h.request.Limit && !looked.all {
		walks, err := h.s.retries.walks(ctx, h.tx, kindRetry, &looked)
		if err != nil {
			return err
		}
		for len(h.shares) < h.request.Limit && len(walks) > 0 {
			found, err := nextQueues(ctx, h.tx, kindRetry, walks, max(max(h.request.Limit, queuesPage)/len(walks), 1))
			if err != nil {
				return err
			}
			if err := h.addShares(ctx, found); err != nil {
				return err
			}
			walks = slices.DeleteFunc(walks, func(w *walk) bool { return w.ended })
		}
	}
	return nil
}

// addShares gives the webhooks of the queues shares, those behind a gate only what it lets through.
func (h *handover) addShares(ctx context.Context, queues []string) error {
	shares, webhookIDs := make([]*webhookShare, len(queues)), make([]string, len(queues))
	for i, queue := range queues {
		workspaceID, webhookID := splitQueue(queue)
		shares[i] = &webhookShare{queue: queue, workspaceID: workspaceID, webhookID: webhookID, room: h.request.Limit}
		webhookIDs[i] = webhookID
	}
	if len(queues) == 0 {
		return nil
	}
	gated, err := sqldb.SQL("SELECT webhook_id FROM webhook_gates WHERE webhook_id IN").In(webhookIDs).Strings(ctx, h.tx)
	if err != nil {
		return err
	}
	room, err := h.roomBehind(ctx, gated)
	if err != nil {
		return err
	}
	for _, share := range shares {
		if slices.Contains(gated, share.webhookID) {
			h.gated[share.webhookID] = true
			share.room, share.dueBy = room[share.webhookID], &sqldb.Time{Time: h.now}
		}
		if share.room > 0 {
			h.shares = append(h.shares, share)
		}
	}
	return nil
}

// roomBehind returns how many retries may be handed over with a permit, by webhook. Those that claims are
// at have their turn later.
func (h *handover) roomBehind(ctx context.Context, gated []string) (map[string]int, error) {
	room := map[string]int{}
	if len(gated) == 0 {
		return room, nil
	}
	locked, err := h.s.lockPaces(ctx, h.tx, false, gated...)
	if err != nil || len(locked) == 0 {
		return room, err
	}
	found, err := limits(ctx, h.tx, locked, h.now)
	for _, w := range found {
		room[w.ID] = w.roomForRetries()
	}
	return room, err
}

// handOver forms carriers of deliveries and lets their rows name them. It drops the rows of
// deliveries that are finished.
func (h *handover) handOver(ctx context.Context, wanted []string) error {
	free, err := sqldb.SQL("SELECT delivery_id FROM outbox WHERE "+isRetry+" AND hold_until IS NULL AND delivery_id IN").In(wanted).
		Add(" ORDER BY delivery_id"+h.s.db.Lock("FOR UPDATE SKIP LOCKED")).Strings(ctx, h.tx)
	if err != nil || len(free) == 0 {
		return err
	}
	rows, err := keyed(ctx, h.tx, selectStored, "id", free, deliveryRow.cursor)
	if err != nil {
		return err
	}
	var stale, held []string
	var waiting []postrider.Delivery
	for _, id := range free {
		row, found := rows[id]
		if !found || row.State.Finished() {
			stale = append(stale, id)
			continue
		}
		if row.HeldAt != nil { // it was paused while an attempt was under way that is lost
			held = append(held, id)
			continue
		}
		d, err := row.item()
		if err != nil {
			return err
		}
		waiting = append(waiting, d)
	}
	h.held = append(h.held, held...)
	if len(stale) > 0 {
		if err := dropOutbox(ctx, h.tx, stale); err != nil {
			return err
		}
	}
	made := h.formCarriers(waiting)
	h.made = append(h.made, made...)
	return h.nameCarriers(ctx, made)
}

// formCarriers puts deliveries together that are neighbours in the order of webhook, policy,
// attempts and time.
func (h *handover) formCarriers(waiting []postrider.Delivery) []postrider.Handover {
	slices.SortFunc(waiting, func(a, b postrider.Delivery) int {
		return cmp.Or(cmp.Compare(a.WebhookID, b.WebhookID), cmp.Compare(a.Policy.TimeoutMS, b.Policy.TimeoutMS),
			cmp.Compare(a.Policy.MaxRetries, b.Policy.MaxRetries), cmp.Compare(a.Policy.BackoffMS, b.Policy.BackoffMS),
			cmp.Compare(a.Policy.RetrySchedule, b.Policy.RetrySchedule),
			cmp.Compare(a.AttemptCount, b.AttemptCount), dueAt(a).Compare(dueAt(b)))
	})
	most := postrider.MaxRetryMembers
	if h.request.Alone {
		most = 1
	}
	var made []postrider.Handover
	for _, d := range waiting {
		if last := len(made) - 1; last >= 0 && len(made[last].Deliveries) < most && fitTogether(made[last].Deliveries[0], d) {
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

// fitTogether reports whether one workflow may carry both: its first delivery, and one that
// comes later in the order.
func fitTogether(first, d postrider.Delivery) bool {
	return first.WebhookID == d.WebhookID && first.Policy == d.Policy && first.AttemptCount == d.AttemptCount &&
		dueAt(d).Sub(dueAt(first)) <= dueWithin
}

// dueAt is when the delivery's next attempt is due.
func dueAt(d postrider.Delivery) time.Time {
	if d.NextAttemptAt != nil {
		return *d.NextAttemptAt
	}
	return d.DueAt
}

// carrierChange gives an outbox row a carrier, and the hold of one.
type carrierChange struct {
	DeliveryID string     `db:"delivery_id"`
	WorkflowID string     `db:"workflow_id"`
	HoldUntil  sqldb.Time `db:"hold_until"`
	Leased     bool
}

func (c carrierChange) key() string { return c.DeliveryID }

// nameCarriers lets the rows name their carriers.
func (h *handover) nameCarriers(ctx context.Context, made []postrider.Handover) error {
	var changes []carrierChange
	for _, m := range made {
		for _, d := range m.Deliveries {
			until := carriedUntil(dueAt(d), h.now).Add(h.request.Lease)
			permitted := h.gated[d.WebhookID]
			if permitted {
				until = h.now.Add(h.request.Lease)
			}
			changes = append(changes, carrierChange{d.ID, m.WorkflowID, sqldb.Time{Time: until}, permitted})
		}
	}
	return changeOutbox(ctx, h.s.db, h.tx, "workflow_id = input.workflow_id, hold_until = input.hold_until, leased = input.leased", changes)
}

// carriedUntil is when a carrier is taken for lost that has not made an attempt due then.
func carriedUntil(due, now time.Time) time.Time {
	if due.Before(now) {
		due = now
	}
	return due.Add(postrider.CarrierGrace)
}

// changeOutbox changes outbox rows, each by its row of input, which has the same delivery_id.
func changeOutbox[Change interface{ key() string }](ctx context.Context, db *sqldb.DB, tx *sqlx.Tx, set string, changes []Change) error {
	for part := range sqldb.Chunks(changes) {
		keys := make([]string, len(part))
		for i, change := range part {
			keys[i] = change.key()
		}
		err := sqldb.With(db, part).
			Add("UPDATE outbox SET "+set+" FROM input WHERE outbox.delivery_id = input.delivery_id AND outbox.delivery_id IN").In(keys).
			Run(ctx, tx)
		if err != nil {
			return err
		}
	}
	return nil
}

// Leave makes retries ready to be handed over to another workflow, unless the workflow given
// does not carry them any more, or has an attempt of theirs under way.
func (s *Store) Leave(ctx context.Context, workflowID string, deliveryIDs []string) error {
	err := s.eachChunk(ctx, "leave", deliveryIDs, func(tx *sqlx.Tx, part []string) error {
		return sqldb.SQL("UPDATE outbox SET "+makeReady+" WHERE "+isRetry+" AND "+notLeased+" AND "+isOf+" AND delivery_id IN", workflowID).
			In(part).Run(ctx, tx)
	})
	if err == nil && len(deliveryIDs) > 0 {
		signal(s.wakeRetries)
	}
	return err
}

// Keep says that the workflow goes on carrying retries that could not be attempted at their
// time, and will not attempt them before the time given.
func (s *Store) Keep(ctx context.Context, workflowID string, deliveryIDs []string, until time.Time) error {
	until = postrider.Timestamp(until)
	return s.eachChunk(ctx, "keep", deliveryIDs, func(tx *sqlx.Tx, part []string) error {
		return sqldb.SQL("UPDATE outbox SET hold_until = ?, due_at = ? WHERE "+isRetry+" AND "+notLeased+" AND "+isOf+" AND delivery_id IN",
			carriedUntil(until, s.now()), until, workflowID).In(part).Run(ctx, tx)
	})
}

// takeOverLease is how long deliveries stay leased to a workflow that another worker goes on
// with: the longest first attempt, and its record.
const takeOverLease = 45 * time.Second

// Carried returns the deliveries whose first attempts the workflow is to make, and leases
// them to it anew: the worker that had claimed them no longer runs. Deliveries that were
// claimed ahead have no slot to begin in, and wait for their lease's end.
func (s *Store) Carried(ctx context.Context, workflowID string) ([]string, error) {
	now := s.now()
	found, err := sqldb.SQL("UPDATE outbox SET hold_until = ? WHERE "+leasedAttempt+" AND NOT ahead AND kind = "+sqlStart+
		" AND workflow_id = ? AND COALESCE(hold_until, hold_until) > ? RETURNING delivery_id", now.Add(takeOverLease), workflowID, now).
		Strings(ctx, s.db.Delivering.Writing)
	slices.Sort(found)
	return found, sqldb.Failure("read what a workflow carries", err)
}
