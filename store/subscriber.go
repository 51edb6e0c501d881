package store

import (
	"context"
	"slices"
	"strings"

	"github.com/jmoiron/sqlx"

	"postrider"
)

// subscriber is a webhook as far as publishing needs it.
type subscriber struct {
	ID          string
	WorkspaceID string `db:"workspace_id"`
	Status      postrider.WebhookStatus
	TimeoutMS   int `db:"timeout_ms"`
	MaxRetries  int `db:"max_retries"`
	BackoffMS   int `db:"backoff_ms"`
}

// subscription is what an event is matched by. Persona is "" for the webhooks that
// get every persona's events.
type subscription struct {
	WorkspaceID string `db:"workspace_id"`
	Pattern     string
	Persona     string `db:"persona_id"`
}

// subscribers are the webhooks that a transaction's publications may go to.
type subscribers struct {
	byID    map[string]subscriber
	matched map[subscription][]subscriber
}

// subscriptionsOf returns everything that an event is matched by.
func subscriptionsOf(workspaceID string, e postrider.Event) []subscription {
	var all []subscription
	for _, pattern := range postrider.PatternsFor(e.Type) {
		all = append(all, subscription{workspaceID, pattern, ""})
		if e.PersonaID != nil && *e.PersonaID != "" {
			all = append(all, subscription{workspaceID, pattern, *e.PersonaID})
		}
	}
	return all
}

// subscribers reads the webhooks that the publications may go to. It locks them
// against changes of their status until the transaction ends: a delivery must not
// be made pending for a webhook that is being paused, nor be parked for one that
// is being resumed.
func (s *Store) subscribers(ctx context.Context, tx *sqlx.Tx, publications []postrider.Publication) (*subscribers, error) {
	found := &subscribers{byID: map[string]subscriber{}, matched: map[subscription][]subscriber{}}
	var rows [][]any
	var named []string
	asked := map[subscription]bool{}
	for _, p := range publications {
		if p.OnlyWebhookID != "" {
			named = append(named, p.OnlyWebhookID)
			continue
		}
		for _, e := range p.Events {
			for _, sub := range subscriptionsOf(p.WorkspaceID, e.Event) {
				if !asked[sub] {
					asked[sub] = true
					rows = append(rows, []any{sub.WorkspaceID, sub.Pattern, sub.Persona})
				}
			}
		}
	}
	if err := s.readMatched(ctx, tx, rows, found); err != nil {
		return nil, err
	}
	return found, s.readNamed(ctx, tx, named, found)
}

const subscriberColumns = "w.id, w.workspace_id, w.status, w.timeout_ms, w.max_retries, w.backoff_ms"

func (s *Store) readMatched(ctx context.Context, tx *sqlx.Tx, wanted [][]any, found *subscribers) error {
	for part := range slices.Chunk(wanted, maxParameters/3) {
		var rows []struct {
			subscriber
			Pattern string
			Persona string `db:"persona_id"`
		}
		err := sqlOf("SELECT "+subscriberColumns+`, e.pattern, e.persona_id FROM webhook_events e JOIN webhooks w ON w.id = e.webhook_id
			WHERE w.deleted_at IS NULL AND (e.workspace_id, e.pattern, e.persona_id) IN`).
			inRows(part).add(" ORDER BY w.id"+s.dialect.lock("FOR SHARE OF w")).selectInto(ctx, tx, &rows)
		if err != nil {
			return err
		}
		for _, row := range rows {
			sub := subscription{row.WorkspaceID, row.Pattern, row.Persona}
			found.matched[sub] = append(found.matched[sub], row.subscriber)
		}
	}
	return nil
}

func (s *Store) readNamed(ctx context.Context, tx *sqlx.Tx, webhookIDs []string, found *subscribers) error {
	if len(webhookIDs) == 0 {
		return nil
	}
	var rows []subscriber
	err := sqlOf("SELECT "+subscriberColumns+" FROM webhooks w WHERE w.deleted_at IS NULL AND w.id IN").
		in(webhookIDs).add(" ORDER BY w.id"+s.dialect.lock("FOR SHARE OF w")).selectInto(ctx, tx, &rows)
	for _, w := range rows {
		found.byID[w.ID] = w
	}
	return err
}

// check returns [postrider.CodeNotFound] for a publication to a webhook that its
// workspace does not have.
func (f *subscribers) check(p postrider.Publication) error {
	if p.OnlyWebhookID != "" && f.byID[p.OnlyWebhookID].WorkspaceID != p.WorkspaceID {
		return postrider.NotFound("webhook")
	}
	return nil
}

// of returns the webhooks that get the event, each once, in the order of ids.
func (f *subscribers) of(p postrider.Publication, e postrider.Event) []subscriber {
	if p.OnlyWebhookID != "" {
		return []subscriber{f.byID[p.OnlyWebhookID]}
	}
	var all []subscriber
	for _, sub := range subscriptionsOf(p.WorkspaceID, e) {
		all = append(all, f.matched[sub]...)
	}
	slices.SortFunc(all, func(a, b subscriber) int { return strings.Compare(a.ID, b.ID) })
	return slices.CompactFunc(all, func(a, b subscriber) bool { return a.ID == b.ID })
}
