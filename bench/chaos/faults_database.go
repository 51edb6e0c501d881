package main

import (
	"context"
	"database/sql"
	"errors"
	"os/exec"
	"time"

	_ "github.com/lib/pq" // the PostgreSQL driver

	"postrider.dev/postrider/store/pgtest"
)

const (
	lostSpan   = 5 * time.Second  // that a database loses
	clockStep  = 90 * time.Second // longer than a lease
	clockSpan  = 40 * time.Second // longer than processes take to notice
	existBound = 2 * time.Minute
)

func crashPostgres(ctx context.Context, c *chaos) error { return c.system.postgres.Crash(ctx) }

// endSessions ends all sessions with PostgreSQL, again and again.
func endSessions(ctx context.Context, c *chaos) error {
	for range 5 {
		err := c.system.postgres.Exec(ctx, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"+
			" WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'")
		if err != nil {
			return err
		}
		pause(ctx, time.Second)
	}
	return nil
}

func readOnly(ctx context.Context, c *chaos) error {
	err := c.system.postgres.Exec(ctx, "ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()")
	pause(ctx, 5*time.Second)
	c.mustNotBeReady(ctx)
	return errors.Join(err, c.system.postgres.Exec(ctx,
		"SET default_transaction_read_only = off", "ALTER SYSTEM RESET default_transaction_read_only",
		"SELECT pg_reload_conf()"))
}

// fillDisk keeps the process from writing: its databases, Temporal's among them, take nothing.
func fillDisk(ctx context.Context, c *chaos) error {
	pid, run := c.system.part(partStandalone).process.PID(), runner(exec.CommandContext)
	if err := run.limit(ctx, pid, fullDisk); err != nil {
		return err
	}
	pause(ctx, 8*time.Second)
	c.mustNotBeReady(ctx)
	return run.limit(ctx, pid, freeDisk)
}

// fillPostgres keeps PostgreSQL from writing. It cannot do without its log, so it ends itself, as it
// does when the disk of pg_wal is full; and is started again when there is room.
func fillPostgres(ctx context.Context, c *chaos) error {
	if err := runner(c.system.postgres.Command).limitAll(ctx, c.system.postgres.PID(), fullDisk); err != nil {
		return err
	}
	pause(ctx, 5*time.Second)
	c.mustNotBeReady(ctx)
	return c.system.postgres.Crash(ctx)
}

// losePostgres makes the database lose what it has acknowledged in the last seconds, as when a
// standby that lagged takes over. Accepted events that are among it are the database's loss, found
// out as soon as it is back: everything else is owed.
func losePostgres(ctx context.Context, c *chaos) error {
	began := time.Now()
	if err := lose(ctx, c.system.postgres); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, existBound)
	defer cancel()
	for _, eventID := range c.ledger.acceptedBetween(began, time.Now()) {
		if there, err := exists(ctx, c.system.client(), eventID); err != nil {
			return err
		} else if !there {
			c.ledger.forget(eventID)
		}
	}
	return nil
}

func loseTemporal(ctx context.Context, c *chaos) error { return lose(ctx, c.system.temporalPostgres) }

// lose makes a server acknowledge before it writes, and stops it at once after a while.
func lose(ctx context.Context, server *pgtest.Server) error {
	err := server.Exec(ctx,
		"ALTER SYSTEM SET synchronous_commit = off", "ALTER SYSTEM SET wal_writer_delay = '10s'", "SELECT pg_reload_conf()")
	if err != nil {
		return err
	}
	pause(ctx, lostSpan)
	if err := server.Crash(ctx); err != nil {
		return err
	}
	return server.Exec(ctx, "ALTER SYSTEM RESET synchronous_commit", "ALTER SYSTEM RESET wal_writer_delay", "SELECT pg_reload_conf()")
}

// mustNotBeReady notes it when the API says that it is ready though nothing can be written.
func (c *chaos) mustNotBeReady(ctx context.Context) {
	if api := c.system.client(); api.Ready(ctx) {
		c.wrongf("/readyz says that a write would succeed, and none does")
	}
}

// giveClock gives a database a clock of its own, which all of Postrider's processes go by: a function
// that is found before PostgreSQL's of the same name.
func giveClock(ctx context.Context, database string) error {
	return execute(ctx, database,
		"CREATE TABLE clock_step (by INTERVAL NOT NULL)", "INSERT INTO clock_step VALUES ('0')",
		"CREATE FUNCTION clock_timestamp() RETURNS TIMESTAMPTZ LANGUAGE SQL VOLATILE AS"+
			" 'SELECT pg_catalog.clock_timestamp() + by FROM public.clock_step'",
		"DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = public, pg_catalog', current_database()); END $$")
}

// stepClock steps the database's clock ahead and back again. The processes notice one after another.
func stepClock(ctx context.Context, c *chaos) error {
	step := func(by time.Duration) error {
		return execute(ctx, c.system.database, "UPDATE clock_step SET by = '"+by.String()+"'")
	}
	if err := step(clockStep); err != nil {
		return err
	}
	pause(ctx, clockSpan)
	if err := step(0); err != nil {
		return err
	}
	pause(ctx, clockSpan)
	return nil
}

// execute runs statements on a database, each a transaction of its own.
func execute(ctx context.Context, database string, statements ...string) error {
	db, err := sql.Open("postgres", database)
	if err != nil {
		return err
	}
	for _, statement := range statements {
		if _, err = db.ExecContext(ctx, statement); err != nil {
			break
		}
	}
	return errors.Join(err, db.Close())
}
