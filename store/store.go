// Package store keeps everything that must survive a crash, in PostgreSQL or
// SQLite: workspaces, webhooks and their secrets, events, deliveries with their
// attempts, and the outbox from which deliveries are handed to workflows.
//
// Invariants:
//   - Publish answers after its transaction is committed, and that transaction
//     holds the events, their deliveries and an outbox row for each delivery that
//     is to be made. So an accepted delivery is finished, parked, in the outbox,
//     or with a workflow; it is never in none of these.
//   - An outbox row goes in the transaction that finishes or parks its delivery, and in
//     no other way: see outbox.go for its states. A lease that runs out makes the row
//     claimable again, so a lost workflow loses no delivery.
//   - Secrets are stored encrypted, see [Keyring].
//   - Everything of a workspace is read and changed with the workspace's id in the
//     condition: another's id is an unknown one.
//
// Transactions lock in one order, so that they do not deadlock: webhooks, then their
// workspaces (which a change of a webhook does by a trigger), webhook_pace,
// deliveries, outbox, webhook_stats, each in the order of ids. Where a statement
// cannot keep the order, the transaction is run again.
//
// The SQL is one text for both databases; what differs is in dialect.go.
package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/jmoiron/sqlx"

	"postrider.dev/postrider"
)

// Options are what a Store needs beside its database; all but Alone are required.
type Options struct {
	Keys   *Keyring
	Now    func() time.Time
	IDs    *postrider.IDs
	Logger *slog.Logger
	// Alone says that no other process delivers or serves from the database, so that none
	// has to be told what this one did.
	Alone bool
}

// Store is the database. It is safe for concurrent use.
type Store struct {
	Options
	dialect dialect
	db      *sqlx.DB // writes; on SQLite its one connection
	reading *sqlx.DB // reads; the same as db on PostgreSQL
	leasing *sqlx.DB // claims, whose commits need not outlive a crash of PostgreSQL; on SQLite the same as db

	publishing  *group[postrider.Publication, []postrider.Receipt]
	recording   *group[[]postrider.Outcome, struct{}]
	permitting  *group[postrider.PermitRequest, postrider.Permit]
	wake        chan struct{}
	wakeRetries chan struct{}
	address     string        // of PostgreSQL, for connections beside the pool
	news        chan struct{} // for other processes' dispatchers
	quiet       func()        // ends the notifications

	revocations atomic.Int64
	audiences   audiences
	publication *bulk // rows of events, deliveries and the outbox
	repetition  *bulk // rows of idempotency keys

	starts, retries rounds // where the latest claims ended
}

// Open opens the database at url and starts the group commits. A url that begins
// with postgres:// or postgresql:// is PostgreSQL's; "sqlite:PATH" and a bare path
// are a SQLite file, made when it is missing, and "" is the file postrider.db in
// the working folder. SQLite's driver ("sqlite", modernc.org/sqlite) must be
// imported by the program. Returns [postrider.CodeUnavailable] when the database
// cannot be reached.
func Open(ctx context.Context, url string, options Options) (*Store, error) {
	if options.Keys == nil || options.Now == nil || options.IDs == nil || options.Logger == nil {
		return nil, errors.New("store: every field of Options but Alone is required")
	}
	s := &Store{
		Options: options, wake: make(chan struct{}, 1), wakeRetries: make(chan struct{}, 1), news: make(chan struct{}, 1),
		audiences:   audiences{known: map[audience]knownAudience{}},
		publication: publicationRows(), repetition: repetitionRows(),
	}
	if err := s.connect(url); err != nil {
		return nil, failure("open", err)
	}
	if err := s.Ping(ctx); err != nil {
		return nil, errors.Join(err, s.disconnect())
	}
	// The groups outlive the call that opens the store, and end with Close.
	ctx = context.WithoutCancel(ctx)
	s.publishing = newGroup(ctx, publicationWeight, s.publishAll)
	s.recording = newGroup(ctx, func(o []postrider.Outcome) int { return len(o) }, s.recordAll)
	s.permitting = newGroup(ctx, func(postrider.PermitRequest) int { return 1 }, s.permitAll)
	s.starts.queues, s.retries.queues = map[string]string{}, map[string]string{}
	s.startNotifying(ctx)
	return s, nil
}

// Ping reports whether the database answers.
func (s *Store) Ping(ctx context.Context) error {
	var one int
	return failure("ping", s.reading.GetContext(ctx, &one, "SELECT 1"))
}

// Close ends the group commits, after what was handed to them is done, and closes
// the database. Nothing may be claimed meanwhile.
func (s *Store) Close() error {
	s.publishing.close()
	s.recording.close()
	s.permitting.close()
	s.quiet()
	return s.disconnect()
}

// Wake gets a value, one for many, when this process committed something that a
// dispatcher can claim, and while [Store.Listen] runs, when another process did.
func (s *Store) Wake() <-chan struct{} { return s.wake }

// WakeRetries gets a value, one for many, when this process left retries to be handed
// over.
func (s *Store) WakeRetries() <-chan struct{} { return s.wakeRetries }

func (s *Store) signal() { signal(s.wake) }

// signal puts a token into a channel of one, unless it holds one already.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (s *Store) now() time.Time { return postrider.Timestamp(s.Now()) }

// maxTries bounds how often a transaction is run that lost against another.
const maxTries = 5

// errRaced is a transaction's own wish to be run again: another committed what it
// had not seen.
var errRaced = errors.New("store: another transaction was first")

// write runs work in a transaction. It runs it again from the beginning when the
// database chose it to end a deadlock, so work must not leave anything behind
// outside the transaction.
func (s *Store) write(ctx context.Context, name string, work func(tx *sqlx.Tx) error) error {
	return writeOn(ctx, s.db, name, work)
}

func writeOn(ctx context.Context, db *sqlx.DB, name string, work func(tx *sqlx.Tx) error) error {
	for try := 1; ; try++ {
		err := once(ctx, db, work)
		if err == nil || try == maxTries || ctx.Err() != nil || !retryable(err) {
			return failure(name, err)
		}
	}
}

func once(ctx context.Context, db *sqlx.DB, work func(tx *sqlx.Tx) error) error {
	tx, err := db.BeginTxx(ctx, nil)
	if err != nil {
		return err
	}
	if err := work(tx); err != nil {
		if undo := tx.Rollback(); undo != nil && ctx.Err() == nil {
			return fmt.Errorf("%w (rollback: %w)", err, undo)
		}
		return err
	}
	return tx.Commit()
}
