package store

import (
	"context"
	"slices"
	"time"

	"github.com/jmoiron/sqlx"

	"postrider.dev/postrider"
)

// AcquirePermit asks for a place for a delivery's retry among the attempts of its
// webhook, whose max_in_flight and rate_limit count retries and first attempts
// together, in all processes. The place ends when the attempt is recorded, with
// [Store.ReleasePermit], or after its hold. Concurrent calls share a transaction.
//
// Under a rate limit the place may begin only after the permit's Wait, MaxWait at most.
// If it is refused, the claims keep a place free for the retry, since it is due.
func (s *Store) AcquirePermit(ctx context.Context, request postrider.PermitRequest) (postrider.Permit, error) {
	permit, err := s.permitting.do(ctx, request)
	return permit, failure("acquire a permit", err)
}

// permitAll decides on requests in one transaction.
func (s *Store) permitAll(ctx context.Context, requests []postrider.PermitRequest) ([]answer[postrider.Permit], error) {
	var answers []answer[postrider.Permit]
	err := s.write(ctx, "acquire permits", func(tx *sqlx.Tx) error {
		p := &permits{now: s.now(), webhooks: map[string]*permitted{}}
		answers = make([]answer[postrider.Permit], len(requests))
		webhookIDs, deliveryIDs := make([]string, len(requests)), make([]string, len(requests))
		for i, r := range requests {
			webhookIDs[i], deliveryIDs[i] = r.WebhookID, r.DeliveryID
		}
		slices.Sort(webhookIDs)
		webhookIDs = slices.Compact(webhookIDs)
		if _, err := s.lockPaces(ctx, tx, webhookIDs, true); err != nil {
			return err
		}
		if err := p.load(ctx, tx, webhookIDs, deliveryIDs); err != nil {
			return err
		}
		for i, r := range requests {
			answers[i].value = p.decide(r)
		}
		return p.save(ctx, s, tx)
	})
	return answers, err
}

// permits is one transaction of [Store.AcquirePermit].
type permits struct {
	now      time.Time
	webhooks map[string]*permitted // by id
	rows     map[string]permitRow  // by delivery
	granted  [][]any
}

// permitted is a webhook with what is granted of it.
type permitted struct {
	limits webhookLimits
	pace   *pace
	turns  int // of its rate that were granted
}

// permitRow is the outbox row of a delivery that asks.
type permitRow struct {
	DeliveryID string `db:"delivery_id"`
	WorkflowID string `db:"workflow_id"`
	Leased     bool
}

func (p *permits) load(ctx context.Context, tx *sqlx.Tx, webhookIDs, deliveryIDs []string) error {
	found, err := limits(ctx, tx, webhookIDs, p.now)
	if err != nil {
		return err
	}
	for _, w := range found {
		known := &permitted{limits: w}
		if w.RateLimit != nil {
			pace := paceAt(*w.RateLimit, w.NextAt.Time, p.now)
			known.pace = &pace
		}
		p.webhooks[w.ID] = known
	}
	var rows []permitRow
	err = sqlOf("SELECT delivery_id, workflow_id, leased FROM outbox WHERE kind <> 'cancel' AND delivery_id IN").in(deliveryIDs).selectInto(ctx, tx, &rows)
	p.rows = make(map[string]permitRow, len(rows))
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
	if !row.Leased && w.limits.roomForRetries() <= 0 {
		return postrider.Permit{}
	}
	var wait time.Duration
	if w.pace != nil {
		if wait = max(w.pace.after(w.turns).Sub(p.now), 0); wait > r.MaxWait {
			return postrider.Permit{Wait: wait}
		}
		w.turns++
	}
	if !row.Leased {
		w.limits.Leased++
		w.limits.OfRetries++
	}
	row.Leased = true
	p.rows[r.DeliveryID] = row
	p.granted = append(p.granted, []any{r.DeliveryID, p.now.Add(wait + r.Hold)})
	return postrider.Permit{Granted: true, Wait: wait}
}

func (p *permits) save(ctx context.Context, s *Store, tx *sqlx.Tx) error {
	for id, w := range p.webhooks {
		if w.turns == 0 {
			continue
		}
		if err := sqlOf("UPDATE webhook_pace SET next_at = ? WHERE webhook_id = ?", w.pace.after(w.turns), id).run(ctx, tx); err != nil {
			return err
		}
	}
	return s.setRows(ctx, tx, "leased = TRUE, hold_until = news.hold_until", "delivery_id text, hold_until timestamptz", p.granted)
}

// ReleasePermit gives up the place of a retry that made no attempt: its carrier has it
// still.
func (s *Store) ReleasePermit(ctx context.Context, deliveryID string) error {
	err := sqlOf("UPDATE outbox SET leased = FALSE, hold_until = ? WHERE "+isRetry+" AND "+isLeased+" AND delivery_id = ?",
		carriedUntil(s.now(), s.now()), deliveryID).run(ctx, s.db)
	if err == nil {
		s.signal()
	}
	return failure("release a permit", err)
}
