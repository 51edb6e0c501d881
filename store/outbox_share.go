package store

import (
	"context"
	"slices"
	"strings"

	"github.com/jmoiron/sqlx"

	"postrider.dev/postrider/store/sqldb"
)

// webhookShare is a webhook's share of a claim.
type webhookShare struct {
	queue       string
	workspaceID string
	webhookID   string
	url         string
	mayBegin    int // how many of its deliveries may begin at once
	room        int // how many more deliveries it may be given, including those
	want        int // how many of them it is given in this pass
	pace        *pace
	slow        bool        // its deliveries join no batch
	dueBy       *sqldb.Time // only rows that are due by then; nil for all
	claimed     []claimedRow
	drained     bool // it has no other ready rows
}

// claimedRow is an outbox row that a claim takes.
type claimedRow struct {
	DeliveryID string `db:"delivery_id"`
	Queue      string
	WorkflowID string `db:"workflow_id"` // the workflow that it was handed to before, "" if it was not
	share      *webhookShare
	ahead      bool
}

// fillShares takes ready rows of the kind for the shares. In each pass every workspace gets what it
// lacks to an even part of the limit, and every webhook an even part of that, until the limit is
// reached or no ready row is left.
func fillShares(ctx context.Context, tx *sqlx.Tx, kind outboxKind, shares []*webhookShare, limit int) error {
	open := slices.Clone(shares)
	for limit > 0 && len(open) > 0 {
		picked, err := pick(ctx, tx, kind, allocate(open, taken(shares), limit))
		if err != nil {
			return err
		}
		limit -= picked
		open = slices.DeleteFunc(open, func(share *webhookShare) bool { return share.drained || share.room == 0 })
	}
	return nil
}

// taken returns how many rows each workspace has.
func taken(shares []*webhookShare) map[string]int {
	rows := map[string]int{}
	for _, share := range shares {
		rows[share.workspaceID] += len(share.claimed)
	}
	return rows
}

// allocate divides what is left of a limit among the shares that are open, by setting their want,
// and returns those that want any rows. has is how many each workspace has so far.
func allocate(open []*webhookShare, has map[string]int, limit int) []*webhookShare {
	byWorkspace := map[string][]*webhookShare{}
	var workspaces []string
	for _, share := range open {
		if byWorkspace[share.workspaceID] == nil {
			workspaces = append(workspaces, share.workspaceID)
		}
		byWorkspace[share.workspaceID] = append(byWorkspace[share.workspaceID], share)
	}
	var wanting []*webhookShare
	each := evenPart(workspaces, has, limit)
	for _, workspaceID := range workspaces {
		left := min(max(each-has[workspaceID], 0), limit)
		limit -= left
		shares := byWorkspace[workspaceID]
		for i, share := range shares {
			share.want = min(max(left/(len(shares)-i), 1), left, share.room)
			left -= share.want
			if share.want > 0 {
				wanting = append(wanting, share)
			}
		}
		limit += left
	}
	return wanting
}

// evenPart returns to how many rows each workspace is brought, by up to limit more in all: one at
// least gets more.
func evenPart(workspaces []string, has map[string]int, limit int) int {
	all, least := limit, has[workspaces[0]]
	for _, workspaceID := range workspaces {
		all, least = all+has[workspaceID], min(least, has[workspaceID])
	}
	return max(all/len(workspaces), least+1)
}

// maxCompound is how many SELECTs one statement joins: SQLite takes 500.
const maxCompound = 200

// pick takes for every share as many ready rows as it wants, and returns how many it took.
func pick(ctx context.Context, tx *sqlx.Tx, kind outboxKind, shares []*webhookShare) (int, error) {
	picked := 0
	for part := range slices.Chunk(shares, maxCompound) {
		st := &sqldb.Statement{}
		for i, share := range part {
			if i > 0 {
				st.Add(" UNION ALL ")
			}
			share.addNextRows(st, kind)
		}
		var rows []claimedRow
		if err := st.Select(ctx, tx, &rows); err != nil {
			return picked, err
		}
		byQueue := map[string][]claimedRow{}
		for _, row := range rows {
			byQueue[row.Queue] = append(byQueue[row.Queue], row)
		}
		for _, share := range part {
			share.give(byQueue[share.queue])
		}
		picked += len(rows)
	}
	return picked, nil
}

// addNextRows adds a SELECT of the rows that the share wants.
func (share *webhookShare) addNextRows(st *sqldb.Statement, kind outboxKind) {
	st.Add("SELECT * FROM (SELECT delivery_id, queue, workflow_id FROM outbox WHERE ").PinnedTo("queue", share.queue)
	if len(share.claimed) > 0 { // compared as a pair, as the index on the queue is ordered
		st.Add(" AND (queue, delivery_id) > (?, ?)", share.queue, share.claimed[len(share.claimed)-1].DeliveryID)
	}
	if share.dueBy != nil {
		st.Add(" AND due_at <= ?", *share.dueBy)
	}
	st.Add(" AND "+ready(kind)+" ORDER BY queue, delivery_id LIMIT ?) t", share.want)
}

// give gives the share the rows that were found of the number that it wanted.
func (share *webhookShare) give(rows []claimedRow) {
	slices.SortFunc(rows, func(a, b claimedRow) int { return strings.Compare(a.DeliveryID, b.DeliveryID) })
	share.drained = len(rows) < share.want
	share.claimed = append(share.claimed, rows...)
	share.room -= len(rows)
}
