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
		Duration: 10 * time.Second, Seed: 1, Layout: layoutSQLite, Rate: 20, Faults: []string{"kill -9", "cut"},
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
