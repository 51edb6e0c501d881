package remote

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"unicode/utf8"

	"github.com/tidwall/gjson"

	"postrider.dev/postrider/receiver"
)

// maxCell is how many characters of a value a table of many shows.
const maxCell = 44

// printer prints answers. Whatever is in one was written by others, so it is escaped. Numbers are printed as
// they came, digit by digit.
type printer struct {
	out      io.Writer
	json     bool
	columns  []string // nil: those of [usual]
	headless bool     // the names of the columns were there
}

// answer prints the answer of a route that is no list in pages; one that has nothing but a list in "data" all
// the same is printed as one.
func (p printer) answer(answer gjson.Result) error {
	if data := answer.Get("data"); !p.json && data.IsArray() && isTable(data) {
		return p.list(data.Array())
	}
	if p.json {
		return p.line(answer)
	}
	return p.object(answer)
}

// line prints a value as one line of JSON.
func (p printer) line(value gjson.Result) error {
	_, err := fmt.Fprintln(p.out, receiver.Escape(value.Get("@ugly").Raw))
	return err
}

// list prints items, one a line.
func (p printer) list(items []gjson.Result) error {
	if p.json {
		for _, item := range items {
			if err := p.line(item); err != nil {
				return err
			}
		}
		return nil
	}
	return p.table(items, "")
}

// table prints items under the names of their columns.
func (p printer) table(items []gjson.Result, indent string) error {
	if len(items) == 0 {
		return nil
	}
	columns := p.columns
	if len(columns) == 0 || indent != "" {
		columns = columnsOf(items)
	}
	table := tabwriter.NewWriter(p.out, 0, 0, 2, ' ', 0)
	if !p.headless {
		fmt.Fprintln(table, indent+strings.ToUpper(strings.Join(columns, "\t")))
	}
	for _, item := range items {
		cells := make([]string, len(columns))
		for i, column := range columns {
			cells[i] = shorten(cell(item.Get(column)))
		}
		fmt.Fprintln(table, indent+strings.Join(cells, "\t"))
	}
	return table.Flush()
}

// object prints the fields of one thing, a line each, then what it has many of.
func (p printer) object(object gjson.Result) error {
	table := tabwriter.NewWriter(p.out, 0, 0, 2, ' ', 0)
	var many []string
	for _, path := range fieldsOf(object, "") {
		value := object.Get(path)
		switch {
		case len(p.columns) > 0 && !slices.Contains(p.columns, path):
		case isTable(value):
			many = append(many, path)
		default:
			fmt.Fprintf(table, "%s\t%s\n", receiver.Escape(path), cell(value))
		}
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for _, path := range many {
		fmt.Fprintln(p.out, receiver.Escape(path)+":")
		if err := p.table(object.Get(path).Array(), "  "); err != nil {
			return err
		}
	}
	return nil
}

// freeJSON are the fields that hold JSON of others, which is shown as it is.
func freeJSON(path string) bool {
	return slices.Contains([]string{"data", "body", "example", "schema", "headers"}, path)
}

// fieldsOf returns the paths of an object's fields in their order, those of objects within it too.
func fieldsOf(object gjson.Result, prefix string) []string {
	var paths []string
	object.ForEach(func(key, value gjson.Result) bool {
		path := prefix + gjson.Escape(key.String())
		if value.IsObject() && !freeJSON(path) && len(value.Map()) > 0 {
			paths = append(paths, fieldsOf(value, path+".")...)
		} else {
			paths = append(paths, path)
		}
		return true
	})
	return paths
}

// isTable reports whether a value is a list of objects.
func isTable(value gjson.Result) bool {
	return value.IsArray() && value.Get("#").Int() > 0 && value.Get("0").IsObject()
}

// usual are the fields that a table of many shows, where items have them; all of them are in the JSON, and
// --columns chooses others.
func usual(name string) bool {
	return slices.Contains([]string{
		"id", "at", "type", "event_type", "webhook_id", "event_id", "name", "url", "events", "status", "state", "result", "detail",
		"actor", "action", "resource_id", "route", "field", "old", "new", "scopes",
		"number", "started_at", "duration_ms", "status_code", "error", "attempt_count", "next_attempt_at", "last_error",
		"matched", "sent", "succeeded", "delivered", "failed", "attempts", "latency_p50_ms", "latency_p99_ms",
		"deliveries", "parked", "duplicate", "delivery_id",
		"enforcement", "deprecated", "description", "deliver_at", "created_at", "expires_at", "revoked_at",
	}, name)
}

// columnsOf returns the columns of a table: usual fields that any of the items has a value for, or all fields
// where none is usual.
func columnsOf(items []gjson.Result) []string {
	var all, known []string
	items[0].ForEach(func(key, _ gjson.Result) bool {
		name := key.String()
		path := gjson.Escape(name)
		if !slices.ContainsFunc(items, func(item gjson.Result) bool { return !isEmpty(item.Get(path)) }) {
			return true
		}
		all = append(all, path)
		if usual(name) {
			known = append(known, path)
		}
		return true
	})
	if len(known) > 0 {
		return known
	}
	return all
}

func isEmpty(value gjson.Result) bool {
	return value.Type == gjson.Null || value.Raw == `""` || value.Raw == "[]" || value.Raw == "{}"
}

// cell writes a value in one line.
func cell(value gjson.Result) string {
	switch {
	case value.Type == gjson.Null:
		return "-"
	case value.IsArray() && !isTable(value):
		words := make([]string, 0, len(value.Array()))
		for _, item := range value.Array() {
			words = append(words, cell(item))
		}
		return strings.Join(words, ",")
	case value.Type == gjson.String:
		return receiver.Escape(value.String())
	}
	return receiver.Escape(value.Get("@ugly").Raw)
}

func shorten(text string) string {
	if utf8.RuneCountInString(text) <= maxCell {
		return text
	}
	return string([]rune(text)[:maxCell-1]) + "…"
}
