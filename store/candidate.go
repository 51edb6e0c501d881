package store

import (
	"context"
	"slices"
	"strings"

	"github.com/jmoiron/sqlx"

	"postrider"
)

// webhooksPage is the least number of webhooks that are looked at together.
const webhooksPage = 64

// hops makes a table of the webhooks that have ready rows, after the one given, in
// order, and a last NULL. It hops from one webhook to the next in the index instead of
// reading every row between them.
const hops = `WITH RECURSIVE hop (webhook_id) AS (
	SELECT * FROM (SELECT webhook_id FROM outbox WHERE hold_until IS NULL AND kind = 'start' AND webhook_id > ? ORDER BY webhook_id LIMIT 1) f
	UNION ALL
	SELECT (SELECT o.webhook_id FROM outbox o WHERE o.hold_until IS NULL AND o.kind = 'start' AND o.webhook_id > hop.webhook_id
		ORDER BY o.webhook_id LIMIT 1) FROM hop WHERE hop.webhook_id IS NOT NULL
) `

// nextWebhooks returns so many of their ids.
const nextWebhooks = hops + "SELECT webhook_id FROM hop WHERE webhook_id IS NOT NULL LIMIT ?"

// gather finds webhooks that have ready rows and may be given some: the round
// begins after the webhook that the claim before ended with, and goes once around.
func (c *claim) gather(ctx context.Context) error {
	after, wrapped := c.start, false
	if c.wait {
		// Locks that are waited for are taken in one order by all.
		after = ""
	}
	start := after
	page := max(c.limit, webhooksPage)
	for len(c.turns) < c.limit {
		found, err := ids(ctx, c.tx, sqlOf(nextWebhooks, after, page))
		if err != nil {
			return err
		}
		around := wrapped && slices.ContainsFunc(found, func(id string) bool { return id > start })
		if around {
			found = slices.DeleteFunc(found, func(id string) bool { return id > start })
		}
		if err := c.consider(ctx, found); err != nil {
			return err
		}
		switch {
		case !around && len(found) == page:
			after = found[page-1]
		case wrapped || start == "":
			return nil
		default:
			after, wrapped = "", true
		}
	}
	c.turns = c.turns[:c.limit]
	return nil
}

// candidate is a webhook with what limits it.
type candidate struct {
	ID          string
	URL         string
	Status      postrider.WebhookStatus
	MaxInFlight int    `db:"max_in_flight"`
	RateLimit   *int   `db:"rate_limit"`
	NextAt      moment `db:"next_at"`
	Leased      int    // attempts that have a place
	Asking      int    // retries that asked for one
}

// candidates reads webhooks whose pace the transaction has locked. It must be a
// statement after the one that locked: only then is what counts visible.
func candidates(ctx context.Context, tx *sqlx.Tx, webhookIDs []string) ([]candidate, error) {
	const busy = "FROM outbox o WHERE o.webhook_id = w.id AND (o.leased OR o.kind = 'retry') AND o.kind NOT IN ('own', 'cancel') AND "
	var found []candidate
	err := sqlOf(`SELECT w.id, w.url, w.status, w.max_in_flight, w.rate_limit, p.next_at,
		(SELECT COUNT(*) `+busy+`o.leased) AS leased, (SELECT COUNT(*) `+busy+`NOT o.leased) AS asking
		FROM webhooks w JOIN webhook_pace p ON p.webhook_id = w.id WHERE w.id IN`).in(webhookIDs).selectInto(ctx, tx, &found)
	slices.SortFunc(found, func(a, b candidate) int { return strings.Compare(a.ID, b.ID) })
	return found, err
}

// consider gives turns to those of the webhooks that have room, and parks what
// waits for those that are not active.
func (c *claim) consider(ctx context.Context, webhookIDs []string) error {
	if len(webhookIDs) == 0 {
		return nil
	}
	clause := "FOR UPDATE SKIP LOCKED"
	if c.wait {
		clause = "FOR UPDATE"
	}
	locked, err := ids(ctx, c.tx, sqlOf("SELECT webhook_id FROM webhook_pace WHERE webhook_id IN").in(webhookIDs).
		add(" ORDER BY webhook_id"+c.s.dialect.lock(clause)))
	if err != nil {
		return err
	}
	c.passed = c.passed || len(locked) < len(webhookIDs)
	if len(locked) == 0 {
		return nil
	}
	found, err := candidates(ctx, c.tx, locked)
	if err != nil {
		return err
	}
	for _, w := range found {
		if w.Status != postrider.WebhookActive {
			if err := c.s.park(ctx, c.tx, w.ID); err != nil {
				return err
			}
			continue
		}
		if t := c.turnOf(w); t.room > 0 {
			c.turns = append(c.turns, t)
		}
	}
	return nil
}

func (c *claim) turnOf(w candidate) *turn {
	// Retries ask again only now and then, so what they may have is kept for them.
	kept := min(w.Asking, (w.MaxInFlight+1)/2)
	t := &turn{webhookID: w.ID, url: w.URL, room: w.MaxInFlight - w.Leased - kept}
	if w.RateLimit != nil {
		p := paceAt(*w.RateLimit, w.NextAt.Time, c.now)
		t.pace, t.room = &p, min(t.room, p.allowed(c.now))
	}
	if c.request.Room != nil && t.room > 0 {
		var room int
		room, t.slow = c.request.Room(w.ID, w.URL)
		t.room = min(t.room, room)
	}
	return t
}
