package store

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"postrider.dev/postrider"
	"postrider.dev/postrider/schema"
	"postrider.dev/postrider/store/sqldb"
)

// migrator returns goose with the database's migrations. On PostgreSQL several processes may
// run it at once: each waits for the process that has the lock.
func (s *Store) migrator() (*goose.Provider, error) {
	migrations := schema.SQLite
	if s.db.Name == sqldb.Postgres {
		migrations = schema.Postgres
	}
	files, err := migrations()
	if err != nil {
		return nil, err
	}
	options := []goose.ProviderOption{goose.WithDisableGlobalRegistry(true)}
	if s.db.Locks {
		locker, err := lock.NewPostgresSessionLocker()
		if err != nil {
			return nil, err
		}
		options = append(options, goose.WithSessionLocker(locker))
	}
	return goose.NewProvider(goose.Dialect(s.db.Name), s.db.Writing.DB, files, options...)
}

// Migrate brings the tables to the state that this program needs and makes the
// partitions of the days around now. Several processes may call it at once on
// PostgreSQL; a SQLite file belongs to one process.
func (s *Store) Migrate(ctx context.Context) error {
	migrations, err := s.migrator()
	if err != nil {
		return sqldb.Failure("migrate", err)
	}
	applied, err := migrations.Up(ctx)
	if err != nil {
		return sqldb.Failure("migrate", err)
	}
	for _, m := range applied {
		s.Logger.LogAttrs(ctx, slog.LevelInfo, "migrated", slog.Int64("version", m.Source.Version))
	}
	return s.EnsurePartitions(ctx, s.now())
}

// Unmigrate takes back the latest migration, which loses the data of its columns and tables,
// and returns the version that the schema has then.
func (s *Store) Unmigrate(ctx context.Context) (int64, error) {
	migrations, err := s.migrator()
	if err != nil {
		return 0, sqldb.Failure("migrate down", err)
	}
	if _, err := migrations.Down(ctx); err != nil {
		return 0, sqldb.Failure("migrate down", err)
	}
	version, err := migrations.GetDBVersion(ctx)
	return version, sqldb.Failure("migrate down", err)
}

// Migration is a step of the schema.
type Migration struct {
	Version   int64
	Name      string     // of its file
	AppliedAt *time.Time // nil: pending
}

// Migrations returns the steps that this program knows, in order.
func (s *Store) Migrations(ctx context.Context) ([]Migration, error) {
	migrations, err := s.migrator()
	if err != nil {
		return nil, sqldb.Failure("look at the schema", err)
	}
	states, err := migrations.Status(ctx)
	if err != nil {
		return nil, sqldb.Failure("look at the schema", err)
	}
	steps := make([]Migration, len(states))
	for i, state := range states {
		steps[i] = Migration{Version: state.Source.Version, Name: state.Source.Path}
		if state.State == goose.StateApplied {
			at := postrider.Timestamp(state.AppliedAt)
			steps[i].AppliedAt = &at
		}
	}
	return steps, nil
}

// CheckSchema returns an error that says what to do unless the tables are in the
// state that this program needs.
func (s *Store) CheckSchema(ctx context.Context) error {
	migrations, err := s.migrator()
	if err != nil {
		return sqldb.Failure("look at the schema", err)
	}
	current, known, err := migrations.GetVersions(ctx)
	switch {
	case err != nil:
		return sqldb.Failure("look at the schema", err)
	case current < known:
		return fmt.Errorf("the database's schema has version %d, this build needs %d: run `postrider migrate up`", current, known)
	case current > known:
		return fmt.Errorf("the database's schema has version %d, this build knows versions up to %d: run a newer build", current, known)
	}
	return nil
}
