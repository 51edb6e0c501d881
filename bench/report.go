package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
)

// column is a metric in a table: its title and its format.
type column struct{ title, metric, format string }

// cell formats the metric; it returns "" when the metric was not measured.
func (c column) cell(m metrics) string {
	value, measured := m[c.metric]
	if !measured {
		return ""
	}
	return fmt.Sprintf(c.format, value)
}

// table is the rows of one kind of measurement.
type table struct {
	title   string
	columns []column
	rows    []row
}

// tables returns the results as tables, without empty ones.
func (r *results) tables() []table {
	cost := []column{
		{"CPU s/1000", cpuPer1000, "%.2f"},
		{"of it server", cpuPer1000 + "_" + serverProcess, "%.2f"},
		{"PostgreSQL", cpuPer1000 + "_" + postgresProcess, "%.2f"},
		{"beside it load", cpuPer1000 + "_" + loadProcess, "%.2f"},
		{"received twice", duplicates, "%.0f"},
	}
	latency := []column{{"p50 ms", p50, "%.1f"}, {"p99 ms", p99, "%.1f"}}
	all := []table{
		{title: "As fast as it goes", columns: slices.Concat([]column{
			{"events", events, "%.0f"},
			{"deliveries/s", deliveriesPerS, "%.0f"},
			{"× naive", toNaive, "%.1f"},
			{"× floor", toFloor, "%.2f"},
			{"× baseline", toBaseline, "%.2f"},
		}, latency, cost)},
		{title: "At a steady rate", columns: slices.Concat(
			[]column{{"events/s", offeredPerS, "%.0f"}}, latency, []column{
				{"p99 × baseline", p99ToBaseline, "%.2f"},
				{"answered ms", answerMS, "%.0f"},
				{"all done s", allSeconds, "%.1f"},
				{"peak memory MB", peakMemory, "%.0f"},
				{"attempt beyond timeout ms", overrunMS, "%.0f"},
			}, cost,
		)},
		{title: "Accepting", columns: slices.Concat(
			[]column{{"publishes/s", publishesPerS, "%.0f"}, {"events/s", eventsPerS, "%.0f"}}, latency, cost,
		)},
		{title: "At rest", columns: []column{
			{"CPU % of a core", cpuPercent + "_" + serverProcess, "%.1f"},
			{"PostgreSQL's", cpuPercent + "_" + postgresProcess, "%.1f"},
			{"memory MB", residentMemory, "%.0f"},
			{"start to first event s", startSeconds, "%.2f"},
		}},
		{title: "Beside a storm of failures", columns: slices.Concat([]column{
			{"failing events", stormEvents, "%.0f"},
			{"attempts", attempts, "%.0f"},
			{"attempts/s", attemptsPerS, "%.0f"},
			{"first to last s", stormSeconds, "%.1f"},
			{"× policy", stormToPolicy, "%.2f"},
			{"retries' wait p50 × policy", retryToPolicyP50, "%.2f"},
			{"p99 × policy", retryToPolicyP99, "%.2f"},
			{"good events/s", offeredPerS, "%.0f"},
			{"good p50 ms", p50, "%.1f"},
			{"good p99 ms", p99, "%.1f"},
			{"p99 × baseline", p99ToBaseline, "%.2f"},
			{"CPU s/1000 attempts", cpuPer1000, "%.2f"},
		}, cost[1:])},
	}
	for _, measured := range r.Results {
		kind := measured.kind()
		all[kind].rows = append(all[kind].rows, measured)
	}
	return slices.DeleteFunc(all, func(t table) bool { return len(t.rows) == 0 })
}

// kind returns the index of the row's table.
func (r row) kind() int {
	for i, metric := range []string{attempts, residentMemory, publishesPerS, offeredPerS} {
		if _, measured := r.Median[metric]; measured {
			return 4 - i
		}
	}
	return 0
}

// hasSettings reports whether any row has settings; rows of older files have none.
func (t table) hasSettings() bool {
	return slices.ContainsFunc(t.rows, func(r row) bool { return r.Settings != "" })
}

// cells returns the table as text, its head first, without empty columns.
func (t table) cells() [][]string {
	head := []string{"scenario", "mode"}
	lines := make([][]string, 1+len(t.rows))
	for i, r := range t.rows {
		lines[1+i] = []string{r.Scenario, string(r.Mode)}
	}
	if t.hasSettings() {
		head = append(head, "settings")
		for i, r := range t.rows {
			lines[1+i] = append(lines[1+i], r.Settings)
		}
	}
	for _, c := range t.columns {
		if !slices.ContainsFunc(t.rows, func(r row) bool { return c.cell(r.Median) != "" }) {
			continue
		}
		head = append(head, c.title)
		for i, r := range t.rows {
			lines[1+i] = append(lines[1+i], c.cell(r.Median))
		}
	}
	lines[0] = head
	return lines
}

// show writes the tables for a terminal.
func (r *results) show(to io.Writer) {
	fmt.Fprintf(to, "\nMedians of %d. %s.\n", r.Rounds, r.Machine)
	for _, t := range r.tables() {
		fmt.Fprintf(to, "\n%s\n\n", t.title)
		aligned := tabwriter.NewWriter(to, 0, 0, 2, ' ', tabwriter.AlignRight)
		for _, line := range t.cells() {
			fmt.Fprintln(aligned, strings.Join(line, "\t")+"\t")
		}
		_ = aligned.Flush() // a closed terminal is no failure of the benchmark
	}
}

// String describes the metrics of a run in one line.
func (m metrics) String() string {
	alone := results{Results: []row{{Median: m}}}
	var words []string
	for _, t := range alone.tables() {
		for _, c := range t.columns {
			if text := c.cell(m); text != "" {
				words = append(words, c.title+" "+text)
			}
		}
	}
	return strings.Join(words, ", ")
}

// docCommand writes the tables of a page from a file of results.
type docCommand struct {
	JSON string `default:"docs/performance.json" help:"The results."`
	Page string `default:"docs/performance.md" help:"The page, whose text between the marks is replaced."`
}

// Run implements the command.
func (c *docCommand) Run() error {
	page, err := os.ReadFile(c.Page)
	if err != nil {
		return err
	}
	written, err := c.write(string(page))
	if err != nil {
		return err
	}
	return os.WriteFile(c.Page, []byte(written), 0o644) //nolint:gosec // for everybody to read
}

// Marks around the generated tables.
const (
	tablesBegin = "<!-- results: written by `make bench-doc` -->\n"
	tablesEnd   = "<!-- end of results -->"
)

// write returns the page with the tables of the results.
func (c *docCommand) write(page string) (string, error) {
	r, err := readResults(c.JSON)
	if err != nil {
		return "", err
	}
	before, measureRest, found := strings.Cut(page, tablesBegin)
	_, after, ends := strings.Cut(measureRest, tablesEnd)
	if !found || !ends {
		return "", fmt.Errorf("%s: the page lacks the marks %q and %q", c.Page, tablesBegin, tablesEnd)
	}
	return before + tablesBegin + r.markdown() + tablesEnd + after, nil
}

// markdown renders the tables for a page.
func (r *results) markdown() string {
	var page strings.Builder
	fmt.Fprintf(&page, "Medians of %d, %s: %s.\n", r.Rounds, r.MeasuredAt.Format("2006-01-02"), r.Machine)
	for _, t := range r.tables() {
		fmt.Fprintf(&page, "\n### %s\n\n", t.title)
		for i, line := range t.cells() {
			fmt.Fprintf(&page, "| %s |\n", strings.Join(line, " | "))
			if i == 0 {
				texts := 2
				if t.hasSettings() {
					texts = 3
				}
				page.WriteString("|" + strings.Repeat("---|", texts) + strings.Repeat("---:|", len(line)-texts) + "\n")
			}
		}
	}
	return page.String()
}
