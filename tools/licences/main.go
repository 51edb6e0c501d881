// Command licences names the licences of all modules that the project's packages and tests are made
// of, and fails when one of them is not on the list of those that may be.
//
//	licences [--list] FOLDER…
//
// A folder is that of a Go module. Programs that only check the code, such as linters, are not part of
// it and may have any licence.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
)

func main() {
	list := flag.Bool("list", false, "print every module with its licences")
	flag.Parse()
	if err := run(os.Stdout, flag.Args(), *list); err != nil {
		fmt.Fprintln(os.Stderr, "licences: "+err.Error())
		os.Exit(1) //nolint:forbidigo // the command's only exit
	}
}

func run(out io.Writer, folders []string, list bool) error {
	modules, err := modulesOf(folders)
	if err != nil {
		return err
	}
	if len(modules) == 0 {
		return fmt.Errorf("no modules in %s", strings.Join(folders, ", "))
	}
	var broken []string
	kinds := map[string]int{}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, m := range modules {
		found, problems, err := m.licences()
		if err != nil {
			return err
		}
		for _, problem := range problems {
			broken = append(broken, m.path+" "+m.version+": "+problem)
		}
		for _, id := range found {
			kinds[id]++
		}
		if list {
			fmt.Fprintf(table, "%s\t%s\t%s\n", m.path, m.version, strings.Join(found, ", "))
		}
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if len(broken) > 0 {
		return fmt.Errorf("not to be used, unless allowed() or exceptions() say so:\n  %s", strings.Join(broken, "\n  "))
	}
	_, err = fmt.Fprintf(out, "%d modules: %s\n", len(modules), summary(kinds))
	return err
}

// summary returns how many modules have each licence.
func summary(kinds map[string]int) string {
	parts := make([]string, 0, len(kinds))
	for id, n := range kinds {
		parts = append(parts, fmt.Sprintf("%s %d", id, n))
	}
	slices.Sort(parts)
	return strings.Join(parts, ", ")
}
