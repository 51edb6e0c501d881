package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// someResults are results of two rounds.
func someResults() *results {
	r := &results{Rounds: 2}
	for _, rate := range []float64{1000, 3000} {
		r.add("paced50", batch, metrics{deliveriesPerS: 50, offeredPerS: 50, p99: 10})
		r.add("burst", floor, metrics{deliveriesPerS: 2 * rate})
		r.add("burst", batch, metrics{deliveriesPerS: rate, p50: 1.23456})
		r.add("bigtable-empty-burst", batch, metrics{deliveriesPerS: rate, p99: 10})
		r.add("bigtable-burst", batch, metrics{deliveriesPerS: rate / 2, p99: 20})
		r.add("idle", batch, metrics{residentMemory: 100})
		r.add("storm", batch, metrics{attempts: 8000, stormSeconds: 10, offeredPerS: 20, p99: 30})
		r.add("storm-alone", batch, metrics{attempts: 0, offeredPerS: 20, p99: 10})
		r.add("burst-1000", naive, metrics{deliveriesPerS: 50})
	}
	r.conclude(steps())
	return r
}

func TestConclude(t *testing.T) {
	t.Parallel()
	r := someResults()
	require.Equal(t, "burst", r.Results[0].Scenario)
	require.Equal(t, batch, r.Results[0].Mode, "as the modes are ordered")
	require.Equal(t, metrics{deliveriesPerS: 2000, p50: 1.235, toFloor: 0.5}, r.median("burst", batch))
	require.Equal(t, metrics{deliveriesPerS: 50, offeredPerS: 50, p99: 10}, r.median("paced50", batch),
		"a rate that the benchmark chose is not compared")
	require.Equal(t, metrics{deliveriesPerS: 1000, p99: 20, toBaseline: 0.5, p99ToBaseline: 2}, r.median("bigtable-burst", batch))
}

func TestResultsAreKept(t *testing.T) {
	t.Parallel()
	r := someResults()
	path := filepath.Join(t.TempDir(), "results.json")
	require.NoError(t, r.write(path))
	read, err := readResults(path)
	require.NoError(t, err)
	require.Equal(t, r, read)
}

func TestMarkdown(t *testing.T) {
	t.Parallel()
	page := someResults().markdown()
	require.Contains(t, page, "| scenario | mode | settings | deliveries/s | × naive | × floor | × baseline | p50 ms | p99 ms |\n"+
		"|---|---|---|---:|---:|---:|---:|---:|---:|\n| burst | batch | max_in_flight 32 | 2000 |  | 0.50 |  | 1.2 |  |\n")
	require.Contains(t, page, "| burst-1000 | naive | no limit | 50 |")
	require.Contains(t, page, "### At rest\n\n"+
		"| scenario | mode | settings | memory MB |\n|---|---|---|---:|\n| idle | batch | max_in_flight 1000 | 100 |\n")
	require.Contains(t, page, "### Beside a storm of failures\n\n"+
		"| scenario | mode | settings | attempts | first to last s | good events/s | good p99 ms | p99 × baseline |\n"+
		"|---|---|---|---:|---:|---:|---:|---:|\n"+
		"| storm-alone | batch | max_in_flight 32, 3 retries | 0 |  | 20 | 10.0 |  |\n"+
		"| storm | batch | max_in_flight 32, 3 retries | 8000 | 10.0 | 20 | 30.0 | 3.00 |\n")
	require.NotContains(t, page, "Accepting")
}

// TestOlderResultsAreRead reads a row without the settings of its webhooks.
func TestOlderResultsAreRead(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "results.json")
	text := `{"runs": 1, "results": [{"scenario": "burst", "mode": "batch", "deliveries_per_s": 2, "runs": [{"deliveries_per_s": 2}]}]}`
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	r, err := readResults(path)
	require.NoError(t, err)
	require.Contains(t, r.markdown(), "| scenario | mode | deliveries/s |\n|---|---|---:|\n| burst | batch | 2 |\n")
}

// TestPageIsTheResults guards that the tables of docs/performance.md show the results of
// docs/performance.json; `make bench-doc` writes them.
func TestPageIsTheResults(t *testing.T) {
	t.Parallel()
	c := docCommand{JSON: "../docs/performance.json", Page: "../docs/performance.md"}
	page, err := os.ReadFile(c.Page)
	require.NoError(t, err)
	written, err := c.write(string(page))
	require.NoError(t, err)
	require.Equal(t, written, string(page))
}
