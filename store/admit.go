package store

import (
	"context"
	"time"

	"github.com/jmoiron/sqlx"

	"postrider"
)

// askedFor is for how long a retry that found no place is taken to want one still
// after it said that it would ask again.
const askedFor = 5 * time.Second

// Admit asks for a place for a delivery's retry among the attempts of its webhook,
// whose max_in_flight and rate_limit count retries and first attempts together, in
// all processes. The place ends when the attempt is recorded, with [Store.Leave],
// or after hold. An attempt that is not the delivery's first needs one.
//
// Under a rate limit the place may begin only after the admission's Wait, maxWait
// at most. If it is refused, the claims keep a place free for a while for whoever
// asks again after about again.
func (s *Store) Admit(ctx context.Context, d postrider.Delivery, ask postrider.Ask) (postrider.Admission, error) {
	var admission postrider.Admission
	err := s.write(ctx, "admit", func(tx *sqlx.Tx) error {
		if err := s.lockPace(ctx, tx, d.WebhookID); err != nil {
			return err
		}
		found, err := candidates(ctx, tx, []string{d.WebhookID})
		if err != nil {
			return err
		}
		if len(found) == 0 { // deleted for good, and the delivery is about to learn it
			admission = postrider.Admission{Granted: true}
			return nil
		}
		own, err := ids(ctx, tx, sqlOf("SELECT delivery_id FROM outbox WHERE delivery_id = ? AND leased AND kind NOT IN ('own', 'cancel')", d.ID))
		if err != nil {
			return err
		}
		w := found[0]
		w.Leased -= len(own)
		admission, err = s.admit(ctx, tx, d, ask, w)
		return err
	})
	return admission, err
}

// admit decides about an ask, the webhook's other attempts being counted in w.
func (s *Store) admit(ctx context.Context, tx *sqlx.Tx, d postrider.Delivery, ask postrider.Ask, w candidate) (postrider.Admission, error) {
	now := s.now()
	if w.Leased >= w.MaxInFlight {
		return postrider.Admission{}, s.hold(ctx, tx, d, now.Add(ask.Again+askedFor), false)
	}
	var wait time.Duration
	if w.RateLimit != nil {
		p := paceAt(*w.RateLimit, w.NextAt.Time, now)
		if wait = max(p.next.Sub(now), 0); wait > ask.MaxWait {
			return postrider.Admission{Wait: wait}, nil
		}
		if err := sqlOf("UPDATE webhook_pace SET next_at = ? WHERE webhook_id = ?", p.after(1), w.ID).run(ctx, tx); err != nil {
			return postrider.Admission{}, err
		}
	}
	return postrider.Admission{Granted: true, Wait: wait}, s.hold(ctx, tx, d, now.Add(wait+ask.Hold), true)
}

// hold notes until when a retry has its place (leased), or wants one.
func (s *Store) hold(ctx context.Context, tx *sqlx.Tx, d postrider.Delivery, until time.Time, leased bool) error {
	return sqlOf(`INSERT INTO outbox (delivery_id, webhook_id, kind, hold_until, leased, due_at) VALUES (?, ?, 'retry', ?, ?, ?)
		ON CONFLICT (delivery_id) DO UPDATE SET kind = CASE outbox.kind WHEN 'own' THEN 'retry' ELSE outbox.kind END,
			hold_until = excluded.hold_until, leased = excluded.leased
		WHERE outbox.kind = 'retry' OR excluded.leased AND outbox.kind IN ('start', 'own')`,
		d.ID, d.WebhookID, until, leased, s.now()).run(ctx, tx)
}

// Leave gives up the place of a retry that made no attempt.
func (s *Store) Leave(ctx context.Context, deliveryID string) error {
	err := sqlOf("DELETE FROM outbox WHERE kind = 'retry' AND delivery_id = ?", deliveryID).run(ctx, s.db)
	if err == nil {
		s.signal()
	}
	return failure("leave", err)
}
