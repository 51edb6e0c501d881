package store

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"postrider.dev/postrider"
	"postrider.dev/postrider/store/sqldb"
)

// edit changes the delivery's terms, from its next attempt on. A workflow that carries it leaves it
// when the policy changes, because that has the policy that it was started with; when the delivery
// expires is asked for before each attempt. An attempt that is under way is judged by the new
// terms, see [deliveryUpdate.decide].
func (a *acting) edit(ctx context.Context, x *acted) error {
	before := postrider.Terms{Policy: x.Policy, ExpiresAt: x.ExpiresAt.Pointer()}
	after := a.request.Edit.Apply(before)
	if x.refuseIfFinished() || after.Equal(before) {
		return nil
	}
	if err := a.setTerms(ctx, x, after); err != nil {
		return err
	}
	x.changes = postrider.Changes(before, after)
	detail, leaves := describeEdit(x.changes), x.carried() && after.Policy != before.Policy
	switch {
	case x.onTheWire(a.now):
		a.note(x, false, "%s", detail)
		return nil
	case x.AttemptCount > after.MaxRetries:
		a.note(x, true, "%s: no attempt is left", detail)
		return a.giveUp(ctx, x, after.Policy)
	}
	a.note(x, leaves, "%s", detail)
	if !leaves {
		return nil
	}
	return sqldb.SQL("UPDATE outbox SET "+makeReady+" WHERE delivery_id = ?", x.ID).Run(ctx, a.tx)
}

// setTerms gives the delivery other terms. When it expires is looked for in a table of its own.
func (a *acting) setTerms(ctx context.Context, x *acted, terms postrider.Terms) error {
	const change = "UPDATE deliveries SET timeout_ms = ?, max_retries = ?, backoff_ms = ?, retry_schedule_ms = ?, expires_at = ? WHERE id = ?"
	expires := sqldb.NullTime(terms.ExpiresAt)
	err := sqldb.SQL(change, terms.TimeoutMS, terms.MaxRetries, terms.BackoffMS, terms.RetrySchedule, expires, x.ID).Run(ctx, a.tx)
	switch {
	case err != nil || a.request.Edit.ExpiresAt == nil:
		return err
	case expires == nil:
		return dropExpiries(ctx, a.tx, []string{x.ID})
	}
	_, err = expiriesTable.Insert(ctx, a.tx, expiryRow{x.ID, *expires})
	return err
}

// describeEdit says what changed.
func describeEdit(changes []postrider.FieldChange) string {
	value := func(v json.RawMessage) string {
		if v == nil {
			return "null"
		}
		return strings.Trim(string(v), `"`)
	}
	said := make([]string, len(changes))
	for i, c := range changes {
		said[i] = c.Field + " from " + value(c.Old) + " to " + value(c.New)
	}
	return strings.Join(said, ", ")
}

// giveUp fails a delivery whose attempts are used up under its new policy.
func (a *acting) giveUp(ctx context.Context, x *acted, policy postrider.Policy) error {
	reason := fmt.Sprintf("max_retries was changed to %d after %d attempts", policy.MaxRetries, x.AttemptCount)
	if x.LastError != nil {
		reason += "; the latest failed: " + *x.LastError
	}
	if err := a.fail(ctx, x, reason); err != nil {
		return err
	}
	return a.s.exhausted(ctx, a.tx, x.member())
}

// fail fails a delivery without another attempt.
func (a *acting) fail(ctx context.Context, x *acted, reason string) error {
	const fail = "UPDATE deliveries SET state = ?, finished_at = ?, next_attempt_at = NULL, last_error = ? WHERE id = ?"
	if err := sqldb.SQL(fail, postrider.StateFailed, a.now, reason, x.ID).Run(ctx, a.tx); err != nil {
		return err
	}
	a.failed = append(a.failed, deliveryUpdate{
		deliveryProgress: deliveryProgress{ID: x.ID, AttemptCount: x.AttemptCount, LastError: &reason, FinishedAt: sqldb.NullTime(&a.now)},
		WorkspaceID:      x.WorkspaceID, WebhookID: x.WebhookID, EventID: x.EventID, EventType: x.EventType,
	})
	return dropOutbox(ctx, a.tx, []string{x.ID})
}
