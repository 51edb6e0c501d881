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

// sqliteDatabase is a file.
type sqliteDatabase struct{ path string }

// sqliteShards: history writes go through one connection, so more would only add
// queues that wait.
const sqliteShards = 1

func (d *sqliteDatabase) executions() *config.SQL { return storeConfig(d.path) }
func (d *sqliteDatabase) visibility() *config.SQL { return storeConfig(d.path) }
func (d *sqliteDatabase) shards() int32           { return sqliteShards }

// pragmas are set on every connection. WAL with synchronous=FULL syncs the log
// before a commit returns, so that what Temporal acknowledged survives a power
// cut, see https://www.sqlite.org/pragma.html#pragma_synchronous.
func pragmas() map[string]string {
	return map[string]string{
		"journal_mode": "WAL",
		"synchronous":  "FULL",
		"busy_timeout": "10000",  // milliseconds
		"cache_size":   "-32000", // KiB, negative by SQLite's convention
		"temp_store":   "MEMORY",
	}
}

// storeConfig is the server's one store, for executions and visibility alike. It
// keeps to a single connection, the plugin's default: its transactions begin as
// readers, and two that both go on to write would fail each other as busy.
func storeConfig(path string) *config.SQL {
	attributes := pragmas()
	attributes["mode"] = "rwc"
	return &config.SQL{
		PluginName:        sqliteplugin.PluginName,
		DatabaseName:      path,
		ConnectAttributes: attributes,
	}
}

// openDatabase opens the file beside the server: before it starts or after it
// has stopped.
func openDatabase(path string) (*sql.DB, error) {
	query := url.Values{"_txlock": {"immediate"}}
	for name, value := range pragmas() {
		query.Add("_pragma", name+"="+value)
	}
	return sql.Open("sqlite", "file:"+path+"?"+query.Encode())
}

// prepare makes the directory, the file and its tables where they are missing. The
// tables are made in one transaction: a crash leaves all or none.
func (d *sqliteDatabase) prepare(ctx context.Context) (err error) {
	if err := os.MkdirAll(filepath.Dir(d.path), 0o700); err != nil {
		return fmt.Errorf("make data directory: %w", err)
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
			return fmt.Errorf("make tables: %w", err)
		}
	}
	return tx.Commit()
}

// statementList collects what the server's schema set-up would execute.
type statementList struct {
	sqlplugin.AdminDB // only Exec is called

	statements []string
}

func (l *statementList) Exec(statement string, _ ...any) error {
	l.statements = append(l.statements, statement)
	return nil
}

// schemaStatements returns what makes the server's tables, and a number for
// their version: the server does not migrate SQLite, so a changed schema must
// be noticed before it is used on an older file.
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

// release moves the write-ahead log into the database file. The plugin keeps its
// connection for the life of the process, so no close does this.
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
