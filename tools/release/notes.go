package main

import (
	"fmt"
	"strings"
)

// notesOf returns the changelog's section of a version, without its heading. A changelog
// has headings such as "## 1.2.3 - 2026-01-31", in brackets or not.
func notesOf(changelog, version string) (string, error) {
	wanted := strings.TrimPrefix(version, "v")
	var notes []string
	found := false
	for line := range strings.Lines(changelog) {
		heading, isHeading := strings.CutPrefix(line, "## ")
		switch {
		case isHeading && found:
			return trimNotes(notes), nil
		case isHeading:
			name, _, _ := strings.Cut(strings.TrimSpace(heading), " ")
			found = strings.Trim(name, "[]") == wanted
		case found:
			notes = append(notes, line)
		}
	}
	if !found {
		return "", fmt.Errorf("CHANGELOG.md has no section %q", "## "+wanted)
	}
	return trimNotes(notes), nil
}

func trimNotes(lines []string) string { return strings.TrimSpace(strings.Join(lines, "")) }
