package store

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"

	"postrider.dev/postrider"
	"postrider.dev/postrider/store/sqldb"
)

// webhookLimits is a webhook with what limits it.
type webhookLimits struct {
	ID          string
	WorkspaceID string `db:"workspace_id"`
	URL         string
	Status      postrider.WebhookStatus
	Deleted     bool
	MaxInFlight int        `db:"max_in_flight"`
	RateLimit   *int       `db:"rate_limit"`
	NextAt      sqldb.Time `db:"next_at"`
	Leased      int        // attempts that have a permit
	OfRetries   int        `db:"of_retries"` // how many of these are retries
	Retries     int        // that are due and have no permit, as far as it matters
	Waiting     bool       // first attempts are due and have no permit
	gateColumns
}

// active reports whether attempts may be made.
func (w webhookLimits) active() bool { return w.Status == postrider.WebhookActive && !w.Deleted }

// gated reports whether a gate limits the webhook, see gate.go.
func (w webhookLimits) gated() bool { return w.Allowance != nil }

// half is what first attempts and retries leave each other of the webhook's permits, where
// both want more. Behind a gate first attempts leave all to the retries that are due: these were
// accepted before.
func (w webhookLimits) half() int {
	if w.gated() {
		return w.MaxInFlight
	}
	return (w.MaxInFlight + 1) / 2
}

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

// selectLimits reads webhookLimits; a list of webhooks follows.
const selectLimits = `SELECT w.id, w.workspace_id, w.url, w.status, w.deleted_at IS NOT NULL AS deleted,
	w.max_in_flight, w.rate_limit, p.next_at, g.allowance, g.probe_at, g.changed_at, g.openings,
	(SELECT COUNT(*) FROM outbox o WHERE o.webhook_id = w.id AND ` + leasedAttempt + ` AND NOT ahead) AS leased,
	(SELECT COUNT(*) FROM outbox o WHERE o.webhook_id = w.id AND ` + leasedAttempt + ` AND kind = ` + sqlRetry + `) AS of_retries,
	(SELECT o.queue FROM outbox o WHERE o.queue = w.workspace_id || '/' || w.id AND ` + readyStart + `
		ORDER BY o.queue LIMIT 1) IS NOT NULL AS waiting,
	(SELECT COUNT(*) FROM (SELECT 1 FROM outbox o WHERE o.webhook_id = w.id AND ` + waitingRetry + ` AND due_at <= ?
		ORDER BY o.webhook_id, due_at LIMIT ?) r) AS retries
	FROM webhooks w JOIN webhook_pace p ON p.webhook_id = w.id LEFT JOIN webhook_gates g ON g.webhook_id = w.id WHERE w.id IN`

// limits reads webhooks whose pace the transaction has locked. It must be a statement after
// the one that locked: what other transactions committed before is visible only then.
func limits(ctx context.Context, tx *sqlx.Tx, webhookIDs []string, now time.Time) ([]webhookLimits, error) {
	var found []webhookLimits
	err := sqldb.SQL(selectLimits, now, (postrider.MaxMaxInFlight+1)/2).In(webhookIDs).Select(ctx, tx, &found)
	for i := range found {
		if gate := found[i].gate(); gate != nil {
			found[i].MaxInFlight = min(found[i].MaxInFlight, gate.Permits(now))
		}
	}
	slices.SortFunc(found, func(a, b webhookLimits) int { return strings.Compare(a.ID, b.ID) })
	return found, err
}

// lockPaces locks the webhooks' paces, which keeps claims and permits off the webhooks until
// the transaction ends. It returns the webhooks that it locked. Unless it waits, it leaves
// out those that another transaction has locked.
func (s *Store) lockPaces(ctx context.Context, tx *sqlx.Tx, wait bool, webhookIDs ...string) ([]string, error) {
	clause := "FOR UPDATE SKIP LOCKED"
	if wait {
		clause = "FOR UPDATE"
	}
	return sqldb.SQL("SELECT webhook_id FROM webhook_pace WHERE webhook_id IN").In(webhookIDs).
		Add(" ORDER BY webhook_id"+s.db.Lock(clause)).Strings(ctx, tx)
}
