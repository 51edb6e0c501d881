package sqldb

import (
	"context"
	"errors"
	"fmt"

	"github.com/jmoiron/sqlx"
)

// maxTries bounds how often a transaction is run that lost against another.
const maxTries = 5

// ErrRaced is returned by a transaction's work that wants to be run again: another
// transaction committed something that it had not seen.
var ErrRaced = errors.New("store: another transaction was first")

// errReadOnly means that the database takes no writes at present.
var errReadOnly = errors.New("store: the database is read-only")

// featureNotSupported is an SQLSTATE.
const featureNotSupported = "0A000"

// Write runs work in a transaction. It runs work again from the beginning when the
// database aborted the transaction to end a deadlock, so work must not leave anything
// behind outside the transaction. The name says in errors what was done.
func (db *DB) Write(ctx context.Context, name string, work func(tx *sqlx.Tx) error) error {
	return writeOn(ctx, db.Writing, name, work)
}

// Write is [DB.Write] on the pool.
func (p Pool) Write(ctx context.Context, name string, work func(tx *sqlx.Tx) error) error {
	return writeOn(ctx, p.Writing, name, work)
}

// Lease is Write for a transaction whose commit may be lost when PostgreSQL crashes.
func (db *DB) Lease(ctx context.Context, name string, work func(tx *sqlx.Tx) error) error {
	return writeOn(ctx, db.Leasing, name, work)
}

func writeOn(ctx context.Context, pool *sqlx.DB, name string, work func(tx *sqlx.Tx) error) error {
	for try := 1; ; try++ {
		err := writeOnce(ctx, pool, work)
		if err == nil || try == maxTries || ctx.Err() != nil || !retryable(err) {
			return Failure(name, err)
		}
	}
}

func writeOnce(ctx context.Context, pool *sqlx.DB, work func(tx *sqlx.Tx) error) error {
	tx, err := pool.BeginTxx(ctx, nil)
	if postgresCode(err) == featureNotSupported { // the driver begins with READ WRITE, which a standby cannot
		return fmt.Errorf("%w: %w", errReadOnly, err)
	}
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
