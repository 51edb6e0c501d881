package sqldb

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"
)

const (
	postgresConnections = 20
	leasingConnections  = 4
	postgresIdle        = 5 * time.Minute
	sqliteReaders       = 4
	sqliteFile          = "postrider.db"
	sqliteDriver        = "sqlite"
)

// DB is a database with its pools of connections. It is safe for concurrent use.
type DB struct {
	Dialect

	Writing *sqlx.DB // on SQLite its one connection that writes
	Reading *sqlx.DB // the same as Writing on PostgreSQL
	Leasing *sqlx.DB // its commits may be lost when PostgreSQL crashes; the same as Writing on SQLite
	Address string   // of PostgreSQL, for connections beside the pools
}

// Querier runs statements: a pool or a transaction.
type Querier = sqlx.ExtContext

// Open opens the pools; connections are made when they are needed. An address that begins
// with postgres:// or postgresql:// is PostgreSQL's. "sqlite:PATH" and a bare path are a
// SQLite file, which is made when it is missing, and "" is the file postrider.db in the
// working folder.
func Open(address string) (*DB, error) {
	if strings.HasPrefix(address, "postgres://") || strings.HasPrefix(address, "postgresql://") {
		return openPostgres(address)
	}
	return openSQLite(cmp.Or(strings.TrimPrefix(address, "sqlite:"), sqliteFile))
}

func openPostgres(address string) (*DB, error) {
	u, err := url.Parse(address)
	if err != nil {
		// The parser's own message would repeat the address with its password.
		return nil, errors.New("the database URL cannot be parsed")
	}
	query := u.Query()
	// Saves a round trip for each statement: parameters go along with its text.
	query.Set("binary_parameters", "yes")
	// A statement is planned once, for any parameters. A plan that was made while a table
	// was small must not read through the table when it has grown, so an index is used
	// wherever there is one. JIT is off because it takes longer than these statements run.
	for setting, value := range map[string]string{"enable_seqscan": "off", "jit": "off", "plan_cache_mode": "force_generic_plan"} {
		if !query.Has(setting) {
			query.Set(setting, value)
		}
	}
	u.RawQuery = query.Encode()
	db := &DB{
		Dialect: Dialect{Name: Postgres, Locks: true, Arrays: true, Partitions: true, Shared: true},
		Address: u.String(),
	}
	if db.Writing, err = postgresPool(db.Address, postgresConnections); err != nil {
		return nil, err
	}
	db.Reading = db.Writing
	// When PostgreSQL crashes and loses a claim, the rows are claimed again. At worst an
	// attempt is made twice, as after any crash. So claims need not wait for the disk.
	query.Set("synchronous_commit", "off")
	u.RawQuery = query.Encode()
	if db.Leasing, err = postgresPool(u.String(), leasingConnections); err != nil {
		return nil, errors.Join(err, db.Writing.Close())
	}
	return db, nil
}

// postgresPool opens a pool that makes at most the given number of connections.
func postgresPool(address string, connections int) (*sqlx.DB, error) {
	connector, err := pq.NewConnector(address)
	if err != nil {
		return nil, errors.New("the database URL is not one that PostgreSQL's driver takes")
	}
	db := sqlx.NewDb(sql.OpenDB(preparing{connector}), "postgres")
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	db.SetConnMaxIdleTime(postgresIdle)
	return db, nil
}

// sqliteSettings apply to every connection. Another process, such as a command, looks
// every tenth of a second whether the file is free. It may miss the file many times, so
// busy_timeout is long.
const sqliteSettings = "?_time_format=sqlite&_pragma=busy_timeout(20000)&_pragma=journal_mode(WAL)" +
	"&_pragma=foreign_keys(1)&_pragma=synchronous(FULL)"

func openSQLite(path string) (*DB, error) {
	if err := makeFile(path); err != nil {
		return nil, err
	}
	name := "file:" + (&url.URL{Path: path}).EscapedPath() + sqliteSettings
	writing, err := sqlx.Open(sqliteDriver, name+"&_txlock=immediate")
	if err != nil {
		return nil, err
	}
	// One writer: a second connection would wait for the first inside SQLite, which polls.
	writing.SetMaxOpenConns(1)
	reading, err := sqlx.Open(sqliteDriver, name+"&_pragma=query_only(1)")
	if err != nil {
		return nil, errors.Join(err, writing.Close())
	}
	reading.SetMaxOpenConns(sqliteReaders)
	reading.SetMaxIdleConns(sqliteReaders)
	return &DB{Dialect: Dialect{Name: SQLite}, Writing: writing, Reading: reading, Leasing: writing}, nil
}

// HasSQLite reports whether the program has SQLite's driver in it.
func HasSQLite() bool { return slices.Contains(sql.Drivers(), sqliteDriver) }

// makeFile makes the file, if it is missing, for its owner alone. SQLite itself would use
// the umask.
func makeFile(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600) //nolint:gosec // the operator's own setting
	if err != nil {
		return err
	}
	return file.Close()
}

// Ping reports whether the database answers.
func (db *DB) Ping(ctx context.Context) error {
	var one int
	return Failure("ping", db.Reading.GetContext(ctx, &one, "SELECT 1"))
}

// Close closes the pools.
func (db *DB) Close() error {
	err := db.Writing.Close()
	if db.Reading != db.Writing {
		err = errors.Join(db.Reading.Close(), err)
	}
	if db.Leasing != db.Writing {
		err = errors.Join(db.Leasing.Close(), err)
	}
	return Failure("close", err)
}
