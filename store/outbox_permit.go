package store

import (
	"context"
	"slices"
	"time"

	"github.com/jmoiron/sqlx"

	"postrider.dev/postrider"
	"postrider.dev/postrider/store/sqldb"
)

// AcquirePermit asks for a delivery's retry to be one of its webhook's attempts that are
// under way. The webhook's max_in_flight and rate_limit count retries and first attempts
// together, in all processes. The permit ends when the attempt is recorded, with
// [Store.ReleasePermit], or after its hold. Concurrent calls share a transaction.
//
// Under a rate limit the attempt may begin only after the permit's Wait, MaxWait at most. If
// it is refused, the claims keep a permit free for the retry, since it is due. A delivery of a
// webhook that is not active any more is Elsewhere: it is swept. So is one that a gate holds up: it
// waits in the outbox until it is handed over with a permit.
func (s *Store) AcquirePermit(ctx context.Context, request postrider.PermitRequest) (postrider.Permit, error) {
	permit, err := s.permitting.Do(ctx, request)
	return permit, sqldb.Failure("acquire a permit", err)
}

// permitAll decides on requests in one transaction.
func (s *Store) permitAll(ctx context.Context, requests []postrider.PermitRequest) ([]sqldb.Answer[postrider.Permit], error) {
	var answers []sqldb.Answer[postrider.Permit]
	err := s.db.Delivering.Write(ctx, "acquire permits", func(tx *sqlx.Tx) error {
		p := &permits{now: s.now(), webhooks: map[string]*permittedWebhook{}}
		answers = make([]sqldb.Answer[postrider.Permit], len(requests))
		webhookIDs, deliveryIDs := make([]string, len(requests)), make([]string, len(requests))
		for i, r := range requests {
			webhookIDs[i], deliveryIDs[i] = r.WebhookID, r.DeliveryID
		}
		slices.Sort(webhookIDs)
		webhookIDs = slices.Compact(webhookIDs)
		if _, err := s.lockPaces(ctx, tx, true, webhookIDs...); err != nil {
			return err
		}
		if err := p.load(ctx, tx, webhookIDs, deliveryIDs); err != nil {
			return err
		}
		for i, r := range requests {
			answers[i].Value = p.decide(r)
		}
		if err := s.noteInactive(ctx, tx, p.inactive); err != nil {
			return err
		}
		return p.save(ctx, s.db, tx)
	})
	return answers, err
}

// permits is one transaction of [Store.AcquirePermit].
type permits struct {
	now      time.Time
	webhooks map[string]*permittedWebhook // by id
	rows     map[string]carriedRow        // by delivery
	granted  []holdChange
	released []string // deliveries that leave their carriers, because a gate lets no more of them through
	inactive []string // webhooks that are not active and have retries
}

// permittedWebhook is a webhook with the permits that the transaction grants.
type permittedWebhook struct {
	limits webhookLimits
	pace   *pace
	paced  int // permits that count for its rate
}

// carriedRow is the outbox row of a delivery that a workflow carries.
type carriedRow struct {
	DeliveryID string `db:"delivery_id"`
	WorkflowID string `db:"workflow_id"`
	Leased     bool
}

// holdChange gives an outbox row another hold.
type holdChange struct {
	DeliveryID string     `db:"delivery_id"`
	HoldUntil  sqldb.Time `db:"hold_until"`
}

func (c holdChange) key() string { return c.DeliveryID }

func (p *permits) load(ctx context.Context, tx *sqlx.Tx, webhookIDs, deliveryIDs []string) error {
	found, err := limits(ctx, tx, webhookIDs, p.now)
	if err != nil {
		return err
	}
	for _, w := range found {
		if !w.active() {
			p.inactive = append(p.inactive, w.ID)
			continue
		}
		known := &permittedWebhook{limits: w}
		if w.RateLimit != nil {
			pace := paceAt(*w.RateLimit, w.NextAt.Time, p.now)
			known.pace = &pace
		}
		p.webhooks[w.ID] = known
	}
	var rows []carriedRow
	err = sqldb.SQL("SELECT delivery_id, workflow_id, leased FROM outbox WHERE kind <> "+sqlCancel+" AND delivery_id IN").In(deliveryIDs).
		Select(ctx, tx, &rows)
	p.rows = make(map[string]carriedRow, len(rows))
	for _, row := range rows {
		p.rows[row.DeliveryID] = row
	}
	return err
}

// decide decides on one request, and counts what it grants.
func (p *permits) decide(r postrider.PermitRequest) postrider.Permit {
	row, waits := p.rows[r.DeliveryID]
	w := p.webhooks[r.WebhookID]
	if !waits || w == nil || row.WorkflowID != r.WorkflowID {
		return postrider.Permit{Elsewhere: true}
	}
	switch {
	case row.Leased || w.limits.roomForRetries() > 0:
	case w.limits.gated(): // it may be long, and no workflow waits for it
		p.released = append(p.released, r.DeliveryID)
		return postrider.Permit{Elsewhere: true}
	default:
		return postrider.Permit{}
	}
	var wait time.Duration
	if w.pace != nil {
		if wait = max(w.pace.after(w.paced).Sub(p.now), 0); wait > r.MaxWait {
			return postrider.Permit{Wait: wait}
		}
		w.paced++
	}
	if !row.Leased {
		w.limits.Leased++
		w.limits.OfRetries++
	}
	row.Leased = true
	p.rows[r.DeliveryID] = row
	p.granted = append(p.granted, holdChange{r.DeliveryID, sqldb.Time{Time: p.now.Add(wait + r.Hold)}})
	return postrider.Permit{Granted: true, Wait: wait}
}

func (p *permits) save(ctx context.Context, db *sqldb.DB, tx *sqlx.Tx) error {
	for id, w := range p.webhooks {
		if w.paced == 0 {
			continue
		}
		if err := sqldb.SQL("UPDATE webhook_pace SET next_at = ? WHERE webhook_id = ?", w.pace.after(w.paced), id).Run(ctx, tx); err != nil {
			return err
		}
	}
	if len(p.released) > 0 {
		st := sqldb.SQL("UPDATE outbox SET " + makeReady + " WHERE " + isRetry + " AND " + notLeased + " AND delivery_id IN").In(p.released)
		if err := st.Run(ctx, tx); err != nil {
			return err
		}
	}
	return changeOutbox(ctx, db, tx, "leased = TRUE, hold_until = input.hold_until", p.granted)
}

// ReleasePermit gives up the permit of a retry that made no attempt. Its carrier goes on
// carrying it.
func (s *Store) ReleasePermit(ctx context.Context, deliveryID string) error {
	err := sqldb.SQL("UPDATE outbox SET leased = FALSE, hold_until = ? WHERE "+isRetry+" AND "+isLeased+" AND delivery_id = ?",
		carriedUntil(s.now(), s.now()), deliveryID).Run(ctx, s.db.Delivering.Writing)
	if err == nil {
		s.signal()
	}
	return sqldb.Failure("release a permit", err)
}
