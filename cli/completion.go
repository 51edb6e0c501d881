package cli

import (
	"embed"
	"fmt"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// completionScripts hand what was typed to `complete`, so that they never grow old.
//
//go:embed completion
var completionScripts embed.FS

// CompletionCommand prints what makes a shell complete the commands.
type CompletionCommand struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish."`
}

// Help tells how to use it.
func (CompletionCommand) Help() string {
	return "In bash: source <(postrider completion bash). In zsh: the same with zsh, after compinit. " +
		"In fish: postrider completion fish | source. In the shell's start-up file it holds for every session."
}

// Run implements the command.
func (c CompletionCommand) Run(parsed *kong.Context) error {
	script, err := completionScripts.ReadFile("completion/" + c.Shell)
	if err != nil {
		return err
	}
	name := parsed.Model.Name
	fmt.Print(strings.NewReplacer("PROGRAM", name, "FUNCTION", strings.ReplaceAll(name, "-", "_")).Replace(string(script)))
	return nil
}

// CompleteCommand answers the scripts of [CompletionCommand].
type CompleteCommand struct {
	Words []string `arg:"" optional:"" passthrough:"" help:"What was typed after the program's name, the last one as far as it goes."`
}

// Run implements the command: it prints what may come, with a tab and a description behind it.
func (c CompleteCommand) Run(parsed *kong.Context) error {
	words := c.Words
	if len(words) > 0 && words[0] == "--" {
		words = words[1:]
	}
	for _, candidate := range complete(parsed.Model.Node, words) {
		fmt.Println(candidate)
	}
	return nil
}

// complete returns what the last of the words may become.
func complete(node *kong.Node, words []string) []string {
	if len(words) == 0 {
		words = []string{""}
	}
	last := words[len(words)-1]
	var waiting *kong.Flag // that the next word is a value of
	for _, word := range words[:len(words)-1] {
		if waiting != nil {
			waiting = nil
		} else if strings.HasPrefix(word, "-") {
			waiting = valueOf(node, word)
		} else if child := childOf(node, word); child != nil {
			node = child
		}
	}
	var candidates []string
	switch flag, _, hasValue := strings.Cut(last, "="); {
	case waiting != nil:
		candidates = values(waiting, "")
	case hasValue && valueOf(node, flag) != nil:
		candidates = values(valueOf(node, flag), flag+"=")
	case strings.HasPrefix(last, "-"):
		candidates = flagsOf(node)
	default:
		candidates = commandsOf(node)
	}
	slices.Sort(candidates)
	return slices.DeleteFunc(candidates, func(text string) bool { return !strings.HasPrefix(text, last) })
}

func childOf(node *kong.Node, word string) *kong.Node {
	for _, child := range node.Children {
		if child.Name == word {
			return child
		}
	}
	return nil
}

// valueOf returns the flag of a word, if the next word is its value.
func valueOf(node *kong.Node, word string) *kong.Flag {
	for _, group := range node.AllFlags(true) {
		for _, flag := range group {
			if (word == "--"+flag.Name || flag.Short != 0 && word == "-"+string(flag.Short)) && !flag.IsBool() {
				return flag
			}
		}
	}
	return nil
}

// values returns the values that a flag may have, each behind a prefix.
func values(flag *kong.Flag, prefix string) []string {
	words := flag.Tag.Get("words")
	if words == "" {
		words = flag.Enum
	}
	var candidates []string
	for word := range strings.SplitSeq(words, ",") {
		if word != "" {
			candidates = append(candidates, prefix+word)
		}
	}
	return candidates
}

func flagsOf(node *kong.Node) []string {
	var candidates []string
	for _, group := range node.AllFlags(true) {
		for _, flag := range group {
			candidates = append(candidates, described("--"+flag.Name, flag.Help))
		}
	}
	return candidates
}

func commandsOf(node *kong.Node) []string {
	var candidates []string
	for _, child := range node.Children {
		if !child.Hidden {
			candidates = append(candidates, described(child.Name, child.Help))
		}
	}
	return candidates
}

// described puts the first sentence of a help text behind a word.
func described(word, help string) string {
	first, _, _ := strings.Cut(help, ". ")
	return word + "\t" + strings.TrimSuffix(strings.ReplaceAll(first, "\n", " "), ".")
}
