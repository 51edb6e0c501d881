package cli

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
	"time"
)

// PrintSettings say how a command prints a list.
type PrintSettings struct {
	JSON bool `name:"json" help:"Print JSON, one object a line, for programs."`
}

// show prints items as JSON, or as a table under the names of its columns.
func show[T any](p PrintSettings, items []T, columns []string, row func(T) []string) error {
	if p.JSON {
		encoder := json.NewEncoder(os.Stdout)
		for _, item := range items {
			if err := encoder.Encode(item); err != nil {
				return err
			}
		}
		return nil
	}
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	if len(items) > 0 {
		fmt.Fprintln(table, strings.Join(columns, "\t"))
	}
	for _, item := range items {
		fmt.Fprintln(table, strings.Join(row(item), "\t"))
	}
	return table.Flush()
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
