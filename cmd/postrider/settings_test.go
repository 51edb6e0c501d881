package main

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/stretchr/testify/require"

	"postrider.dev/postrider/cli"
)

var update = flag.Bool("update", false, "write the table of settings into docs/operations.md")

const operations = "../../docs/operations.md"

// TestSettingsAreDocumented guards that the table of docs/operations.md has every setting of the
// code; `go test ./cmd/postrider -update` writes it.
func TestSettingsAreDocumented(t *testing.T) {
	t.Parallel()
	const begin, end = "<!-- settings: generated from the code -->\n", "<!-- end of settings -->"
	text, err := os.ReadFile(operations)
	require.NoError(t, err)
	before, rest, found := strings.Cut(string(text), begin)
	require.True(t, found)
	_, after, found := strings.Cut(rest, end)
	require.True(t, found)
	want := before + begin + table(t) + end + after
	if *update {
		require.NoError(t, os.WriteFile(operations, []byte(want), 0o600))
		return
	}
	require.Equal(t, want, string(text))
}

// table renders every setting that has a variable, with the commands that read it.
func table(t *testing.T) string {
	t.Helper()
	parser, err := kong.New(&commands{}, cli.Vars("none", shutdownTimeout))
	require.NoError(t, err)
	readers := map[string][]string{}
	rows := map[string]string{}
	for _, node := range parser.Model.Leaves(false) {
		for _, group := range node.AllFlags(false) {
			for _, f := range group {
				for _, name := range f.Envs {
					readers[name] = append(readers[name], "`"+strings.TrimPrefix(node.FullPath(), "postrider.test ")+"`")
					if rows[name] != "" { // the first command that has the setting describes it
						continue
					}
					preset := f.Default
					if preset != "" {
						preset = "`" + preset + "`"
					}
					rows[name] = fmt.Sprintf("| `%s`<br>`--%s` | %s | %s |", name, f.Name, preset, strings.ReplaceAll(f.Help, "|", `\|`))
				}
			}
		}
	}
	var b strings.Builder
	b.WriteString("| variable and flag | default | meaning | read by |\n|---|---|---|---|\n")
	for _, name := range slices.Sorted(maps.Keys(rows)) {
		fmt.Fprintf(&b, "%s %s |\n", rows[name], strings.Join(readers[name], ", "))
	}
	return b.String()
}
