package cli

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"postrider.dev/postrider/receiver"
)

// PrintSettings say how a command prints a list.
type PrintSettings struct {
	JSON bool `name:"json" help:"Print JSON, one object a line, for programs."`
}

// show prints items as JSON, or as a table under the names of its columns. Names are whatever a caller
// of the API wanted them to be, so they are escaped.
func show[T any](p PrintSettings, items []T, columns []string, row func(T) []string) error {
	if p.JSON {
		for _, item := range items {
			text, err := json.Marshal(item)
			if err != nil {
				return err
			}
			fmt.Println(receiver.Escape(string(text)))
		}
		return nil
	}
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	if len(items) > 0 {
		fmt.Fprintln(table, strings.Join(columns, "\t"))
	}
	for _, item := range items {
		cells := row(item)
		for i := range cells {
			cells[i] = receiver.Escape(cells[i])
		}
		fmt.Fprintln(table, strings.Join(cells, "\t"))
	}
	return table.Flush()
}

// notef prints a remark for people. It goes to standard error, because programs read a
// command's standard output.
func notef(format string, args ...any) {
	fmt.Fprintln(os.Stderr, receiver.Escape(fmt.Sprintf(format, args...)))
}

// when formats a time for a table.
func when(t *time.Time) string {
	if t == nil {
		return "-"
	}
	return t.Format(time.RFC3339)
}
