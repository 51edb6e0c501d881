package store

import (
	"context"
	"slices"

	"postrider.dev/postrider"
	"postrider.dev/postrider/store/sqldb"
)

// Targets returns the targets of deliveries: all that an attempt needs. They are in the order
// asked, and unknown deliveries are left out. A delivery of a deleted webhook has the state
// cancelled.
func (s *Store) Targets(ctx context.Context, deliveryIDs []string) ([]postrider.Target, error) {
	targets := make([]postrider.Target, 0, len(deliveryIDs))
	for part := range slices.Chunk(deliveryIDs, sqldb.ChunkSize) {
		deliveries, err := keyed(ctx, s.db.Reading, selectDeliveries, "d.id", part, deliveryRow.cursor)
		if err != nil {
			return nil, sqldb.Failure("load targets", err)
		}
		known := make([]postrider.Delivery, 0, len(part))
		for _, id := range part {
			row, found := deliveries[id]
			if !found {
				continue
			}
			d, err := row.item()
			if err != nil {
				return nil, sqldb.Failure("load targets", err)
			}
			known = append(known, d)
		}
		more, err := s.TargetsOf(ctx, known)
		if err != nil {
			return nil, err
		}
		targets = append(targets, more...)
	}
	return targets, nil
}

// TargetsOf returns the targets of deliveries that the caller has read, in their order.
func (s *Store) TargetsOf(ctx context.Context, deliveries []postrider.Delivery) ([]postrider.Target, error) {
	targets, err := s.targets(ctx, deliveries)
	return targets, sqldb.Failure("load targets", err)
}

func (s *Store) targets(ctx context.Context, deliveries []postrider.Delivery) ([]postrider.Target, error) {
	webhookIDs, eventKeys := make([]string, len(deliveries)), make([]string, len(deliveries))
	for i, d := range deliveries {
		webhookIDs[i], eventKeys[i] = d.WebhookID, d.EventKey
	}
	webhooks, err := keyed(ctx, s.db.Reading, selectWebhooks, "w.id", webhookIDs, webhookRow.cursor)
	if err != nil {
		return nil, err
	}
	events, err := keyed(ctx, s.db.Reading, "SELECT key, body FROM events WHERE ", "key", eventKeys, eventRow.cursor)
	if err != nil {
		return nil, err
	}
	secrets, err := s.liveSecrets(ctx, webhooks)
	if err != nil {
		return nil, err
	}
	targets := make([]postrider.Target, len(deliveries))
	for i, d := range deliveries {
		event, kept := events[d.EventKey]
		if targets[i], err = target(d, webhooks[d.WebhookID], secrets); err != nil {
			return nil, err
		}
		targets[i].Body, targets[i].EventExpired = event.Body, !kept
	}
	return targets, nil
}

func target(delivery postrider.Delivery, row webhookRow, secrets map[string][]string) (postrider.Target, error) {
	if row.DeletedAt != nil && !delivery.State.Finished() {
		delivery.State = postrider.StateCancelled
	}
	w, err := row.item()
	if err != nil {
		return postrider.Target{}, err
	}
	t := postrider.Target{
		Delivery: delivery, WebhookStatus: w.Status, URL: w.URL, Headers: w.Headers, SigningMethod: w.SigningMethod,
		MaxInFlight: w.MaxInFlight,
	}
	if w.SecretID != nil {
		t.Secrets = secrets[*w.SecretID]
	}
	return t, nil
}

// keyed reads the rows whose column, an id, is in the list, and returns them by id. The
// condition follows the text.
func keyed[Row any](
	ctx context.Context, q sqldb.Querier, text, column string, wanted []string, id func(Row) string,
) (map[string]Row, error) {
	found := map[string]Row{}
	wanted = slices.Compact(slices.Sorted(slices.Values(wanted)))
	if len(wanted) == 0 {
		return found, nil
	}
	var rows []Row
	err := sqldb.SQL(text).InKeyRange(column, wanted).Select(ctx, q, &rows)
	for _, row := range rows {
		found[id(row)] = row
	}
	return found, err
}

// liveSecrets returns the values that sign now by secret, the current value first.
func (s *Store) liveSecrets(ctx context.Context, webhooks map[string]webhookRow) (map[string][]string, error) {
	values := map[string][]string{}
	var wanted []string
	for _, w := range webhooks {
		if w.SecretID != nil {
			wanted = append(wanted, *w.SecretID)
		}
	}
	if len(wanted) == 0 {
		return values, nil
	}
	slices.Sort(wanted)
	const live = "(v.expires_at IS NULL OR v.expires_at > ?) AND v.secret_id IN"
	versions, err := s.versions(ctx, s.db.Reading, sqldb.SQL(selectVersions+live, s.now()).In(wanted).
		Add(" ORDER BY v.secret_id, v.number DESC"))
	for _, v := range versions {
		values[v.SecretID] = append(values[v.SecretID], v.value)
	}
	return values, err
}
