package worker

import (
	"context"
	"log/slog"
	"time"
)

// longestRest bounds the rest after a step that was held up.
const longestRest = time.Second

// inSteps makes the steps of work that is too large for one transaction, until ctx is done.
// what says in the log what it is. Between two steps it rests for as long as one took: the rest
// of the database's time is everybody else's.
func (d *Dispatcher) inSteps(ctx context.Context, what string, step func(context.Context) (more bool, err error), wake <-chan struct{}) {
	for ctx.Err() == nil {
		began := d.Now()
		more, err := step(ctx)
		switch {
		case err != nil && ctx.Err() == nil:
			d.Logger.LogAttrs(ctx, slog.LevelWarn, "could not make a step of large work, trying again",
				slog.String("work", what), slog.Any("error", err))
			d.wait(ctx, backoff, nil, nil)
		case more:
			d.wait(ctx, min(d.Now().Sub(began), longestRest), nil, nil)
		default:
			d.wait(ctx, pollInterval, wake, nil)
		}
	}
}
