package store

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/jmoiron/sqlx"

	"postrider.dev/postrider"
)

// CreateWebhook stores a webhook and, unless it is "", its secret, and returns it
// as stored: with its times and SecretID, and an id where it had none.
func (s *Store) CreateWebhook(ctx context.Context, w postrider.Webhook, secret string) (postrider.Webhook, error) {
	w.ID = cmp.Or(w.ID, s.IDs.New(postrider.PrefixWebhook))
	w.Status = cmp.Or(w.Status, postrider.WebhookActive)
	w.CreatedAt = s.now()
	w.UpdatedAt = w.CreatedAt
	w.Stats = postrider.WebhookStats{}
	err := s.write(ctx, "create a webhook", func(tx *sqlx.Tx) error {
		w.SecretID = nil
		if secret != "" {
			id, err := s.createSecret(ctx, tx, w.WorkspaceID, secret)
			if err != nil {
				return err
			}
			w.SecretID = &id
		}
		return insertWebhook(ctx, tx, w)
	})
	if err != nil {
		return postrider.Webhook{}, err
	}
	return w, nil
}

func insertWebhook(ctx context.Context, tx *sqlx.Tx, w postrider.Webhook) error {
	events, headers, err := webhookTexts(w)
	if err != nil {
		return err
	}
	err = sqlOf(`INSERT INTO webhooks (id, workspace_id, url, events, name, description, signing_method, secret_id, scope_type, persona_id,
		timeout_ms, max_retries, backoff_ms, headers, rate_limit, max_in_flight, status, disabled_reason, created_at, updated_at) VALUES`).
		rows([][]any{{
			w.ID, w.WorkspaceID, w.URL, events, w.Name, w.Description, w.SigningMethod, w.SecretID, w.ScopeType, w.PersonaID,
			w.Policy.TimeoutMS, w.Policy.MaxRetries, w.Policy.BackoffMS, headers, w.RateLimit, w.MaxInFlight, w.Status, w.DisabledReason,
			w.CreatedAt, w.UpdatedAt,
		}}).run(ctx, tx)
	if err != nil {
		return err
	}
	if err := sqlOf("INSERT INTO webhook_stats (webhook_id, total_deliveries, failed_deliveries) VALUES (?, 0, 0)", w.ID).run(ctx, tx); err != nil {
		return err
	}
	if err := sqlOf("INSERT INTO webhook_pace (webhook_id, next_at) VALUES (?, ?)", w.ID, w.CreatedAt).run(ctx, tx); err != nil {
		return err
	}
	return insertPatterns(ctx, tx, w)
}

// insertPatterns makes the webhook match what it subscribes to.
func insertPatterns(ctx context.Context, tx *sqlx.Tx, w postrider.Webhook) error {
	persona := ""
	if w.ScopeType == postrider.ScopePersona && w.PersonaID != nil {
		persona = *w.PersonaID
	}
	rows := make([][]any, 0, len(w.Events))
	for _, pattern := range slices.Compact(slices.Sorted(slices.Values(w.Events))) {
		rows = append(rows, []any{w.WorkspaceID, pattern, persona, w.ID})
	}
	_, err := insert(ctx, tx, "INSERT INTO webhook_events (workspace_id, pattern, persona_id, webhook_id) VALUES", rows, "")
	return err
}

// Webhook returns a webhook. Returns [postrider.CodeNotFound] if it is unknown,
// deleted or another workspace's.
func (s *Store) Webhook(ctx context.Context, workspaceID, id string) (postrider.Webhook, error) {
	w, err := webhook(ctx, s.reading, workspaceID, id, "")
	return w, failure("read a webhook", err)
}

func webhook(ctx context.Context, q querier, workspaceID, id, lock string) (postrider.Webhook, error) {
	var row webhookRow
	err := sqlOf(selectWebhooks+"w.id = ? AND w.workspace_id = ? AND w.deleted_at IS NULL"+lock, id, workspaceID).get(ctx, q, &row)
	if err != nil {
		return postrider.Webhook{}, none("webhook", err)
	}
	return row.item()
}

// Webhooks lists a workspace's webhooks, newest first.
func (s *Store) Webhooks(ctx context.Context, workspaceID string, f postrider.WebhookFilter, p postrider.Page) (postrider.List[postrider.Webhook], error) {
	st := sqlOf(selectWebhooks).only("w.workspace_id", workspaceID).add(" AND w.deleted_at IS NULL")
	if f.Status != "" {
		st.add(" AND w.status = ?", f.Status)
	}
	if f.PersonaID != "" {
		st.add(" AND w.persona_id = ?", f.PersonaID)
	}
	if f.Event != "" {
		patterns := []string{f.Event}
		if postrider.ValidEventType(f.Event) {
			patterns = postrider.PatternsFor(f.Event)
		}
		st.add(" AND w.id IN (SELECT e.webhook_id FROM webhook_events e WHERE e.workspace_id = ? AND e.pattern IN", workspaceID).
			in(patterns).add(")")
	}
	list, err := listOf[webhookRow](ctx, s.reading, st, p, "w.workspace_id", "w.id")
	return list, failure("list webhooks", err)
}

// UpdateWebhook changes a webhook by edit, which gets it as it is stored together
// with its current secret, in one transaction. An error of edit is returned as it
// is and changes nothing. Should the transaction lose against another, edit is
// called again with the webhook as it is then.
//
// A webhook that is no longer active has what waits for it parked; one that is
// active again has it sent, in order. Returns [postrider.CodeNotFound] if the
// webhook is unknown.
func (s *Store) UpdateWebhook(ctx context.Context, workspaceID, id string, edit func(*postrider.WebhookEdit) error) (postrider.Webhook, error) {
	var w postrider.Webhook
	err := s.write(ctx, "update a webhook", func(tx *sqlx.Tx) error {
		before, err := webhook(ctx, tx, workspaceID, id, s.dialect.lock("FOR UPDATE OF w"))
		if err != nil {
			return err
		}
		if w, err = s.edited(ctx, tx, before, edit); err != nil {
			return err
		}
		return s.saveWebhook(ctx, tx, before, w)
	})
	if err != nil {
		return postrider.Webhook{}, err
	}
	s.notify() // it may be active again, or allow more at once
	return w, nil
}

// edited returns the webhook as edit wants it, its new secret stored.
func (s *Store) edited(ctx context.Context, tx *sqlx.Tx, before postrider.Webhook, edit func(*postrider.WebhookEdit) error) (postrider.Webhook, error) {
	versions, err := s.liveVersions(ctx, tx, before.SecretID)
	if err != nil {
		return before, err
	}
	w := before
	change := postrider.WebhookEdit{Webhook: &w}
	if len(versions) > 0 {
		change.Secret = versions[0].value
	}
	if err := edit(&change); err != nil {
		return before, err
	}
	w.ID, w.WorkspaceID, w.SecretID = before.ID, before.WorkspaceID, before.SecretID
	w.CreatedAt, w.UpdatedAt, w.Stats = before.CreatedAt, s.now(), before.Stats
	if change.NewSecret != "" {
		id, err := s.replaceSecret(ctx, tx, w, change.NewSecret, 0)
		if err != nil {
			return before, err
		}
		w.SecretID = &id
	}
	return w, nil
}

func (s *Store) saveWebhook(ctx context.Context, tx *sqlx.Tx, before, w postrider.Webhook) error {
	events, headers, err := webhookTexts(w)
	if err != nil {
		return err
	}
	err = sqlOf(`UPDATE webhooks SET url = ?, events = ?, name = ?, description = ?, signing_method = ?, secret_id = ?, scope_type = ?, persona_id = ?,
		timeout_ms = ?, max_retries = ?, backoff_ms = ?, headers = ?, rate_limit = ?, max_in_flight = ?, status = ?, disabled_reason = ?, updated_at = ?
		WHERE id = ?`,
		w.URL, events, w.Name, w.Description, w.SigningMethod, w.SecretID, w.ScopeType, w.PersonaID,
		w.Policy.TimeoutMS, w.Policy.MaxRetries, w.Policy.BackoffMS, headers, w.RateLimit, w.MaxInFlight, w.Status, w.DisabledReason, w.UpdatedAt,
		w.ID).run(ctx, tx)
	if err != nil {
		return err
	}
	if err := sqlOf("DELETE FROM webhook_events WHERE webhook_id = ?", w.ID).run(ctx, tx); err != nil {
		return err
	}
	if err := insertPatterns(ctx, tx, w); err != nil {
		return err
	}
	switch wasActive, active := before.Status == postrider.WebhookActive, w.Status == postrider.WebhookActive; {
	case wasActive && !active:
		return s.park(ctx, tx, w.WorkspaceID, w.ID)
	case !wasActive && active:
		return s.resume(ctx, tx, w.WorkspaceID, w.ID)
	}
	return nil
}

// DeleteWebhook deletes a webhook: it stops matching, and all its unfinished
// deliveries become cancelled, their workflows soon after. Its row and its
// deliveries stay as history. Returns [postrider.CodeNotFound] if it is unknown.
func (s *Store) DeleteWebhook(ctx context.Context, workspaceID, id string) error {
	err := s.write(ctx, "delete a webhook", func(tx *sqlx.Tx) error {
		now := s.now()
		deleted, err := sqlOf("UPDATE webhooks SET deleted_at = ?, updated_at = ? WHERE id = ? AND workspace_id = ? AND deleted_at IS NULL",
			now, now, id, workspaceID).affect(ctx, tx)
		if err != nil {
			return err
		}
		if deleted == 0 {
			return postrider.NotFound("webhook")
		}
		if err := sqlOf("DELETE FROM webhook_events WHERE webhook_id = ?", id).run(ctx, tx); err != nil {
			return err
		}
		return s.cancelAll(ctx, tx, workspaceID, id, now)
	})
	if err == nil {
		s.notify()
	}
	return err
}

// Secret returns a webhook's current secret and the times of those before it that
// still sign. Returns [postrider.CodeNotFound] when the webhook is unknown or has
// no secret.
func (s *Store) Secret(ctx context.Context, workspaceID, webhookID string) (postrider.Secret, error) {
	w, err := webhook(ctx, s.reading, workspaceID, webhookID, "")
	if err != nil {
		return postrider.Secret{}, failure("read a secret", err)
	}
	secret, err := s.revealed(ctx, s.reading, w.SecretID)
	return secret, failure("read a secret", err)
}

// RotateSecret makes secret the webhook's current one. The ones before it sign on
// for grace, or less where they end earlier; with a grace of 0 they end now. A
// webhook without a secret gets one. Returns [postrider.CodeNotFound] when the
// webhook is unknown.
func (s *Store) RotateSecret(ctx context.Context, workspaceID, webhookID, secret string, grace time.Duration) (postrider.Secret, error) {
	var revealed postrider.Secret
	err := s.write(ctx, "rotate a secret", func(tx *sqlx.Tx) error {
		w, err := webhook(ctx, tx, workspaceID, webhookID, s.dialect.lock("FOR UPDATE OF w"))
		if err != nil {
			return err
		}
		id, err := s.replaceSecret(ctx, tx, w, secret, grace)
		if err != nil {
			return err
		}
		if err := sqlOf("UPDATE webhooks SET secret_id = ?, updated_at = ? WHERE id = ?", id, s.now(), w.ID).run(ctx, tx); err != nil {
			return err
		}
		revealed, err = s.revealed(ctx, tx, &id)
		return err
	})
	return revealed, err
}
