package store

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"slices"

	"github.com/jmoiron/sqlx"

	"postrider.dev/postrider"
	"postrider.dev/postrider/store/sqldb"
)

// A publication that matches more webhooks than one transaction should make deliveries for is
// accepted with its events and fan-outs. Each fan-out is events that go to the same webhooks,
// and how far it has come. Its deliveries are made in steps, each a short transaction of its
// own, so that nobody's publish waits for them.

const (
	// maxDirect is the most deliveries that a publication makes at once, and maxDirectTogether
	// the most that the publications of one transaction do.
	maxDirect         = 1500
	maxDirectTogether = 2500
	// fanOutChunk is the most deliveries of a step. One takes some 25 ms.
	fanOutChunk = 500
	// maxRequested is the most deliveries that one publication may make, and maxWaiting the most
	// that the fan-outs of a workspace may have still to make when another one is accepted.
	maxRequested = 1_000_000
	maxWaiting   = 2_000_000
)

// fanOutRow is a row of the table fanouts. Deliveries are numbered from 0: first those of the
// first event, to each webhook, then the next event's.
type fanOutRow struct {
	ID           string
	WorkspaceID  string  `db:"workspace_id"`
	Events       string  // JSON: their keys
	Webhooks     string  // JSON: their ids
	Total        int     // deliveries
	Done         int     // those made so far
	TraceContext *string `db:"trace_context"`
}

// addFanOuts makes the rows of a publication's fan-outs. to are the webhooks of each event.
func (b *publishBatch) addFanOuts(p postrider.Publication, to [][]subscriber) error {
	byWebhooks := map[[sha256.Size]byte]int{}
	var groups [][]int // indexes of events that go to the same webhooks
	for i := range p.Events {
		if len(to[i]) == 0 {
			continue
		}
		key := hashOfWebhooks(to[i])
		at, known := byWebhooks[key]
		if !known {
			at = len(groups)
			byWebhooks[key] = at
			groups = append(groups, nil)
		}
		groups[at] = append(groups[at], i)
	}
	for _, group := range groups {
		webhooks := to[group[0]]
		keys, webhookIDs := make([]string, len(group)), make([]string, len(webhooks))
		for i, at := range group {
			keys[i] = p.Events[at].Key
		}
		for i, w := range webhooks {
			webhookIDs[i] = w.ID
		}
		row := fanOutRow{
			ID: b.s.IDs.New(postrider.PrefixFanOut), WorkspaceID: p.WorkspaceID, Total: len(keys) * len(webhookIDs),
			TraceContext: nullText(p.TraceContext),
		}
		var err error
		if row.Events, err = jsonText(keys); err != nil {
			return err
		}
		if row.Webhooks, err = jsonText(webhookIDs); err != nil {
			return err
		}
		b.fanOuts = append(b.fanOuts, row)
	}
	return nil
}

// hashOfWebhooks returns the same for the same webhooks.
func hashOfWebhooks(webhooks []subscriber) (sum [sha256.Size]byte) {
	hash := sha256.New()
	for _, w := range webhooks {
		hash.Write([]byte(w.ID))
	}
	hash.Sum(sum[:0])
	return sum
}

func jsonText(value any) (string, error) {
	text, err := json.Marshal(value)
	return string(text), err
}

// checkWaiting returns [postrider.CodeLimited] for a workspace whose fan-outs have too many
// deliveries still to make.
func checkWaiting(ctx context.Context, tx *sqlx.Tx, workspaceID string) error {
	var waiting int
	err := sqldb.SQL("SELECT COALESCE(SUM(total - done), 0) FROM fanouts WHERE ").PinnedTo("workspace_id", workspaceID).Get(ctx, tx, &waiting)
	if err == nil && waiting > maxWaiting {
		err = &postrider.Error{
			Code:    postrider.CodeLimited,
			Message: "more than 2000000 deliveries of events that were accepted before have still to be made; try again later",
		}
	}
	return err
}

// FanOut makes one step: some of the deliveries of a large publication. Workspaces take turns.
// It reports whether another step is due now.
func (s *Store) FanOut(ctx context.Context) (more bool, err error) {
	if err := sqldb.SQL("SELECT EXISTS (SELECT 1 FROM fanouts)").Get(ctx, s.db.Delivering.Reading, &more); err != nil || !more {
		return false, sqldb.Failure("look for fan-outs", err)
	}
	err = s.db.Delivering.Write(ctx, "fan out", func(tx *sqlx.Tx) error {
		row, err := s.nextFanOut(ctx, tx)
		more = row != nil // where other processes are at all of them, there is nothing to do here
		if err != nil || row == nil {
			return err
		}
		return s.fanOutStep(ctx, tx, *row)
	})
	if err == nil && more {
		s.notify()
	}
	return more, err
}

// nextFanOut locks the fan-out whose turn it is; nil when other processes are at all of them.
func (s *Store) nextFanOut(ctx context.Context, tx *sqlx.Tx) (*fanOutRow, error) {
	s.fanOutTurn.Lock()
	defer s.fanOutTurn.Unlock()
	for _, after := range []string{s.fanOutTurn.workspaceID, ""} {
		var rows []fanOutRow
		err := sqldb.SQL(selectFanOuts+"workspace_id > ? ORDER BY workspace_id, id LIMIT 1", after).Add(s.db.Lock("FOR UPDATE SKIP LOCKED")).
			Select(ctx, tx, &rows)
		if err != nil {
			return nil, err
		}
		if len(rows) > 0 {
			s.fanOutTurn.workspaceID = rows[0].WorkspaceID
			return &rows[0], nil
		}
	}
	return nil, nil
}

// recipients reads the webhooks of a fan-out, by id. What was accepted for deleted ones is to
// be cancelled: their deliveries are parked, and swept.
func recipients(ctx context.Context, tx *sqlx.Tx, webhookIDs []string) (all map[string]subscriber, deleted []string, err error) {
	all = map[string]subscriber{}
	for part := range slices.Chunk(webhookIDs, sqldb.ChunkSize) {
		var rows []struct {
			subscriber
			Deleted bool
		}
		if err := sqldb.SQL(selectRecipients).In(part).Select(ctx, tx, &rows); err != nil {
			return nil, nil, err
		}
		for _, row := range rows {
			if row.Deleted {
				row.Status = postrider.WebhookDisabled
				deleted = append(deleted, row.ID)
			}
			all[row.ID] = row.subscriber
		}
	}
	return all, deleted, nil
}

// fanOutStep makes the next deliveries of a fan-out.
func (s *Store) fanOutStep(ctx context.Context, tx *sqlx.Tx, row fanOutRow) error {
	var keys, webhookIDs []string
	if err := json.Unmarshal([]byte(row.Events), &keys); err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(row.Webhooks), &webhookIDs); err != nil {
		return err
	}
	end := min(row.Done+fanOutChunk, row.Total)
	first, last := row.Done/len(webhookIDs), (end-1)/len(webhookIDs)
	events, err := keyed(ctx, tx, selectEventsWithoutBodies, "key", keys[first:last+1], eventRow.cursor)
	if err != nil {
		return err
	}
	// Their status must not change before the deliveries are there, see subscribers.
	if _, err := s.generations(ctx, tx, []string{row.WorkspaceID}); err != nil {
		return err
	}
	wanted := webhookIDs
	if from := row.Done % len(webhookIDs); from+end-row.Done <= len(webhookIDs) {
		wanted = webhookIDs[from : from+end-row.Done]
	}
	webhooks, deleted, err := recipients(ctx, tx, wanted)
	if err != nil {
		return err
	}
	if err := s.requestSweeps(ctx, tx, deleted...); err != nil {
		return err
	}
	b := newPublishBatch(s, nil)
	b.trace = row.TraceContext
	for n := row.Done; n < end; n++ {
		event, kept := events[keys[n/len(webhookIDs)]]
		if to, known := webhooks[webhookIDs[n%len(webhookIDs)]]; kept && known {
			b.addDelivery(event, to)
		}
	}
	if err := b.save(ctx, s.db, tx); err != nil {
		return err
	}
	if end == row.Total {
		return sqldb.SQL("DELETE FROM fanouts WHERE id = ?", row.ID).Run(ctx, tx)
	}
	return sqldb.SQL("UPDATE fanouts SET done = ? WHERE id = ?", end, row.ID).Run(ctx, tx)
}
