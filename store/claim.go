package store

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"

	"postrider"
)

// Claim leases deliveries that are due and says which workflow is to carry each. What
// it costs depends on the limit and on the number of webhooks that have something
// waiting, not on how much waits.
//
// It is fair: webhooks take turns, over several claims too, and share the limit
// evenly. No webhook has more than its max_in_flight leased, retries included, nor
// gets more than its rate_limit, however many processes claim. Retries that ask for
// a place, see [Store.Admit], are left up to half of them. Deliveries of a webhook that is
// not active any more are parked instead. Deliveries that make no request when their
// workflow is started or cancelled come first and take half of the limit at most.
//
// What their first attempts need is still being read when it returns, under ctx.
func (s *Store) Claim(ctx context.Context, request postrider.ClaimRequest) ([]postrider.Dispatch, error) {
	if request.Limit < 1 {
		return nil, nil
	}
	due, err := s.lookForDue(ctx)
	if err != nil || due == (dueRows{}) {
		return nil, err
	}
	if due.Held {
		if err := s.endHolds(ctx, request.Limit); err != nil {
			return nil, err
		}
		due.Unpaced = true
	}
	// Webhooks that another claim is at are passed over. If that leaves nothing, it
	// is worth waiting for them: that other claim takes milliseconds.
	for _, wait := range []bool{false, true} {
		var c *claim
		err := writeOn(ctx, s.leasing, "claim", func(tx *sqlx.Tx) error {
			now := s.now()
			c = &claim{s: s, tx: tx, request: request, due: due, now: now, until: now.Add(request.Lease), limit: request.Limit, wait: wait, start: s.cursorNow()}
			return c.run(ctx)
		})
		if err != nil {
			return nil, err
		}
		s.moveCursor(c.resume())
		if len(c.dispatches) > 0 || !c.passed {
			s.provide(ctx, c.dispatches, c.leased)
			return c.dispatches, nil
		}
	}
	return nil, nil
}

// dueRows says which kinds of rows a claim finds in the outbox.
type dueRows struct {
	Held    bool // a lease or a delay is over
	Unpaced bool // a workflow is to be started or cancelled that makes no request now
	Ready   bool // a first attempt may be made
}

// lookForDue looks what there is before a transaction is begun: most claims are made
// to find nothing.
func (s *Store) lookForDue(ctx context.Context) (dueRows, error) {
	var due dueRows
	err := sqlOf(`SELECT EXISTS (SELECT 1 FROM outbox WHERE hold_until <= ?) AS held,
		EXISTS (SELECT 1 FROM outbox WHERE hold_until IS NULL AND kind IN ('own', 'cancel')) AS unpaced,
		EXISTS (SELECT 1 FROM outbox WHERE hold_until IS NULL AND kind = 'start') AS ready`, s.now()).get(ctx, s.reading, &due)
	return due, failure("look for what is due", err)
}

// provideTimeout bounds the reading of what claimed deliveries need: later it would be too
// old to be used.
const provideTimeout = 2 * time.Second

// provide lets the dispatches bring what their first attempts need, so that nobody has to
// ask for each. It is read while their workflow is started, which takes longer. Where that
// fails they are leased all the same, and go without.
func (s *Store) provide(ctx context.Context, dispatches []postrider.Dispatch, rows map[string]deliveryRow) {
	var leased []deliveryRow
	var targets []postrider.Target // empty when they could not be read
	read := make(chan struct{})
	for i := range dispatches {
		row, found := rows[dispatches[i].DeliveryID]
		if !found {
			continue
		}
		at := len(leased)
		leased = append(leased, row)
		dispatches[i].Target = func() *postrider.Target {
			<-read
			if len(targets) == 0 {
				return nil
			}
			return &targets[at]
		}
	}
	if len(leased) == 0 {
		return
	}
	s.providing.Go(func() {
		defer close(read)
		bound, cancel := context.WithTimeout(ctx, provideTimeout)
		defer cancel()
		var err error
		if targets, err = s.targets(bound, leased); err != nil && ctx.Err() == nil {
			s.Logger.LogAttrs(ctx, slog.LevelWarn, "claimed deliveries will be read one by one", slog.Any("error", failure("load targets", err)))
		}
	})
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
	s.cursor = webhookID
}

// claim is one run of [Store.Claim].
type claim struct {
	s       *Store
	tx      *sqlx.Tx
	request postrider.ClaimRequest
	due     dueRows
	now     time.Time
	until   time.Time // the lease's end
	limit   int       // what is left of the request's
	wait    bool      // for webhooks that another claim has locked
	start   string    // the webhook after which this claim's round begins

	passed     bool   // a webhook was passed over because it was locked
	last       string // the last webhook that was given a turn
	turns      []*turn
	dispatches []postrider.Dispatch
	leased     map[string]deliveryRow // those that are to make their first attempt
}

// turn is a webhook's part in a claim.
type turn struct {
	webhookID string
	url       string
	room      int // how many more it may be given
	pace      *pace
	slow      bool // its deliveries join no batch
	taken     []taking
	dry       bool // nothing more is ready
}

// taking is an outbox row that a claim takes.
type taking struct {
	DeliveryID string `db:"delivery_id"`
	WebhookID  string `db:"webhook_id"`
	WorkflowID string `db:"workflow_id"` // that it was handed to before, "" for none
	url        string // the webhook's
	slow       bool   // it joins no batch
}

func (c *claim) run(ctx context.Context) error {
	if c.due.Unpaced {
		if err := c.takeUnpaced(ctx); err != nil {
			return err
		}
	}
	if err := c.gather(ctx); err != nil {
		return err
	}
	if err := c.share(ctx); err != nil {
		return err
	}
	return c.lease(ctx)
}

// resume returns the webhook after which the next claim's round begins: none when all
// that were ready had their turn.
func (c *claim) resume() string {
	switch {
	case len(c.dispatches) < c.request.Limit:
		return ""
	case c.last == "":
		return c.start
	}
	return c.last
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
		free, err := ids(ctx, tx, sqlOf("SELECT delivery_id FROM outbox WHERE "+isDue+" AND delivery_id IN", now).
			in(due).add(" ORDER BY delivery_id"+s.dialect.lock("FOR UPDATE SKIP LOCKED")))
		if err != nil || len(free) == 0 {
			return err
		}
		// A retry that had a place and died has its workflow to try it again.
		if err := sqlOf("DELETE FROM outbox WHERE "+isRetry+" AND delivery_id IN").in(free).run(ctx, tx); err != nil {
			return err
		}
		return sqlOf("UPDATE outbox SET hold_until = NULL, leased = FALSE WHERE delivery_id IN").in(free).run(ctx, tx)
	})
}

// takeUnpaced leases rows that ask for a workflow's cancellation, or for one of the
// delivery's own that goes on where one of many ended: both make no request now, so
// no limit of the webhook holds them up.
func (c *claim) takeUnpaced(ctx context.Context) error {
	var ready []struct {
		DeliveryID string `db:"delivery_id"`
		Kind       string
	}
	err := sqlOf("SELECT delivery_id, kind FROM outbox WHERE hold_until IS NULL AND kind IN ('own', 'cancel') ORDER BY delivery_id LIMIT ?",
		max(c.limit/2, 1)).add(c.s.dialect.lock("FOR UPDATE SKIP LOCKED")).selectInto(ctx, c.tx, &ready)
	if err != nil || len(ready) == 0 {
		return err
	}
	kinds := map[string]string{}
	for _, row := range ready {
		kinds[row.DeliveryID] = row.Kind
	}
	taken := slices.Sorted(maps.Keys(kinds))
	var rows []deliveryRow
	if err := sqlOf(selectDeliveries).within("d.id", taken).selectInto(ctx, c.tx, &rows); err != nil {
		return err
	}
	for _, row := range rows {
		d := row.dispatch()
		d.Attempted, d.Cancel = kinds[row.ID] == "own", kinds[row.ID] == "cancel"
		d.WorkflowID = postrider.DeliveryWorkflowID(d.DeliveryID)
		c.dispatches = append(c.dispatches, d)
	}
	c.limit -= len(ready)
	return sqlOf("UPDATE outbox SET hold_until = ?, leased = TRUE WHERE delivery_id IN", c.until).in(taken).run(ctx, c.tx)
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
			st.add("SELECT * FROM (SELECT delivery_id, webhook_id, workflow_id FROM outbox WHERE ").only("webhook_id", t.webhookID)
			if len(t.taken) > 0 { // as a pair, for the order of the webhook's index again
				st.add(" AND (webhook_id, delivery_id) > (?, ?)", t.webhookID, t.taken[len(t.taken)-1].DeliveryID)
			}
			st.add(" AND hold_until IS NULL AND kind = 'start' ORDER BY webhook_id, delivery_id LIMIT ?) t", min(each, t.room))
		}
		var rows []taking
		if err := st.selectInto(ctx, c.tx, &rows); err != nil {
			return took, err
		}
		of := map[string][]taking{}
		for _, row := range rows {
			of[row.WebhookID] = append(of[row.WebhookID], row)
		}
		for _, t := range part {
			got := of[t.webhookID]
			slices.SortFunc(got, func(a, b taking) int { return strings.Compare(a.DeliveryID, b.DeliveryID) })
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
	var taken []taking
	var paces [][]any
	for _, t := range c.turns {
		for i := range t.taken {
			t.taken[i].slow, t.taken[i].url = t.slow, t.url
		}
		taken = append(taken, t.taken...)
		if t.pace != nil && len(t.taken) > 0 {
			paces = append(paces, []any{t.webhookID, t.pace.after(len(t.taken))})
		}
	}
	if _, err := insert(ctx, c.tx, "INSERT INTO webhook_pace (webhook_id, next_at) VALUES", paces,
		"ON CONFLICT (webhook_id) DO UPDATE SET next_at = excluded.next_at"); err != nil {
		return err
	}
	c.leased = make(map[string]deliveryRow, len(taken))
	for part := range slices.Chunk(taken, chunkSize) {
		if err := c.leasePart(ctx, part, len(taken)); err != nil {
			return err
		}
	}
	for _, t := range taken { // in this order: each webhook's as they were accepted
		if row, found := c.leased[t.DeliveryID]; found {
			d := row.dispatch()
			d.Slow, d.URL = t.slow, t.url
			c.dispatches = append(c.dispatches, d)
		}
	}
	return nil
}

// leasePart leases outbox rows, of so many that the claim took, each for the workflow
// that is to carry the delivery. It drops those of deliveries that turned out to want
// no hand-over any more.
func (c *claim) leasePart(ctx context.Context, part []taking, taken int) error {
	wanted := make([]string, len(part))
	for i, t := range part {
		wanted[i] = t.DeliveryID
	}
	rows, err := keyed(ctx, c.tx, selectStored, "id", wanted, deliveryRow.cursor)
	if err != nil {
		return err
	}
	var stale []string
	carried := map[string][]string{} // deliveries by workflow; "" is each one's own
	for _, t := range part {
		row, found := rows[t.DeliveryID]
		if !found || row.State != postrider.StatePending && row.State != postrider.StateDelivering {
			stale = append(stale, t.DeliveryID)
			continue
		}
		row.State, row.WorkflowID = postrider.StateDelivering, c.workflowOf(t, row, taken)
		rows[t.DeliveryID] = row
		by := row.WorkflowID
		if by == postrider.DeliveryWorkflowID(row.ID) {
			by = ""
		}
		carried[by] = append(carried[by], t.DeliveryID)
	}
	for by, deliveries := range carried {
		st := sqlOf("UPDATE outbox SET hold_until = ?, leased = TRUE, workflow_id = ", c.until)
		if by == "" {
			st.add("? || delivery_id", postrider.DeliveryWorkflowID(""))
		} else {
			st.add("?", by)
		}
		// A late attempt of an earlier lease may have been recorded since the rows were
		// taken: then they are gone, or ask for something else.
		leased, err := ids(ctx, c.tx, st.add(" WHERE "+isStart+" AND hold_until IS NULL AND delivery_id IN").in(deliveries).add(" RETURNING delivery_id"))
		if err != nil {
			return err
		}
		for _, id := range leased {
			c.leased[id] = rows[id]
		}
	}
	if len(stale) == 0 {
		return nil
	}
	return dropWaiting(ctx, c.tx, stale)
}

// workflowOf returns the workflow that is to carry a delivery. One that was handed to a
// workflow of its own before stays with it: should that have been started, another
// would make the same attempt beside it.
func (c *claim) workflowOf(t taking, row deliveryRow, taken int) string {
	own := postrider.DeliveryWorkflowID(row.ID)
	if c.request.BatchID == "" || taken < c.request.BatchMin || t.slow || t.WorkflowID == own || row.WorkflowID == own {
		return own
	}
	return c.request.BatchID
}
