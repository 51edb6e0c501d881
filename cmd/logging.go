package cmd

import (
	"context"
	"log/slog"
)

// levelHandler drops what is below a level, for libraries that say too much.
type levelHandler struct {
	slog.Handler
	least slog.Level
}

// atLeast returns handler without what is below the level.
func atLeast(level slog.Level, handler slog.Handler) slog.Handler {
	return levelHandler{Handler: handler, least: level}
}

// Enabled implements [slog.Handler].
func (h levelHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= h.least && h.Handler.Enabled(ctx, level)
}

// WithAttrs implements [slog.Handler].
func (h levelHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return levelHandler{Handler: h.Handler.WithAttrs(attrs), least: h.least}
}

// WithGroup implements [slog.Handler].
func (h levelHandler) WithGroup(name string) slog.Handler {
	return levelHandler{Handler: h.Handler.WithGroup(name), least: h.least}
}
