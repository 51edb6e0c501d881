package store

import (
	"context"
	"fmt"
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
		deliveries, err := keyed(ctx, s.db.Delivering.Reading, selectDeliveries, "d.id", part, deliveryRow.cursor)
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
	webhooks, err := keyed(ctx, s.db.Delivering.Reading, selectWebhooks, "w.id", webhookIDs, webhookRow.cursor)
	if err != nil {
		return nil, err
	}
	events, err := keyed(ctx, s.db.Delivering.Reading, selectBodies, "key", eventKeys, eventRow.cursor)
	if err != nil {
		return nil, err
	}
	secrets, err := s.liveSecrets(ctx, webhooks)
	if err != nil {
		return nil, err
	}
	shapes, err := s.shapes(ctx, deliveries)
	if err != nil {
		return nil, err
	}
	targets := make([]postrider.Target, len(deliveries))
	for i, d := range deliveries {
		event, kept := events[d.EventKey]
		targets[i] = s.target(d, webhooks[d.WebhookID], secrets)
		targets[i].Body, targets[i].EventExpired = event.Body, !kept
		if event.Headers != nil {
			s.addEventHeaders(&targets[i], event)
		}
		if targets[i].Shape, err = shapeOf(d, shapes); err != nil {
			targets[i].Failure = err
		}
	}
	return targets, nil
}

// target returns a delivery's target. What keeps it from being attempted is its own failure, and
// none of the others that are read with it.
func (s *Store) target(delivery postrider.Delivery, row webhookRow, secrets map[secretOwner]postrider.SecretVersions) postrider.Target {
	if row.DeletedAt != nil && !delivery.State.Finished() {
		delivery.State = postrider.StateCancelled
	}
	w, err := s.webhookOf(row)
	if err != nil {
		return postrider.Target{Delivery: delivery, Failure: fmt.Errorf("webhook %s: %w", delivery.WebhookID, err)}
	}
	t := postrider.Target{
		Delivery: delivery, WebhookStatus: w.Status, URL: w.URL, Headers: w.Headers, TLS: w.TLS,
		SigningMethod: w.SigningMethod, MaxInFlight: w.MaxInFlight,
	}
	if w.SecretID != nil {
		secret := secrets[secretOwner{w.WorkspaceID, *w.SecretID}]
		t.Secrets = secret
		if err := failureOf(secret); err != nil {
			t.Failure = fmt.Errorf("webhook %s: %w", w.ID, err)
		}
	}
	return t
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

// failureOf returns why a webhook's requests cannot be signed by a secret's live versions; nil when
// they can.
func failureOf(versions postrider.SecretVersions) error {
	if len(versions) == 0 {
		return errForeignSecret
	}
	for _, v := range versions {
		if v.Failure != nil {
			return v.Failure
		}
	}
	return nil
}

// secretOwner is a secret with the workspace whose it is: webhooks of others do not find it.
type secretOwner struct{ workspaceID, secretID string }

// liveSecrets returns what signs now, or will, by secret.
func (s *Store) liveSecrets(ctx context.Context, webhooks map[string]webhookRow) (map[secretOwner]postrider.SecretVersions, error) {
	live := map[secretOwner]postrider.SecretVersions{}
	var wanted []string
	for _, w := range webhooks {
		if w.SecretID != nil {
			wanted = append(wanted, *w.SecretID)
		}
	}
	if len(wanted) == 0 {
		return live, nil
	}
	slices.Sort(wanted)
	const unexpired = "(v.expires_at IS NULL OR v.expires_at > ?) AND v.secret_id IN"
	versions, err := s.versions(ctx, s.db.Delivering.Reading, sqldb.SQL(selectVersions+unexpired, s.now()).In(wanted).
		Add(" ORDER BY v.secret_id, v.number DESC"))
	for _, v := range versions {
		owner := secretOwner{v.WorkspaceID, v.SecretID}
		live[owner] = append(live[owner], v.version())
	}
	return live, err
}
