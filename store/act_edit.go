package store

import (
	"context"
	"fmt"
	"strings"

	"postrider.dev/postrider"
	"postrider.dev/postrider/store/sqldb"
)

// edit changes the delivery's policy, from its next attempt on. A workflow that carries it leaves
// it, because that has the policy that it was started with. An attempt that is under way is judged
// by the new policy, see [deliveryUpdate.decide].
func (a *acting) edit(ctx context.Context, x *acted) error {
	policy := a.request.Edit.Apply(x.Policy)
	if x.refuseIfFinished() || policy == x.Policy {
		return nil
	}
	const change = "UPDATE deliveries SET timeout_ms = ?, max_retries = ?, backoff_ms = ? WHERE id = ?"
	err := sqldb.SQL(change, policy.TimeoutMS, policy.MaxRetries, policy.BackoffMS, x.ID).Run(ctx, a.tx)
	if err != nil {
		return err
	}
	detail := describeEdit(x.Policy, policy)
	x.changes = postrider.Changes(x.Policy, policy)
	switch {
	case x.onTheWire(a.now):
		a.note(x, false, "%s", detail)
		return nil
	case x.AttemptCount > policy.MaxRetries:
		a.note(x, true, "%s: no attempt is left", detail)
		return a.giveUp(ctx, x, policy)
	}
	a.note(x, x.carried(), "%s", detail)
	if !x.carried() {
		return nil
	}
	return sqldb.SQL("UPDATE outbox SET "+makeReady+" WHERE delivery_id = ?", x.ID).Run(ctx, a.tx)
}

// describeEdit says what changed.
func describeEdit(before, after postrider.Policy) string {
	var changes []string
	for _, field := range []struct {
		name     string
		from, to int
	}{
		{"timeout_ms", before.TimeoutMS, after.TimeoutMS},
		{"max_retries", before.MaxRetries, after.MaxRetries},
		{"backoff_ms", before.BackoffMS, after.BackoffMS},
	} {
		if field.from != field.to {
			changes = append(changes, fmt.Sprintf("%s from %d to %d", field.name, field.from, field.to))
		}
	}
	return strings.Join(changes, ", ")
}

// giveUp fails a delivery whose attempts are used up under its new policy.
func (a *acting) giveUp(ctx context.Context, x *acted, policy postrider.Policy) error {
	reason := fmt.Sprintf("max_retries was changed to %d after %d attempts", policy.MaxRetries, x.AttemptCount)
	if x.LastError != nil {
		reason += "; the latest failed: " + *x.LastError
	}
	const fail = "UPDATE deliveries SET state = ?, finished_at = ?, next_attempt_at = NULL, last_error = ? WHERE id = ?"
	if err := sqldb.SQL(fail, postrider.StateFailed, a.now, reason, x.ID).Run(ctx, a.tx); err != nil {
		return err
	}
	a.failed = append(a.failed, deliveryUpdate{
		deliveryProgress: deliveryProgress{ID: x.ID, LastError: &reason},
		WorkspaceID:      x.WorkspaceID, WebhookID: x.WebhookID, EventType: x.EventType,
	})
	return dropOutbox(ctx, a.tx, []string{x.ID})
}
