package main

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// writeTypes writes a type for each component of the document, and one for the parameters of each list.
func writeTypes(code *bytes.Buffer, d document) error {
	code.WriteString("package client\n\nimport (\n\"encoding/json\"\n\"net/url\"\n\"time\"\n)\n")
	for _, name := range slices.Sorted(maps.Keys(d.Components.Schemas)) {
		if s := d.Components.Schemas[name]; !handwritten(name, s) {
			d.writeType(code, name, s)
		}
	}
	for _, o := range d.operations {
		if query := o.in("query"); len(query) > 0 {
			writeParams(code, o, query)
		}
	}
	return nil
}

// handwritten reports whether package client has its own type: errors are [client.Problem], and lists
// are [client.Page].
func handwritten(name string, s *schema) bool {
	return name == "Problem" || name == "ProblemDetail" || s.Properties["next_cursor"] != nil
}

func (d *document) writeType(code *bytes.Buffer, name string, s *schema) {
	fmt.Fprintf(code, "\n%stype %s struct {\n", comment("", fmt.Sprintf("%s is what the API %s under that name.",
		goName(name), map[bool]string{true: "takes", false: "answers"}[d.asked[name]])), goName(name))
	for _, property := range s.names() {
		field := s.Properties[property]
		if text := d.describe(field); text != "" {
			code.WriteString(comment("\t", text))
		}
		tag, required := property, s.requires(property)
		if !required {
			tag += ",omitzero"
		}
		fmt.Fprintf(code, "\t%s %s `json:%q`\n", goName(property), d.goField(name, field, required), tag)
	}
	code.WriteString("}\n")
}

// describe returns the text of a field; a reference tells that of its schema, if that has one.
func (d *document) describe(field *schema) string {
	if field.Ref != "" && field.Description == "" {
		return d.resolve(field).Description
	}
	return field.text()
}

// goField returns the Go type of a field of a component.
func (d *document) goField(component string, field *schema, required bool) string {
	base := d.goType(field, d.asked[component])
	nullable := d.resolve(field).nullable()
	switch {
	case d.patched[component] && nullable:
		return "Nullable[" + base + "]"
	case strings.HasPrefix(base, "[]") || strings.HasPrefix(base, "map") || base == "any" || base == "json.RawMessage":
		return base // has a nil of its own
	case required && !nullable, !required && !nullable && len(field.Enum) > 0: // no enum has an empty word
		return base
	}
	return "*" + base
}

// goType returns the Go type of a schema. What is asked for may have any Go value where JSON is free;
// what is answered keeps its bytes, and with them its numbers.
func (d *document) goType(s *schema, asked bool) string {
	if s.Ref != "" {
		return goName(s.name())
	}
	switch s.kind() {
	case "string":
		if s.Format == "date-time" {
			return "time.Time"
		}
		return "string"
	case "integer":
		if s.Maximum != nil { // the API's limits all fit 32 bits
			return "int"
		}
		return "int64"
	case "number":
		return "float64"
	case "boolean":
		return "bool"
	case "array":
		return "[]" + d.goType(s.Items, asked)
	case "object":
		if s.isMap() {
			return "map[string]" + d.goType(s.values(), asked)
		}
	}
	if asked {
		return "any"
	}
	return "json.RawMessage"
}

// writeParams writes the type of a route's query parameters, and how they are sent.
func writeParams(code *bytes.Buffer, o *operation, query []parameter) {
	name := goName(o.ID) + "Params"
	fmt.Fprintf(code, "\n%stype %s struct {\n",
		comment("", fmt.Sprintf("%s are the parameters of [Client.%s]. The zero value of one leaves it out.", name, goName(o.ID))), name)
	var sent strings.Builder
	for _, p := range query {
		if text := p.Schema.text(); text != "" {
			code.WriteString(comment("\t", text))
		}
		kind, set := paramType(p.Schema)
		fmt.Fprintf(code, "\t%s %s\n", goName(p.Name), kind)
		fmt.Fprintf(&sent, "\t%s(q, %q, p.%s)\n", set, p.Name, goName(p.Name))
	}
	fmt.Fprintf(code, "}\n\nfunc (p %s) query() url.Values {\n\tq := url.Values{}\n%s\treturn q\n}\n", name, sent.String())
}

// paramType returns the Go type of a query parameter, and the function that sends it.
func paramType(s *schema) (kind, set string) {
	switch {
	case s.kind() == "array":
		return "[]string", "setTexts"
	case s.kind() == "integer":
		return "int", "set"
	case s.kind() == "boolean":
		return "bool", "set"
	case s.Format == "date-time":
		return "time.Time", "setTime"
	}
	return "string", "set"
}
