package store

import (
	"context"
	"slices"

	"postrider.dev/postrider"
	"postrider.dev/postrider/store/sqldb"
)

// Deliveries lists a webhook's or an event's deliveries, newest first. Returns
// [postrider.CodeInvalid] when the filter names neither, and no error when there is no such
// webhook or event.
func (s *Store) Deliveries(
	ctx context.Context, workspaceID string, f postrider.DeliveryFilter, p postrider.Page,
) (postrider.List[postrider.Delivery], error) {
	list, err := s.deliveries(ctx, workspaceID, f, p)
	return list, sqldb.Failure("list deliveries", err)
}

func (s *Store) deliveries(
	ctx context.Context, workspaceID string, f postrider.DeliveryFilter, p postrider.Page,
) (postrider.List[postrider.Delivery], error) {
	nothing := postrider.List[postrider.Delivery]{Items: []postrider.Delivery{}}
	if f.WebhookID == "" && f.EventID == "" {
		return nothing, &postrider.Error{Code: postrider.CodeInvalid, Message: "a list of deliveries is one of a webhook or of an event"}
	}
	l := listing{rows: sqldb.SQL(selectDeliveries+"d."+ofWorkspace+" AND ", workspaceID), table: "deliveries d", filter: &sqldb.Statement{}}
	var err error
	if f.EventID != "" { // it has fewer deliveries than a webhook
		err = s.walkEvent(ctx, &l, workspaceID, f)
	} else {
		err = s.walkWebhook(ctx, &l, workspaceID, f)
	}
	if postrider.CodeOf(err) == postrider.CodeNotFound {
		return nothing, nil
	}
	if err != nil {
		return nothing, err
	}
	addEventTypeAndPeriod(&l, f)
	return listOf[deliveryRow](ctx, s.db.Reading, l, p)
}

// walkEvent makes the list go along an event's deliveries. Returns [postrider.CodeNotFound] if
// the workspace does not have the event.
func (s *Store) walkEvent(ctx context.Context, l *listing, workspaceID string, f postrider.DeliveryFilter) error {
	e, err := s.event(ctx, workspaceID, f.EventID)
	if err != nil {
		return err
	}
	l.walk, l.order = (&sqldb.Statement{}).PinnedTo("d.event_key", e.Key), []string{"d.event_key", "d.id"}
	if f.WebhookID != "" {
		l.filter.Add(" AND d.webhook_id || '' = ?", f.WebhookID) // no column, so that no index of webhooks is walked
	}
	addState(l.filter, f.State)
	return nil
}

// hadWebhook returns [postrider.CodeNotFound] if the workspace never had the webhook, so that nobody
// walks along the deliveries of others.
func (s *Store) hadWebhook(ctx context.Context, workspaceID, webhookID string) error {
	var known int
	err := sqldb.SQL("SELECT 1 FROM webhooks WHERE id = ? AND workspace_id = ?", webhookID, workspaceID).Get(ctx, s.db.Reading, &known)
	return sqldb.OrNotFound("webhook", err)
}

// walkWebhook makes the list go along a webhook's deliveries: those of a state that is one of the
// [troubleStates], or all.
func (s *Store) walkWebhook(ctx context.Context, l *listing, workspaceID string, f postrider.DeliveryFilter) error {
	if err := s.hadWebhook(ctx, workspaceID, f.WebhookID); err != nil {
		return err
	}
	l.walk, l.order = (&sqldb.Statement{}).PinnedTo("d.webhook_id", f.WebhookID), []string{"d.webhook_id", "d.id"}
	if slices.Contains(troubleStates(), f.State) {
		l.walk.Add(" AND ").PinnedTo("d.trouble", string(f.State))
		l.order = []string{"d.webhook_id", "d.trouble", "d.id"}
	} else {
		addState(l.filter, f.State)
	}
	return nil
}

// addEventTypeAndPeriod adds the filter's conditions that are the same for every list of deliveries.
func addEventTypeAndPeriod(l *listing, f postrider.DeliveryFilter) {
	if f.EventType != "" {
		l.filter.Add(" AND d.event_type = ?", f.EventType)
	}
	if !f.Since.IsZero() {
		l.walk.Add(" AND d.id >= ?", postrider.IDFloor(postrider.PrefixDelivery, f.Since))
	}
	if !f.Until.IsZero() {
		l.walk.Add(" AND d.id < ?", postrider.IDFloor(postrider.PrefixDelivery, f.Until))
	}
}

// troubleStates returns the states that the column trouble has: those by which deliveries are
// found with an index. It has the state delivering, too, of deliveries that a version before
// handed over, see docs/decisions/0007-carriers.md.
func troubleStates() []postrider.DeliveryState {
	return []postrider.DeliveryState{postrider.StateRetrying, postrider.StateParked, postrider.StateFailed, postrider.StateCancelled}
}

// addState adds the condition that deliveries, d, are in the state, if it is not "".
func addState(st *sqldb.Statement, state postrider.DeliveryState) {
	switch {
	case state == "":
	case slices.Contains(troubleStates(), state):
		st.Add(" AND d.trouble = ?", state)
	case state == postrider.StatePending:
		st.Add(" AND d.state = " + sqlPending + " AND " + carrier + " IS NULL")
	case state == postrider.StateDelivering:
		st.Add(" AND (d.state = " + sqlDelivering + " OR d.state = " + sqlPending + " AND " + carrier + " IS NOT NULL)")
	default:
		st.Add(" AND d.state = ?", state)
	}
}
