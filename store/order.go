package store

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"

	"postrider.dev/postrider"
	"postrider.dev/postrider/store/sqldb"
)

// A webhook with an ordering has lanes: one for all of its deliveries, or one for each ordering_key.
// The deliveries of a lane have places in it, taken in the transaction that accepts them, under the
// lock of the lane's row: so the order of places is the order of acceptance, however many processes
// publish. The first is the head. The others have outbox rows with a hold that no clock comes to, so
// claims do not know of lanes. Whoever ends the head lets the next one go in the same transaction.
//
// A lane is locked after its deliveries and before their expiries and outbox rows. Whoever lets the
// next one go does not lock that one's delivery: what parks it, or puts it back into the outbox, asks
// under the lane's lock whose turn it is.

// behindUntil is the hold of a delivery that is not its lane's head.
func behindUntil() sqldb.Time {
	return sqldb.Time{Time: time.Date(9999, time.June, 1, 0, 0, 0, 0, time.UTC)}
}

// laneRow is a row of the table lanes. It is there as long as something is in the lane.
type laneRow struct {
	ID        string
	WebhookID string `db:"webhook_id"`
	Last      int64  // the last place that was taken
	Head      *string
	Since     sqldb.Time // when the delivery became the head, or blocked
	Blocked   bool       // the head has failed, and somebody has to say how to go on
	// WireID is a delivery that was the head and was ended while an attempt of it was under way. The
	// next one waits until that is recorded, or its lease is over.
	WireID    *string     `db:"wire_id"`
	WireUntil *sqldb.Time `db:"wire_until"`
}

// placeRow is a row of the table lane_places.
type placeRow struct {
	DeliveryID string `db:"delivery_id"`
	Lane       string
	Position   int64
}

// laneMember is a delivery of a lane.
type laneMember struct{ deliveryID, lane string }

// laneOf returns the lane of the webhook's deliveries, or of those with the key; nil without an order.
func laneOf(webhookID string, ordering postrider.Ordering, key *string) *string {
	lane := webhookID + "/"
	switch {
	case ordering == postrider.OrderingKey && key != nil:
		lane += *key
	case ordering != postrider.OrderingFIFO:
		return nil
	}
	return &lane
}

// splitLane returns the webhook of a lane and its key, nil for that of all its deliveries.
func splitLane(lane string) (webhookID string, key *string) {
	webhookID, after, _ := strings.Cut(lane, "/")
	return webhookID, nullText(after)
}

// waitsBehind reports whether a place's delivery is not the lane's head.
func (l laneRow) waitsBehind(deliveryID string) bool { return l.Head == nil || *l.Head != deliveryID }

// hold returns until when a delivery of the lane is held that is due at the time given; nil for not
// at all.
func (l laneRow) hold(deliveryID string, due sqldb.Time, now time.Time) *sqldb.Time {
	until := due
	switch {
	case l.waitsBehind(deliveryID):
		until = behindUntil()
	case l.WireUntil != nil && l.WireUntil.After(due.Time):
		until = *l.WireUntil
	}
	if !until.After(now) {
		return nil
	}
	return &until
}

// takePlaces gives deliveries the next places in their lanes, in their order, and returns the lanes as
// they are then, by id. The lanes stay locked.
func (s *Store) takePlaces(ctx context.Context, tx *sqlx.Tx, places []placeRow) (map[string]laneRow, error) {
	lanes, err := s.setAside(ctx, tx, places)
	if err != nil {
		return nil, err
	}
	_, err = placeRows.Write(ctx, s.db, tx, placesTable.Rows(places))
	return lanes, err
}

// takePlacesAgain is takePlaces for deliveries that send events again. One whose event is that of the
// delivery that blocks the lane takes its place: behind it, it would wait for itself.
func (s *Store) takePlacesAgain(ctx context.Context, tx *sqlx.Tx, again []deliveryRow) (map[string]laneRow, error) {
	places := make([]placeRow, len(again))
	for i, d := range again {
		places[i] = placeRow{DeliveryID: d.ID, Lane: *d.Lane}
	}
	lanes, err := s.setAside(ctx, tx, places)
	if err != nil {
		return nil, err
	}
	blocked := slices.DeleteFunc(slices.Collect(maps.Values(lanes)), func(l laneRow) bool { return !l.Blocked })
	heads, err := s.headsOf(ctx, tx, blocked)
	if err != nil {
		return nil, err
	}
	last := make([]placeRow, 0, len(places))
	for i, d := range again {
		lane := lanes[*d.Lane]
		if !lane.Blocked || heads[*lane.Head].EventKey != d.EventKey {
			last = append(last, places[i])
			continue
		}
		if err := takeOver(ctx, tx, laneMember{*lane.Head, lane.ID}, d.ID, s.now()); err != nil {
			return nil, err
		}
		lane.Head, lane.Blocked = &d.ID, false
		lanes[lane.ID] = lane
	}
	_, err = placeRows.Write(ctx, s.db, tx, placesTable.Rows(last))
	return lanes, err
}

// setAside numbers the next places for deliveries, and returns their lanes, by id, which stay locked.
func (s *Store) setAside(ctx context.Context, tx *sqlx.Tx, places []placeRow) (map[string]laneRow, error) {
	wanted := s.numberPlaces(places)
	rows := make([]laneRow, 0, len(wanted))
	for _, lane := range wanted {
		rows = append(rows, *lane)
	}
	slices.SortFunc(rows, func(a, b laneRow) int { return strings.Compare(a.ID, b.ID) })
	lanes := make(map[string]laneRow, len(rows))
	for part := range sqldb.Chunks(rows) {
		var stored []laneRow
		if err := sqldb.With(s.db, part).Add(insertLanes).Select(ctx, tx, &stored); err != nil {
			return nil, err
		}
		for _, lane := range stored {
			lanes[lane.ID] = lane
		}
	}
	for i, p := range places {
		places[i].Position += lanes[p.Lane].Last - wanted[p.Lane].Last
	}
	return lanes, nil
}

// numberPlaces numbers the places in each lane from 1 on, and returns the lanes as they are where nothing
// is in them.
func (s *Store) numberPlaces(places []placeRow) map[string]*laneRow {
	lanes := map[string]*laneRow{}
	for i, p := range places {
		lane := lanes[p.Lane]
		if lane == nil {
			webhookID, _ := splitLane(p.Lane)
			lane = &laneRow{ID: p.Lane, WebhookID: webhookID, Head: &places[i].DeliveryID, Since: sqldb.TimeOf(s.now())}
			lanes[p.Lane] = lane
		}
		lane.Last++
		places[i].Position = lane.Last
	}
	return lanes
}

// lockLanes locks lanes until the transaction ends.
func (s *Store) lockLanes(ctx context.Context, tx *sqlx.Tx, lanes []string) error {
	if len(lanes) == 0 {
		return nil
	}
	lanes = slices.Compact(slices.Sorted(slices.Values(lanes)))
	_, err := sqldb.SQL("SELECT id FROM lanes WHERE id IN").In(lanes).Add(" ORDER BY id"+s.db.Lock("FOR UPDATE")).Strings(ctx, tx)
	return err
}

// lockLanesOf locks the lanes that deliveries have places in.
func (s *Store) lockLanesOf(ctx context.Context, tx *sqlx.Tx, deliveryIDs []string) error {
	lanes, err := sqldb.SQL("SELECT DISTINCT lane FROM lane_places WHERE delivery_id IN").In(deliveryIDs).Strings(ctx, tx)
	if err != nil {
		return err
	}
	return s.lockLanes(ctx, tx, lanes)
}

// passOn takes deliveries out of their lanes that are not to be attempted any more, and lets the next
// ones go. It must come before the outbox rows are dropped of deliveries that may have an attempt under
// way. It costs nothing where no delivery is in a lane.
func (s *Store) passOn(ctx context.Context, tx *sqlx.Tx, members []laneMember) error {
	if len(members) == 0 {
		return nil
	}
	ids, lanes := idsOf(members)
	if err := s.lockLanes(ctx, tx, lanes); err != nil {
		return err
	}
	if err := s.noteWires(ctx, tx, ids); err != nil {
		return err
	}
	if err := sqldb.SQL("DELETE FROM lane_places WHERE delivery_id IN").In(ids).Run(ctx, tx); err != nil {
		return err
	}
	var passed []laneRow
	err := sqldb.SQL(nextHeads, s.now()).In(lanes).Add(" AND COALESCE(head, '') IN").In(ids).
		Add(" RETURNING "+sqldb.ColumnsOf[laneRow]().List()).Select(ctx, tx, &passed)
	if err != nil {
		return err
	}
	return s.letGo(ctx, tx, passed)
}

// idsOf returns the ids of the deliveries, and of their lanes.
func idsOf(members []laneMember) (ids, lanes []string) {
	for _, m := range members {
		ids, lanes = append(ids, m.deliveryID), append(lanes, m.lane)
	}
	return ids, lanes
}

// nextHeads gives the lanes that follow the next heads.
const nextHeads = "UPDATE lanes SET head = (SELECT p.delivery_id FROM lane_places p WHERE p.lane = lanes.id" +
	" ORDER BY p.lane, p.position LIMIT 1), since = ?, blocked = FALSE WHERE id IN"

// noteWires notes the attempts that are under way of deliveries that are their lanes' heads.
func (s *Store) noteWires(ctx context.Context, tx *sqlx.Tx, deliveryIDs []string) error {
	var wires []holdChange
	err := sqldb.SQL("SELECT delivery_id, hold_until FROM outbox WHERE "+isLeased+" AND kind <> "+sqlCancel+" AND hold_until > ?", s.now()).
		Add(" AND delivery_id IN").In(deliveryIDs).Select(ctx, tx, &wires)
	if err != nil {
		return err
	}
	for _, w := range wires {
		const note = "UPDATE lanes SET wire_id = ?, wire_until = ?" +
			" WHERE id IN (SELECT lane FROM lane_places WHERE delivery_id = ?) AND head = ?"
		if err := sqldb.SQL(note, w.DeliveryID, w.HoldUntil, w.DeliveryID, w.DeliveryID).Run(ctx, tx); err != nil {
			return err
		}
	}
	return nil
}

// letGo makes the heads of lanes ready, or lets them wait for their time, and deletes lanes that
// nothing is in. A head that is parked has no outbox row, and goes when it gets one.
func (s *Store) letGo(ctx context.Context, tx *sqlx.Tx, lanes []laneRow) error {
	now := s.now()
	var heads, empty []string
	for _, lane := range lanes {
		held := lane.WireUntil != nil && lane.WireUntil.After(now)
		switch {
		case lane.Head == nil && !held:
			empty = append(empty, lane.ID)
		case lane.Head == nil: // what is published meanwhile must wait
		case held:
			const wait = "UPDATE outbox SET hold_until = CASE WHEN due_at > ? THEN due_at ELSE ? END WHERE " + waitsForTurn
			if err := sqldb.SQL(wait, *lane.WireUntil, *lane.WireUntil).In([]string{*lane.Head}).Run(ctx, tx); err != nil {
				return err
			}
		default:
			heads = append(heads, *lane.Head)
		}
	}
	if len(heads) > 0 {
		const free = "UPDATE outbox SET hold_until = CASE WHEN due_at > ? THEN due_at END WHERE " + waitsForTurn
		if err := sqldb.SQL(free, now).In(heads).Run(ctx, tx); err != nil {
			return err
		}
	}
	if len(empty) == 0 {
		return nil
	}
	return sqldb.SQL("DELETE FROM lanes WHERE id IN").In(empty).Run(ctx, tx)
}

// waitsForTurn is the condition for outbox rows of deliveries that become heads; their ids follow.
const waitsForTurn = isStart + " AND " + notLeased + " AND delivery_id IN"

// exhausted ends deliveries that failed: their lanes are blocked where their webhooks want that, and
// pass on to the next ones otherwise.
func (s *Store) exhausted(ctx context.Context, tx *sqlx.Tx, members []laneMember) error {
	if len(members) == 0 {
		return nil
	}
	_, lanes := idsOf(members)
	webhookIDs := make([]string, len(members))
	for i, lane := range lanes {
		webhookIDs[i], _ = splitLane(lane)
	}
	blocking, err := sqldb.SQL("SELECT id FROM webhooks WHERE on_exhausted = "+sqlBlock+" AND id IN").In(webhookIDs).Strings(ctx, tx)
	if err != nil {
		return err
	}
	var over []laneMember
	var blocks []string
	for i, m := range members {
		if slices.Contains(blocking, webhookIDs[i]) {
			blocks = append(blocks, m.deliveryID)
		} else {
			over = append(over, m)
		}
	}
	if len(blocks) > 0 { // the lanes are locked
		err := sqldb.SQL("UPDATE lanes SET blocked = TRUE, since = ? WHERE id IN", s.now()).In(lanes).
			Add(" AND COALESCE(head, '') IN").In(blocks).Run(ctx, tx)
		if err != nil {
			return err
		}
	}
	return s.passOn(ctx, tx, over)
}

// landed lets the lanes go on in which the next one has waited for these attempts, of deliveries that
// were ended meanwhile.
func (s *Store) landed(ctx context.Context, tx *sqlx.Tx, members []laneMember) error {
	if len(members) == 0 {
		return nil
	}
	ids, lanes := idsOf(members)
	var free []laneRow
	err := sqldb.SQL("UPDATE lanes SET wire_id = NULL, wire_until = NULL WHERE id IN").In(lanes).Add(" AND COALESCE(wire_id, '') IN").In(ids).
		Add(" RETURNING "+sqldb.ColumnsOf[laneRow]().List()).Select(ctx, tx, &free)
	if err != nil {
		return err
	}
	return s.letGo(ctx, tx, free)
}

// takeOver gives the place of a delivery that blocks its lane to another one.
func takeOver(ctx context.Context, tx *sqlx.Tx, from laneMember, to string, now time.Time) error {
	err := sqldb.SQL("UPDATE lane_places SET delivery_id = ? WHERE delivery_id = ?", to, from.deliveryID).Run(ctx, tx)
	if err != nil {
		return err
	}
	return sqldb.SQL("UPDATE lanes SET head = ?, blocked = FALSE, since = ? WHERE id = ?", to, now, from.lane).Run(ctx, tx)
}

// holdInLane selects until when a delivery, d, is held by its lane, as [laneRow.hold] does; null for not
// at all, or by its own time.
const holdInLane = "SELECT CASE WHEN COALESCE(l.head, '') <> d.id THEN ?" +
	" WHEN l.wire_until > ? AND l.wire_until > d.due_at THEN l.wire_until END FROM lanes l WHERE l.id = d.lane"
