package server

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"
)

const (
	// clockInterval spaces the looks at the database's clock.
	clockInterval = 30 * time.Second
	// clockSlack is a difference that does no harm: leases and holds are longer by far.
	clockSlack = 250 * time.Millisecond
	// clockAlarm is a difference worth telling an operator.
	clockAlarm = 2 * time.Second
)

// clock is the database's clock, as far as it differs from this machine's. Leases, holds, rates
// and due times bind several processes, so all of them go by one clock: a machine whose own is
// hours ahead must not take what others have leased.
type clock struct{ offset atomic.Int64 } // nanoseconds that the database is ahead

// Now returns the time.
func (c *clock) Now() time.Time { return time.Now().Add(time.Duration(c.offset.Load())) }

// follow compares the clock with the database's until ctx is done.
func (c *clock) follow(ctx context.Context, read func(context.Context) (time.Time, error), logger *slog.Logger) error {
	for ctx.Err() == nil {
		Pause(ctx, clockInterval)
		c.compare(ctx, read, logger)
	}
	return nil
}

// compare reads the database's clock. When it cannot, or the answer takes so long that it says
// little, the clock stays as it is.
func (c *clock) compare(ctx context.Context, read func(context.Context) (time.Time, error), logger *slog.Logger) {
	bound, cancel := context.WithTimeout(ctx, clockInterval)
	defer cancel()
	before := time.Now()
	there, err := read(bound)
	took := time.Since(before)
	if err != nil || took > 2*clockSlack {
		return
	}
	offset := there.Sub(before.Add(took / 2))
	known := time.Duration(c.offset.Load())
	if (offset - known).Abs() < clockSlack {
		return
	}
	c.offset.Store(int64(offset))
	if offset.Abs() > clockAlarm {
		logger.LogAttrs(ctx, slog.LevelWarn, "this machine's clock differs from the database's; going by the database's",
			slog.Duration("database_ahead", offset))
	}
}
