package store

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"
	"github.com/pressly/goose/v3"

	"postrider.dev/postrider/schema"
)

// dialect is what the two databases do not have in common.
type dialect struct {
	name       goose.Dialect
	migrations func() (fs.FS, error)
	locks      bool // rows can be locked by SELECT … FOR
	arrays     bool // a parameter may be an array
	partitions bool
	shared     bool // other processes may use the database at the same time
}

// lock returns a locking clause ("FOR UPDATE") where there are row locks. SQLite's
// transactions hold the whole database instead.
func (d dialect) lock(clause string) string {
	if d.locks {
		return " " + clause
	}
	return ""
}

const (
	postgresConnections = 20
	leasingConnections  = 4
	postgresIdle        = 5 * time.Minute
	sqliteReaders       = 4
	sqliteFile          = "postrider.db"
)

// connect opens the pools; connections are made when they are needed.
func (s *Store) connect(address string) error {
	if strings.HasPrefix(address, "postgres://") || strings.HasPrefix(address, "postgresql://") {
		return s.connectPostgres(address)
	}
	return s.connectSQLite(cmp.Or(strings.TrimPrefix(address, "sqlite:"), sqliteFile))
}

func (s *Store) connectPostgres(address string) error {
	u, err := url.Parse(address)
	if err != nil {
		// The parser's own message would repeat the address, password and all.
		return errors.New("the database URL cannot be parsed")
	}
	query := u.Query()
	// Saves a round trip for each statement: parameters go along with its text.
	query.Set("binary_parameters", "yes")
	// A statement is planned once, whatever its parameters, and a plan that was made while
	// a table was small must not read through it when it has grown: where there is an
	// index, it is used. Compiling plans takes longer than running these.
	for setting, value := range map[string]string{"enable_seqscan": "off", "jit": "off", "plan_cache_mode": "force_generic_plan"} {
		if !query.Has(setting) {
			query.Set(setting, value)
		}
	}
	u.RawQuery = query.Encode()
	s.dialect = dialect{name: goose.DialectPostgres, migrations: schema.Postgres, locks: true, arrays: true, partitions: true, shared: !s.Alone}
	s.address = u.String()
	if s.db, err = postgresPool(s.address, postgresConnections); err != nil {
		return err
	}
	s.reading = s.db
	// What a crash of PostgreSQL takes back of a claim is claimed again, at worst beside an
	// attempt that is on its way, as after any crash. So claims need not wait for the disk.
	query.Set("synchronous_commit", "off")
	u.RawQuery = query.Encode()
	s.leasing, err = postgresPool(u.String(), leasingConnections)
	return err
}

// postgresPool opens a pool of so many connections at most.
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

func (s *Store) connectSQLite(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	// Made here, the file is its owner's alone: SQLite would go by the umask.
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600) //nolint:gosec // the operator's own setting
	if err != nil {
		return err
	}
	if err := file.Close(); err != nil {
		return err
	}
	s.dialect = dialect{name: goose.DialectSQLite3, migrations: schema.SQLite}
	// Another process, such as a command, has no place in a queue: it looks every tenth of
	// a second whether the file is free, so its patience is for many looks.
	const common = "?_time_format=sqlite&_pragma=busy_timeout(20000)&_pragma=journal_mode(WAL)&_pragma=foreign_keys(1)&_pragma=synchronous(FULL)"
	name := "file:" + (&url.URL{Path: path}).EscapedPath()
	if s.db, err = sqlx.Open("sqlite", name+common+"&_txlock=immediate"); err != nil {
		return err
	}
	// One writer: a second would only wait for the first, inside SQLite and blindly.
	s.db.SetMaxOpenConns(1)
	if s.reading, err = sqlx.Open("sqlite", name+common+"&_pragma=query_only(1)"); err != nil {
		return errors.Join(err, s.db.Close())
	}
	s.leasing = s.db
	s.reading.SetMaxOpenConns(sqliteReaders)
	s.reading.SetMaxIdleConns(sqliteReaders)
	return nil
}

func (s *Store) disconnect() error {
	err := s.db.Close()
	if s.reading != s.db {
		err = errors.Join(s.reading.Close(), err)
	}
	if s.leasing != s.db {
		err = errors.Join(s.leasing.Close(), err)
	}
	return failure("close", err)
}

// querier is what runs statements: a pool or a transaction.
type querier = sqlx.ExtContext

// ids returns the first column of a query that returns ids.
func ids(ctx context.Context, q querier, st *statement) ([]string, error) {
	var found []string
	err := st.selectInto(ctx, q, &found)
	return found, err
}
