package store

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jmoiron/sqlx"

	"postrider.dev/postrider"
	"postrider.dev/postrider/store/sqldb"
)

// Publish accepts a publication's events, all or none, and answers with a receipt for each,
// in order, once they are committed. Concurrent calls share a transaction.
//
// An event gets a delivery for each webhook that matches it: pending, or parked where the
// webhook is not active. Where a publication makes very many they are made after it, see
// fanout.go; the receipts have their number all the same. Events that were published before under the same idempotency key
// or event id are not published again; their receipts come back with Duplicate set. Returns
// [postrider.CodeConflict] when a key or id stands for another request, a
// [postrider.EventError] for an event to a webhook that may not get it, [postrider.CodeInvalid]
// for a publication that would make more than a million deliveries, and [postrider.CodeLimited]
// while too many deliveries of the workspace have still to be made.
func (s *Store) Publish(ctx context.Context, p postrider.Publication) ([]postrider.Receipt, error) {
	if p.Audit != nil {
		p.Audit.Caller = postrider.CallerOf(ctx) // the transaction is many callers'
	}
	receipts, err := s.publishJudged(ctx, publication{Publication: p, verdicts: filterVerdicts{}})
	return receipts, sqldb.Failure("publish", err)
}

func publicationWeight(p publication) int { return len(p.Events) }

// publishAll runs publications in one transaction. A publication that is refused leaves
// nothing behind in it.
func (s *Store) publishAll(ctx context.Context, publications []publication) ([]sqldb.Answer[[]postrider.Receipt], error) {
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
			answers[i].Value, answers[i].Err = made.accept(ctx, tx, p, known, subscribers)
			if err := answers[i].Err; err != nil && !isRefusal(err) {
				return err
			}
			if p.Audit != nil && answers[i].Err == nil {
				made.audited = append(made.audited, *p.Audit)
			}
		}
		if err := s.insertAudit(ctx, tx, made.audited); err != nil {
			return err
		}
		return made.save(ctx, s.db, tx)
	})
	if err == nil && len(made.outbox) > 0 {
		s.notify()
	}
	if err == nil && len(made.fanOuts) > 0 {
		signal(s.wakeFanOuts)
	}
	return answers, err
}

// publishBatch gathers the rows that accepted publications make.
type publishBatch struct {
	s   *Store
	now sqldb.Time

	trace      *string // of the publication whose deliveries are added
	events     []eventRow
	optioned   []eventRow // events that have options
	deliveries []deliveryRow
	unusual    []deliveryRow // deliveries that expire, have a shape or an order
	expiries   []expiryRow
	places     []placeRow // of deliveries that have an order
	outbox     []outboxRow
	fanOuts    []fanOutRow
	keys       []*idempotencyEntry
	audited    []postrider.AuditEntry
}

// newPublishBatch returns a batch with room for the events, and for a delivery of each.
func newPublishBatch(s *Store, publications []publication) *publishBatch {
	events := 0
	for _, p := range publications {
		events += len(p.Events)
	}
	return &publishBatch{
		s: s, now: sqldb.TimeOf(s.now()),
		events: make([]eventRow, 0, events), deliveries: make([]deliveryRow, 0, events), outbox: make([]outboxRow, 0, events),
	}
}

// accept decides on one publication and adds its rows.
func (b *publishBatch) accept(
	ctx context.Context, tx *sqlx.Tx, p publication, known idempotencyEntries, to *subscribers,
) ([]postrider.Receipt, error) {
	request, err := known.lookupRequest(p.Publication)
	if err != nil {
		return nil, err
	}
	if request != nil && request.answered {
		return duplicates(request.receipts), nil
	}
	events, err := known.lookupEvents(p.Publication)
	if err != nil {
		return nil, err
	}
	f, err := b.forecast(ctx, tx, p, events, to)
	if err == nil { // nothing refuses it from here on
		err = b.s.takeOperational(ctx, tx, p.takes)
	}
	if err != nil {
		return nil, err
	}
	receipts := make([]postrider.Receipt, len(p.Events))
	b.trace = nullText(p.TraceContext)
	for i, e := range p.Events {
		event := events[i]
		if event != nil && event.answered {
			receipts[i] = duplicates(event.receipts)[0]
			continue
		}
		if receipts[i], err = b.addEvent(e.Event, f.remarks[i], f.to[i], f.direct); err != nil {
			return nil, err
		}
		if event != nil {
			b.answer(event, e.RequestHash, receipts[i:i+1])
			event.eventKey = &e.Key
		}
	}
	if request != nil {
		b.answer(request, hashOf(p.Publication), receipts)
	}
	if !f.direct {
		err = b.addFanOuts(p.Publication, f.later(p.Publication))
	}
	return receipts, err
}

// forecast is what a publication comes to.
type forecast struct {
	to     [][]subscriber // the webhooks of each event; none of an event that was published before
	direct bool           // its deliveries are made at once
	// remarks are what the catalogue says of its events, by their places.
	remarks map[int]postrider.Remarks
}

// later returns the webhooks of each event without those that have it in an order.
func (f forecast) later(p postrider.Publication) [][]subscriber {
	later := make([][]subscriber, len(f.to))
	for i, to := range f.to {
		later[i] = slices.DeleteFunc(slices.Clone(to), func(w subscriber) bool { return w.laneOf(p.Events[i].OrderingKey) != nil })
	}
	return later
}

// maxOrdered is the most deliveries with an order that a publication which is fanned out makes. They
// are made at once: what is accepted next must come after them.
const maxOrdered = maxDirect

// checkOrdered returns [postrider.CodeInvalid] for a publication with too many deliveries that have an
// order, and [postrider.CodeUnavailable] when others of the transaction have taken the room for them.
func (f forecast) checkOrdered(p postrider.Publication, made int) error {
	ordered := 0
	for i, to := range f.to {
		for _, w := range to {
			if w.laneOf(p.Events[i].OrderingKey) != nil {
				ordered++
			}
		}
	}
	switch {
	case ordered > maxOrdered:
		return postrider.Invalid([]postrider.FieldError{{Field: "events", Message: fmt.Sprintf(
			"would make %d deliveries to webhooks with an ordering; a request may make at most %d of these", ordered, maxOrdered)}})
	case ordered > 0 && made > 0 && made+ordered > maxDirectTogether:
		return &postrider.Error{Code: postrider.CodeUnavailable, Message: "too much is published to webhooks with an ordering at once; try again"}
	}
	return nil
}

// forecast finds out what a publication comes to, and whether that is allowed.
func (b *publishBatch) forecast(
	ctx context.Context, tx *sqlx.Tx, p publication, known []*idempotencyEntry, to *subscribers,
) (f forecast, err error) {
	f.to = make([][]subscriber, len(p.Events))
	total := 0
	missing := unjudged{rules: to.rules[p.WorkspaceID]}
	unchecked := false
	for i := range p.Events {
		if known[i] != nil && known[i].answered {
			continue
		}
		if err := f.remark(p, i, missing.rules, &unchecked); err != nil {
			return f, &postrider.EventError{Index: i, Err: err}
		}
		if f.to[i], err = to.matching(p, i, &missing.filters); err != nil {
			return f, &postrider.EventError{Index: i, Err: err}
		}
		total += len(f.to[i])
	}
	if unchecked || len(missing.filters) > 0 {
		return f, &missing
	}
	f.direct = total <= maxDirect && len(b.deliveries)+len(b.unusual)+total <= maxDirectTogether
	switch {
	case f.direct:
		return f, nil
	case total > maxRequested:
		return f, postrider.Invalid([]postrider.FieldError{{
			Field: "events", Message: fmt.Sprintf("would make %d deliveries; a request may make at most %d", total, maxRequested),
		}})
	}
	if err := f.checkOrdered(p.Publication, len(b.places)); err != nil {
		return f, err
	}
	return f, checkWaiting(ctx, tx, p.WorkspaceID)
}

// remark keeps what the catalogue says of an event, or returns why it refuses it.
func (f *forecast) remark(p publication, event int, rules typeRules, unchecked *bool) error {
	if len(rules) == 0 {
		return nil
	}
	remarks, err := p.conforming(event, rules, unchecked)
	if remarks.Deprecated || remarks.SchemaErrors != nil {
		if f.remarks == nil {
			f.remarks = map[int]postrider.Remarks{}
		}
		f.remarks[event] = remarks
	}
	return err
}

// isRefusal reports whether an error is one publication's, and none of the others'.
func isRefusal(err error) bool {
	var missing *unjudged
	return postrider.CodeOf(err) != "" || errors.As(err, &missing)
}

func (b *publishBatch) answer(entry *idempotencyEntry, hash string, receipts []postrider.Receipt) {
	entry.answered, entry.hash, entry.receipts = true, hash, receipts
	b.keys = append(b.keys, entry)
}

// addEvent makes the rows of one event and, with direct, of its deliveries.
func (b *publishBatch) addEvent(
	e postrider.Event, remarks postrider.Remarks, to []subscriber, direct bool,
) (postrider.Receipt, error) {
	row := eventRow{
		Key: e.Key, ID: e.ID, WorkspaceID: e.WorkspaceID, Type: e.Type, PersonaID: e.PersonaID,
		OccurredAt: sqldb.TimeOf(e.Timestamp), DeliverAt: sqldb.NullTime(e.DeliverAt), Body: e.Body, CreatedAt: b.now,
	}
	if !e.CreatedAt.IsZero() {
		row.CreatedAt = sqldb.TimeOf(e.CreatedAt)
	}
	var err error
	if row.eventOptions, err = b.s.optionsOf(e); err != nil {
		return postrider.Receipt{}, err
	}
	if remarks.SchemaErrors != nil {
		row.SchemaValid = new(bool)
	}
	if row.given() {
		b.optioned = append(b.optioned, row)
	} else {
		b.events = append(b.events, row)
	}
	receipt := postrider.Receipt{ID: e.ID, Type: e.Type, Deliveries: len(to), Remarks: remarks}
	if direct {
		receipt.DeliveryIDs = make([]string, 0, len(to))
		b.deliveries, b.outbox = slices.Grow(b.deliveries, len(to)), slices.Grow(b.outbox, len(to))
	}
	for _, w := range to {
		if !direct && w.laneOf(e.OrderingKey) != nil { // its place is taken now, or it would be out of order
			b.addDelivery(row, w)
		}
		if w.Status != postrider.WebhookActive {
			receipt.Parked++
		}
		if direct {
			receipt.DeliveryIDs = append(receipt.DeliveryIDs, b.addDelivery(row, w))
		}
	}
	return receipt, nil
}

// addDelivery makes the rows of one delivery, and returns its id.
func (b *publishBatch) addDelivery(e eventRow, to subscriber) string {
	id := b.s.IDs.New(postrider.PrefixDelivery)
	due, hold := e.CreatedAt, (*sqldb.Time)(nil)
	if e.DeliverAt != nil && e.DeliverAt.After(b.now.Time) {
		due, hold = *e.DeliverAt, e.DeliverAt
	}
	state := postrider.StateParked
	if to.Status == postrider.WebhookActive {
		state = postrider.StatePending
		b.outbox = append(b.outbox, outboxRow{
			DeliveryID: id, WebhookID: to.ID, Queue: queueOf(e.WorkspaceID, to.ID), Kind: kindStart, HoldUntil: hold, DueAt: due,
		})
	}
	row := deliveryRow{
		ID: id, WorkspaceID: e.WorkspaceID, WebhookID: to.ID, EventID: e.ID, EventKey: e.Key, EventType: e.Type,
		State: state, Policy: to.Policy, CreatedAt: b.now, DueAt: due, ExpiresAt: e.ExpiresAt, TraceContext: b.trace,
		ShapeID: to.ShapeID, Lane: to.laneOf(e.OrderingKey),
	}
	if row.Lane != nil {
		b.places = append(b.places, placeRow{DeliveryID: id, Lane: *row.Lane})
	}
	if e.ExpiresAt != nil {
		b.expiries = append(b.expiries, expiryRow{id, *e.ExpiresAt})
	}
	if row.unusual() {
		b.unusual = append(b.unusual, row)
	} else {
		b.deliveries = append(b.deliveries, row)
	}
	return id
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
	if _, err := fanOutsTable.Insert(ctx, tx, b.fanOuts...); err != nil {
		return err
	}
	if err := b.takePlaces(ctx, tx); err != nil {
		return err
	}
	if len(b.optioned)+len(b.unusual) > 0 {
		if err := b.saveUnusual(ctx, db, tx); err != nil {
			return err
		}
	}
	if len(b.events)+len(b.deliveries)+len(b.outbox) == 0 {
		return nil
	}
	_, err := publicationRows.Write(ctx, db, tx,
		newEventsTable.Rows(b.events), newDeliveriesTable.Rows(b.deliveries), newOutboxTable.Rows(b.outbox))
	return err
}

// takePlaces lets the deliveries that have an order wait for their turn.
func (b *publishBatch) takePlaces(ctx context.Context, tx *sqlx.Tx) error {
	if len(b.places) == 0 {
		return nil
	}
	lanes, err := b.s.takePlaces(ctx, tx, b.places)
	if err != nil {
		return err
	}
	laneOf := make(map[string]string, len(b.places))
	for _, p := range b.places {
		laneOf[p.DeliveryID] = p.Lane
	}
	for i, row := range b.outbox {
		if lane, ordered := laneOf[row.DeliveryID]; ordered {
			b.outbox[i].HoldUntil = lanes[lane].hold(row.DeliveryID, row.DueAt, b.now.Time)
		}
	}
	return nil
}

// saveUnusual saves the rows that have more columns than most.
func (b *publishBatch) saveUnusual(ctx context.Context, db *sqldb.DB, tx *sqlx.Tx) error {
	if _, err := optionedEventRows.Write(ctx, db, tx, optionedEventsTable.Rows(b.optioned)); err != nil {
		return err
	}
	if len(b.unusual) == 0 {
		return nil
	}
	_, err := unusualDeliveryRows.Write(ctx, db, tx, unusualDeliveriesTable.Rows(b.unusual), expiriesTable.Rows(b.expiries))
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
