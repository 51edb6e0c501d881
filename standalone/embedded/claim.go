package embedded

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"sync"
	"time"
)

// claimKey is the number of the advisory lock. Any number is right that no other program uses.
const claimKey = 7265840131

// claimCheck is how often a claim is checked.
const claimCheck = 5 * time.Second

// claim is an advisory lock of PostgreSQL, by which one Temporal server at a time uses a database.
// The lock lasts as long as the connection that took it.
type claim struct {
	db     *sql.DB
	logger *slog.Logger
	conn   *sql.Conn
	stop   context.CancelFunc
	kept   sync.WaitGroup
}

// try tries to take the lock. It returns false when another process has it.
func (c *claim) try(ctx context.Context) (bool, error) {
	conn, err := c.db.Conn(ctx)
	if err != nil {
		return false, err
	}
	var taken bool
	err = conn.QueryRowContext(ctx, "SELECT pg_try_advisory_lock($1)", int64(claimKey)).Scan(&taken)
	if err != nil || !taken {
		return false, errors.Join(err, conn.Close())
	}
	c.conn = conn
	return true, nil
}

// keep takes the lock again whenever its connection is lost, for example by a restart of
// PostgreSQL, until the claim ends.
func (c *claim) keep(ctx context.Context) {
	ctx, c.stop = context.WithCancel(context.WithoutCancel(ctx))
	c.kept.Go(func() {
		for {
			pause, cancel := context.WithTimeout(ctx, claimCheck)
			<-pause.Done()
			cancel()
			if ctx.Err() != nil {
				return
			}
			c.check(ctx)
		}
	})
}

// check tests the connection, and takes the lock again when the connection is lost.
func (c *claim) check(ctx context.Context) {
	if c.conn != nil {
		if c.conn.PingContext(ctx) == nil {
			return
		}
		_ = c.conn.Close()
		c.conn = nil
	}
	taken, err := c.try(ctx)
	switch {
	case taken:
		c.logger.LogAttrs(ctx, slog.LevelInfo, "claimed Temporal's database again")
	case err != nil:
		c.logger.LogAttrs(ctx, slog.LevelWarn, "cannot reach Temporal's database", slog.Any("error", err))
	default:
		c.logger.LogAttrs(ctx, slog.LevelError, "another process runs Temporal on this database: stop one of the two")
	}
}

// end releases the lock.
func (c *claim) end() error {
	c.stop()
	c.kept.Wait()
	if c.conn != nil {
		_ = c.conn.Close() // returns it to the pool, which is closed next
	}
	return c.db.Close()
}
