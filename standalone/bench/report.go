package main

import (
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
)

// column is a metric as tables show it.
type column struct{ title, metric, format string }

// columns are those of the printed table.
func columns() []column {
	return []column{
		{"events", events, "%.0f"},
		{"deliveries/s", deliveriesPerS, "%.0f"},
		{"x naive", toNaive, "%.1f"},
		{"x floor", toFloor, "%.2f"},
		{"p50 ms", p50, "%.1f"},
		{"p99 ms", p99, "%.1f"},
		{"CPU s/1000", cpuPer1000, "%.2f"},
		{"server", cpuPer1000 + "_" + serverProcess, "%.2f"},
		{"postgres", cpuPer1000 + "_" + postgresProcess, "%.2f"},
		{"twice", duplicates, "%.0f"},
	}
}

// cell is a metric in words; "" when it was not measured.
func (c column) cell(m metrics) string {
	value, measured := m[c.metric]
	if !measured {
		return ""
	}
	return fmt.Sprintf(c.format, value)
}

// String is what is said of a run when it is over.
func (m metrics) String() string {
	var words []string
	for _, c := range columns() {
		if text := c.cell(m); text != "" && c.metric != events {
			words = append(words, c.title+" "+text)
		}
	}
	return strings.Join(words, ", ")
}

// print prints the medians.
func (b *bench) print() {
	fmt.Printf("\nMedians of %d. %d cores, %s, Go %s, PostgreSQL %s, %s.\n\n", b.Runs, b.results.Machine.Cores, b.results.Machine.CPU,
		b.results.Machine.Go, b.results.Machine.Postgres, b.results.Machine.Commit)
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(table, "scenario\tmode\t")
	for _, c := range columns() {
		fmt.Fprint(table, c.title+"\t")
	}
	fmt.Fprintln(table)
	for _, r := range b.results.Results {
		fmt.Fprintf(table, "%s\t%s\t", r.Scenario, r.Mode)
		for _, c := range columns() {
			fmt.Fprint(table, c.cell(r.Median)+"\t")
		}
		fmt.Fprintln(table)
	}
	_ = table.Flush() // standard output, or nobody reads
}
