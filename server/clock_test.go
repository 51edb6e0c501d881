package server

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Guards against a process that goes by a clock of its own: it would take what others have leased.
func TestClockFollowsTheDatabase(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, nil))
	var c clock
	ahead := func(by time.Duration) func(context.Context) (time.Time, error) {
		return func(context.Context) (time.Time, error) { return time.Now().Add(by), nil }
	}
	c.compare(t.Context(), ahead(0), logger)
	first := c.last.Load()
	c.compare(t.Context(), ahead(clockSlack/2), logger)
	require.Same(t, first, c.last.Load(), "a small difference does no harm")
	require.Empty(t, log.String())
	c.compare(t.Context(), ahead(-6*time.Hour), logger)
	require.WithinDuration(t, time.Now().Add(-6*time.Hour), c.Now(), time.Minute)
	require.Contains(t, log.String(), "clock differs")
	c.compare(t.Context(), func(context.Context) (time.Time, error) { return time.Time{}, errors.New("away") }, logger)
	require.WithinDuration(t, time.Now().Add(-6*time.Hour), c.Now(), time.Minute, "it keeps what it knows")
	c.compare(t.Context(), ahead(0), logger)
	require.WithinDuration(t, time.Now(), c.Now(), time.Minute)
}
