package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// command is a route with the words that call it.
type command struct {
	*operation
	noun, verb string
}

// commands returns the command of each route, by noun; within one in the order of the document.
func (d *document) commands() ([]command, error) {
	var all []command
	taken := map[string]string{}
	for _, o := range d.operations {
		c := command{o, noun(o), verb(o)}
		if taken[c.noun+" "+c.verb] != "" { // such as publish-event and publish-events
			c.verb += "-" + o.path[strings.LastIndex(o.path, "/")+1:]
		}
		if other := taken[c.noun+" "+c.verb]; other != "" || c.verb == "" {
			return nil, fmt.Errorf("%s: no words for a command that are its own (%s %s, %s)", o.ID, c.noun, c.verb, other)
		}
		taken[c.noun+" "+c.verb] = o.ID
		all = append(all, c)
	}
	slices.SortStableFunc(all, func(a, b command) int { return strings.Compare(a.noun, b.noun) })
	return all, nil
}

// writeCommands writes the table of commands.
func writeCommands(code *bytes.Buffer, d document) error {
	commands, err := d.commands()
	if err != nil {
		return err
	}
	code.WriteString("package remote\n\n// nouns are the first words of commands.\nfunc nouns() []nounText {\nreturn []nounText{\n")
	for _, c := range slices.CompactFunc(slices.Clone(commands), func(a, b command) bool { return a.noun == b.noun }) {
		fmt.Fprintf(code, "{%q, %q},\n", c.noun, d.about(c.noun, commands))
	}
	code.WriteString("}\n}\n\n// operations are the commands, by noun.\nfunc operations() []operation {\nreturn []operation{\n")
	for _, c := range commands {
		d.writeCommand(code, c)
	}
	code.WriteString("}\n}\n")
	return nil
}

// about returns what the document says of the tag of a noun's collection, or of its first route.
func (d *document) about(noun string, commands []command) string {
	var first command
	for _, c := range commands {
		if c.noun == noun && (first.operation == nil || !strings.Contains(strings.TrimPrefix(c.path, apiPrefix), "/")) {
			first = c
		}
	}
	for _, tag := range d.Tags {
		if slices.Contains(first.Tags, tag.Name) {
			return tag.Description
		}
	}
	return ""
}

func (d *document) writeCommand(code *bytes.Buffer, c command) {
	fmt.Fprintf(code, "{\nNoun: %q, Verb: %q, ID: %q, Method: %q, Path: %q,\nSummary: %q,\n",
		c.noun, c.verb, c.ID, c.method, c.path, summary(c.operation))
	if c.Description != "" {
		fmt.Fprintf(code, "Detail: %q,\n", strings.ReplaceAll(c.Description, "`", ""))
	}
	if len(c.Security) == 0 {
		code.WriteString("Open: true,\n")
	}
	if d.item(c.operation) != nil {
		code.WriteString("Pages: true,\n")
	}
	if follow := d.follows(c.operation); follow != "" {
		fmt.Fprintf(code, "Follow: %q,\n", follow)
	}
	d.writeFields(code, c)
	code.WriteString("},\n")
}

// summary makes one line of help: what the description says first, or the title in sentence case.
func summary(o *operation) string {
	if first := sentence(o.Description); first != "" && len(first) <= 100 && !strings.HasPrefix(first, "The key needs") {
		return first
	}
	words := strings.Fields(o.Summary)
	for i := 1; i < len(words); i++ {
		if words[i] != strings.ToUpper(words[i]) {
			words[i] = strings.ToLower(words[i])
		}
	}
	return strings.Join(words, " ") + "."
}

// follows returns the path that shows how the thing of the answer goes on, for something that ends:
// a delivery, a replay. "" when there is none.
func (d *document) follows(o *operation) string {
	answer := o.answer()
	if answer == nil || d.resolve(answer).Properties["finished_at"] == nil {
		return ""
	}
	for _, other := range d.operations {
		if other.method == "GET" && other.answer() != nil && other.answer().Ref == answer.Ref && strings.HasSuffix(other.path, "}") {
			return other.path
		}
	}
	return ""
}

// writeFields writes a command's arguments and flags: the parts of the path, the query and the header, then
// the fields of the body.
func (d *document) writeFields(code *bytes.Buffer, c command) {
	code.WriteString("Fields: []field{\n")
	for _, p := range c.Parameters {
		s := *p.Schema
		s.Description = cmp.Or(s.Description, p.Description)
		d.writeField(code, p.In, p.Name, p.Required, &s)
	}
	if body := d.resolve(c.body()); body != nil {
		for _, name := range body.names() {
			d.writeField(code, "body", name, body.requires(name), body.Properties[name])
		}
	}
	code.WriteString("},\n")
}

func (d *document) writeField(code *bytes.Buffer, place, name string, required bool, s *schema) {
	fmt.Fprintf(code, "{Name: %q, In: %q, Kind: %q", name, place, d.flagKind(s))
	if required {
		code.WriteString(", Required: true")
	}
	if s.nullable() {
		code.WriteString(", Nullable: true")
	}
	if s.WriteOnly {
		code.WriteString(", Secret: true")
	}
	if words := s.words(); len(words) > 0 {
		fmt.Fprintf(code, ", Enum: %#v", words)
	}
	if example := exampleOf(s); example != "" {
		fmt.Fprintf(code, ", Example: %q", example)
	}
	help := d.describe(s)
	if place == "path" {
		help = cmp.Or(help, "Id of what it is about.")
	}
	fmt.Fprintf(code, ", Help: %q},\n", cmp.Or(help, strings.ReplaceAll(name, "_", " ")+"."))
}

// flagKind returns how a value is written on a command line.
func (d *document) flagKind(s *schema) string {
	resolved := d.resolve(s)
	switch kind := resolved.kind(); kind {
	case "integer", "number", "boolean", "string":
		return kind
	case "array":
		if item := d.resolve(resolved.Items); item.kind() == "string" {
			return "strings"
		}
	case "object":
		if resolved.isMap() && resolved.values().kind() == "string" {
			return "map"
		}
	}
	return "json"
}

// exampleOf returns the document's example as it is written on a command line.
func exampleOf(s *schema) string {
	if len(s.Examples) == 0 {
		return ""
	}
	var words []string
	if json.Unmarshal(s.Examples[0], &words) == nil {
		return strings.Join(words, ",")
	}
	var text string
	if json.Unmarshal(s.Examples[0], &text) == nil {
		return text
	}
	var compact bytes.Buffer
	if json.Compact(&compact, s.Examples[0]) != nil {
		return ""
	}
	return compact.String()
}
