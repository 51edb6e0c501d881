package cli

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/stretchr/testify/require"

	"postrider.dev/postrider/cli/remote"
)

// completions completes a command line as the scripts do, and returns the words without what they mean.
func completions(t *testing.T, typed ...string) []string {
	t.Helper()
	var c struct {
		commands

		Complete CompleteCommand `cmd:"" hidden:""`
	}
	line := append([]string{"complete", "--"}, typed...)
	parser, err := kong.New(&c, append([]kong.Option{Vars("none", 0)}, remote.Commands(remote.Streams{}, line)...)...)
	require.NoError(t, err)
	_, err = parser.Parse(line)
	require.NoError(t, err)
	words := c.Complete.Words
	if len(words) > 0 && words[0] == "--" {
		words = words[1:]
	}
	require.Equal(t, typed, words)
	var found []string
	for _, candidate := range complete(parser.Model.Node, words) {
		word, _, _ := strings.Cut(candidate, "\t")
		found = append(found, word)
	}
	return found
}

func TestCompletionKnowsCommandsFlagsAndValues(t *testing.T) {
	t.Parallel()
	require.Equal(t, []string{"webhook", "worker"}, completions(t, "w"))
	require.NotContains(t, completions(t, ""), "complete", "what is hidden is not proposed")
	require.Subset(t, completions(t, "delivery", ""), []string{"list", "retry", "get-history"})
	require.Equal(t, []string{"resume", "retry"}, completions(t, "-o", "json", "delivery", "re"), "a flag's value is no command")
	require.Equal(t, []string{"--max-in-flight", "--max-retries"}, completions(t, "webhook", "create", "--max"))
	require.Contains(t, completions(t, "webhook", "create", "--"), "--api-url", "flags of the noun too")
	require.Equal(t, []string{"succeeded"}, completions(t, "delivery", "list", "--state", "su"))
	require.Equal(t, []string{"--output=table"}, completions(t, "delivery", "list", "--output=t"))
	require.Equal(t, []string{"rate_limit"}, completions(t, "webhook", "update", "wh_1", "--unset", "ra"))
	require.Empty(t, completions(t, "delivery", "get", "dlv_1", "x"))
}

// TestCompletionScriptsAreScripts has each shell that is at hand read its script without running it.
func TestCompletionScriptsAreScripts(t *testing.T) {
	t.Parallel()
	for _, shell := range []string{"bash", "zsh", "fish"} {
		script, err := completionScripts.ReadFile("completion/" + shell)
		require.NoError(t, err)
		require.Contains(t, string(script), "PROGRAM complete -- ")
		program, err := exec.LookPath(shell)
		if err != nil && shell != "bash" { // which make needs anyway
			continue
		}
		require.NoError(t, err)
		command := exec.CommandContext(t.Context(), program, "-n")
		command.Stdin = strings.NewReader(string(script))
		said, err := command.CombinedOutput()
		require.NoError(t, err, "%s: %s", shell, said)
	}
}
