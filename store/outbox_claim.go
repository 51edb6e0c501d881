package store

import (
	"context"
	"slices"
	"time"

	"github.com/jmoiron/sqlx"

	"postrider.dev/postrider"
	"postrider.dev/postrider/store/sqldb"
)

// Claim leases deliveries whose first attempt is due and says which workflow is to carry
// each. Its cost grows with the limit and with the number of webhooks that have something
// waiting, not with how much waits.
//
// It is fair: workspaces take turns and share the limit evenly, and so do the webhooks of
// each, over several claims too. A webhook has at most its max_in_flight leased, retries
// included, and gets at most its rate_limit, however many processes claim. Retries that are
// due are left up to half of the permits. A webhook that is not active any more
// gets none; its deliveries are swept.
func (s *Store) Claim(ctx context.Context, request postrider.ClaimRequest) ([]postrider.Dispatch, error) {
	if request.Limit < 1 {
		return nil, nil
	}
	if due, err := s.lookForDue(ctx, kindStart, request.Limit); err != nil || !due {
		return nil, err
	}
	// Webhooks that another claim has locked are passed over. If that leaves no delivery, it
	// is worth waiting for them: the other claim takes milliseconds.
	for _, wait := range []bool{false, true} {
		var c *claim
		err := s.db.Lease(ctx, "claim", func(tx *sqlx.Tx) error {
			now := s.now()
			c = &claim{s: s, tx: tx, request: request, now: now, until: sqldb.TimeOf(now.Add(request.Lease)), wait: wait}
			if request.Capacity != nil {
				c.unproven = request.Capacity.Unproven
			}
			return c.run(ctx)
		})
		if err != nil {
			return nil, err
		}
		if len(c.inactive) > 0 {
			signal(s.wakeSweeps)
		}
		if c.leftRetries {
			signal(s.wakeRetries)
		}
		s.starts.ended(c.shares, len(c.dispatches) == request.Limit)
		if len(c.dispatches) > 0 || !c.passed {
			return c.dispatches, nil
		}
	}
	return nil, nil
}

// claim is one run of [Store.Claim].
type claim struct {
	s        *Store
	tx       *sqlx.Tx
	request  postrider.ClaimRequest
	now      time.Time
	until    sqldb.Time // the lease's end
	wait     bool       // for webhooks that another claim has locked
	unproven int        // slots left for receivers that are not proven, where that is limited

	leftRetries bool // deliveries were left to be handed over

	passed     bool     // a webhook was passed over because it was locked
	inactive   []string // webhooks that have ready rows and are not active
	shares     []*webhookShare
	dispatches []postrider.Dispatch
	leased     map[string]deliveryRow // the deliveries that are to make their first attempt
}

func (c *claim) run(ctx context.Context) error {
	if err := c.findWebhooks(ctx); err != nil {
		return err
	}
	if err := fillShares(ctx, c.tx, kindStart, c.shares, c.request.Limit); err != nil {
		return err
	}
	if err := c.s.noteInactive(ctx, c.tx, c.inactive); err != nil {
		return err
	}
	return c.lease(ctx)
}

// queuesPage is the least number of queues that are looked at together.
const queuesPage = 64

// findWebhooks finds webhooks that have ready rows and may be given some of them, the same
// number of each workspace as long as there are enough.
func (c *claim) findWebhooks(ctx context.Context) error {
	queues, few, err := c.s.starts.ifFew(ctx, c.tx, kindStart)
	if err != nil {
		return err
	}
	if few {
		return c.admitWebhooks(ctx, queues)
	}
	looked := seen{workspaces: map[string]bool{}}
	for len(c.shares) < c.request.Limit && !looked.all {
		walks, err := c.s.starts.walks(ctx, c.tx, kindStart, &looked)
		if err != nil {
			return err
		}
		for len(c.shares) < c.request.Limit && len(walks) > 0 {
			each := max(max(c.request.Limit, queuesPage)/len(walks), 1)
			found, err := nextQueues(ctx, c.tx, kindStart, walks, each)
			if err != nil {
				return err
			}
			if err := c.admitWebhooks(ctx, found); err != nil {
				return err
			}
			if c.wait { // all claims wait for locks in the same order
				return nil
			}
			walks = slices.DeleteFunc(walks, func(w *walk) bool { return w.ended })
		}
	}
	return nil
}

// withRoom returns the webhooks of the queues, without those at whose receivers the claimer
// can begin no attempt. So the limits of a hundred receivers that hang are not looked at.
func (c *claim) withRoom(queues []string) []string {
	webhookIDs := make([]string, 0, len(queues))
	for _, queue := range queues {
		_, id := splitQueue(queue)
		if c.request.Capacity != nil {
			if receiver, known := c.request.Capacity.Receivers[id]; known && receiver.Room <= 0 && receiver.RoomAhead(0) == 0 {
				continue
			}
		}
		webhookIDs = append(webhookIDs, id)
	}
	return webhookIDs
}

// admitWebhooks gives a share to each of the webhooks that is active and has room.
func (c *claim) admitWebhooks(ctx context.Context, queues []string) error {
	webhookIDs := c.withRoom(queues)
	if len(webhookIDs) == 0 {
		return nil
	}
	locked, err := c.s.lockPaces(ctx, c.tx, c.wait, webhookIDs...)
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
	byID := make(map[string]webhookLimits, len(found))
	for _, w := range found {
		byID[w.ID] = w
	}
	for _, id := range webhookIDs { // in the order of the walk
		w, known := byID[id]
		switch {
		case !known:
		case !w.active():
			c.inactive = append(c.inactive, id)
		default:
			if share := c.shareOf(w); share.room > 0 {
				c.shares = append(c.shares, share)
			}
		}
	}
	return nil
}

// shareOf returns the webhook's share, limited by the webhook's settings and by the receiver.
func (c *claim) shareOf(w webhookLimits) *webhookShare {
	share := &webhookShare{
		queue: queueOf(w.WorkspaceID, w.ID), workspaceID: w.WorkspaceID, webhookID: w.ID, url: w.URL, mayBegin: max(w.roomForFirsts(), 0),
	}
	if w.RateLimit != nil {
		p := paceAt(*w.RateLimit, w.NextAt.Time, c.now)
		share.pace, share.mayBegin = &p, min(share.mayBegin, p.allowed(c.now))
	}
	ahead := 0
	if c.request.Capacity != nil {
		receiver := c.limitTo(*c.request.Capacity, share)
		if share.pace == nil && !w.gated() && w.Retries+w.OfRetries == 0 { // retries would have to wait for their half
			ahead = receiver.RoomAhead(share.mayBegin)
		}
	}
	share.room = share.mayBegin + ahead
	return share
}

// limitTo limits the share to what the claimer can begin. Receivers that are not proven
// share the slots that there are for them: each gets half of what is left.
func (c *claim) limitTo(capacity postrider.Capacity, share *webhookShare) postrider.ReceiverCapacity {
	receiver, known := capacity.Receivers[share.webhookID]
	if !known {
		receiver = postrider.ReceiverCapacity{Room: capacity.Unknown, Unproven: true}
	}
	share.slow, share.mayBegin = receiver.Slow, max(min(share.mayBegin, receiver.Room), 0)
	if receiver.Unproven {
		share.mayBegin = min(share.mayBegin, max(c.unproven+1, 0)/2)
		c.unproven -= share.mayBegin
	}
	return receiver
}

// lease leases the rows that were claimed and makes them the claim's answer.
func (c *claim) lease(ctx context.Context) error {
	var claimed []claimedRow
	var paces []paceRow
	for _, share := range c.shares {
		for i := range share.claimed {
			share.claimed[i].share, share.claimed[i].ahead = share, i >= share.mayBegin
		}
		claimed = append(claimed, share.claimed...)
		if share.pace != nil && len(share.claimed) > 0 {
			paces = append(paces, paceRow{share.webhookID, sqldb.Time{Time: share.pace.after(len(share.claimed))}})
		}
	}
	if _, err := webhookPaceTable.Insert(ctx, c.tx, paces...); err != nil {
		return err
	}
	c.leased = make(map[string]deliveryRow, len(claimed))
	for part := range slices.Chunk(claimed, sqldb.ChunkSize) {
		if err := c.leasePart(ctx, part); err != nil {
			return err
		}
	}
	for _, row := range claimed { // in this order: each webhook's as they were accepted
		if delivery, found := c.leased[row.DeliveryID]; found {
			d, err := delivery.item()
			if err != nil {
				return err
			}
			c.dispatches = append(c.dispatches, postrider.Dispatch{
				Delivery: d, Ahead: row.ahead, Slow: row.share.slow, Paced: row.share.pace != nil, URL: row.share.url,
			})
		}
	}
	return nil
}

// leaseGroup is the same for all rows that one UPDATE leases.
type leaseGroup struct {
	workflowID string // that is to carry them; "" for each delivery's own workflow
	ahead      bool
}

// leasePart leases outbox rows, each for the workflow that is to carry the delivery. It drops
// the rows of deliveries that turned out to want no attempt any more.
func (c *claim) leasePart(ctx context.Context, part []claimedRow) error {
	wanted := make([]string, len(part))
	for i, row := range part {
		wanted[i] = row.DeliveryID
	}
	deliveries, err := keyed(ctx, c.tx, selectStored, "id", wanted, deliveryRow.cursor)
	if err != nil {
		return err
	}
	var stale, attempted, held []string
	byGroup := map[leaseGroup][]string{}
	for _, row := range part {
		d, found := deliveries[row.DeliveryID]
		if !found || d.State != postrider.StatePending && d.State != postrider.StateDelivering {
			stale = append(stale, row.DeliveryID)
			continue
		}
		if d.HeldAt != nil { // it was paused while an attempt was under way that is lost
			held = append(held, row.DeliveryID)
			continue
		}
		if d.AttemptCount > 0 { // a process of an earlier version has resumed it
			attempted = append(attempted, row.DeliveryID)
			continue
		}
		d.State, d.WorkflowID = postrider.StateDelivering, c.workflowOf(row)
		deliveries[row.DeliveryID] = d
		group := leaseGroup{d.WorkflowID, row.ahead}
		if group.workflowID == postrider.DeliveryWorkflowID(d.ID) {
			group.workflowID = ""
		}
		byGroup[group] = append(byGroup[group], d.ID)
	}
	if err := c.s.parkHeld(ctx, c.tx, held); err != nil {
		return err
	}
	for group, deliveryIDs := range byGroup {
		leased, err := c.leaseRows(ctx, group, deliveryIDs)
		if err != nil {
			return err
		}
		for _, id := range leased {
			c.leased[id] = deliveries[id]
		}
	}
	if err := c.leaveToRetries(ctx, attempted); err != nil || len(stale) == 0 {
		return err
	}
	return dropWaiting(ctx, c.tx, stale)
}

// leaveToRetries lets deliveries that were attempted before be handed over to a carrier of
// retries.
func (c *claim) leaveToRetries(ctx context.Context, deliveryIDs []string) error {
	if len(deliveryIDs) == 0 {
		return nil
	}
	slices.Sort(deliveryIDs)
	err := sqldb.SQL("UPDATE deliveries SET state = "+sqlRetrying+" WHERE finished_at IS NULL AND ").
		InKeyRange("id", deliveryIDs).Run(ctx, c.tx)
	if err != nil {
		return err
	}
	c.leftRetries = true
	return sqldb.SQL("UPDATE outbox SET kind = "+sqlRetry+", workflow_id = '' WHERE "+isStart+" AND "+notLeased+" AND delivery_id IN").
		In(deliveryIDs).Run(ctx, c.tx)
}

// leaseRows leases the rows of deliveries and returns the deliveries that it leased. Since the
// rows were picked, a late attempt of an earlier lease may have been recorded: then they are
// gone, or ask for something else, and are left alone.
func (c *claim) leaseRows(ctx context.Context, group leaseGroup, deliveryIDs []string) ([]string, error) {
	st := sqldb.SQL("UPDATE outbox SET hold_until = ?, leased = TRUE, ahead = ?, workflow_id = ", c.until, group.ahead)
	if group.workflowID == "" {
		st.Add("? || delivery_id", postrider.DeliveryWorkflowID(""))
	} else {
		st.Add("?", group.workflowID)
	}
	return st.Add(" WHERE "+isStart+" AND hold_until IS NULL AND delivery_id IN").In(deliveryIDs).
		Add(" RETURNING delivery_id").Strings(ctx, c.tx)
}

// workflowOf returns the workflow that is to carry a delivery. A delivery that was claimed
// before gets another than its own: if its own was started and ended, as it may have when the
// database lost a moment, it would not be started again.
func (c *claim) workflowOf(row claimedRow) string {
	batch := c.request.WorkflowID
	if row.share.slow {
		batch = c.request.SlowWorkflowID
	}
	switch own := postrider.DeliveryWorkflowID(row.DeliveryID); {
	case batch != "":
		return batch
	case row.WorkflowID == "":
		return own
	default:
		return own + "/" + c.s.IDs.New(postrider.PrefixBatch)
	}
}
