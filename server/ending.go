package server

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// ending tells how a process stops: when and why it begins to, and which of its parts it waits
// for.
type ending struct {
	logger *slog.Logger

	mu    sync.Mutex
	begun time.Time   // zero until the process begins to stop
	waits []slog.Attr // how long each part took from then on
}

// begin logs that the process stops. ctx is done when somebody asked for it, and otherwise cause
// is the failure of a part.
func (e *ending) begin(ctx context.Context, cause error, bound time.Duration) {
	e.mu.Lock()
	e.begun = time.Now()
	e.mu.Unlock()
	why := slog.String("why", "asked to")
	if ctx.Err() == nil {
		why = slog.Any("why", cause)
	}
	e.logger.LogAttrs(ctx, slog.LevelInfo, "stopping", why,
		slog.String("waits_for", "requests and attempts under way"), slog.Duration("at_most", bound))
}

// over notes that a part has ended. It notes nothing of a part that ended by itself, before the
// process's context was done.
func (e *ending) over(ctx context.Context, name string) {
	if ctx.Err() == nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	var took time.Duration
	if !e.begun.IsZero() {
		took = time.Since(e.begun)
	}
	e.waits = append(e.waits, slog.Duration(name, took.Round(time.Millisecond)))
}

// log logs that the process has stopped, and how long it waited for what.
func (e *ending) log(ctx context.Context) {
	e.logger.LogAttrs(ctx, slog.LevelInfo, "stopped", slog.Duration("took", time.Since(e.begun).Round(time.Millisecond)),
		slog.Attr{Key: "waited", Value: slog.GroupValue(e.waits...)})
}
