package store

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"

	"postrider.dev/postrider"
)

// Claim leases deliveries whose first attempt is due and says which workflow is to
// carry each. What it costs depends on the limit and on the number of webhooks that
// have something waiting, not on how much waits.
//
// It is fair: workspaces take turns and share the limit evenly, and so do the webhooks
// of each, over several claims too. No webhook has more than its max_in_flight leased,
// retries included, nor gets more than its rate_limit, however many processes claim.
// Retries that are due are left up to half of the places. Deliveries of a webhook that
// is not active any more are parked instead.
func (s *Store) Claim(ctx context.Context, request postrider.ClaimRequest) ([]postrider.Dispatch, error) {
	if request.Limit < 1 {
		return nil, nil
	}
	due, err := s.lookForDue(ctx, "start")
	if err != nil || due == (dueRows{}) {
		return nil, err
	}
	if due.Held {
		if err := s.endHolds(ctx, request.Limit); err != nil {
			return nil, err
		}
	}
	// Webhooks that another claim is at are passed over. If that leaves nothing, it
	// is worth waiting for them: that other claim takes milliseconds.
	for _, wait := range []bool{false, true} {
		var c *claim
		err := writeOn(ctx, s.leasing, "claim", func(tx *sqlx.Tx) error {
			now := s.now()
			c = &claim{s: s, tx: tx, request: request, now: now, until: now.Add(request.Lease), wait: wait}
			if request.Capacity != nil {
				c.unproven = request.Capacity.Unproven
			}
			return c.run(ctx)
		})
		if err != nil {
			return nil, err
		}
		s.starts.ended(c.turns, len(c.dispatches) == request.Limit)
		if len(c.dispatches) > 0 || !c.passed {
			return c.dispatches, nil
		}
	}
	return nil, nil
}

// dueRows says which rows a claim finds in the outbox.
type dueRows struct {
	Held  bool // a lease or a delay is over
	Ready bool // of the kind that is looked for
}

// lookForDue looks what there is before a transaction is begun: most claims are made
// to find nothing.
func (s *Store) lookForDue(ctx context.Context, kind string) (dueRows, error) {
	var due dueRows
	err := sqlOf(`SELECT EXISTS (SELECT 1 FROM outbox WHERE hold_until <= ?) AS held,
		EXISTS (SELECT 1 FROM outbox WHERE hold_until IS NULL AND kind = '`+kind+`') AS ready`, s.now()).get(ctx, s.reading, &due)
	return due, failure("look for what is due", err)
}

// holdsChunk is how many holds a claim ends at least, if there are so many.
const holdsChunk = chunkSize

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
		return sqlOf("UPDATE outbox SET "+readyAgain+" WHERE delivery_id IN").in(free).run(ctx, tx)
	})
}

// claim is one run of [Store.Claim].
type claim struct {
	s        *Store
	tx       *sqlx.Tx
	request  postrider.ClaimRequest
	now      time.Time
	until    time.Time // the lease's end
	wait     bool      // for webhooks that another claim has locked
	unproven int       // places left for receivers that are not proven, where that is limited

	passed     bool // a webhook was passed over because it was locked
	turns      []*turn
	dispatches []postrider.Dispatch
	leased     map[string]deliveryRow // those that are to make their first attempt
}

// turn is a webhook's part in a claim.
type turn struct {
	queue       string
	workspaceID string
	webhookID   string
	url         string
	begin       int // how many may begin at once
	room        int // how many more it may be given, those included
	want        int // of these, how many in the pass that goes on
	pace        *pace
	slow        bool // its deliveries join no batch
	taken       []taking
	dry         bool // nothing more is ready
}

// taking is an outbox row that a claim takes.
type taking struct {
	DeliveryID string `db:"delivery_id"`
	Queue      string
	WorkflowID string `db:"workflow_id"` // that it was handed to before, "" for none
	turn       *turn  // its webhook's
	ahead      bool
}

func (c *claim) run(ctx context.Context) error {
	if err := c.findWebhooks(ctx); err != nil {
		return err
	}
	if err := allocate(ctx, c.tx, "start", c.turns, c.request.Limit); err != nil {
		return err
	}
	return c.lease(ctx)
}

// queuesPage is the least number of queues that are looked at together.
const queuesPage = 64

// findWebhooks finds webhooks that have ready rows and may be given some, the same
// number of each workspace while there are so many.
func (c *claim) findWebhooks(ctx context.Context) error {
	queues, few, err := c.s.starts.few(ctx, c.tx, "start")
	if err != nil {
		return err
	}
	if few {
		return c.admitWebhooks(ctx, queues)
	}
	looked := seen{workspaces: map[string]bool{}}
	for len(c.turns) < c.request.Limit && !looked.all {
		walks, err := c.s.starts.walks(ctx, c.tx, "start", &looked)
		if err != nil {
			return err
		}
		for len(c.turns) < c.request.Limit && len(walks) > 0 {
			each := max(max(c.request.Limit, queuesPage)/len(walks), 1)
			found, err := next(ctx, c.tx, "start", walks, each)
			if err != nil {
				return err
			}
			if err := c.admitWebhooks(ctx, found); err != nil {
				return err
			}
			if c.wait { // locks that are waited for are taken in one order by all
				return nil
			}
			walks = slices.DeleteFunc(walks, func(w *walk) bool { return w.ended })
		}
	}
	return nil
}

// withRoom returns the webhooks of the queues, but for those at whose receivers the
// claimer can begin nothing: a hundred that hang cost the others no look at their limits.
func (c *claim) withRoom(queues []string) []string {
	webhookIDs := make([]string, 0, len(queues))
	for _, queue := range queues {
		_, id := split(queue)
		if c.request.Capacity != nil {
			if receiver, known := c.request.Capacity.Receivers[id]; known && receiver.Room <= 0 && receiver.RoomAhead(0) == 0 {
				continue
			}
		}
		webhookIDs = append(webhookIDs, id)
	}
	return webhookIDs
}

// admitWebhooks gives turns to those of the webhooks that have room, and parks what
// waits for those that are not active.
func (c *claim) admitWebhooks(ctx context.Context, queues []string) error {
	if len(queues) == 0 {
		return nil
	}
	webhookIDs := c.withRoom(queues)
	if len(webhookIDs) == 0 {
		return nil
	}
	locked, err := c.s.lockPaces(ctx, c.tx, webhookIDs, c.wait)
	if err != nil {
		return err
	}
	c.passed = c.passed || len(locked) < len(webhookIDs)
	if len(locked) == 0 {
		return nil
	}
	found, err := limits(ctx, c.tx, locked, c.now)
	if err != nil {
		return err
	}
	of := make(map[string]webhookLimits, len(found))
	for _, w := range found {
		of[w.ID] = w
	}
	for _, id := range webhookIDs { // in the order of the walk
		w, known := of[id]
		switch {
		case !known:
		case w.Status != postrider.WebhookActive:
			if err := c.s.park(ctx, c.tx, w.WorkspaceID, w.ID); err != nil {
				return err
			}
		default:
			if t := c.turnOf(w); t.room > 0 {
				c.turns = append(c.turns, t)
			}
		}
	}
	return nil
}

func (c *claim) turnOf(w webhookLimits) *turn {
	t := &turn{queue: queueOf(w.WorkspaceID, w.ID), workspaceID: w.WorkspaceID, webhookID: w.ID, url: w.URL, begin: max(w.roomForFirsts(), 0)}
	if w.RateLimit != nil {
		p := paceAt(*w.RateLimit, w.NextAt.Time, c.now)
		t.pace, t.begin = &p, min(t.begin, p.allowed(c.now))
	}
	ahead := 0
	if c.request.Capacity != nil {
		receiver := c.limitTo(*c.request.Capacity, t)
		if t.pace == nil && w.Retries+w.OfRetries == 0 { // which would have to wait for their half
			ahead = receiver.RoomAhead(t.begin)
		}
	}
	t.room = t.begin + ahead
	return t
}

// limitTo limits the turn to what the claimer can begin. Receivers that are not proven
// share what there is for them: each gets half of what is left.
func (c *claim) limitTo(capacity postrider.Capacity, t *turn) postrider.ReceiverCapacity {
	receiver, known := capacity.Receivers[t.webhookID]
	if !known {
		receiver = postrider.ReceiverCapacity{Room: capacity.Unknown, Unproven: true}
	}
	t.slow, t.begin = receiver.Slow, max(min(t.begin, receiver.Room), 0)
	if receiver.Unproven {
		t.begin = min(t.begin, max(c.unproven+1, 0)/2)
		c.unproven -= t.begin
	}
	return receiver
}

// allocate takes ready rows of the kind for the turns: in each pass an even share of
// what is left to every workspace, and of that to every webhook, until the limit is
// reached or nothing is left.
func allocate(ctx context.Context, tx *sqlx.Tx, kind string, turns []*turn, limit int) error {
	open := slices.Clone(turns)
	for limit > 0 && len(open) > 0 {
		asked := share(open, limit)
		took, err := take(ctx, tx, kind, asked)
		if err != nil {
			return err
		}
		limit -= took
		open = slices.DeleteFunc(open, func(t *turn) bool { return t.dry || t.room == 0 })
	}
	return nil
}

// share says how many rows each turn is to take of so many, and returns the turns that
// are to take any.
func share(open []*turn, limit int) []*turn {
	of := map[string][]*turn{}
	var workspaces []string
	for _, t := range open {
		if of[t.workspaceID] == nil {
			workspaces = append(workspaces, t.workspaceID)
		}
		of[t.workspaceID] = append(of[t.workspaceID], t)
	}
	var asked []*turn
	each := max(limit/len(workspaces), 1)
	for _, workspaceID := range workspaces {
		left := min(each, limit)
		limit -= left
		mine := of[workspaceID]
		for i, t := range mine {
			t.want = min(max(left/(len(mine)-i), 1), left, t.room)
			left -= t.want
			if t.want > 0 {
				asked = append(asked, t)
			}
		}
		limit += left
	}
	return asked
}

// maxCompound is how many SELECTs one statement joins: SQLite takes 500.
const maxCompound = 200

// take takes for every turn as many rows as it wants, and returns how many it took.
func take(ctx context.Context, tx *sqlx.Tx, kind string, turns []*turn) (int, error) {
	took := 0
	for part := range slices.Chunk(turns, maxCompound) {
		st := &statement{}
		for i, t := range part {
			if i > 0 {
				st.add(" UNION ALL ")
			}
			st.add("SELECT * FROM (SELECT delivery_id, queue, workflow_id FROM outbox WHERE ").only("queue", t.queue)
			if len(t.taken) > 0 { // as a pair, for the order of the queue's index again
				st.add(" AND (queue, delivery_id) > (?, ?)", t.queue, t.taken[len(t.taken)-1].DeliveryID)
			}
			st.add(" AND hold_until IS NULL AND kind = '"+kind+"' ORDER BY queue, delivery_id LIMIT ?) t", t.want)
		}
		var rows []taking
		if err := st.selectInto(ctx, tx, &rows); err != nil {
			return took, err
		}
		of := map[string][]taking{}
		for _, row := range rows {
			of[row.Queue] = append(of[row.Queue], row)
		}
		for _, t := range part {
			got := of[t.queue]
			slices.SortFunc(got, func(a, b taking) int { return strings.Compare(a.DeliveryID, b.DeliveryID) })
			t.dry = len(got) < t.want
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
			t.taken[i].turn, t.taken[i].ahead = t, i >= t.begin
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
		if err := c.leasePart(ctx, part); err != nil {
			return err
		}
	}
	for _, t := range taken { // in this order: each webhook's as they were accepted
		if row, found := c.leased[t.DeliveryID]; found {
			d, err := row.item()
			if err != nil {
				return err
			}
			c.dispatches = append(c.dispatches, postrider.Dispatch{
				Delivery: d, Ahead: t.ahead, Slow: t.turn.slow, Paced: t.turn.pace != nil, URL: t.turn.url,
			})
		}
	}
	return nil
}

// carriedBy is what a claim writes to rows alike: who is to carry them, "" for each
// delivery's own workflow, and whether they are claimed ahead.
type carriedBy struct {
	workflowID string
	ahead      bool
}

// leasePart leases outbox rows, each for the workflow that is to carry the delivery. It
// drops those of deliveries that turned out to want no attempt any more.
func (c *claim) leasePart(ctx context.Context, part []taking) error {
	wanted := make([]string, len(part))
	for i, t := range part {
		wanted[i] = t.DeliveryID
	}
	rows, err := keyed(ctx, c.tx, selectStored, "id", wanted, deliveryRow.cursor)
	if err != nil {
		return err
	}
	var stale []string
	carried := map[carriedBy][]string{}
	for _, t := range part {
		row, found := rows[t.DeliveryID]
		if !found || row.State != postrider.StatePending && row.State != postrider.StateDelivering {
			stale = append(stale, t.DeliveryID)
			continue
		}
		row.State, row.WorkflowID = postrider.StateDelivering, c.workflowOf(t)
		rows[t.DeliveryID] = row
		by := carriedBy{row.WorkflowID, t.ahead}
		if by.workflowID == postrider.DeliveryWorkflowID(row.ID) {
			by.workflowID = ""
		}
		carried[by] = append(carried[by], t.DeliveryID)
	}
	for by, deliveries := range carried {
		st := sqlOf("UPDATE outbox SET hold_until = ?, leased = TRUE, ahead = ?, workflow_id = ", c.until, by.ahead)
		if by.workflowID == "" {
			st.add("? || delivery_id", postrider.DeliveryWorkflowID(""))
		} else {
			st.add("?", by.workflowID)
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

// workflowOf returns the workflow that is to carry a delivery. One that was claimed before
// gets another than its own: should that have been started and ended, as it may have when
// the database lost a moment, it would not be started again.
func (c *claim) workflowOf(t taking) string {
	by := c.request.WorkflowID
	if t.turn.slow {
		by = c.request.SlowWorkflowID
	}
	switch own := postrider.DeliveryWorkflowID(t.DeliveryID); {
	case by != "":
		return by
	case t.WorkflowID == "":
		return own
	default:
		return own + "/" + c.s.IDs.New(postrider.PrefixBatch)
	}
}
