package embedded

import (
	"context"
	"errors"
	"fmt"

	"github.com/blang/semver/v4"
	"go.temporal.io/server/common/config"
	"go.temporal.io/server/common/log"
	v12 "go.temporal.io/server/schema/postgresql/v12"
	"go.temporal.io/server/tools/common/schema"
	toolsql "go.temporal.io/server/tools/sql"
)

// migrate brings the tables of both databases to the versions of this server.
func (d *postgresDatabase) migrate(ctx context.Context) error {
	if err := migrateStore(d.executions(), "postgresql/v12/temporal", v12.Version); err != nil {
		return err
	}
	if err := migrateStore(d.visibility(), "postgresql/v12/visibility", v12.VisibilityVersion); err != nil {
		return err
	}
	if d.plain {
		return nil
	}
	return d.trim(ctx)
}

// migrateStore runs the server's own migrations. The database notes each completed migration, so
// that the next start goes on after an interruption.
func migrateStore(store *config.SQL, name, version string) error {
	conn, err := toolsql.NewConnection(store, log.NewNoopLogger())
	if err != nil {
		return fmt.Errorf("open database %s: %w", store.DatabaseName, err)
	}
	defer conn.Close()
	found, err := conn.ReadSchemaVersion()
	if err != nil { // the table of versions is missing or empty
		if err := schema.NewSetupSchemaTask(conn, &schema.SetupConfig{InitialVersion: "0.0"}, log.NewNoopLogger()).Run(); err != nil {
			return fmt.Errorf("create tables of database %s: %w", store.DatabaseName, err)
		}
		found = "0.0"
	}
	if newer, err := newerThan(found, version); err != nil || newer {
		return errors.Join(err, fmt.Errorf("%w: %s has schema %s, this server knows %s", ErrOtherSchema, store.DatabaseName, found, version))
	}
	if err := schema.NewUpdateSchemaTask(conn, &schema.UpdateConfig{SchemaName: name}, log.NewNoopLogger()).Run(); err != nil {
		return fmt.Errorf("migrate database %s: %w", store.DatabaseName, err)
	}
	return nil
}

func newerThan(found, known string) (bool, error) {
	a, err := semver.ParseTolerant(found)
	if err != nil {
		return false, err
	}
	b, err := semver.ParseTolerant(known)
	return a.GT(b), err
}

// trim drops most indexes of the visibility table. It has over seventy, for sorting and filtering
// by every field, and inserting into all of them costs more than the rest of a delivery's
// workflow. The primary key, default_idx and by_execution_time stay, which lists of workflows
// need. Other filters scan the rows that these find.
func (d *postgresDatabase) trim(ctx context.Context) (err error) {
	db, err := d.open(d.name("_temporal_visibility"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	_, err = db.ExecContext(ctx, `DO $$
DECLARE spare text;
BEGIN
	FOR spare IN SELECT i.indexrelid::regclass::text FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
		WHERE i.indrelid = 'executions_visibility'::regclass AND NOT i.indisunique AND c.relname NOT IN ('default_idx', 'by_execution_time')
	LOOP
		EXECUTE 'DROP INDEX ' || spare;
	END LOOP;
END $$`)
	if err != nil {
		return fmt.Errorf("trim indexes of %s: %w", d.name("_temporal_visibility"), err)
	}
	return nil
}
