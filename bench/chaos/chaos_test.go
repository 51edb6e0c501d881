package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Guards that chaos itself works: it injects two faults, and finds nothing lost. `make chaos` runs
// all of them, for as long as is asked.
func TestNothingIsLost(t *testing.T) {
	t.Parallel()
	c := Command{
		Duration: 10 * time.Second, Seed: 1, Layout: layoutSQLite, Rate: 20, Faults: []string{"kill -9", "paused"},
		Standalone: "../../bin/postrider-standalone",
	}
	require.NoError(t, c.Run(t.Context()))
}

func TestEveryLayoutHasFaults(t *testing.T) {
	t.Parallel()
	for _, layout := range everywhere {
		require.NotEmpty(t, faults(layout), layout)
	}
}

// Guards against a comparison that cannot fail.
func TestLedgerFindsWhatIsWrong(t *testing.T) {
	t.Parallel()
	l := newLedger()
	l.accept("lost", goodEvents)
	l.accept("other", badEvents)
	b := newBalance()
	l.compareWebhook(b, subscribedWebhook{"/good/0", goodEvents}, nil)
	require.Equal(t, 1, b.owed)
	require.Equal(t, []string{"lost: lost was accepted and has no delivery to /good/0"}, b.wrong)
}
