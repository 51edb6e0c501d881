package embedded

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"sync"
	"time"
)

// claimKey is the advisory lock that stands for "a Temporal server runs on this
// database": any number that nothing else uses.
const claimKey = 7265840131

// claimCheck is how often a claim is looked after.
const claimCheck = 5 * time.Second

// claim holds an advisory lock of PostgreSQL for as long as a connection of its own
// lives.
type claim struct {
	db     *sql.DB
	logger *slog.Logger
	conn   *sql.Conn
	stop   context.CancelFunc
	kept   sync.WaitGroup
}

// try takes the lock, or reports that another process has it.
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

// keep looks after the lock until the claim ends: with its connection, as when
// PostgreSQL is restarted, the lock is lost, and is taken again.
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
		c.logger.LogAttrs(ctx, slog.LevelInfo, "temporal's database is claimed again")
	case err != nil:
		c.logger.LogAttrs(ctx, slog.LevelWarn, "temporal's database is away", slog.Any("error", err))
	default:
		c.logger.LogAttrs(ctx, slog.LevelError, "another process runs temporal on this database: stop one of them")
	}
}

// end gives the lock up.
func (c *claim) end() error {
	c.stop()
	c.kept.Wait()
	if c.conn != nil {
		_ = c.conn.Close() // back to the pool, which is closed next
	}
	return c.db.Close()
}
