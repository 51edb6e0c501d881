package embedded

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"hash/crc32"
	"net/url"
	"os"
	"path/filepath"

	"go.temporal.io/server/common/config"
	"go.temporal.io/server/common/persistence/sql/sqlplugin"
	sqliteplugin "go.temporal.io/server/common/persistence/sql/sqlplugin/sqlite"
	"go.temporal.io/server/schema/sqlite"
	_ "modernc.org/sqlite" // the driver "sqlite"
)

// sqliteDatabase is a SQLite file, which holds both stores.
type sqliteDatabase struct{ path string }

// sqliteShards is one, because all history writes go through one connection.
const sqliteShards = 1

func (d *sqliteDatabase) executions() *config.SQL { return storeConfig(d.path) }
func (d *sqliteDatabase) visibility() *config.SQL { return storeConfig(d.path) }
func (d *sqliteDatabase) shards() int32           { return sqliteShards }

// pragmas are set on every connection. WAL with synchronous=FULL syncs the log before a commit
// returns, so that acknowledged state survives a power failure
// (https://www.sqlite.org/pragma.html#pragma_synchronous).
func pragmas() map[string]string {
	return map[string]string{
		"journal_mode": "WAL",
		"synchronous":  "FULL",
		"busy_timeout": "10000",  // milliseconds
		"cache_size":   "-32000", // KiB, negative by SQLite's convention
		"temp_store":   "MEMORY",
	}
}

// storeConfig is the configuration of both stores. It uses the plugin's default of one connection:
// the plugin's transactions begin as readers, and of two that go on to write, one would fail as
// busy.
func storeConfig(path string) *config.SQL {
	attributes := pragmas()
	attributes["mode"] = "rwc"
	return &config.SQL{
		PluginName:        sqliteplugin.PluginName,
		DatabaseName:      path,
		ConnectAttributes: attributes,
	}
}

// openDatabase opens the file before the server starts or after it has stopped.
func openDatabase(path string) (*sql.DB, error) {
	query := url.Values{"_txlock": {"immediate"}}
	for name, value := range pragmas() {
		query.Add("_pragma", name+"="+value)
	}
	return sql.Open("sqlite", "file:"+path+"?"+query.Encode())
}

// prepare creates the directory, the file and its tables unless they exist. One transaction
// creates all tables, so that a crash leaves all of them or an empty file.
func (d *sqliteDatabase) prepare(ctx context.Context) (err error) {
	if err := os.MkdirAll(filepath.Dir(d.path), 0o700); err != nil {
		return fmt.Errorf("create data directory: %w", err)
	}
	if err := d.makeFile(); err != nil {
		return fmt.Errorf("create database: %w", err)
	}
	statements, version, err := schemaStatements()
	if err != nil {
		return err
	}
	db, err := openDatabase(d.path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // after Commit this does nothing

	var found int32
	if err := tx.QueryRowContext(ctx, "PRAGMA user_version").Scan(&found); err != nil {
		return err
	}
	switch found {
	case version:
		return nil
	case 0:
	default:
		return fmt.Errorf("%w: %s has schema %d, this server needs %d", ErrOtherSchema, d.path, found, version)
	}
	statements = append(statements, fmt.Sprintf("PRAGMA user_version = %d", version))
	for _, statement := range statements {
		if _, err := tx.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("create tables: %w", err)
		}
	}
	return tx.Commit()
}

// makeFile makes the file, if it is missing, for its owner alone. SQLite itself would leave that to
// the umask, and gives the files beside it the mode of this one.
func (d *sqliteDatabase) makeFile() error {
	file, err := os.OpenFile(d.path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	return file.Close()
}

// statementList collects the statements of the server's schema set-up.
type statementList struct {
	sqlplugin.AdminDB // only Exec is called

	statements []string
}

func (l *statementList) Exec(statement string, _ ...any) error {
	l.statements = append(l.statements, statement)
	return nil
}

// schemaStatements returns the statements that create the server's tables, and a number for their
// version. The server does not migrate SQLite, so an older file must be recognised before it is
// used.
func schemaStatements() ([]string, int32, error) {
	var list statementList
	if err := sqlite.SetupSchemaOnDB(&list); err != nil {
		return nil, 0, fmt.Errorf("read schema: %w", err)
	}
	sum := crc32.NewIEEE()
	for _, statement := range list.statements {
		_, _ = sum.Write([]byte(statement)) // a hash never fails
	}
	return list.statements, int32(sum.Sum32()&0x7fffffff | 1), nil // masked to 31 bits; never 0, which means "no tables"
}

// release moves the write-ahead log into the database file. Closing does not do this, because the
// plugin keeps its connection until the process ends.
func (d *sqliteDatabase) release(ctx context.Context) (err error) {
	db, err := openDatabase(d.path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	var busy, frames, moved int
	row := db.QueryRowContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)")
	if err := row.Scan(&busy, &frames, &moved); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	if busy != 0 {
		return errors.New("checkpoint: the database is busy")
	}
	return nil
}
