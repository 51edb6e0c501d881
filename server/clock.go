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
//
// Between two looks at it this process's monotonic clock goes on, which no step of the wall clock
// moves.
type clock struct{ last atomic.Pointer[reading] }

// reading is what the database's clock said at a time of this machine's.
type reading struct{ there, here time.Time }

// Now returns the time: this machine's, before the database's was read.
func (c *clock) Now() time.Time {
	if last := c.last.Load(); last != nil {
		return last.there.Add(time.Since(last.here))
	}
	return time.Now()
}

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
	here := before.Add(took / 2)
	if last := c.last.Load(); last != nil && there.Sub(last.there.Add(here.Sub(last.here))).Abs() < clockSlack {
		return
	}
	c.last.Store(&reading{there: there, here: here})
	if ahead := there.Round(0).Sub(here.Round(0)); ahead.Abs() > clockAlarm { // by the clocks on the wall
		logger.LogAttrs(ctx, slog.LevelWarn, "this machine's clock differs from the database's; going by the database's",
			slog.Duration("database_ahead", ahead))
	}
}
