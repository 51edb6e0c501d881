package main

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestEverythingRuns runs every scenario but hostile, whose attempts wait for their timeouts,
// with a hundredth of its events, and checks that each step gives a result in each mode. It
// says nothing about speed.
func TestEverythingRuns(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		scenarios, modes string
		want             []string // scenario/mode
	}{
		{"burst,fanout,paced50", "naive,single,floor", []string{
			"burst/naive", "burst/single", "burst/floor", "burst-1000/naive", "burst-1000/single", "burst-1000/floor",
			"fanout/naive", "fanout/single", "fanout/floor", "fanout-1000/naive", "fanout-1000/single", "fanout-1000/floor",
			"paced50/naive", "paced50/single", "paced50/floor",
		}},
		{"paced500,bigtable", "floor", []string{
			"paced500/floor", "bigtable-empty-burst/floor", "bigtable-empty-paced50/floor", "bigtable-burst/floor", "bigtable-paced50/floor",
		}},
		{"backlog,neighbours", "single", []string{
			"backlog/single", "backlog-1000/single", "neighbours-alone/single", "neighbours/single", "neighbours-flooded/single",
		}},
		{"storm,hangs", "batch", []string{"storm-alone/batch", "storm/batch", "hangs-alone/batch", "hangs/batch"}},
		{"storm-sqlite,hangs-sqlite", "single", []string{
			"storm-sqlite-alone/single", "storm-sqlite/single", "hangs-sqlite-alone/single", "hangs-sqlite/single",
		}},
		{"sweeps-sqlite,wide", "batch", []string{
			"sweeps-sqlite-still/batch", "sweeps-sqlite-pause/batch", "sweeps-sqlite-resume/batch", "sweeps-sqlite-gone/batch",
			"sweeps-sqlite-delete/batch", "wide-alone/batch", "wide/batch",
		}},
		{"curve,spread", "floor", []string{
			"curve5/floor", "curve20/floor", "curve50/floor", "curve100/floor", "curve140/floor", "curve200/floor", "curve500/floor", "spread/floor",
		}},
		{"ingest,sqlite,idle", "batch", []string{
			"ingest/batch", "ingest-arrays/batch", "sqlite-burst/batch", "sqlite-paced50/batch", "idle/batch", "idle-sqlite/batch",
		}},
	} {
		t.Run(c.scenarios, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			file := filepath.Join(dir, "results.json")
			command := exec.CommandContext(t.Context(), filepath.Join(built, "bench"), "run",
				"--scenarios", c.scenarios, "--modes", c.modes, "--runs", "1", "--scale", "0.01",
				"--json", file, "--profile", filepath.Join(dir, "profiles"),
				"--standalone", filepath.Join(built, "standalone"), "--postrider", filepath.Join(built, "postrider"))
			output, err := command.CombinedOutput()
			require.NoError(t, err, "%s", output)

			r, err := readResults(file)
			require.NoError(t, err)
			var got []string
			for _, measured := range r.Results {
				got = append(got, measured.Scenario+"/"+string(measured.Mode))
				require.Len(t, measured.Runs, 1)
				require.NotEmpty(t, measured.Settings)
			}
			require.ElementsMatch(t, c.want, got)
			if strings.Contains(c.modes, "single") {
				profiles, err := filepath.Glob(filepath.Join(dir, "profiles", "*-single-1", "0001.pprof"))
				require.NoError(t, err)
				require.NotEmpty(t, profiles)
			}
		})
	}
}
