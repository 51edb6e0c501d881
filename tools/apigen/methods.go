package main

import (
	"bytes"
	"fmt"
	"strings"
	"text/template"
)

// method is what the template of a method knows.
type method struct {
	Name, Comment, Method, Path, Args, Answer, Item string
	Request                                         string // fields of the request beside method and path
	Options                                         bool   // takes an Idempotency-Key
	Query                                           bool
}

const methodTemplate = `
{{.Comment -}}
{{if .Item -}}
func (c *Client) {{.Name}}(ctx context.Context{{.Args}}, params {{.Name}}Params) iter.Seq2[{{.Item}}, error] {
	return all(params.Cursor, func(cursor string) (Page[{{.Item}}], error) {
		params.Cursor = cursor
		return c.{{.Name}}Page(ctx{{range $i, $e := split .Args}}, {{$e}}{{end}}, params)
	})
}

// {{.Name}}Page returns one page of [Client.{{.Name}}]: that of params.Cursor, or the first.
func (c *Client) {{.Name}}Page(ctx context.Context{{.Args}}, params {{.Name}}Params) (Page[{{.Item}}], error) {
	return call[Page[{{.Item}}]](ctx, c, Request{Method: {{.Method}}, Path: {{.Path}}, Query: params.query()})
}
{{else if .Answer -}}
func (c *Client) {{.Name}}(ctx context.Context{{.Args}}
	{{- if .Query}}, params {{.Name}}Params{{end}}{{if .Options}}, options ...Option{{end}}) ({{.Answer}}, error) {
	return call[{{.Answer}}](ctx, c, Request{Method: {{.Method}}, Path: {{.Path}}{{.Request}}}{{if .Options}}, options...{{end}})
}
{{else -}}
func (c *Client) {{.Name}}(ctx context.Context{{.Args}}) error {
	_, err := c.Do(ctx, Request{Method: {{.Method}}, Path: {{.Path}}{{.Request}}})
	return err
}
{{end}}`

// writeMethods writes a method for each route that answers JSON.
func writeMethods(code *bytes.Buffer, d document) error {
	code.WriteString("package client\n\nimport (\n\"context\"\n\"encoding/json\"\n\"iter\"\n\"net/http\"\n)\n")
	t, err := template.New("method").Funcs(template.FuncMap{"split": argumentNames}).Parse(methodTemplate)
	if err != nil {
		return err
	}
	for _, o := range d.operations {
		if err := t.Execute(code, d.method(o)); err != nil {
			return err
		}
	}
	return nil
}

// argumentNames returns the names in a list of arguments: ", id string" has id.
func argumentNames(args string) []string {
	var names []string
	for argument := range strings.SplitSeq(strings.TrimPrefix(args, ", "), ", ") {
		if name, _, found := strings.Cut(argument, " "); found {
			names = append(names, name)
		}
	}
	return names
}

func (d *document) method(o *operation) method {
	m := method{
		Name: goName(o.ID), Method: "http.Method" + o.method[:1] + strings.ToLower(o.method[1:]), Path: fmt.Sprintf("%q", o.path),
		Comment: methodComment(o), Query: len(o.in("query")) > 0, Options: len(o.in("header")) > 0,
	}
	if places := o.in("path"); len(places) > 0 {
		m.Path = fmt.Sprintf("%q", o.path)
		for _, p := range places {
			m.Path = strings.Replace(m.Path, "{"+p.Name+"}", "%s", 1)
			m.Args += ", " + goArgument(p.Name) + " string"
		}
		m.Path = "pathOf(" + m.Path + ", " + strings.Join(argumentNames(m.Args), ", ") + ")"
	}
	if body := o.body(); body != nil {
		m.Args += ", body " + d.goType(body, true)
		m.Request += ", Body: body"
	}
	if item := d.item(o); item != nil {
		m.Item = d.goType(item, false)
		return m
	}
	if m.Query {
		m.Request += ", Query: params.query()"
	}
	if !o.silent() {
		m.Answer = "json.RawMessage"
		if o.answer() != nil {
			m.Answer = d.goType(o.answer(), false)
		}
	}
	return d.repeatable(o, m)
}

// repeatable says how the request may be made again: with a key that the server knows it by, or not at
// all where the answer itself is what is asked for.
func (d *document) repeatable(o *operation, m method) method {
	if m.Options {
		m.Request += ", Keyed: true"
	}
	if len(o.Security) == 0 {
		m.Request += ", Once: true"
	}
	return m
}

func methodComment(o *operation) string {
	text := fmt.Sprintf("%s is %s %s: %s.", goName(o.ID), o.method, o.path, o.Summary)
	if o.Description != "" {
		text += "\n\n" + strings.ReplaceAll(o.Description, "`", "")
	}
	return comment("", text)
}
