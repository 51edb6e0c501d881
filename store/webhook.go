package store

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jmoiron/sqlx"

	"postrider.dev/postrider"
	"postrider.dev/postrider/store/sqldb"
)

// CreateWebhook stores a webhook and, unless it is "", its secret, and returns it
// as stored: with its times and SecretID, and with a new id if it came without one. Returns
// [postrider.CodeConflict] if its workspace has as many webhooks as it may.
func (s *Store) CreateWebhook(ctx context.Context, w postrider.Webhook, secret string) (postrider.Webhook, error) {
	w.ID = cmp.Or(w.ID, s.IDs.New(postrider.PrefixWebhook))
	w.Status = cmp.Or(w.Status, postrider.WebhookActive)
	w.CreatedAt = s.now()
	w.UpdatedAt = w.CreatedAt
	w.Stats, w.Health = postrider.WebhookStats{}, postrider.HealthOf(0, nil, nil)
	w.InactiveSince = inactiveSince(w.Status, w.CreatedAt)
	err := s.db.Write(ctx, "create a webhook", func(tx *sqlx.Tx) error {
		w.SecretID = nil
		if secret != "" {
			id, err := s.createSecret(ctx, tx, w.WorkspaceID, secret)
			if err != nil {
				return err
			}
			w.SecretID = &id
		}
		if err := s.insertWebhook(ctx, tx, w); err != nil {
			return err
		}
		if err := s.checkWebhooks(ctx, tx, w.WorkspaceID); err != nil {
			return err
		}
		return s.auditWebhook(ctx, tx, postrider.ActionCreateWebhook, nil, &w, secret != "")
	})
	if err != nil {
		return postrider.Webhook{}, err
	}
	return w, nil
}

// checkWebhooks returns [postrider.CodeConflict] if the workspace has more webhooks than it may, the
// one that the transaction made included. That one's trigger has locked the workspace, so no two
// transactions count at once.
func (s *Store) checkWebhooks(ctx context.Context, tx *sqlx.Tx, workspaceID string) error {
	if s.MaxWebhooks == 0 {
		return nil
	}
	const count = "SELECT COUNT(*) FROM (SELECT 1 FROM webhooks WHERE workspace_id = ? AND deleted_at IS NULL LIMIT ?) AS counted"
	var webhooks int
	err := sqldb.SQL(count, workspaceID, s.MaxWebhooks+1).Get(ctx, tx, &webhooks)
	if err == nil && webhooks > s.MaxWebhooks {
		err = &postrider.Error{Code: postrider.CodeConflict, Message: fmt.Sprintf(
			"the workspace has %d webhooks, as many as it may have; delete one, or have the server's limit raised", s.MaxWebhooks)}
	}
	return err
}

// auditWebhook stores what a caller changed of a webhook; before is nil for a new one.
func (s *Store) auditWebhook(
	ctx context.Context, tx *sqlx.Tx, action postrider.AuditAction, before, after *postrider.Webhook, newSecret bool,
) error {
	changes := postrider.WebhookChanges(before, after)
	if newSecret {
		changes = append(changes, postrider.SecretChange())
	}
	return s.audit(ctx, tx, postrider.AuditEntry{WorkspaceID: after.WorkspaceID, Action: action, ResourceID: after.ID, Changes: changes})
}

func (s *Store) insertWebhook(ctx context.Context, tx *sqlx.Tx, w postrider.Webhook) error {
	row, err := s.rowOf(w)
	if err != nil {
		return err
	}
	if _, err := webhooksTable.Insert(ctx, tx, row); err != nil {
		return err
	}
	if err := insertShape(ctx, tx, w); err != nil {
		return err
	}
	if _, err := webhookStatsTable.Insert(ctx, tx, statsRow{WebhookID: w.ID}); err != nil {
		return err
	}
	if _, err := webhookPaceTable.Insert(ctx, tx, paceRow{w.ID, row.CreatedAt}); err != nil {
		return err
	}
	return insertPatterns(ctx, tx, w)
}

// inactiveSince returns since when a webhook is not active that got the status then; nil when it
// is active.
func inactiveSince(status postrider.WebhookStatus, then time.Time) *time.Time {
	if status == postrider.WebhookActive {
		return nil
	}
	return &then
}

// insertPatterns makes the webhook match the events that it subscribes to.
func insertPatterns(ctx context.Context, tx *sqlx.Tx, w postrider.Webhook) error {
	persona := ""
	if w.ScopeType == postrider.ScopePersona && w.PersonaID != nil {
		persona = *w.PersonaID
	}
	rows := make([]patternRow, 0, len(w.Events))
	for _, pattern := range slices.Compact(slices.Sorted(slices.Values(w.Events))) {
		rows = append(rows, patternRow{subscription{w.WorkspaceID, pattern, persona}, w.ID})
	}
	_, err := webhookEventsTable.Insert(ctx, tx, rows...)
	return err
}

// Webhook returns a webhook. Returns [postrider.CodeNotFound] if it is unknown,
// deleted or another workspace's. Headers that cannot be decrypted are masked.
func (s *Store) Webhook(ctx context.Context, workspaceID, id string) (postrider.Webhook, error) {
	w, err := s.webhook(ctx, s.db.Reading, workspaceID, id, "")
	w, err = s.shown(ctx, w, err)
	return w, sqldb.Failure("read a webhook", err)
}

func (s *Store) webhook(ctx context.Context, q sqldb.Querier, workspaceID, id, lock string) (postrider.Webhook, error) {
	var row webhookRow
	err := sqldb.SQL(selectWebhooks+"w.id = ? AND w.workspace_id = ? AND w.deleted_at IS NULL"+lock, id, workspaceID).Get(ctx, q, &row)
	if err != nil {
		return postrider.Webhook{}, sqldb.OrNotFound("webhook", err)
	}
	return s.webhookOf(row)
}

// UpdateWebhook changes a webhook by edit, which gets it as it is stored together
// with its current secret, in one transaction. An error of edit is returned as it
// is and changes nothing. Should the transaction lose against another, edit is
// called again with the webhook as it is then.
//
// The deliveries that wait for it follow its status, see [Store.PauseWebhook]. Returns
// [postrider.CodeNotFound] if the webhook is unknown.
func (s *Store) UpdateWebhook(
	ctx context.Context, workspaceID, id string, edit func(*postrider.WebhookEdit) error,
) (postrider.Webhook, error) {
	var before, w postrider.Webhook
	err := s.db.Write(ctx, "update a webhook", func(tx *sqlx.Tx) (err error) {
		before, err = s.webhook(ctx, tx, workspaceID, id, s.db.Lock("FOR UPDATE OF w"))
		if err != nil {
			return err
		}
		var newSecret bool
		if w, newSecret, err = s.edited(ctx, tx, before, edit); err != nil {
			return err
		}
		if err := s.saveWebhook(ctx, tx, before, w); err != nil {
			return err
		}
		return s.auditWebhook(ctx, tx, postrider.ActionUpdateWebhook, &before, &w, newSecret)
	})
	if err != nil {
		return postrider.Webhook{}, err
	}
	if w.Status != before.Status {
		s.sweepSoon(ctx, id)
	}
	s.notify() // it may allow more at once
	return w, nil
}

// PauseWebhook makes an active webhook paused, and returns the webhook. A paused or disabled
// one stays as it is. What waits for it is parked soon, some before PauseWebhook returns; what
// is retried is parked, too. Returns [postrider.CodeNotFound] if the webhook is unknown.
func (s *Store) PauseWebhook(ctx context.Context, workspaceID, id string) (postrider.Webhook, error) {
	return s.setStatus(ctx, workspaceID, id, postrider.ActionPauseWebhook, func(w *postrider.Webhook) {
		if w.Status == postrider.WebhookActive {
			w.Status = postrider.WebhookPaused
		}
	})
}

// ResumeWebhook makes a paused or disabled webhook active, and returns the webhook. An active
// one stays as it is. What was parked is sent, in the order in which it was accepted. Returns
// [postrider.CodeNotFound] if the webhook is unknown.
func (s *Store) ResumeWebhook(ctx context.Context, workspaceID, id string) (postrider.Webhook, error) {
	return s.setStatus(ctx, workspaceID, id, postrider.ActionResumeWebhook, func(w *postrider.Webhook) {
		w.Status = postrider.WebhookActive
	})
}

// setStatus changes the status of a webhook by set.
func (s *Store) setStatus(
	ctx context.Context, workspaceID, id string, action postrider.AuditAction, set func(*postrider.Webhook),
) (postrider.Webhook, error) {
	var w postrider.Webhook
	err := s.db.Write(ctx, "set a webhook's status", func(tx *sqlx.Tx) error {
		before, err := s.webhook(ctx, tx, workspaceID, id, s.db.Lock("FOR UPDATE OF w"))
		if before, err = s.shown(ctx, before, err); err != nil {
			return err
		}
		w = before
		if set(&w); w.Status != before.Status {
			if err := s.saveStatus(ctx, tx, &w); err != nil {
				return err
			}
		}
		return s.auditWebhook(ctx, tx, action, &before, &w, false)
	})
	if err != nil {
		return postrider.Webhook{}, err
	}
	s.sweepSoon(ctx, id)
	return w, nil
}

// saveStatus stores a status that is new, and lets the deliveries follow.
func (s *Store) saveStatus(ctx context.Context, tx *sqlx.Tx, w *postrider.Webhook) error {
	w.DisabledReason, w.UpdatedAt = nil, s.now()
	w.InactiveSince = inactiveSince(w.Status, w.UpdatedAt)
	err := sqldb.SQL("UPDATE webhooks SET status = ?, disabled_reason = NULL, inactive_since = ?, updated_at = ? WHERE id = ?",
		w.Status, sqldb.NullTime(w.InactiveSince), w.UpdatedAt, w.ID).Run(ctx, tx)
	if err != nil {
		return err
	}
	if err := s.requestSweeps(ctx, tx, w.ID); err != nil || w.Status != postrider.WebhookActive {
		return err
	}
	w.Health = postrider.HealthOf(0, nil, nil)
	return s.beginAgain(ctx, tx, w.ID)
}

// edited returns the webhook as edit wants it, its new secret stored, and whether there is one.
func (s *Store) edited(
	ctx context.Context, tx *sqlx.Tx, before postrider.Webhook, edit func(*postrider.WebhookEdit) error,
) (edited postrider.Webhook, newSecret bool, err error) {
	secret, err := s.revealed(ctx, tx, before)
	if err != nil && postrider.CodeOf(err) != postrider.CodeNotFound {
		return before, false, err
	}
	w := before
	change := postrider.WebhookEdit{Webhook: &w, Secret: secret.Value}
	if secret.Next != nil {
		change.NextSecret = secret.Next.Value
	}
	if err := edit(&change); err != nil {
		return before, false, err
	}
	w.ID, w.WorkspaceID, w.SecretID = before.ID, before.WorkspaceID, before.SecretID
	w.CreatedAt, w.UpdatedAt, w.Stats = before.CreatedAt, s.now(), before.Stats
	if w.Status != before.Status {
		w.InactiveSince = inactiveSince(w.Status, w.UpdatedAt)
	}
	if change.NewSecret != "" {
		id, err := s.replaceSecret(ctx, tx, w, postrider.Rotation{Value: change.NewSecret})
		if err != nil {
			return before, false, err
		}
		w.SecretID = &id
	}
	return w, change.NewSecret != "", nil
}

func (s *Store) saveWebhook(ctx context.Context, tx *sqlx.Tx, before, w postrider.Webhook) error {
	row, err := s.rowOf(w)
	if err != nil {
		return err
	}
	changing := sqldb.ColumnsOf[storedWebhook]().Except("id", "workspace_id", "created_at")
	err = sqldb.SQL("UPDATE webhooks SET "+changing.Assignments(), changing.Values(&row)...).Add(" WHERE id = ?", w.ID).Run(ctx, tx)
	if err != nil {
		return err
	}
	if err := insertShape(ctx, tx, w); err != nil {
		return err
	}
	if err := sqldb.SQL("DELETE FROM webhook_events WHERE webhook_id = ?", w.ID).Run(ctx, tx); err != nil {
		return err
	}
	if err := insertPatterns(ctx, tx, w); err != nil {
		return err
	}
	if w.Status != before.Status {
		if err := s.requestSweeps(ctx, tx, w.ID); err != nil {
			return err
		}
	}
	return probeSoon(ctx, tx, w.ID, s.now()) // the change may have mended it
}

// DeleteWebhook deletes a webhook: it stops matching, and all its unfinished
// deliveries become cancelled soon, some before DeleteWebhook returns, and their workflows
// after them. Its row and its deliveries stay as history. Returns [postrider.CodeNotFound] if it is unknown.
func (s *Store) DeleteWebhook(ctx context.Context, workspaceID, id string) error {
	err := s.db.Write(ctx, "delete a webhook", func(tx *sqlx.Tx) error {
		now := s.now()
		deleted, err := sqldb.SQL("UPDATE webhooks SET deleted_at = ?, updated_at = ? WHERE id = ? AND workspace_id = ? AND deleted_at IS NULL",
			now, now, id, workspaceID).Affect(ctx, tx)
		if err != nil {
			return err
		}
		if deleted == 0 {
			return postrider.NotFound("webhook")
		}
		if err := sqldb.SQL("DELETE FROM webhook_events WHERE webhook_id = ?", id).Run(ctx, tx); err != nil {
			return err
		}
		if err := s.requestSweeps(ctx, tx, id); err != nil {
			return err
		}
		return s.audit(ctx, tx, postrider.AuditEntry{WorkspaceID: workspaceID, Action: postrider.ActionDeleteWebhook, ResourceID: id})
	})
	if err == nil {
		s.sweepSoon(ctx, id)
		s.notify() // cancellations
	}
	return err
}

// Secret returns a webhook's current secret, the one that is to take its place, and the times of
// the earlier ones that still sign. It writes, since the audit log says who has seen a secret.
// Returns [postrider.CodeNotFound] when the webhook is unknown or has no secret.
func (s *Store) Secret(ctx context.Context, workspaceID, webhookID string) (secret postrider.Secret, err error) {
	err = s.db.Write(ctx, "read a secret", func(tx *sqlx.Tx) error {
		w, err := s.webhook(ctx, tx, workspaceID, webhookID, "")
		if w, err = s.shown(ctx, w, err); err != nil {
			return err
		}
		if secret, err = s.revealed(ctx, tx, w); err != nil {
			return err
		}
		return s.audit(ctx, tx, postrider.AuditEntry{WorkspaceID: workspaceID, Action: postrider.ActionRevealSecret, ResourceID: webhookID})
	})
	if err != nil {
		return postrider.Secret{}, err
	}
	return secret, nil
}

// RotateSecret gives the webhook another current secret, at once or at the time that the rotation
// sets. The secrets before it go on signing until its grace period ends, or shorter where they end
// earlier, and it signs beside them from now on. A webhook has one secret at most that is to come:
// a rotation takes the place of the one before. A webhook without a secret gets one at once. Returns [postrider.CodeNotFound] when the
// webhook is unknown.
func (s *Store) RotateSecret(
	ctx context.Context, workspaceID, webhookID string, rotation postrider.Rotation,
) (postrider.Secret, error) {
	var revealed postrider.Secret
	err := s.db.Write(ctx, "rotate a secret", func(tx *sqlx.Tx) error {
		w, err := s.webhook(ctx, tx, workspaceID, webhookID, s.db.Lock("FOR UPDATE OF w"))
		if w, err = s.shown(ctx, w, err); err != nil {
			return err
		}
		id, err := s.replaceSecret(ctx, tx, w, rotation)
		if err != nil {
			return err
		}
		if err := sqldb.SQL("UPDATE webhooks SET secret_id = ?, updated_at = ? WHERE id = ?", id, s.now(), w.ID).Run(ctx, tx); err != nil {
			return err
		}
		w.SecretID = &id
		if revealed, err = s.revealed(ctx, tx, w); err != nil {
			return err
		}
		return s.audit(ctx, tx, postrider.AuditEntry{
			WorkspaceID: workspaceID, Action: postrider.ActionRotateSecret, ResourceID: webhookID,
			Changes: []postrider.FieldChange{postrider.SecretChange()},
		})
	})
	return revealed, err
}
