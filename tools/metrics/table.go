package main

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// The limits of --check, and the least tests that it wants: lines of tests for each line of code.
const (
	minTestRatio   = 1.0
	maxFunctionP95 = 30
)

// What --list names.
const (
	listedLines      = 30
	listedComplexity = 10
)

// figures describe a module. Files, functions, interfaces and comments are those of its
// code; tests count only where a name says so.
type figures struct {
	files, functions, complexity, interfaces spread
	code, tests                              int
	examples                                 int
	long, longInTests                        int
	comments, wornComments                   int
}

// spread is the middle of some numbers, their 95th percentile and the largest.
type spread struct{ count, median, p95, max int }

func spreadOf(numbers []int) spread {
	if len(numbers) == 0 {
		return spread{}
	}
	sorted := slices.Sorted(slices.Values(numbers))
	at := func(percent int) int { return sorted[(len(sorted)-1)*percent/100] }
	return spread{len(sorted), at(50), at(95), sorted[len(sorted)-1]}
}

func (m module) figures() figures {
	var f figures
	var files, lines, ways, interfaces []int
	for _, s := range m.sources {
		if s.runnableTests {
			f.examples++
		}
		if s.test {
			f.tests += s.lines
			f.longInTests += len(s.long)
			continue
		}
		f.code += s.lines
		f.long += len(s.long)
		f.comments += s.comments
		f.wornComments += s.wornComments
		files = append(files, s.lines)
		interfaces = append(interfaces, s.interfaces...)
		for _, fn := range s.functions {
			lines, ways = append(lines, fn.lines), append(ways, fn.complexity)
		}
	}
	f.files, f.functions = spreadOf(files), spreadOf(lines)
	f.complexity, f.interfaces = spreadOf(ways), spreadOf(interfaces)
	return f
}

// row is a line of the table.
type row struct {
	title string
	cell  func(figures) string
}

func rows() []row {
	return []row{
		{"files · lines", func(f figures) string { return fmt.Sprintf("%d · %d", f.files.count, f.code) }},
		{"file median · p95 · max", func(f figures) string { return f.files.three() }},
		{"function median · p95 · max", func(f figures) string { return f.functions.three() }},
		{"cyclomatic p95 · max", func(f figures) string { return fmt.Sprintf("%d · %d", f.complexity.p95, f.complexity.max) }},
		{"test : code", func(f figures) string { return ratio(f.tests, f.code) }},
		{"interface methods median · max", func(f figures) string {
			return fmt.Sprintf("%d · %d", f.interfaces.median, f.interfaces.max)
		}},
		{"files with runnable examples", func(f figures) string { return strconv.Itoa(f.examples) }},
		{"lines over 140 columns", func(f figures) string { return share(f.long, f.code) }},
		{"the same in tests", func(f figures) string { return share(f.longInTests, f.tests) }},
		{`comment lines with "what is", "those that", "so many", "none"`, func(f figures) string {
			return share(f.wornComments, f.comments)
		}},
	}
}

func (s spread) three() string { return fmt.Sprintf("%d · %d · %d", s.median, s.p95, s.max) }

func (f figures) testRatio() float64 {
	if f.code == 0 {
		return 0
	}
	return float64(f.tests) / float64(f.code)
}

func ratio(part, whole int) string {
	if whole == 0 {
		return "–"
	}
	return fmt.Sprintf("%.2f", float64(part)/float64(whole))
}

func share(part, whole int) string {
	if whole == 0 {
		return "–"
	}
	return fmt.Sprintf("%.1f %% (%d)", 100*float64(part)/float64(whole), part)
}

// printTable writes a Markdown table: a row a figure, a column a module.
func printTable(out io.Writer, modules []module) {
	titles, columns := make([]string, len(modules)), make([]figures, len(modules))
	for i, m := range modules {
		titles[i], columns[i] = m.name, m.figures()
	}
	fmt.Fprintf(out, "| | %s |\n|%s\n", strings.Join(titles, " | "), strings.Repeat("---|", len(modules)+1))
	for _, r := range rows() {
		cells := make([]string, len(columns))
		for i, f := range columns {
			cells[i] = r.cell(f)
		}
		fmt.Fprintf(out, "| %s | %s |\n", r.title, strings.Join(cells, " | "))
	}
}

// printPlaces names long lines, of tests too, and long or winding functions.
func printPlaces(out io.Writer, modules []module) {
	for _, m := range modules {
		for _, s := range m.sources {
			for _, p := range s.long {
				fmt.Fprintf(out, "%s: over %d columns\n", p, maxColumns)
			}
			for _, f := range s.functions {
				if !s.test && (f.lines > listedLines || f.complexity > listedComplexity) {
					fmt.Fprintf(out, "%s: %s has %d lines and a complexity of %d\n", f.place, f.name, f.lines, f.complexity)
				}
			}
		}
	}
}

// checkLimits says how a module is past a limit.
func checkLimits(out io.Writer, m module) error {
	f := m.figures()
	var wrong []string
	if long := f.long + f.longInTests; long > 0 {
		wrong = append(wrong, fmt.Sprintf("%d lines are over %d columns: --list names them", long, maxColumns))
	}
	if f.testRatio() < minTestRatio {
		wrong = append(wrong, fmt.Sprintf("%.2f lines of tests for a line of code, at least %.2f wanted", f.testRatio(), minTestRatio))
	}
	if f.functions.p95 > maxFunctionP95 {
		wrong = append(wrong, fmt.Sprintf("functions have a 95th percentile of %d lines, at most %d wanted", f.functions.p95, maxFunctionP95))
	}
	for _, line := range wrong {
		fmt.Fprintln(out, line)
	}
	if wrong != nil {
		return errPastLimit
	}
	return nil
}
