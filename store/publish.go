package store

import (
	"context"
	"slices"

	"github.com/jmoiron/sqlx"

	"postrider.dev/postrider"
	"postrider.dev/postrider/store/sqldb"
)

// Publish accepts a publication's events, all or none, and answers with a receipt for each,
// in order, once they are committed. Concurrent calls share a transaction.
//
// An event gets a delivery for each webhook that matches it: pending, or parked where the
// webhook is not active. Events that were published before under the same idempotency key
// or event id are not published again; their receipts come back with Duplicate set. Returns
// [postrider.CodeConflict] when a key or id stands for another request, and
// [postrider.CodeNotFound] when OnlyWebhookID is unknown.
func (s *Store) Publish(ctx context.Context, p postrider.Publication) ([]postrider.Receipt, error) {
	receipts, err := s.publishing.Do(ctx, p)
	return receipts, sqldb.Failure("publish", err)
}

func publicationWeight(p postrider.Publication) int { return len(p.Events) }

// publishAll runs publications in one transaction. A publication that is refused leaves
// nothing behind in it.
func (s *Store) publishAll(ctx context.Context, publications []postrider.Publication) ([]sqldb.Answer[[]postrider.Receipt], error) {
	var answers []sqldb.Answer[[]postrider.Receipt]
	var made *publishBatch
	err := s.db.Write(ctx, "publish", func(tx *sqlx.Tx) error {
		answers = make([]sqldb.Answer[[]postrider.Receipt], len(publications))
		made = newPublishBatch(s, publications)
		known, err := s.idempotencyKeys(ctx, tx, publications)
		if err != nil {
			return err
		}
		subscribers, err := s.subscribers(ctx, tx, publications)
		if err != nil {
			return err
		}
		for i, p := range publications {
			answers[i].Value, answers[i].Err = made.accept(p, known, subscribers)
		}
		return made.save(ctx, s.db, tx)
	})
	if err == nil && len(made.outbox) > 0 {
		s.notify()
	}
	return answers, err
}

// publishBatch gathers the rows that accepted publications make.
type publishBatch struct {
	ids *postrider.IDs
	now sqldb.Time

	events     []eventRow
	deliveries []deliveryRow
	outbox     []outboxRow
	keys       []*idempotencyEntry
}

// newPublishBatch returns a batch with room for the events, and for a delivery of each.
func newPublishBatch(s *Store, publications []postrider.Publication) *publishBatch {
	events := 0
	for _, p := range publications {
		events += len(p.Events)
	}
	return &publishBatch{
		ids: s.IDs, now: sqldb.TimeOf(s.now()),
		events: make([]eventRow, 0, events), deliveries: make([]deliveryRow, 0, events), outbox: make([]outboxRow, 0, events),
	}
}

// accept decides on one publication and adds its rows.
func (b *publishBatch) accept(p postrider.Publication, known idempotencyEntries, to *subscribers) ([]postrider.Receipt, error) {
	if err := to.check(p); err != nil {
		return nil, err
	}
	request, err := known.lookupRequest(p)
	if err != nil {
		return nil, err
	}
	if request != nil && request.answered {
		return duplicates(request.receipts), nil
	}
	events, err := known.lookupEvents(p)
	if err != nil {
		return nil, err
	}
	receipts := make([]postrider.Receipt, len(p.Events))
	for i, e := range p.Events {
		event := events[i]
		if event != nil && event.answered {
			receipts[i] = duplicates(event.receipts)[0]
			continue
		}
		receipts[i] = b.addEvent(p, e.Event, to.matching(p, e.Event))
		if event != nil {
			b.answer(event, e.RequestHash, receipts[i:i+1])
			event.eventKey = &e.Key
		}
	}
	if request != nil {
		b.answer(request, hashOf(p), receipts)
	}
	return receipts, nil
}

func (b *publishBatch) answer(entry *idempotencyEntry, hash string, receipts []postrider.Receipt) {
	entry.answered, entry.hash, entry.receipts = true, hash, receipts
	b.keys = append(b.keys, entry)
}

// addEvent makes the rows of one event and its deliveries.
func (b *publishBatch) addEvent(p postrider.Publication, e postrider.Event, to []subscriber) postrider.Receipt {
	created := b.now
	if !e.CreatedAt.IsZero() {
		created = sqldb.TimeOf(e.CreatedAt)
	}
	deliverAt := sqldb.NullTime(e.DeliverAt)
	b.events = append(b.events, eventRow{
		Key: e.Key, ID: e.ID, WorkspaceID: p.WorkspaceID, Type: e.Type, PersonaID: e.PersonaID,
		OccurredAt: sqldb.TimeOf(e.Timestamp), DeliverAt: deliverAt, Body: e.Body, CreatedAt: created,
	})
	due, hold := created, (*sqldb.Time)(nil)
	if e.DeliverAt != nil && e.DeliverAt.After(b.now.Time) {
		due, hold = *deliverAt, deliverAt
	}
	trace := nullText(p.TraceContext)
	receipt := postrider.Receipt{ID: e.ID, Type: e.Type, DeliveryIDs: make([]string, len(to))}
	b.deliveries, b.outbox = slices.Grow(b.deliveries, len(to)), slices.Grow(b.outbox, len(to))
	for i, w := range to {
		id := b.ids.New(postrider.PrefixDelivery)
		receipt.DeliveryIDs[i] = id
		state := postrider.StateParked
		if w.Status == postrider.WebhookActive {
			state = postrider.StatePending
			b.outbox = append(b.outbox, outboxRow{
				DeliveryID: id, WebhookID: w.ID, Queue: queueOf(p.WorkspaceID, w.ID), Kind: kindStart, HoldUntil: hold, DueAt: due,
			})
		}
		b.deliveries = append(b.deliveries, deliveryRow{
			ID: id, WorkspaceID: p.WorkspaceID, WebhookID: w.ID, EventID: e.ID, EventKey: e.Key, EventType: e.Type,
			State: state, Policy: w.Policy, CreatedAt: b.now, DueAt: due, TraceContext: trace,
		})
	}
	return receipt
}

// nullText returns the text for a column that is null instead of empty.
func nullText(text string) *string {
	if text == "" {
		return nil
	}
	stored := text // a pointer to text itself would allocate it for each call
	return &stored
}

func (b *publishBatch) save(ctx context.Context, db *sqldb.DB, tx *sqlx.Tx) error {
	if err := saveIdempotency(ctx, db, tx, b.keys, b.now); err != nil {
		return err
	}
	if len(b.events) == 0 {
		return nil
	}
	_, err := publicationRows.Write(ctx, db, tx,
		eventsTable.Rows(b.events), newDeliveriesTable.Rows(b.deliveries), newOutboxTable.Rows(b.outbox))
	return err
}

// duplicates returns the receipts of an earlier publication, marked as duplicates.
func duplicates(receipts []postrider.Receipt) []postrider.Receipt {
	repeated := make([]postrider.Receipt, len(receipts))
	for i, r := range receipts {
		r.Duplicate = true
		repeated[i] = r
	}
	return repeated
}
