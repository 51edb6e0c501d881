package embedded

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"

	"go.temporal.io/server/common/log"
	"go.temporal.io/server/common/log/tag"
)

// serverLog is the server's logger. It passes records to slog.
type serverLog struct {
	ctx    context.Context // for its values, because the server's calls have no context
	logger *slog.Logger
}

var (
	_ log.Logger      = serverLog{}
	_ log.WithLogger  = serverLog{}
	_ log.SLogWrapper = serverLog{}
)

func newServerLog(ctx context.Context, logger *slog.Logger, level slog.Leveler) serverLog {
	handler := atLeast{Handler: logger.Handler(), level: level}
	return serverLog{ctx: context.WithoutCancel(ctx), logger: slog.New(handler)}
}

// levelFatal is the level of records after which the server cannot go on.
const levelFatal = slog.LevelError + 4

// logLevel is the configured level until the server stops. During a stop the services log that
// they have lost each other, which no operator needs to know.
type logLevel struct {
	configured slog.Leveler
	stopping   atomic.Bool
}

func (l *logLevel) Level() slog.Level {
	if l.stopping.Load() {
		return max(levelFatal, l.configured.Level())
	}
	return l.configured.Level()
}

// needless reports whether a warning needs no action. The frontend warns at every start that it
// has no HTTP port, which only Nexus would need. It warns about the page size of every history in
// the web UI, which then gets a smaller page.
func needless(msg string) bool {
	return strings.HasPrefix(msg, "HTTP API port has not been set") ||
		strings.HasPrefix(msg, "GetHistory page size is larger than threshold")
}

func (l serverLog) Debug(msg string, tags ...tag.Tag) { l.log(slog.LevelDebug, msg, tags) }
func (l serverLog) Info(msg string, tags ...tag.Tag)  { l.log(slog.LevelInfo, msg, tags) }
func (l serverLog) Warn(msg string, tags ...tag.Tag)  { l.log(slog.LevelWarn, msg, tags) }
func (l serverLog) Error(msg string, tags ...tag.Tag) { l.log(slog.LevelError, msg, tags) }

// DPanic logs an error. It would panic only in development of the server.
func (l serverLog) DPanic(msg string, tags ...tag.Tag) { l.log(slog.LevelError, msg, tags) }

func (l serverLog) Panic(msg string, tags ...tag.Tag) {
	l.log(levelFatal, msg, tags)
	panic(fatalError(describe(msg, tags)))
}

// Fatal must not return. Other loggers end the process; this one panics, so that [Start] can
// return an error. A later failure of a service still ends the process.
func (l serverLog) Fatal(msg string, tags ...tag.Tag) {
	l.log(levelFatal, msg, tags)
	panic(fatalError(describe(msg, tags)))
}

func (l serverLog) With(tags ...tag.Tag) log.Logger {
	return serverLog{ctx: l.ctx, logger: slog.New(l.logger.Handler().WithAttrs(attributes(tags)))}
}

// SLog returns the logger for parts of the server that use slog.
func (l serverLog) SLog() *slog.Logger { return l.logger }

func (l serverLog) log(level slog.Level, msg string, tags []tag.Tag) {
	if l.logger.Enabled(l.ctx, level) && !needless(msg) {
		l.logger.LogAttrs(l.ctx, level, msg, attributes(tags)...) //nolint:sloglint // the message is the server's
	}
}

// fatalError is the panic value of Panic and Fatal.
type fatalError string

func (e fatalError) Error() string { return string(e) }

func describe(msg string, tags []tag.Tag) string {
	var b strings.Builder
	b.WriteString(msg)
	for _, t := range tags {
		fmt.Fprintf(&b, " %s=%v", attributeKey(t), t.Value())
	}
	return b.String()
}

func attributes(tags []tag.Tag) []slog.Attr {
	attrs := make([]slog.Attr, 0, len(tags))
	for _, t := range tags {
		attrs = append(attrs, slog.Any(attributeKey(t), t.Value()))
	}
	return attrs
}

func attributeKey(t tag.Tag) string { return strings.ReplaceAll(t.Key(), "-", "_") }

// atLeast is a handler that drops records below a level.
type atLeast struct {
	slog.Handler

	level slog.Leveler
}

func (h atLeast) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= h.level.Level() && h.Handler.Enabled(ctx, level)
}

func (h atLeast) WithAttrs(attrs []slog.Attr) slog.Handler {
	return atLeast{Handler: h.Handler.WithAttrs(attrs), level: h.level}
}

func (h atLeast) WithGroup(name string) slog.Handler {
	return atLeast{Handler: h.Handler.WithGroup(name), level: h.level}
}
