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

// The connections of a process to PostgreSQL, 24 in all, and one more to listen. Connections are
// made when they are needed, and one that rests ends after postgresIdle.
const (
	writingConnections    = 6 // publishing commits one transaction at a time, see Group
	readingConnections    = 4
	deliveringConnections = 10
	leasingConnections    = 4
	postgresIdle          = 5 * time.Minute
)

// longestRead ends a statement of a caller's read inside PostgreSQL, in milliseconds. The API's own
// deadline is shorter; this one holds where the cancellation does not arrive.
const longestRead = "10000"

// SQLite has one connection that writes, and these readers.
const (
	sqliteReaders        = 4
	sqliteAuthenticating = 1
	sqliteFile           = "postrider.db"
	sqliteDriver         = "sqlite"
)

// DB is a database with its pools of connections. Each kind of work has pools of its own, so
// that many slow reads hold up neither publishing nor deliveries, nor these two each other. It
// is safe for concurrent use.
type DB struct {
	Dialect

	Writing        *sqlx.DB // for publishing and callers' changes; on SQLite its one connection that writes
	Authenticating *sqlx.DB // reads of keys; the same as Writing on PostgreSQL
	Reading        *sqlx.DB // what callers read
	Delivering     Pool     // for what delivers
	Leasing        *sqlx.DB // its commits may be lost when PostgreSQL crashes; the same as Writing on SQLite
	Address        string   // of PostgreSQL, for connections beside the pools
}

// Pool is what one kind of work reads and writes by.
type Pool struct {
	Reading *sqlx.DB
	Writing *sqlx.DB // the same as Reading on PostgreSQL, and as [DB.Writing] on SQLite
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
	// wherever there is one; nor through the whole of an index that has the wanted column only
	// second, so an index's entry costs ten times as much as usual. JIT is off because it takes
	// longer than these statements run.
	for setting, value := range map[string]string{
		"enable_seqscan": "off", "jit": "off", "plan_cache_mode": "force_generic_plan", "cpu_index_tuple_cost": "0.05",
	} {
		if !query.Has(setting) {
			query.Set(setting, value)
		}
	}
	u.RawQuery = query.Encode()
	db := &DB{
		Dialect: Dialect{Name: Postgres, Locks: true, Arrays: true, Partitions: true, Shared: true},
		Address: u.String(),
	}
	if err := db.openPostgresPools(u); err != nil {
		return nil, err
	}
	return db, nil
}

// openPostgresPools opens the pools on a database at the address.
func (db *DB) openPostgresPools(address *url.URL) (err error) {
	open := func(connections int, setting, value string) *sqlx.DB {
		with, query := *address, address.Query()
		if setting != "" {
			query.Set(setting, value)
		}
		with.RawQuery = query.Encode()
		connector, failure := pq.NewConnector(with.String())
		if failure != nil {
			err = errors.New("the database URL is not one that PostgreSQL's driver takes")
			return nil
		}
		return postgresPool(connector, connections)
	}
	db.Writing = open(writingConnections, "", "")
	db.Authenticating = db.Writing
	db.Reading = open(readingConnections, "statement_timeout", longestRead)
	db.Delivering.Writing = open(deliveringConnections, "", "")
	db.Delivering.Reading = db.Delivering.Writing
	// When PostgreSQL crashes and loses a claim, the rows are claimed again. At worst an
	// attempt is made twice, as after any crash. So claims need not wait for the disk.
	db.Leasing = open(leasingConnections, "synchronous_commit", "off")
	return err
}

// postgresPool returns a pool that makes at most the given number of connections.
func postgresPool(connector *pq.Connector, connections int) *sqlx.DB {
	db := sqlx.NewDb(sql.OpenDB(preparing{connector}), "postgres")
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	db.SetConnMaxIdleTime(postgresIdle)
	return db
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
	if !HasSQLite() {
		return nil, errors.New("SQLite is not in this program")
	}
	name := "file:" + (&url.URL{Path: path}).EscapedPath() + sqliteSettings
	// One writer: a second connection would wait for the first inside SQLite, which polls.
	writing := sqlitePool(name+"&_txlock=immediate", 1)
	readers := func(connections int) *sqlx.DB { return sqlitePool(name+"&_pragma=query_only(1)", connections) }
	return &DB{
		Dialect: Dialect{Name: SQLite}, Writing: writing, Authenticating: readers(sqliteAuthenticating), Reading: readers(sqliteReaders),
		Delivering: Pool{Reading: readers(sqliteReaders), Writing: writing}, Leasing: writing,
	}, nil
}

// sqlitePool returns a pool that makes at most the given number of connections.
func sqlitePool(name string, connections int) *sqlx.DB {
	db := sqlx.MustOpen(sqliteDriver, name)
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	return db
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

// Ping reports whether the database answers, to who publishes.
func (db *DB) Ping(ctx context.Context) error {
	var one int
	return Failure("ping", db.Authenticating.GetContext(ctx, &one, "SELECT 1"))
}

// Close closes the pools.
func (db *DB) Close() error {
	var err error
	for _, pool := range []*sqlx.DB{db.Leasing, db.Delivering.Writing, db.Delivering.Reading, db.Reading, db.Authenticating, db.Writing} {
		err = errors.Join(err, pool.Close()) // closing a pool again does nothing
	}
	return Failure("close", err)
}
