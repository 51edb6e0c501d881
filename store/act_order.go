package store

import (
	"context"
	"time"

	"postrider.dev/postrider"
	"postrider.dev/postrider/store/sqldb"
)

// This file has what operators' actions do to a delivery that has an order.

// findLane finds the lane that the delivery is in, as the actions before have left it.
func (a *acting) findLane(ctx context.Context, x *acted) error {
	if x.Lane == nil {
		return nil
	}
	var found []laneRow
	err := sqldb.SQL(selectLanes+"id = ? AND EXISTS (SELECT 1 FROM lane_places p WHERE p.delivery_id = ?)", *x.Lane, x.ID).
		Select(ctx, a.tx, &found)
	if len(found) > 0 {
		x.lane = &found[0]
	}
	return err
}

// waitsBehind reports whether it is another delivery's turn.
func (x *acted) waitsBehind() bool {
	return x.lane != nil && x.lane.Head != nil && *x.lane.Head != x.ID
}

// waitsForWire reports whether an attempt is under way of the delivery whose turn it was before.
func (x *acted) waitsForWire(now time.Time) bool {
	return x.lane != nil && x.lane.WireID != nil && x.lane.WireUntil.After(now)
}

// blocks reports whether the delivery has failed and others wait for somebody to say how to go on.
func (x *acted) blocks() bool { return x.lane != nil && x.lane.Blocked && !x.waitsBehind() }

// member returns the delivery as one of its lane; none when it is in none.
func (x *acted) member() []laneMember {
	if x.lane == nil {
		return nil
	}
	return []laneMember{{x.ID, x.lane.ID}}
}

// skip fails the delivery whose turn it is, and lets the next one go.
func (a *acting) skip(ctx context.Context, x *acted) error {
	switch {
	case x.blocks():
		return a.unblock(ctx, x)
	case x.refuseIfFinished():
		return nil
	case x.lane == nil:
		x.refuse("it has no order, so nothing waits for it to be skipped; cancel is possible")
		return nil
	case x.waitsBehind():
		x.refuse("it waits behind delivery %s; skip that one, or cancel this one", *x.lane.Head)
		return nil
	case x.onTheWire(a.now):
		a.note(x, true, "attempt %d is under way and the last; the next delivery goes after it", x.next())
	default:
		a.note(x, true, "the next delivery goes")
	}
	if err := a.s.passOn(ctx, a.tx, x.member()); err != nil {
		return err
	}
	return a.fail(ctx, x, postrider.Skipped)
}

// unblock lets go what waits for a delivery that has failed. It stays failed.
func (a *acting) unblock(ctx context.Context, x *acted) error {
	a.note(x, false, "it blocks no more, and the next delivery goes")
	return a.s.passOn(ctx, a.tx, x.member())
}

// takePlace puts a delivery that sends an event again in order: in the place of the one of that event that
// blocks, or as the last. It returns until when the delivery is held.
func (a *acting) takePlace(ctx context.Context, x *acted, again *deliveryRow, key *string) (*sqldb.Time, error) {
	again.Lane = laneOf(x.WebhookID, x.webhook.Ordering, key)
	if x.blocks() {
		again.Lane = x.Lane
	}
	if again.Lane == nil {
		return nil, nil
	}
	lanes, err := a.s.takePlacesAgain(ctx, a.tx, []deliveryRow{*again})
	return lanes[*again.Lane].hold(again.ID, again.DueAt, a.now), err
}
