package sqldb

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/lib/pq"

	"postrider.dev/postrider"
)

// Failure returns an error that says what the failure of a database means. A domain error
// and the error of a cancelled context stay what they are. A database that cannot be
// reached is [postrider.CodeUnavailable], values that it refuses are
// [postrider.CodeInvalid] or [postrider.CodeConflict]. Messages hold no SQL; the cause is
// for logs. The name says what was to be done.
func Failure(name string, err error) error {
	var domain *postrider.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &domain):
		return err
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("store: %s: %w", name, err)
	}
	cause := fmt.Errorf("store: %s: %w", name, err)
	switch {
	case away(err):
		return &postrider.Error{Code: postrider.CodeUnavailable, Message: "the database is not available", Err: cause}
	case refused(err):
		return &postrider.Error{Code: postrider.CodeInvalid, Message: "a value cannot be stored", Err: cause}
	case contradicts(err):
		return &postrider.Error{Code: postrider.CodeConflict, Message: "contradicts what is stored", Err: cause}
	}
	return cause
}

// OrNotFound turns the absence of a row into the domain's error for the resource, and
// leaves other errors alone.
func OrNotFound(resource string, err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return postrider.NotFound(resource)
	}
	return err
}

// SQLite's primary result codes, https://www.sqlite.org/rescode.html
const (
	sqliteBusy       = 5
	sqliteLocked     = 6
	sqliteReadOnly   = 8
	sqliteIOErr      = 10
	sqliteFull       = 13
	sqliteCantOpen   = 14
	sqliteConstraint = 19
)

// sqliteCode returns the primary result code of an error of SQLite's driver, which
// this package does not link.
func sqliteCode(err error) int {
	var coded interface {
		error
		Code() int
	}
	if errors.As(err, &coded) {
		return coded.Code() & 0xff
	}
	return 0
}

// postgresCode returns the SQLSTATE of an error of PostgreSQL, or "".
func postgresCode(err error) string {
	var answer *pq.Error
	if errors.As(err, &answer) {
		return string(answer.Code)
	}
	return ""
}

// ViolatesCheck reports whether a CHECK constraint, or a partition's bounds, refused a row.
func ViolatesCheck(err error) bool { return postgresCode(err) == "23514" }

// class returns the first two characters of an SQLSTATE.
func class(code string) string {
	if len(code) < 2 {
		return ""
	}
	return code[:2]
}

// away reports whether the database could not be reached or could not work:
// another try later may do.
func away(err error) bool {
	var network net.Error
	if errors.As(err, &network) || errors.Is(err, driver.ErrBadConn) || errors.Is(err, sql.ErrConnDone) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, ErrClosed) ||
		errors.Is(err, errReadOnly) || retryable(err) {
		return true
	}
	switch sqliteCode(err) {
	case sqliteBusy, sqliteLocked, sqliteReadOnly, sqliteIOErr, sqliteFull, sqliteCantOpen:
		return true
	}
	code := postgresCode(err)
	switch class(code) {
	case "08", "53": // connection exception, insufficient resources
		return true
	case "57": // operator intervention: shutdown, crash, starting up, a statement that took too long
		return true
	}
	// read_only_sql_transaction: a standby, in the middle of a failover.
	// lock_not_available: lock_timeout.
	return code == "25006" || code == "55P03"
}

// retryable reports whether a transaction lost against another one and may win
// when it is run again.
func retryable(err error) bool {
	code := postgresCode(err)
	return errors.Is(err, ErrRaced) || code == "40P01" || code == "40001" // deadlock, serialization
}

// refused reports whether a value was one that the database cannot hold, such as
// the character U+0000 in PostgreSQL's text.
func refused(err error) bool { return class(postgresCode(err)) == "22" }

func contradicts(err error) bool {
	return class(postgresCode(err)) == "23" || sqliteCode(err) == sqliteConstraint
}
