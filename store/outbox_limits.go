package store

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"

	"postrider.dev/postrider"
)

// webhookLimits is a webhook with what limits it.
type webhookLimits struct {
	ID          string
	WorkspaceID string `db:"workspace_id"`
	URL         string
	Status      postrider.WebhookStatus
	MaxInFlight int    `db:"max_in_flight"`
	RateLimit   *int   `db:"rate_limit"`
	NextAt      moment `db:"next_at"`
	Leased      int    // attempts that have a place
	OfRetries   int    `db:"of_retries"` // of these, how many are retries
	Retries     int    // that are due and have none, as far as it matters
	Waiting     bool   // first attempts are due and have none
}

// half is what first attempts and retries leave each other of the webhook's places,
// where both want more.
func (w webhookLimits) half() int { return (w.MaxInFlight + 1) / 2 }

// roomForFirsts is how many more first attempts may begin.
func (w webhookLimits) roomForFirsts() int {
	kept := max(w.OfRetries, min(w.OfRetries+w.Retries, w.half()))
	return w.MaxInFlight - (w.Leased - w.OfRetries) - kept
}

// roomForRetries is how many more retries may begin.
func (w webhookLimits) roomForRetries() int {
	room := w.MaxInFlight - w.Leased
	if w.Waiting {
		room = min(room, w.half()-w.OfRetries)
	}
	return room
}

// limits reads webhooks whose pace the transaction has locked. It must be a statement
// after the one that locked: only then is what counts visible.
func limits(ctx context.Context, tx *sqlx.Tx, webhookIDs []string, now time.Time) ([]webhookLimits, error) {
	var found []webhookLimits
	err := sqlOf(`SELECT w.id, w.workspace_id, w.url, w.status, w.max_in_flight, w.rate_limit, p.next_at,
		(SELECT COUNT(*) FROM outbox o WHERE o.webhook_id = w.id AND o.leased AND o.kind <> 'cancel' AND NOT o.ahead) AS leased,
		(SELECT COUNT(*) FROM outbox o WHERE o.webhook_id = w.id AND o.leased AND o.kind <> 'cancel' AND o.kind = 'retry') AS of_retries,
		(SELECT o.queue FROM outbox o WHERE o.queue = w.workspace_id || '/' || w.id AND o.hold_until IS NULL AND o.kind = 'start'
			ORDER BY o.queue LIMIT 1) IS NOT NULL AS waiting,
		(SELECT COUNT(*) FROM (SELECT 1 FROM outbox o WHERE o.webhook_id = w.id AND o.kind = 'retry' AND NOT o.leased AND o.due_at <= ?
			ORDER BY o.webhook_id, o.due_at LIMIT ?) r) AS retries
		FROM webhooks w JOIN webhook_pace p ON p.webhook_id = w.id WHERE w.id IN`, now, (postrider.MaxMaxInFlight+1)/2).
		in(webhookIDs).selectInto(ctx, tx, &found)
	slices.SortFunc(found, func(a, b webhookLimits) int { return strings.Compare(a.ID, b.ID) })
	return found, err
}

// lockPaces locks the webhooks' paces, but for those, unless it waits for them, that
// another transaction has locked, and returns whose it locked.
func (s *Store) lockPaces(ctx context.Context, tx *sqlx.Tx, webhookIDs []string, wait bool) ([]string, error) {
	clause := "FOR UPDATE SKIP LOCKED"
	if wait {
		clause = "FOR UPDATE"
	}
	return ids(ctx, tx, sqlOf("SELECT webhook_id FROM webhook_pace WHERE webhook_id IN").in(webhookIDs).
		add(" ORDER BY webhook_id"+s.dialect.lock(clause)))
}
