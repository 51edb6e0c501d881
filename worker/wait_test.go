package worker

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Guards against quick receivers that count as slow because their retries waited for a permit.
func TestWaitForAPermitDoesNotCountAsLatency(t *testing.T) {
	t.Parallel()
	c := newClock()
	table := newInflight(1000, 0, c.now)
	prove(t, table, "w", 8)
	require.True(t, received(table.enqueue(target("w", "r"))))
	c.advance(slowAfter + time.Second) // the retry waits for its permit
	require.False(t, table.capacity(true).Receivers["w"].Slow)
}

func TestRetryThatMadeNoRequestProvesNothing(t *testing.T) {
	t.Parallel()
	table := newInflight(1000, 0, newClock().now)
	require.True(t, received(table.enqueue(target("w", "r"))))
	table.done("r") // it got no permit, or the database is away
	require.True(t, table.capacity(true).Receivers["w"].Unproven)
	require.Equal(t, initialWindow, table.receivers["w"].window)
}
