package cli

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf16"
)

// printing says how a command prints a list.
type printing struct {
	JSON bool `name:"json" help:"Print JSON, one object a line, for programs."`
}

// show prints items as JSON, or as a table under the names of its columns.
func show[T any](p printing, items []T, columns []string, row func(T) []string) error {
	if p.JSON {
		for _, item := range items {
			text, err := json.Marshal(item)
			if err != nil {
				return err
			}
			fmt.Println(escape(string(text), jsonEscape))
		}
		return nil
	}
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	if len(items) > 0 {
		fmt.Fprintln(table, strings.Join(columns, "\t"))
	}
	for _, item := range items {
		cells := row(item)
		for i, cell := range cells {
			cells[i] = printable(cell)
		}
		fmt.Fprintln(table, strings.Join(cells, "\t"))
	}
	return table.Flush()
}

// printable returns a text that a terminal shows and does not obey: customers choose names. What is not printable,
// a line's end and a mark of direction too, is escaped as in a string of Go.
func printable(text string) string {
	return escape(text, func(r rune) string { return strings.Trim(strconv.QuoteRune(r), "'") })
}

// escape replaces each character that is not printable.
func escape(text string, replacement func(rune) string) string {
	var shown strings.Builder
	for _, r := range text {
		if unicode.IsPrint(r) {
			shown.WriteRune(r)
		} else {
			shown.WriteString(replacement(r))
		}
	}
	return shown.String()
}

// jsonEscape returns a character as it is escaped in a string of JSON.
func jsonEscape(r rune) string {
	var escaped strings.Builder
	for _, unit := range utf16.AppendRune(nil, r) {
		fmt.Fprintf(&escaped, `\u%04x`, unit)
	}
	return escaped.String()
}

// notef prints a remark for people. It goes to standard error, because programs read a
// command's standard output.
func notef(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }

// when formats a time for a table.
func when(t *time.Time) string {
	if t == nil {
		return "-"
	}
	return t.Format(time.RFC3339)
}
