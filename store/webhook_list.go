package store

import (
	"context"

	"postrider.dev/postrider"
	"postrider.dev/postrider/store/sqldb"
)

// Webhooks lists a workspace's webhooks, newest first. Headers that cannot be decrypted are masked.
func (s *Store) Webhooks(
	ctx context.Context, workspaceID string, f postrider.WebhookFilter, p postrider.Page,
) (postrider.List[postrider.Webhook], error) {
	rows, err := listOf[webhookRow](ctx, s.db.Reading, webhooksOf(workspaceID, f), p)
	list := postrider.List[postrider.Webhook]{Next: rows.Next, Items: make([]postrider.Webhook, len(rows.Items))}
	for i, row := range rows.Items {
		w, failure := s.webhookOf(row)
		if list.Items[i], failure = s.shown(ctx, w, failure); failure != nil {
			return postrider.List[postrider.Webhook]{}, sqldb.Failure("list webhooks", failure)
		}
	}
	return list, sqldb.Failure("list webhooks", err)
}

// webhooksOf returns the list of a workspace's webhooks. It walks along those of the persona or the
// status, of which a workspace may have few among many.
func webhooksOf(workspaceID string, f postrider.WebhookFilter) listing {
	l := listing{
		rows: sqldb.SQL(selectWebhooks), table: "webhooks w", filter: &sqldb.Statement{},
		walk: sqldb.SQL("w.deleted_at IS NULL AND ").PinnedTo("w.workspace_id", workspaceID), order: []string{"w.workspace_id"},
	}
	switch {
	case f.PersonaID != "":
		l.walk.Add(" AND ").PinnedTo("w.persona_id", f.PersonaID)
		l.order = append(l.order, "w.persona_id")
		if f.Status != "" {
			l.filter.Add(" AND w.status || '' = ?", f.Status) // no column, so that no other index is walked
		}
	case f.Status != "":
		l.walk.Add(" AND ").PinnedTo("w.status", string(f.Status))
		l.order = append(l.order, "w.status")
	}
	l.order = append(l.order, "w.id")
	if f.Event != "" {
		patterns := []string{f.Event}
		if postrider.ValidEventType(f.Event) {
			patterns = postrider.PatternsFor(f.Event)
		}
		l.filter.Add(" AND (SELECT 1 FROM webhook_events e WHERE e.webhook_id = w.id AND e.pattern IN").In(patterns).Add(" LIMIT 1) IS NOT NULL")
	}
	return l
}
