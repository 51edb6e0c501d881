package remote

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the tree of commands into testdata")

const document = "../../api/testdata/openapi.json"

// TestEveryRouteHasACommand guards against a route that came after the commands. Pages for browsers have none.
func TestEveryRouteHasACommand(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(document)
	require.NoError(t, err)
	var d struct {
		Paths map[string]map[string]struct{ OperationID string }
	}
	require.NoError(t, json.Unmarshal(text, &d))
	commands := map[string]bool{}
	for _, o := range operations() {
		require.False(t, commands[o.Method+" "+o.Path], o.ID)
		commands[o.Method+" "+o.Path] = true
	}
	for path, methods := range d.Paths {
		for method, route := range methods {
			pages := []string{"front", "docs"}
			require.Equal(t, !slices.Contains(pages, route.OperationID), commands[strings.ToUpper(method)+" "+path],
				"%s: run `make generate`", route.OperationID)
			delete(commands, strings.ToUpper(method)+" "+path)
		}
	}
	require.Empty(t, commands, "commands without a route")
}

// TestTheTreeOfCommands shows what a change of the document does to the command line;
// `go test ./cli/remote -run Tree -update` writes it.
func TestTheTreeOfCommands(t *testing.T) {
	t.Parallel()
	const golden = "testdata/commands.txt"
	tree := tree(model(t))
	if *update {
		require.NoError(t, os.MkdirAll("testdata", 0o750))
		require.NoError(t, os.WriteFile(golden, []byte(tree), 0o600))
		return
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err)
	require.Equal(t, string(want), tree)
}

// model returns all commands with all of their flags.
func model(t *testing.T) *kong.Kong {
	t.Helper()
	var all []string
	for _, n := range nouns() {
		all = append(all, n.Noun)
	}
	parser, err := kong.New(&struct{}{}, append([]kong.Option{kong.Name("postrider")}, Commands(Streams{}, all)...)...)
	require.NoError(t, err)
	return parser
}

func tree(parser *kong.Kong) string {
	var text strings.Builder
	for _, noun := range parser.Model.Children {
		fmt.Fprintf(&text, "%s: %s\n", noun.Name, noun.Help)
		for _, verb := range noun.Children {
			text.WriteString("  " + verb.Name)
			for _, p := range verb.Positional {
				text.WriteString(" <" + p.Name + ">")
			}
			for _, f := range verb.Flags {
				text.WriteString(" --" + f.Name)
			}
			text.WriteString("\n")
		}
	}
	return text.String()
}

// TestEveryCommandHelps guards that help is complete: one line for each verb, and of each flag what it is.
func TestEveryCommandHelps(t *testing.T) {
	t.Parallel()
	b := serve(t, "none", nil)
	for _, o := range operations() {
		_, help := b.help(o.Noun)
		require.Contains(t, help, o.Noun+" "+o.Verb)
		command, help := b.help(o.Noun, o.Verb)
		require.Contains(t, help, "Example: postrider "+o.Noun+" "+o.Verb)
		require.Contains(t, help, o.Summary)
		for _, f := range command.Flags {
			require.NotEmpty(t, f.Help, "%s --%s", o.ID, f.Name)
			require.Contains(t, help, "--"+f.Name)
		}
		require.NotContains(t, help, "${")
	}
	_, help := b.help("webhook", "create")
	require.Contains(t, help, "1000 to 30000; default 5000")
	require.Contains(t, help, "One of hmac_sha256, hmac_sha1")
	require.Contains(t, help, "postrider webhook create --url https://example.com/hooks --events call.ended,contact.updated")
}

// help returns a command and the help of it, without the breaks of lines.
func (b *bundle) help(words ...string) (*kong.Node, string) {
	b.t.Helper()
	var out buffer
	parser, err := kong.New(&struct{}{}, append([]kong.Option{
		kong.Name("postrider"), kong.Writers(&out, &out), kong.Exit(func(int) {}),
	}, Commands(b.streams, words)...)...)
	require.NoError(b.t, err)
	_, _ = parser.Parse(append(words, "--help")) // goes on after the exit that is replaced here
	node := parser.Model.Node
	for _, word := range words {
		node = node.Children[slices.IndexFunc(node.Children, func(n *kong.Node) bool { return n.Name == word })]
	}
	return node, strings.Join(strings.Fields(out.String()), " ")
}

// TestFlagsAreTheirOwn guards that a field of the API never hides a flag that every command has.
func TestFlagsAreTheirOwn(t *testing.T) {
	t.Parallel()
	for _, name := range reserved() {
		require.Equal(t, "field-"+name, field{Name: strings.ReplaceAll(name, "-", "_")}.flag())
	}
	require.Equal(t, "max-retries", field{Name: "max_retries"}.flag())
}

// Guards that only what is named costs anything: a server has no use for these flags.
func TestCommandsOfOthersHaveNoFlags(t *testing.T) {
	t.Parallel()
	parser, err := kong.New(&struct{}{}, Commands(Streams{}, []string{"serve", "--listen", "127.0.0.1:0"})...)
	require.NoError(t, err)
	for _, noun := range parser.Model.Children {
		for _, verb := range noun.Children {
			require.Empty(t, verb.Flags)
		}
	}
}
