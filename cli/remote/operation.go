package remote

import (
	"net/http"
	"slices"
	"strings"
)

// operation is a route of the API and the two words that call it.
type operation struct {
	Noun, Verb      string
	ID              string // in the document
	Method, Path    string // the path has places such as {id}
	Summary, Detail string
	Open            bool   // needs no key
	Pages           bool   // answers a list that is read in pages
	Follow          string // the path that shows how what the answer tells of goes on; "": nothing does
	Fields          []field
}

// field is an argument or a flag of a command.
type field struct {
	Name     string // in the API
	In       string // path, query, header or body
	Kind     string // string, integer, number, boolean, strings, map or json
	Required bool
	Nullable bool
	Secret   bool     // may be in a file, which other users of the machine do not see
	Enum     []string // nil: any
	Example  string
	Help     string
}

// nounText says what the commands of a noun are about.
type nounText struct{ Noun, Help string }

// reserved are the flags that mean the same in every command that has them.
func reserved() []string {
	return []string{
		"help", "output", "columns", "api-url", "api-key-file", // every command
		"limit", "cursor", "watch", "interval", "body", "unset", "yes",
	}
}

// flag returns the name of the field's flag.
func (f field) flag() string {
	name := strings.ToLower(strings.ReplaceAll(f.Name, "_", "-"))
	if slices.Contains(reserved(), name) {
		return "field-" + name
	}
	return name
}

// takes returns the fields that are given: a list's own paging is hidden behind --limit and --cursor.
func (o operation) takes() []field {
	if !o.Pages {
		return o.Fields
	}
	return slices.DeleteFunc(slices.Clone(o.Fields), func(f field) bool {
		return f.In == "query" && (f.Name == "limit" || f.Name == "cursor")
	})
}

// in returns the fields of a place.
func (o operation) in(place string) []field {
	return slices.DeleteFunc(slices.Clone(o.takes()), func(f field) bool { return f.In != place })
}

func (o operation) hasBody() bool { return len(o.in("body")) > 0 }

func (o operation) reads() bool { return o.Method == http.MethodGet }

// watched reports whether the command can go on showing what it read, or what its answer tells of.
func (o operation) watched() bool { return o.reads() || o.Follow != "" }

// destroys reports whether the command asks first.
func (o operation) destroys() bool {
	first, _, _ := strings.Cut(o.Verb, "-")
	return o.Method == http.MethodDelete || slices.Contains([]string{"act", "cancel", "skip", "revoke"}, first)
}

// example returns a command line that could be.
func (o operation) example(program string) string {
	words := []string{program, o.Noun, o.Verb}
	for _, f := range o.in("path") {
		words = append(words, strings.ToUpper(f.Name))
	}
	for _, f := range o.takes() {
		if f.In != "path" && f.Required {
			words = append(words, "--"+f.flag()+" "+f.sample())
		}
	}
	for _, f := range o.takes() { // one that is optional shows how it goes
		if !slices.ContainsFunc(o.takes(), func(g field) bool { return g.Required && g.In != "path" }) && f.In != "path" {
			words = append(words, "--"+f.flag()+" "+f.sample())
			break
		}
	}
	return strings.Join(words, " ")
}

// sample returns a value that could be.
func (f field) sample() string {
	switch {
	case f.Example != "":
		return quoted(f.Example)
	case len(f.Enum) > 0:
		return f.Enum[0]
	case f.Name == "url":
		return "https://example.com/hook"
	}
	return map[string]string{
		"integer": "5", "number": "0.5", "boolean": "true", "json": `'{"seconds": 42}'`, "strings": "A,B", "map": "NAME=VALUE",
	}[f.Kind] + map[bool]string{true: "TEXT", false: ""}[f.Kind == "string"]
}

func quoted(text string) string {
	if strings.ContainsAny(text, " *&|;<>(){}$\"'`") {
		return "'" + text + "'"
	}
	return text
}
