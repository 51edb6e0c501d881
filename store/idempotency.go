package store

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"

	"github.com/jmoiron/sqlx"

	"postrider.dev/postrider"
	"postrider.dev/postrider/store/sqldb"
)

// Publishing can be repeated: an idempotency key stands for a publication, and an event's
// own id for that event. Either is stored with the hash of the request and with its answer.

// idempotencyKey is the primary key of an [idempotencyEntry].
type idempotencyKey struct {
	WorkspaceID string `db:"workspace_id"`
	Kind        keyKind
	Value       string
}

// idempotencyRow is a row of the table idempotency_keys.
type idempotencyRow struct {
	idempotencyKey

	RequestHash string     `db:"request_hash"`
	Answer      string     // JSON of the receipts
	EventKey    *string    `db:"event_key"`
	CreatedAt   sqldb.Time `db:"created_at"`
}

// idempotencyEntry says how a key was used, if it was.
type idempotencyEntry struct {
	idempotencyKey

	answered          bool // by an earlier publication, stored or of the same transaction
	takenByOtherEvent bool // the id is the key of an event that was published without an id of its own
	hash              string
	receipts          []postrider.Receipt
	eventKey          *string
}

// idempotencyEntries are the keys of a transaction's publications.
type idempotencyEntries map[idempotencyKey]*idempotencyEntry

// keyOfEvent is the primary key of an event, with its workspace.
type keyOfEvent struct {
	WorkspaceID string `db:"workspace_id"`
	Key         string
}

// idempotencyKeys finds out which keys and ids of the publications were used before.
func (s *Store) idempotencyKeys(ctx context.Context, tx *sqlx.Tx, publications []publication) (idempotencyEntries, error) {
	known := idempotencyEntries{}
	var wanted []idempotencyKey
	var likeKeys []keyOfEvent // ids that look like Postrider's own
	want := func(key idempotencyKey) {
		if known[key] == nil {
			known[key] = &idempotencyEntry{idempotencyKey: key}
			wanted = append(wanted, key)
		}
	}
	for _, p := range publications {
		if p.IdempotencyKey != "" {
			want(idempotencyKey{p.WorkspaceID, perRequest, p.IdempotencyKey})
		}
		for _, e := range p.Events {
			if e.ID == e.Key {
				continue
			}
			want(idempotencyKey{p.WorkspaceID, perEvent, e.ID})
			if _, err := postrider.IDTime(e.ID); err == nil {
				likeKeys = append(likeKeys, keyOfEvent{p.WorkspaceID, e.ID})
			}
		}
	}
	if err := known.readStored(ctx, s.db, tx, wanted); err != nil {
		return nil, err
	}
	return known, known.readTaken(ctx, s.db, tx, likeKeys)
}

func (known idempotencyEntries) readStored(ctx context.Context, db *sqldb.DB, tx *sqlx.Tx, wanted []idempotencyKey) error {
	const query = "SELECT workspace_id, kind, value, request_hash, answer FROM idempotency_keys WHERE (workspace_id, kind, value) IN"
	return sqldb.LookUp(db, query, wanted, func(st *sqldb.Statement) error {
		var stored []idempotencyRow
		if err := st.Select(ctx, tx, &stored); err != nil {
			return err
		}
		for _, row := range stored {
			entry := known[row.idempotencyKey]
			entry.answered, entry.hash = true, row.RequestHash
			if err := json.Unmarshal([]byte(row.Answer), &entry.receipts); err != nil {
				return err
			}
			for i, r := range entry.receipts { // an earlier version stored the ids alone
				entry.receipts[i].Deliveries = max(r.Deliveries, len(r.DeliveryIDs))
			}
		}
		return nil
	})
}

// readTaken marks ids that a publisher gave and that are keys of other events: an id must
// stand for one event.
func (known idempotencyEntries) readTaken(ctx context.Context, db *sqldb.DB, tx *sqlx.Tx, likeKeys []keyOfEvent) error {
	const query = "SELECT workspace_id, key FROM events WHERE id = key AND (workspace_id, key) IN"
	return sqldb.LookUp(db, query, likeKeys, func(st *sqldb.Statement) error {
		var taken []keyOfEvent
		err := st.Select(ctx, tx, &taken)
		for _, e := range taken {
			known[idempotencyKey{e.WorkspaceID, perEvent, e.Key}].takenByOtherEvent = true
		}
		return err
	})
}

// lookupRequest returns the entry of the publication's idempotency key, nil when it has no
// key. Returns [postrider.CodeConflict] when the key stands for another request.
func (known idempotencyEntries) lookupRequest(p postrider.Publication) (*idempotencyEntry, error) {
	if p.IdempotencyKey == "" {
		return nil, nil
	}
	entry := known[idempotencyKey{p.WorkspaceID, perRequest, p.IdempotencyKey}]
	if entry.answered && entry.hash != hashOf(p) {
		return nil, &postrider.Error{Code: postrider.CodeConflict, Message: "the idempotency key was used with another request"}
	}
	return entry, nil
}

// lookupEvents returns the entry of each event's id, nil for an event without an id of its
// own. Returns [postrider.CodeConflict] when an id stands for another event.
func (known idempotencyEntries) lookupEvents(p postrider.Publication) ([]*idempotencyEntry, error) {
	entries := make([]*idempotencyEntry, len(p.Events))
	hashes := map[string]string{} // of the ids seen in this publication
	for i, e := range p.Events {
		if e.ID == e.Key {
			continue
		}
		entry := known[idempotencyKey{p.WorkspaceID, perEvent, e.ID}]
		if entry.answered {
			hashes[e.ID] = entry.hash
		}
		hash, seen := hashes[e.ID]
		if entry.takenByOtherEvent || seen && hash != e.RequestHash {
			return nil, &postrider.Error{Code: postrider.CodeConflict, Message: "the event id " + e.ID + " was used with another event"}
		}
		hashes[e.ID] = e.RequestHash
		entries[i] = entry
	}
	return entries, nil
}

// saveIdempotency stores the keys and ids with their answers. When another transaction
// stored one of them since they were read, this transaction has to be run again.
func saveIdempotency(ctx context.Context, db *sqldb.DB, tx *sqlx.Tx, entries []*idempotencyEntry, now sqldb.Time) error {
	if len(entries) == 0 {
		return nil
	}
	// In one order everywhere: two transactions that wait for each other's keys would be a
	// deadlock.
	slices.SortFunc(entries, func(a, b *idempotencyEntry) int {
		return cmp.Or(cmp.Compare(a.WorkspaceID, b.WorkspaceID), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Value, b.Value))
	})
	rows := make([]idempotencyRow, len(entries))
	for i, entry := range entries {
		answer, err := json.Marshal(entry.receipts)
		if err != nil {
			return err
		}
		rows[i] = idempotencyRow{
			idempotencyKey: entry.idempotencyKey, RequestHash: entry.hash, Answer: string(answer), EventKey: entry.eventKey, CreatedAt: now,
		}
	}
	stored, err := idempotencyRows.Write(ctx, db, tx, idempotencyKeysTable.Rows(rows))
	if err == nil && stored < int64(len(rows)) {
		return sqldb.ErrRaced
	}
	return err
}

// hashOf returns the hash of a whole publication: of its events' hashes, in order.
func hashOf(p postrider.Publication) string {
	sum := sha256.New()
	for _, e := range p.Events {
		sum.Write([]byte("\n" + e.RequestHash))
	}
	return hex.EncodeToString(sum.Sum(nil))
}
