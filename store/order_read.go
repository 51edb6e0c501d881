package store

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/jmoiron/sqlx"

	"postrider.dev/postrider"
	"postrider.dev/postrider/store/sqldb"
)

// lanesPage is the most lanes that are looked at together.
const lanesPage = 200

// Blockers returns some of the deliveries that hold others of the webhook up by its ordering. Those
// that failed and block come first, the others are of its first lanes.
func (s *Store) Blockers(ctx context.Context, webhookID string) ([]postrider.Blocker, error) {
	blocked, busy, err := s.lanesOf(ctx, webhookID)
	if err != nil || len(busy)+len(blocked) == 0 {
		return nil, sqldb.Failure("read what is blocked", err)
	}
	lanes := slices.Concat(blocked, busy)
	heads, err := s.headsOf(ctx, s.db.Reading, lanes)
	if err != nil {
		return nil, sqldb.Failure("read what is blocked", err)
	}
	crowded, err := s.crowded(ctx, busy)
	var blockers []postrider.Blocker
	for _, lane := range lanes {
		head, found := heads[*lane.Head]
		if found && (lane.Blocked || crowded[lane.ID] && head.dawdles(s.now())) && len(blockers) < postrider.MaxBlockers {
			blockers = append(blockers, lane.blocker(head))
		}
	}
	return blockers, sqldb.Failure("read what is blocked", err)
}

// lanesOf returns lanes of a webhook that have heads: some that are blocked, and where these are few, some others.
func (s *Store) lanesOf(ctx context.Context, webhookID string) (blocked, busy []laneRow, err error) {
	err = sqldb.SQL(selectLanes).PinnedTo("webhook_id", webhookID).Add(" AND blocked ORDER BY webhook_id, id LIMIT ?", postrider.MaxBlockers).
		Select(ctx, s.db.Reading, &blocked)
	if err == nil && len(blocked) < postrider.MaxBlockers {
		err = sqldb.SQL(selectLanes).PinnedTo("webhook_id", webhookID).Add(" ORDER BY webhook_id, id LIMIT ?", lanesPage).
			Select(ctx, s.db.Reading, &busy)
	}
	return blocked, slices.DeleteFunc(busy, func(l laneRow) bool { return l.Blocked || l.Head == nil }), err
}

// crowded returns which of the lanes have more in them than their heads.
func (s *Store) crowded(ctx context.Context, lanes []laneRow) (map[string]bool, error) {
	ids := make([]string, len(lanes))
	for i, lane := range lanes {
		ids[i] = lane.ID
	}
	const others = "SELECT id FROM lanes l" +
		" WHERE EXISTS (SELECT 1 FROM lane_places p WHERE p.lane = l.id AND p.delivery_id <> l.head) AND id IN"
	found, err := sqldb.SQL(others).In(ids).Strings(ctx, s.db.Reading)
	crowded := make(map[string]bool, len(found))
	for _, id := range found {
		crowded[id] = true
	}
	return crowded, err
}

// dawdles reports whether a delivery is not about to be made.
func (r deliveryRow) dawdles(now time.Time) bool {
	switch r.State {
	case postrider.StateRetrying, postrider.StateFailed:
		return true
	case postrider.StateParked: // a paused webhook is not said of each of its keys
		return r.HeldAt != nil
	default:
		return r.DueAt.After(now)
	}
}

func (l laneRow) blocker(head deliveryRow) postrider.Blocker {
	_, key := splitLane(l.ID)
	since := l.Since.Time
	if head.HeldAt != nil && head.HeldAt.After(since) {
		since = head.HeldAt.Time
	}
	return postrider.Blocker{OrderingKey: key, DeliveryID: head.ID, State: head.State, Since: since}
}

// blockerOf returns the delivery that the given one waits for; "" for none.
func (s *Store) blockerOf(ctx context.Context, row deliveryRow) (string, error) {
	if row.Lane == nil || row.State.Finished() {
		return "", nil
	}
	heads, err := sqldb.SQL("SELECT head FROM lanes WHERE id = ? AND head IS NOT NULL", *row.Lane).Strings(ctx, s.db.Reading)
	if err != nil || len(heads) == 0 || heads[0] == row.ID {
		return "", err
	}
	return heads[0], nil
}

// MendLanes makes one step: it looks at some lanes, and mends those that nobody would let go on,
// because a process of an earlier version has ended their heads. It reports whether another step is
// due now: never, because lanes do not stop otherwise.
func (s *Store) MendLanes(ctx context.Context) (more bool, err error) {
	s.laneTurn.Lock()
	defer s.laneTurn.Unlock()
	var page []laneRow
	err = sqldb.SQL(selectLanes+"id > ? ORDER BY id LIMIT ?", s.laneTurn.after, lanesPage).Select(ctx, s.db.Delivering.Reading, &page)
	if s.laneTurn.after = ""; err != nil || len(page) == 0 {
		return false, sqldb.Failure("look for lanes that have stopped", err)
	}
	if len(page) == lanesPage {
		s.laneTurn.after = page[lanesPage-1].ID
	}
	stopped, err := s.stopped(ctx, s.db.Delivering.Reading, page)
	if err != nil || len(stopped) == 0 {
		return false, sqldb.Failure("look for lanes that have stopped", err)
	}
	err = s.db.Delivering.Write(ctx, "mend lanes", func(tx *sqlx.Tx) error { return s.mendLanes(ctx, tx, stopped) })
	if err == nil {
		s.notify()
	}
	return false, err
}

// mendLanes mends those of the lanes that have stopped, now that they are locked.
func (s *Store) mendLanes(ctx context.Context, tx *sqlx.Tx, lanes []string) error {
	if err := s.lockLanes(ctx, tx, lanes); err != nil {
		return err
	}
	var locked []laneRow
	if err := sqldb.SQL(selectLanes+"id IN").In(lanes).Select(ctx, tx, &locked); err != nil {
		return err
	}
	stopped, err := s.stopped(ctx, tx, locked)
	if err != nil {
		return err
	}
	locked = slices.DeleteFunc(locked, func(l laneRow) bool { return !slices.Contains(stopped, l.ID) })
	heads, err := s.headsOf(ctx, tx, locked)
	if err != nil {
		return err
	}
	var over []laneMember
	var held []laneRow
	for _, lane := range locked {
		if lane.Head != nil && (heads[*lane.Head].ID == "" || heads[*lane.Head].State.Finished()) {
			over = append(over, laneMember{*lane.Head, lane.ID})
		} else {
			held = append(held, lane)
		}
	}
	return errors.Join(s.passOn(ctx, tx, over), s.letGo(ctx, tx, held))
}

// stopped returns which of the lanes would not go on by themselves: the head has ended and does not
// block, it waits for its turn as if another one were the head, or there is none.
func (s *Store) stopped(ctx context.Context, q sqldb.Querier, lanes []laneRow) ([]string, error) {
	heads, err := s.headsOf(ctx, q, lanes)
	if err != nil {
		return nil, err
	}
	ids := make([]string, 0, len(heads))
	for id := range heads {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	waiting, err := sqldb.SQL("SELECT delivery_id FROM outbox WHERE hold_until >= ? AND delivery_id IN", behindUntil()).In(ids).Strings(ctx, q)
	var stopped []string
	for _, lane := range lanes {
		over := lane.WireUntil == nil || !lane.WireUntil.After(s.now())
		switch {
		case lane.Head == nil && !over, lane.Blocked && heads[*lane.Head].ID != "":
		case lane.Head == nil, heads[*lane.Head].ID == "", heads[*lane.Head].State.Finished(), slices.Contains(waiting, *lane.Head):
			stopped = append(stopped, lane.ID)
		}
	}
	return stopped, err
}

// headsOf returns the deliveries that are heads of lanes, by id.
func (s *Store) headsOf(ctx context.Context, q sqldb.Querier, lanes []laneRow) (map[string]deliveryRow, error) {
	ids := make([]string, 0, len(lanes))
	for _, lane := range lanes {
		if lane.Head != nil {
			ids = append(ids, *lane.Head)
		}
	}
	return keyed(ctx, q, selectStored, "id", ids, deliveryRow.cursor)
}
