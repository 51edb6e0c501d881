package worker

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Guards quick receivers against being taken for slow ones since their retries waited
// for their turn under the webhook's limits.
func TestWaitForAPermitIsNoAnswer(t *testing.T) {
	t.Parallel()
	c := newClock()
	table := newInflight(1000, 0, c.now)
	prove(t, table, "w", 8)
	require.True(t, hasTurn(table.queue(of("w", "r"))))
	c.advance(slowAfter + time.Second) // it asks for its permit, or waits for its turn
	require.False(t, table.capacity(true).Receivers["w"].Slow)
}

func TestFailureOfOursIsNoAnswer(t *testing.T) {
	t.Parallel()
	table := newInflight(1000, 0, newClock().now)
	require.True(t, hasTurn(table.queue(of("w", "r"))))
	table.done("r") // no permit was to be had, or the database is away
	require.True(t, table.capacity(true).Receivers["w"].Unproven)
	require.Equal(t, firstWindow, table.receivers["w"].window)
}
