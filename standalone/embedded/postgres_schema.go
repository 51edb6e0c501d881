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

// migrateStore runs the server's own migrations. Each says for itself when it is
// done, so that one that was broken off goes on at the next start.
func migrateStore(store *config.SQL, name, version string) error {
	conn, err := toolsql.NewConnection(store, log.NewNoopLogger())
	if err != nil {
		return fmt.Errorf("open database %s: %w", store.DatabaseName, err)
	}
	defer conn.Close()
	found, err := conn.ReadSchemaVersion()
	if err != nil { // there are no tables yet, or not even this one
		if err := schema.NewSetupSchemaTask(conn, &schema.SetupConfig{InitialVersion: "0.0"}, log.NewNoopLogger()).Run(); err != nil {
			return fmt.Errorf("set database %s up: %w", store.DatabaseName, err)
		}
		found = "0.0"
	}
	if newer, err := newerThan(found, version); err != nil || newer {
		return errors.Join(err, fmt.Errorf("%w: %s has schema %s, this server knows %s", ErrOtherSchema, store.DatabaseName, found, version))
	}
	if err := schema.NewUpdateSchemaTask(conn, &schema.UpdateConfig{SchemaName: name}, log.NewNoopLogger()).Run(); err != nil {
		return fmt.Errorf("bring database %s up to date: %w", store.DatabaseName, err)
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

// trim drops the indexes of the visibility table that serve sorting and filtering
// by everything a workflow could have. There are over seventy, and one insert into
// all of them costs more than the rest of a delivery's workflow. What lists of
// workflows need stays: the primary key, default_idx and by_execution_time. Other
// filters read through what those find.
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
