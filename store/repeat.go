package store

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"time"

	"github.com/jmoiron/sqlx"

	"postrider.dev/postrider"
)

// What makes publishing repeatable: an idempotency key stands for a publication,
// an event's own id for that event. Either is stored with the hash of the request
// and its answer.

const (
	kindKey = "key"
	kindID  = "id"
)

// place is the primary key of a [repeat].
type place struct {
	WorkspaceID string `db:"workspace_id"`
	Kind        string
	Value       string
}

// repeat is what is known of a key or id.
type repeat struct {
	place
	answered bool // by an earlier publication, stored or of the same transaction
	foreign  bool // the id is the key of an event that was published without an id of its own
	hash     string
	receipts []postrider.Receipt
	eventKey *string
}

// repeatable are the keys and ids of a transaction's publications.
type repeatable map[place]*repeat

// repeats finds out which keys and ids of the publications were used before.
func (s *Store) repeats(ctx context.Context, tx *sqlx.Tx, publications []postrider.Publication) (repeatable, error) {
	known := repeatable{}
	var wanted, lookAlikes [][]any
	want := func(at place) {
		if known[at] == nil {
			known[at] = &repeat{place: at}
			wanted = append(wanted, []any{at.WorkspaceID, at.Kind, at.Value})
		}
	}
	for _, p := range publications {
		if p.IdempotencyKey != "" {
			want(place{p.WorkspaceID, kindKey, p.IdempotencyKey})
		}
		for _, e := range p.Events {
			if e.ID == e.Key {
				continue
			}
			want(place{p.WorkspaceID, kindID, e.ID})
			if _, err := postrider.IDTime(e.ID); err == nil {
				lookAlikes = append(lookAlikes, []any{p.WorkspaceID, e.ID})
			}
		}
	}
	if err := s.readStored(ctx, tx, wanted, known); err != nil {
		return nil, err
	}
	return known, s.readForeign(ctx, tx, lookAlikes, known)
}

func (s *Store) readStored(ctx context.Context, tx *sqlx.Tx, wanted [][]any, known repeatable) error {
	const query = "SELECT workspace_id, kind, value, request_hash, answer FROM idempotency_keys WHERE (workspace_id, kind, value) IN"
	return s.lookUp(query, wanted, func(st *statement) error {
		var stored []struct {
			place
			RequestHash string `db:"request_hash"`
			Answer      string
		}
		if err := st.selectInto(ctx, tx, &stored); err != nil {
			return err
		}
		for _, row := range stored {
			r := known[row.place]
			r.answered, r.hash = true, row.RequestHash
			if err := json.Unmarshal([]byte(row.Answer), &r.receipts); err != nil {
				return err
			}
		}
		return nil
	})
}

// readForeign marks ids that a publisher gave but that are keys of other events:
// an id must stand for one event.
func (s *Store) readForeign(ctx context.Context, tx *sqlx.Tx, lookAlikes [][]any, known repeatable) error {
	const query = "SELECT workspace_id, key FROM events WHERE id = key AND (workspace_id, key) IN"
	return s.lookUp(query, lookAlikes, func(st *statement) error {
		var taken []struct {
			WorkspaceID string `db:"workspace_id"`
			Key         string
		}
		err := st.selectInto(ctx, tx, &taken)
		for _, e := range taken {
			known[place{e.WorkspaceID, kindID, e.Key}].foreign = true
		}
		return err
	})
}

// claimKey returns what is known of the publication's idempotency key, nil when it
// has none.
func (known repeatable) claimKey(p postrider.Publication) (*repeat, error) {
	if p.IdempotencyKey == "" {
		return nil, nil
	}
	r := known[place{p.WorkspaceID, kindKey, p.IdempotencyKey}]
	if r.answered && r.hash != hashOf(p) {
		return nil, &postrider.Error{Code: postrider.CodeConflict, Message: "the idempotency key was used with another request"}
	}
	return r, nil
}

// claimIDs returns what is known of each event's id, nil for an event without one
// of its own.
func (known repeatable) claimIDs(p postrider.Publication) ([]*repeat, error) {
	singles := make([]*repeat, len(p.Events))
	hashes := map[string]string{} // of the ids seen in this publication
	for i, e := range p.Events {
		if e.ID == e.Key {
			continue
		}
		r := known[place{p.WorkspaceID, kindID, e.ID}]
		if r.answered {
			hashes[e.ID] = r.hash
		}
		hash, seen := hashes[e.ID]
		if r.foreign || seen && hash != e.RequestHash {
			return nil, &postrider.Error{Code: postrider.CodeConflict, Message: "the event id " + e.ID + " was used with another event"}
		}
		hashes[e.ID] = e.RequestHash
		singles[i] = r
	}
	return singles, nil
}

// saveRepeats stores the keys and ids with their answers. When another transaction
// stored one of them since they were read, this one has to be run again.
func (s *Store) saveRepeats(ctx context.Context, tx *sqlx.Tx, keys []*repeat, now time.Time) error {
	if len(keys) == 0 {
		return nil
	}
	// In one order everywhere: two transactions that wait for each other's keys
	// would be a deadlock.
	slices.SortFunc(keys, func(a, b *repeat) int {
		return cmp.Or(cmp.Compare(a.WorkspaceID, b.WorkspaceID), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Value, b.Value))
	})
	rows := make([][]any, len(keys))
	for i, r := range keys {
		text, err := json.Marshal(r.receipts)
		if err != nil {
			return err
		}
		rows[i] = []any{r.WorkspaceID, r.Kind, r.Value, r.hash, string(text), r.eventKey, now}
	}
	stored, err := s.repetition.write(ctx, s, tx, rows)
	if err == nil && stored < int64(len(rows)) {
		return errRaced
	}
	return err
}

func repetitionRows() *bulk {
	return newBulk(table{
		name:    "idempotency_keys",
		columns: "workspace_id text, kind text, value text, request_hash text, answer text, event_key text, created_at timestamptz",
		end:     "ON CONFLICT (workspace_id, kind, value) DO NOTHING",
	})
}

// hashOf returns the hash of a whole publication: of its events' hashes, in order,
// and of where they go.
func hashOf(p postrider.Publication) string {
	sum := sha256.New()
	sum.Write([]byte(p.OnlyWebhookID))
	for _, e := range p.Events {
		sum.Write([]byte("\n" + e.RequestHash))
	}
	return hex.EncodeToString(sum.Sum(nil))
}
