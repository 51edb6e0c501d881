package store

import (
	"context"
	"slices"

	"postrider.dev/postrider"
)

// Targets returns what an attempt of each delivery needs, in the order asked and
// without those that are unknown. A delivery of a deleted webhook has the state
// cancelled.
func (s *Store) Targets(ctx context.Context, deliveryIDs []string) ([]postrider.Target, error) {
	targets := make([]postrider.Target, 0, len(deliveryIDs))
	for part := range slices.Chunk(deliveryIDs, chunkSize) {
		deliveries, err := keyed(ctx, s.reading, selectDeliveries, "d.id", part, deliveryRow.cursor)
		if err != nil {
			return nil, failure("load targets", err)
		}
		known := make([]postrider.Delivery, 0, len(part))
		for _, id := range part {
			row, found := deliveries[id]
			if !found {
				continue
			}
			d, err := row.item()
			if err != nil {
				return nil, failure("load targets", err)
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

// TargetsOf returns what an attempt of each delivery needs beside the delivery itself,
// in their order.
func (s *Store) TargetsOf(ctx context.Context, deliveries []postrider.Delivery) ([]postrider.Target, error) {
	targets, err := s.targets(ctx, deliveries)
	return targets, failure("load targets", err)
}

func (s *Store) targets(ctx context.Context, deliveries []postrider.Delivery) ([]postrider.Target, error) {
	webhookIDs, eventKeys := make([]string, len(deliveries)), make([]string, len(deliveries))
	for i, d := range deliveries {
		webhookIDs[i], eventKeys[i] = d.WebhookID, d.EventKey
	}
	webhooks, err := keyed(ctx, s.reading, selectWebhooks, "w.id", webhookIDs, webhookRow.cursor)
	if err != nil {
		return nil, err
	}
	events, err := keyed(ctx, s.reading, "SELECT key, body FROM events WHERE ", "key", eventKeys, eventRow.cursor)
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
		Delivery: delivery, WebhookStatus: w.Status, URL: w.URL, Headers: w.Headers, SigningMethod: w.SigningMethod, MaxInFlight: w.MaxInFlight,
	}
	if w.SecretID != nil {
		t.Secrets = secrets[*w.SecretID]
	}
	return t, nil
}

// keyed reads the rows whose column, an id, is in the list, each once, by id. The text
// ends before the condition.
func keyed[Row any](ctx context.Context, q querier, text, column string, wanted []string, id func(Row) string) (map[string]Row, error) {
	found := map[string]Row{}
	wanted = slices.Compact(slices.Sorted(slices.Values(wanted)))
	if len(wanted) == 0 {
		return found, nil
	}
	var rows []Row
	err := sqlOf(text).within(column, wanted).selectInto(ctx, q, &rows)
	for _, row := range rows {
		found[id(row)] = row
	}
	return found, err
}

// liveSecrets returns the values that sign now, current first, by secret.
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
	versions, err := s.versions(ctx, s.reading, sqlOf(selectVersions+"(v.expires_at IS NULL OR v.expires_at > ?) AND v.secret_id IN", s.now()).
		in(wanted).add(" ORDER BY v.secret_id, v.number DESC"))
	for _, v := range versions {
		values[v.SecretID] = append(values[v.SecretID], v.value)
	}
	return values, err
}
