package cli

import (
	"context"
	"errors"
	"strconv"
	"time"

	"postrider.dev/postrider/store"
)

// MigrateCommand looks after the database's schema.
type MigrateCommand struct {
	Up     MigrateUpCommand     `cmd:"" help:"Bring the schema up to date. Safe to repeat, and from several machines at once."`
	Status MigrateStatusCommand `cmd:"" help:"List the migrations, applied and pending."`
	Down   MigrateDownCommand   `cmd:"" help:"Take the latest migration back, with the data that it made room for."`
}

// MigrateUpCommand applies the pending migrations.
type MigrateUpCommand struct{ OperatorSettings }

// Run implements the command.
func (c *MigrateUpCommand) Run(ctx context.Context) error {
	return c.migrations(ctx, func(db *store.Store) error {
		if err := db.Migrate(ctx); err != nil {
			return err
		}
		notef("The schema is up to date.")
		return nil
	})
}

// MigrateStatusCommand lists the migrations.
type MigrateStatusCommand struct {
	OperatorSettings
	PrintSettings
}

// Run implements the command.
func (c *MigrateStatusCommand) Run(ctx context.Context) error {
	type shown struct {
		Version   int64      `json:"version"`
		Name      string     `json:"name"`
		AppliedAt *time.Time `json:"applied_at"`
	}
	return c.migrations(ctx, func(db *store.Store) error {
		steps, err := db.Migrations(ctx)
		if err != nil {
			return err
		}
		list := make([]shown, len(steps))
		pending := 0
		for i, step := range steps {
			list[i] = shown(step)
			if step.AppliedAt == nil {
				pending++
			}
		}
		if pending > 0 {
			notef("%d pending: run `postrider migrate up`.", pending)
		}
		return show(c.PrintSettings, list, []string{"VERSION", "MIGRATION", "APPLIED"}, func(m shown) []string {
			return []string{strconv.FormatInt(m.Version, 10), m.Name, when(m.AppliedAt)}
		})
	})
}

// MigrateDownCommand takes the latest migration back.
type MigrateDownCommand struct {
	OperatorSettings

	Yes bool `help:"Really do it: data is destroyed. Taking the first migration back destroys everything."`
}

// Validate checks what flag parsing cannot. The error names the flag and the rule.
func (c *MigrateDownCommand) Validate() error {
	if !c.Yes {
		return errors.New("--yes: must be given, because taking a migration back destroys the data that it made room for; make a backup first")
	}
	return nil
}

// Run implements the command.
func (c *MigrateDownCommand) Run(ctx context.Context) error {
	return c.migrations(ctx, func(db *store.Store) error {
		version, err := db.Unmigrate(ctx)
		if err != nil {
			return err
		}
		notef("The schema has version %d now.", version)
		return nil
	})
}

// migrations runs work on the database without a check of its schema.
func (o *OperatorSettings) migrations(ctx context.Context, work func(*store.Store) error) error {
	db, err := o.open(ctx)
	if err != nil {
		return err
	}
	return errors.Join(work(db), db.Close())
}
