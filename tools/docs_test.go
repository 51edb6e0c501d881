package tools

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// documents returns the project's pages by name, without what tells of the past or of what
// is to come.
func documents(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, pattern := range []string{"../*.md", "../docs/*.md"} {
		names, err := filepath.Glob(pattern)
		require.NoError(t, err)
		for _, name := range names {
			if filepath.Base(name) == "CHANGELOG.md" {
				continue
			}
			text, err := os.ReadFile(name)
			require.NoError(t, err)
			found[name], _, _ = strings.Cut(string(text), "\n## Where later work goes\n")
		}
	}
	require.Contains(t, found, "../CONTRIBUTING.md")
	return found
}

// code is what a page sets in code: its blocks, and spans within a line.
var code = regexp.MustCompile("(?s)```.*?```|`[^`\n]+`")

// mentioned returns the first group of each match in the code of a page.
func mentioned(page string, pattern *regexp.Regexp) []string {
	var found []string
	for _, piece := range code.FindAllString(page, -1) {
		for _, match := range pattern.FindAllStringSubmatch(piece, -1) {
			found = append(found, match[1])
		}
	}
	return found
}

// TestDocumentedTargetsExist guards against a page that tells of a target that make lacks.
func TestDocumentedTargetsExist(t *testing.T) {
	t.Parallel()
	makefile, err := os.ReadFile("../Makefile")
	require.NoError(t, err)
	var missing []string
	for name, page := range documents(t) {
		for _, target := range mentioned(page, regexp.MustCompile(`\bmake ([a-z][a-z-]*)`)) {
			if !strings.Contains(string(makefile), "\n"+target+":") {
				missing = append(missing, name+" tells of make "+target)
			}
		}
	}
	require.Empty(t, missing)
}

// TestDocumentedFilesExist guards against pages that lead to a file that was renamed.
func TestDocumentedFilesExist(t *testing.T) {
	t.Parallel()
	path := regexp.MustCompile("^`((?:[a-z][\\w.-]*/)*[a-z][\\w.-]*(?:\\.go|\\.sql|\\.json|\\.yml|\\.yaml|\\.md|/))`$")
	link := regexp.MustCompile(`\]\(([^)#:\s]+)(?:#[^)]*)?\)`)
	var missing []string
	for name, page := range documents(t) {
		for _, file := range mentioned(page, path) {
			if !exists(name, file) {
				missing = append(missing, name+" tells of "+file)
			}
		}
		for _, match := range link.FindAllStringSubmatch(page, -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(name), match[1])); err != nil {
				missing = append(missing, name+" links to "+match[1])
			}
		}
	}
	require.Empty(t, missing)
}

// exists says whether a page's file is there: from the project's folder, or from the
// page's own. A name without a folder may stand for a file of the room that the page is
// telling of, or be an example.
func exists(page, file string) bool {
	if !strings.Contains(strings.TrimSuffix(file, "/"), "/") {
		return true
	}
	for _, folder := range []string{"..", filepath.Dir(page)} {
		if _, err := os.Stat(filepath.Join(folder, file)); err == nil {
			return true
		}
	}
	return false
}

// TestDocumentedTestsExist guards against pages that name a test that was renamed.
func TestDocumentedTestsExist(t *testing.T) {
	t.Parallel()
	declared := map[string]bool{}
	function := regexp.MustCompile(`(?m)^func ((?:Test|Benchmark|Example)\w+)\(`)
	require.NoError(t, filepath.WalkDir("..", func(path string, _ os.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, match := range function.FindAllStringSubmatch(string(text), -1) {
			declared[match[1]] = true
		}
		return err
	}))
	var missing []string
	for name, page := range documents(t) {
		for _, test := range mentioned(page, regexp.MustCompile(`\b(Test[A-Z]\w+)`)) {
			if !declared[test] {
				missing = append(missing, name+" tells of "+test)
			}
		}
	}
	require.Empty(t, missing)
}
