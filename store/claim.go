package store

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/jmoiron/sqlx"

	"postrider"
)

// Claim leases up to limit deliveries that are due, for the given time: until then
// no other claim returns them. What they cost depends on limit and on the number
// of webhooks that have something waiting, not on how much waits.
//
// It is fair: webhooks take turns, over several claims too, and share limit
// evenly. No webhook has more than its max_in_flight leased, retries included, nor
// gets more than its rate_limit, however many processes claim. Retries that ask for
// a place, see [Store.Admit], are left up to half of them. Deliveries of a webhook that is
// not active any more are parked instead. Cancellations come first and take half
// of limit at most.
func (s *Store) Claim(ctx context.Context, limit int, lease time.Duration) ([]postrider.Dispatch, error) {
	if limit < 1 {
		return nil, nil
	}
	if err := s.endHolds(ctx, limit); err != nil {
		return nil, err
	}
	// Webhooks that another claim is at are passed over. If that leaves nothing, it
	// is worth waiting for them: that other claim takes milliseconds.
	for _, wait := range []bool{false, true} {
		var c *claim
		err := s.write(ctx, "claim", func(tx *sqlx.Tx) error {
			now := s.now()
			c = &claim{s: s, tx: tx, now: now, until: now.Add(lease), limit: limit, wait: wait, start: s.cursorNow()}
			return c.run(ctx)
		})
		if err != nil {
			return nil, err
		}
		s.moveCursor(c.last)
		if len(c.dispatches) > 0 || !c.passed {
			return c.dispatches, nil
		}
	}
	return nil, nil
}

// holdsChunk is how many holds a claim ends at least, if there are so many.
const holdsChunk = chunkSize

func (s *Store) cursorNow() string {
	s.cursorMu.Lock()
	defer s.cursorMu.Unlock()
	return s.cursor
}

func (s *Store) moveCursor(webhookID string) {
	s.cursorMu.Lock()
	defer s.cursorMu.Unlock()
	if webhookID != "" {
		s.cursor = webhookID
	}
}

// claim is one run of [Store.Claim].
type claim struct {
	s     *Store
	tx    *sqlx.Tx
	now   time.Time
	until time.Time // the lease's end
	limit int
	wait  bool   // for webhooks that another claim has locked
	start string // the webhook after which this claim's round begins

	passed     bool   // a webhook was passed over because it was locked
	last       string // the last webhook that was given a turn
	turns      []*turn
	dispatches []postrider.Dispatch
}

// turn is a webhook's part in a claim.
type turn struct {
	webhookID string
	room      int // how many more it may be given
	pace      *pace
	taken     []string // deliveries
	dry       bool     // nothing more is ready
}

func (c *claim) run(ctx context.Context) error {
	if err := c.takeCancels(ctx); err != nil {
		return err
	}
	if err := c.gather(ctx); err != nil {
		return err
	}
	if err := c.share(ctx); err != nil {
		return err
	}
	return c.lease(ctx)
}

// endHolds makes rows ready whose lease ran out or whose time has come, so many
// that a claim has enough to choose from. It is a transaction of its own: inside
// the claim's it would lock outbox before deliveries, against the order.
func (s *Store) endHolds(ctx context.Context, limit int) error {
	now := s.now()
	due, err := ids(ctx, s.reading, sqlOf("SELECT delivery_id FROM outbox WHERE hold_until <= ? ORDER BY hold_until LIMIT ?", now, max(limit, holdsChunk)))
	if err != nil || len(due) == 0 {
		return failure("end holds", err)
	}
	return s.write(ctx, "end holds", func(tx *sqlx.Tx) error {
		free, err := ids(ctx, tx, sqlOf("SELECT delivery_id FROM outbox WHERE hold_until <= ? AND delivery_id IN", now).
			in(due).add(" ORDER BY delivery_id"+s.dialect.lock("FOR UPDATE SKIP LOCKED")))
		if err != nil || len(free) == 0 {
			return err
		}
		// A retry that had a place and died has its workflow to try it again.
		if err := sqlOf("DELETE FROM outbox WHERE kind = 'retry' AND delivery_id IN").in(free).run(ctx, tx); err != nil {
			return err
		}
		return sqlOf("UPDATE outbox SET hold_until = NULL, leased = FALSE WHERE delivery_id IN").in(free).run(ctx, tx)
	})
}

// takeCancels leases rows that ask for a workflow's cancellation.
func (c *claim) takeCancels(ctx context.Context) error {
	var rows []postrider.Dispatch
	ready, err := ids(ctx, c.tx, sqlOf("SELECT delivery_id FROM outbox WHERE hold_until IS NULL AND kind = 'cancel' ORDER BY delivery_id LIMIT ?",
		max(c.limit/2, 1)).add(c.s.dialect.lock("FOR UPDATE SKIP LOCKED")))
	if err != nil || len(ready) == 0 {
		return err
	}
	rows, err = c.dispatch(ctx, sqlOf(selectDeliveries+"id IN").in(ready))
	if err != nil {
		return err
	}
	for i := range rows {
		rows[i].Cancel = true
	}
	c.dispatches = rows
	c.limit -= len(ready)
	return sqlOf("UPDATE outbox SET hold_until = ?, leased = TRUE WHERE delivery_id IN", c.until).in(ready).run(ctx, c.tx)
}

// dispatch runs a statement that returns deliveries.
func (c *claim) dispatch(ctx context.Context, st *statement) ([]postrider.Dispatch, error) {
	var rows []deliveryRow
	if err := st.selectInto(ctx, c.tx, &rows); err != nil {
		return nil, err
	}
	dispatches := make([]postrider.Dispatch, len(rows))
	for i, r := range rows {
		dispatches[i] = postrider.Dispatch{
			DeliveryID: r.ID, WorkspaceID: r.WorkspaceID, WebhookID: r.WebhookID, EventType: r.EventType,
			Policy: r.policy(), AcceptedAt: r.CreatedAt.Time,
		}
	}
	return dispatches, nil
}

// share takes ready rows for the webhooks: in each pass an even share of what is
// left, until limit is reached or nothing is left.
func (c *claim) share(ctx context.Context) error {
	left := c.limit
	open := slices.Clone(c.turns)
	for left > 0 && len(open) > 0 {
		open = open[:min(len(open), left)]
		each := left / len(open)
		if c.last == "" {
			c.last = open[len(open)-1].webhookID
		}
		took, err := c.take(ctx, open, each)
		if err != nil {
			return err
		}
		left -= took
		open = slices.DeleteFunc(open, func(t *turn) bool { return t.dry || t.room == 0 })
	}
	return nil
}

// maxCompound is how many SELECTs one statement joins: SQLite takes 500.
const maxCompound = 200

// take takes up to each rows for every turn and returns how many it took.
func (c *claim) take(ctx context.Context, turns []*turn, each int) (int, error) {
	took := 0
	for part := range slices.Chunk(turns, maxCompound) {
		st := &statement{}
		for i, t := range part {
			if i > 0 {
				st.add(" UNION ALL ")
			}
			after := ""
			if len(t.taken) > 0 {
				after = t.taken[len(t.taken)-1]
			}
			st.add(`SELECT * FROM (SELECT delivery_id, webhook_id FROM outbox WHERE webhook_id = ? AND hold_until IS NULL AND kind = 'start'
				AND delivery_id > ? ORDER BY delivery_id LIMIT ?) t`, t.webhookID, after, min(each, t.room))
		}
		var rows []struct {
			DeliveryID string `db:"delivery_id"`
			WebhookID  string `db:"webhook_id"`
		}
		if err := st.selectInto(ctx, c.tx, &rows); err != nil {
			return took, err
		}
		of := map[string][]string{}
		for _, row := range rows {
			of[row.WebhookID] = append(of[row.WebhookID], row.DeliveryID)
		}
		for _, t := range part {
			got := of[t.webhookID]
			slices.Sort(got)
			t.dry = len(got) < min(each, t.room)
			t.taken = append(t.taken, got...)
			t.room -= len(got)
			took += len(got)
		}
	}
	return took, nil
}

// lease leases what was taken and makes it the claim's answer.
func (c *claim) lease(ctx context.Context) error {
	var taken []string
	var paces [][]any
	for _, t := range c.turns {
		taken = append(taken, t.taken...)
		if t.pace != nil && len(t.taken) > 0 {
			paces = append(paces, []any{t.webhookID, t.pace.after(len(t.taken))})
		}
	}
	if _, err := insert(ctx, c.tx, "INSERT INTO webhook_pace (webhook_id, next_at) VALUES", paces,
		"ON CONFLICT (webhook_id) DO UPDATE SET next_at = excluded.next_at"); err != nil {
		return err
	}
	for part := range slices.Chunk(taken, chunkSize) {
		leased, err := c.dispatch(ctx, sqlOf("UPDATE deliveries SET state = ?, workflow_id = ? || id WHERE state IN ('pending', 'delivering') AND id IN",
			postrider.StateDelivering, postrider.WorkflowIDPrefix).in(part).add(" RETURNING "+deliveryColumns))
		if err != nil {
			return err
		}
		// As they were taken: each webhook's in the order of acceptance.
		slices.SortFunc(leased, func(a, b postrider.Dispatch) int {
			return cmp.Compare(slices.Index(part, a.DeliveryID), slices.Index(part, b.DeliveryID))
		})
		c.dispatches = append(c.dispatches, leased...)
		if err := c.settleOutbox(ctx, part, leased); err != nil {
			return err
		}
	}
	return nil
}

// settleOutbox holds the rows of leased deliveries, and drops those of deliveries
// that turned out to want no hand-over any more.
func (c *claim) settleOutbox(ctx context.Context, taken []string, leased []postrider.Dispatch) error {
	held := make([]string, len(leased))
	for i, d := range leased {
		held[i] = d.DeliveryID
	}
	if len(held) > 0 {
		if err := sqlOf("UPDATE outbox SET hold_until = ?, leased = TRUE WHERE delivery_id IN", c.until).in(held).run(ctx, c.tx); err != nil {
			return err
		}
	}
	stale := slices.DeleteFunc(slices.Clone(taken), func(id string) bool { return slices.Contains(held, id) })
	if len(stale) == 0 {
		return nil
	}
	return dropOutbox(ctx, c.tx, stale)
}
