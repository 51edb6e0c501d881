package store

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"

	"postrider.dev/postrider"
	"postrider.dev/postrider/store/sqldb"
)

// actionRow is a row of the table delivery_actions.
type actionRow struct {
	DeliveryID string `db:"delivery_id"`
	ID         string
	At         sqldb.Time
	Action     postrider.ActionKind
	Actor      string
	Detail     string
	Attempt    int         // the attempt that was under way, or the next
	Made       *string     // the delivery that sends the event again
	WorkflowID string      `db:"workflow_id"` // that carried the delivery
	LeftIt     bool        `db:"left_it"`     // it does not any more
	TellAt     *sqldb.Time `db:"tell_at"`     // when the workflow is told; nil when it was, or need not be
}

func (r actionRow) action() postrider.Action {
	return postrider.Action{At: r.At.Time, Kind: r.Action, Actor: r.Actor, Detail: r.Detail}
}

// maxActions bounds what is read of one delivery's actions: the latest.
const maxActions = 1000

// Actions returns what operators did to a delivery, in the order in which it happened. An unknown
// delivery has none.
func (s *Store) Actions(ctx context.Context, deliveryID string) ([]postrider.Action, error) {
	var rows []actionRow
	err := sqldb.SQL(selectActions+"a.delivery_id = ? ORDER BY a.id DESC LIMIT ?", deliveryID, maxActions).Select(ctx, s.db.Reading, &rows)
	actions := make([]postrider.Action, len(rows))
	for i, row := range rows {
		actions[len(rows)-1-i] = row.action()
	}
	return actions, sqldb.Failure("read actions", err)
}

// latestActions returns the latest action on each of the deliveries that has one.
func latestActions(ctx context.Context, tx *sqlx.Tx, deliveryIDs []string) (map[string]actionRow, error) {
	var rows []actionRow
	const latest = "a.id = (SELECT MAX(b.id) FROM delivery_actions b WHERE b.delivery_id = a.delivery_id) AND a.delivery_id IN"
	err := sqldb.SQL(selectActions+latest).In(deliveryIDs).Select(ctx, tx, &rows)
	byDelivery := make(map[string]actionRow, len(rows))
	for _, row := range rows {
		byDelivery[row.DeliveryID] = row
	}
	return byDelivery, err
}

// WakeNotices gets a value, one for many, when a workflow is to be told of an action.
func (s *Store) WakeNotices() <-chan struct{} { return s.wakeNotices }

// ClaimNotices returns actions that workflows are to be told of, up to the limit, together for each
// workflow. Another claim returns those after the lease that [Store.Noticed] was not called for.
func (s *Store) ClaimNotices(ctx context.Context, limit int, lease time.Duration) ([]postrider.Notice, error) {
	now := s.now()
	var untold bool
	err := sqldb.SQL("SELECT EXISTS (SELECT 1 FROM delivery_actions WHERE tell_at <= ?)", now).Get(ctx, s.db.Delivering.Reading, &untold)
	if err != nil || !untold {
		return nil, sqldb.Failure("look for notices", err)
	}
	var rows []actionRow
	err = s.db.Delivering.Write(ctx, "claim notices", func(tx *sqlx.Tx) error {
		rows = nil
		err := sqldb.SQL(selectActions+"a.tell_at <= ? ORDER BY a.tell_at LIMIT ?", now, limit).
			Add(s.db.Lock("FOR UPDATE SKIP LOCKED")).Select(ctx, tx, &rows)
		if err != nil {
			return err
		}
		return tellAt(ctx, tx, rows, &sqldb.Time{Time: now.Add(lease)})
	})
	return noticesOf(rows), err
}

// noticesOf puts the actions together that concern the same workflow, in their order.
func noticesOf(rows []actionRow) []postrider.Notice {
	slices.SortFunc(rows, func(a, b actionRow) int { return strings.Compare(a.ID, b.ID) })
	var notices []postrider.Notice
	index := map[string]int{}
	for _, row := range rows {
		i, found := index[row.WorkflowID]
		if !found {
			i = len(notices)
			index[row.WorkflowID] = i
			notices = append(notices, postrider.Notice{WorkflowID: row.WorkflowID})
		}
		notices[i].Acted = append(notices[i].Acted, postrider.Acted{DeliveryID: row.DeliveryID, Action: row.action(), Left: row.LeftIt})
		notices[i].ActionIDs = append(notices[i].ActionIDs, row.ID)
	}
	return notices
}

// Noticed says that the workflow of a notice was told, or has ended.
func (s *Store) Noticed(ctx context.Context, n postrider.Notice) error {
	return s.db.Delivering.Write(ctx, "end a notice", func(tx *sqlx.Tx) error {
		rows := make([]actionRow, len(n.Acted))
		for i, acted := range n.Acted {
			rows[i].DeliveryID, rows[i].ID = acted.DeliveryID, n.ActionIDs[i]
		}
		return tellAt(ctx, tx, rows, nil)
	})
}

// tellAt sets when the workflows of actions are told.
func tellAt(ctx context.Context, tx *sqlx.Tx, rows []actionRow, at *sqldb.Time) error {
	if len(rows) == 0 {
		return nil
	}
	deliveryIDs, actionIDs := make([]string, len(rows)), make([]string, len(rows))
	for i, row := range rows {
		deliveryIDs[i], actionIDs[i] = row.DeliveryID, row.ID
	}
	return sqldb.SQL("UPDATE delivery_actions SET tell_at = ? WHERE delivery_id IN", at).In(deliveryIDs).
		Add(" AND id IN").In(actionIDs).Run(ctx, tx)
}
