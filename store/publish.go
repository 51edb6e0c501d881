package store

import (
	"context"
	"time"

	"github.com/jmoiron/sqlx"

	"postrider.dev/postrider"
)

// Publish accepts a publication's events, all or none, and answers with a receipt
// for each, in order, once they are committed. Concurrent calls share a
// transaction.
//
// An event gets a delivery for each webhook that matches it: pending, or parked
// where the webhook is not active. What was published before under the same
// idempotency key or event id is not published again; its receipts come back with
// Duplicate set. Returns [postrider.CodeConflict] when a key or id stands for
// another request, and [postrider.CodeNotFound] when OnlyWebhookID is unknown.
func (s *Store) Publish(ctx context.Context, p postrider.Publication) ([]postrider.Receipt, error) {
	receipts, err := s.publishing.do(ctx, p)
	return receipts, failure("publish", err)
}

func publicationWeight(p postrider.Publication) int { return len(p.Events) }

// publishAll runs publications in one transaction. A publication that is refused
// leaves nothing behind in it.
func (s *Store) publishAll(ctx context.Context, publications []postrider.Publication) ([]answer[[]postrider.Receipt], error) {
	var answers []answer[[]postrider.Receipt]
	var made *batch
	err := s.write(ctx, "publish", func(tx *sqlx.Tx) error {
		answers = make([]answer[[]postrider.Receipt], len(publications))
		made = &batch{ids: s.IDs, now: s.now()}
		known, err := s.repeats(ctx, tx, publications)
		if err != nil {
			return err
		}
		subscribers, err := s.subscribers(ctx, tx, publications)
		if err != nil {
			return err
		}
		for i, p := range publications {
			answers[i].value, answers[i].err = made.accept(p, known, subscribers)
		}
		return made.save(ctx, s, tx)
	})
	if err == nil && len(made.outbox) > 0 {
		s.notify()
	}
	return answers, err
}

// batch gathers the rows that accepted publications make.
type batch struct {
	ids *postrider.IDs
	now time.Time

	events, deliveries, outbox [][]any
	keys                       []*repeat
}

// accept decides on one publication and adds its rows.
func (b *batch) accept(p postrider.Publication, known repeatable, to *subscribers) ([]postrider.Receipt, error) {
	if err := to.check(p); err != nil {
		return nil, err
	}
	whole, err := known.claimKey(p)
	if err != nil {
		return nil, err
	}
	if whole != nil && whole.answered {
		return duplicates(whole.receipts), nil
	}
	singles, err := known.claimIDs(p)
	if err != nil {
		return nil, err
	}
	receipts := make([]postrider.Receipt, len(p.Events))
	for i, e := range p.Events {
		single := singles[i]
		if single != nil && single.answered {
			receipts[i] = duplicates(single.receipts)[0]
			continue
		}
		receipts[i] = b.add(p, e.Event, to.of(p, e.Event))
		if single != nil {
			b.answer(single, e.RequestHash, receipts[i:i+1])
			single.eventKey = &e.Key
		}
	}
	if whole != nil {
		b.answer(whole, hashOf(p), receipts)
	}
	return receipts, nil
}

func (b *batch) answer(r *repeat, hash string, receipts []postrider.Receipt) {
	r.answered, r.hash, r.receipts = true, hash, receipts
	b.keys = append(b.keys, r)
}

// add makes the rows of one event and its deliveries.
func (b *batch) add(p postrider.Publication, e postrider.Event, to []subscriber) postrider.Receipt {
	created := b.now
	if !e.CreatedAt.IsZero() {
		created = postrider.Timestamp(e.CreatedAt)
	}
	b.events = append(b.events, []any{
		e.Key, e.ID, p.WorkspaceID, e.Type, e.PersonaID, postrider.Timestamp(e.Timestamp), stampOf(e.DeliverAt), e.Body, created,
	})
	due, hold := created, (*time.Time)(nil)
	if e.DeliverAt != nil && e.DeliverAt.After(b.now) {
		hold = stampOf(e.DeliverAt)
		due = *hold
	}
	var trace any // no pointer to p's: that would move p to the heap for each event
	if p.TraceContext != "" {
		trace = p.TraceContext
	}
	receipt := postrider.Receipt{ID: e.ID, Type: e.Type, DeliveryIDs: make([]string, len(to))}
	for i, w := range to {
		id := b.ids.New(postrider.PrefixDelivery)
		receipt.DeliveryIDs[i] = id
		state := postrider.StateParked
		if w.Status == postrider.WebhookActive {
			state = postrider.StatePending
			b.outbox = append(b.outbox, []any{id, w.ID, queueOf(p.WorkspaceID, w.ID), "start", hold, false, due})
		}
		b.deliveries = append(b.deliveries, []any{
			id, p.WorkspaceID, w.ID, e.ID, e.Key, e.Type, state, w.TimeoutMS, w.MaxRetries, w.BackoffMS, 0, b.now, due, "", trace,
		})
	}
	return receipt
}

// publicationRows are the tables that a batch's events, deliveries and outbox go to.
func publicationRows() *bulk {
	return newBulk(
		table{name: "events", columns: "key text, id text, workspace_id text, type text, persona_id text, " +
			"occurred_at timestamptz, deliver_at timestamptz, body bytea, created_at timestamptz"},
		table{name: "deliveries", columns: "id text, workspace_id text, webhook_id text, event_id text, event_key text, event_type text, state text, " +
			"timeout_ms integer, max_retries integer, backoff_ms integer, attempt_count integer, created_at timestamptz, due_at timestamptz, workflow_id text, trace_context text"},
		table{name: "outbox", columns: "delivery_id text, webhook_id text, queue text, kind text, hold_until timestamptz, leased boolean, due_at timestamptz"},
	)
}

func (b *batch) save(ctx context.Context, s *Store, tx *sqlx.Tx) error {
	if err := s.saveRepeats(ctx, tx, b.keys, b.now); err != nil {
		return err
	}
	if len(b.events) == 0 {
		return nil
	}
	_, err := s.publication.write(ctx, s, tx, b.events, b.deliveries, b.outbox)
	return err
}

// duplicates returns the receipts of an earlier publication as such.
func duplicates(receipts []postrider.Receipt) []postrider.Receipt {
	repeated := make([]postrider.Receipt, len(receipts))
	for i, r := range receipts {
		r.Duplicate = true
		repeated[i] = r
	}
	return repeated
}
