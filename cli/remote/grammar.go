package remote

import (
	"io"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/alecthomas/kong"
)

// Streams are what commands read from and print to.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
	Asks     bool // a person is there to answer a question: input and errors are a terminal
	Draws    bool // output is a terminal, on which lines can be drawn again
}

// settings are the flags of every command.
type settings struct {
	APIURL     string   `name:"api-url" env:"POSTRIDER_URL" default:"http://127.0.0.1:8080" help:"Where the API is."`
	APIKeyFile string   `name:"api-key-file" placeholder:"FILE" help:"File with the API key. Default: the key itself in POSTRIDER_API_KEY."`
	Output     string   `short:"o" enum:"table,json" default:"table" words:"table,json" help:"How answers are printed: table, or json, one object a line."`
	Columns    []string `placeholder:"NAME" help:"Fields that a table has as columns, such as id,stats.success_rate."`
}

// nounCommand is the command of a noun; those of its verbs are plugged in.
type nounCommand struct {
	settings
	kong.Plugins

	verbs   map[string]operation
	streams Streams
	call    *call // what was typed, once it is understood
}

// Commands returns the options that add the commands to a command line of these words. Only the commands of
// nouns among the words get their flags: those of all others would cost every start of a server.
func Commands(streams Streams, words []string) []kong.Option {
	byNoun := map[string]map[string]operation{}
	fields := map[string][]reflect.StructField{}
	for _, o := range operations() {
		if byNoun[o.Noun] == nil {
			byNoun[o.Noun] = map[string]operation{}
		}
		byNoun[o.Noun][o.Verb] = o
		verb := reflect.TypeFor[struct{}]()
		if slices.Contains(words, o.Noun) {
			verb = verbType(o)
		}
		fields[o.Noun] = append(fields[o.Noun], reflect.StructField{
			Name: "Verb" + strconv.Itoa(len(fields[o.Noun])), Type: verb, Tag: tag("cmd", "", "name", o.Verb, "help", o.Summary),
		})
	}
	all := nouns()
	options := append(make([]kong.Option, 0, len(all)+1), kong.PostBuild(describe))
	for _, n := range all {
		verbs := reflect.New(reflect.StructOf(fields[n.Noun])).Interface()
		command := &nounCommand{verbs: byNoun[n.Noun], streams: streams, Plugins: kong.Plugins{verbs}}
		options = append(options, kong.DynamicCommand(n.Noun, n.Help, "API", command))
	}
	return options
}

// verbType returns the struct whose fields are the arguments and flags of a command.
func verbType(o operation) reflect.Type {
	var fields []reflect.StructField
	add := func(kind any, pairs ...string) {
		fields = append(fields, reflect.StructField{Name: "Field" + strconv.Itoa(len(fields)), Type: reflect.TypeOf(kind), Tag: tag(pairs...)})
	}
	for _, f := range o.takes() {
		if f.In == "path" {
			add("", "arg", "", "name", f.Name, "help", f.Help)
			continue
		}
		add(f.goValue(), "name", f.flag(), "help", f.helpText(o), "placeholder", f.placeholder(), "words", strings.Join(f.Enum, ","),
			"mapsep", "none")
	}
	if o.Pages {
		add(int64(0), "name", "limit", "default", "50", "placeholder", "N", "help", "How many items are shown; 0: all of them.")
		add("", "name", "cursor", "placeholder", "TEXT", "help", "Go on where an earlier list ended.")
	}
	if o.watched() {
		add(false, "name", "watch", "short", "w", "help", o.watchHelp())
		add("", "name", "interval", "default", "2s", "placeholder", "TIME", "help", "How often --watch looks.")
	}
	if o.hasBody() {
		add("", "name", "body", "placeholder", "JSON", "help", "The whole request body: JSON, @FILE, or - for standard input. "+
			"Flags go before it, field by field.")
	}
	if nullable := o.nullable(); len(nullable) > 0 {
		add([]string{}, "name", "unset", "placeholder", "FIELD", "words", strings.Join(nullable, ","), "help", "Fields that become null.")
	}
	if o.destroys() {
		add(false, "name", "yes", "short", "y", "help", "Do not ask first.")
	}
	return reflect.StructOf(fields)
}

// goValue returns a value of the Go type that a flag is read into; the zero value means that it was not given.
func (f field) goValue() any {
	switch f.Kind {
	case "integer":
		return new(int64)
	case "boolean":
		return new(bool)
	case "strings":
		return []string{}
	case "map":
		return map[string]string{}
	}
	return new(string)
}

func (f field) placeholder() string {
	switch f.Kind {
	case "integer", "number":
		return "N"
	case "boolean":
		return "true|false"
	case "strings":
		return "A,B"
	case "map":
		return "NAME=VALUE"
	case "json":
		return "JSON"
	}
	return "TEXT"
}

func (f field) helpText(o operation) string {
	text := f.Help
	if f.Kind == "json" {
		text += " JSON, @FILE, or - for standard input."
	}
	if f.Kind == "map" {
		text += " Repeat the flag for more."
	}
	if f.Secret {
		text += " @FILE reads it from a file: other users can see a command line."
	}
	if f.Required {
		text += map[bool]string{true: " Required, here or in --body.", false: " Required."}[f.In == "body" && o.hasBody()]
	}
	return text
}

func (o operation) watchHelp() string {
	if o.reads() {
		return "Go on reading, and print what is new or has changed, until Ctrl-C or until it has finished."
	}
	return "Go on reading it until it has finished, with its progress."
}

// nullable returns the names of the body's fields that may be null and need not be there.
func (o operation) nullable() []string {
	var names []string
	for _, f := range o.in("body") {
		if f.Nullable && !f.Required {
			names = append(names, f.Name)
		}
	}
	return names
}

// tag makes a struct tag of names and values in turn. Kong takes a dollar sign for a variable.
func tag(pairs ...string) reflect.StructTag {
	var words []string
	for pair := range slices.Chunk(pairs, 2) {
		name, value := pair[0], pair[len(pair)-1]
		if value != "" || name == "cmd" || name == "arg" {
			words = append(words, name+":"+strconv.Quote(strings.ReplaceAll(value, "$", "$$")))
		}
	}
	return reflect.StructTag(strings.Join(words, " "))
}

// describe gives the help of each command its description, its route and an example.
func describe(k *kong.Kong) error {
	for _, node := range k.Model.Children {
		noun, isOurs := node.Target.Addr().Interface().(*nounCommand)
		if !isOurs {
			continue
		}
		for _, verb := range node.Children {
			o := noun.verbs[verb.Name]
			more := strings.TrimSpace(strings.TrimPrefix(o.Detail, o.Summary)) // the summary stands above it
			verb.Detail = strings.TrimSpace(more + "\n\nRoute: " + o.Method + " " + o.Path + "\n\nExample: " + o.example(k.Model.Name))
		}
	}
	return nil
}
