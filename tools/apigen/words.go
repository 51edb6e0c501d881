package main

import (
	"slices"
	"strings"
)

// goName makes an exported name of words that are joined by underscores, hyphens or capitals.
func goName(text string) string {
	var name strings.Builder
	for _, word := range strings.FieldsFunc(text, func(c rune) bool { return strings.ContainsRune("_-. ", c) }) {
		word = strings.ToUpper(word[:1]) + word[1:]
		name.WriteString(initialisms(word))
	}
	return name.String()
}

// initialisms writes Go's initialisms in a word with capitals: Api as API, ApiKey as APIKey.
func initialisms(word string) string {
	for _, initialism := range []string{"Api", "Id", "Ids", "Ip", "Ui", "Url", "Ttl", "Tls", "Json", "Http", "Ca"} {
		rest, found := strings.CutPrefix(word, initialism)
		if found && (rest == "" || rest[0] >= 'A' && rest[0] <= 'Z') {
			upper := strings.ToUpper(initialism)
			if initialism == "Ids" {
				upper = "IDs"
			}
			return upper + rest
		}
	}
	return word
}

// goArgument makes a name of a parameter.
func goArgument(name string) string {
	if slices.Contains([]string{"type", "func", "range", "select", "default", "map"}, name) {
		return name + "Name"
	}
	upper := goName(name)
	if strings.ToUpper(name) == upper {
		return strings.ToLower(name)
	}
	return strings.ToLower(upper[:1]) + upper[1:]
}

// singular returns the word for one of many.
func singular(word string) string {
	switch {
	case word == "stats": // there is no one of it
		return word
	case strings.HasSuffix(word, "ies"):
		return strings.TrimSuffix(word, "ies") + "y"
	}
	return strings.TrimSuffix(word, "s")
}

const apiPrefix = "/api/v1/"

// noun returns the first word of a route's command: what the route is about, by its path.
func noun(o *operation) string {
	path, isResource := strings.CutPrefix(o.path, apiPrefix)
	if !isResource {
		return "service"
	}
	first, _, _ := strings.Cut(path, "/")
	return singular(first)
}

// verb returns the second word of a route's command: the operation's id without the words of the noun,
// and without a preposition that is left at the end.
func verb(o *operation) string {
	about := strings.Split(noun(o), "-")
	var words []string
	for _, word := range strings.Split(o.ID, "-") {
		if !slices.Contains(about, singular(word)) && !slices.Contains(about, word) {
			words = append(words, word)
		}
	}
	for len(words) > 1 && slices.Contains([]string{"on", "of", "for", "to"}, words[len(words)-1]) {
		words = words[:len(words)-1]
	}
	return strings.Join(words, "-")
}

// sentence returns the first sentence of a text, without marks of code.
func sentence(text string) string {
	text = strings.ReplaceAll(text, "`", "")
	first, _, _ := strings.Cut(text, "\n")
	if before, _, found := strings.Cut(first, ". "); found {
		return before + "."
	}
	return first
}

// comment writes a text as lines of a Go comment.
func comment(indent, text string) string {
	const columns = 100
	var lines strings.Builder
	for paragraph := range strings.SplitSeq(text, "\n") {
		line := indent + "//"
		for word := range strings.FieldsSeq(paragraph) {
			if len(line)+1+len(word) > columns {
				lines.WriteString(line + "\n")
				line = indent + "//"
			}
			line += " " + word
		}
		lines.WriteString(line + "\n")
	}
	return lines.String()
}
