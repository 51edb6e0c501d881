// Package tools tests the rules that `make lint` enforces.
package tools

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// golangci is where `make tools` puts the linter.
const golangci = "../bin/tools/golangci-lint"

// rooms are the project's packages, as they are imported.
func rooms() []string {
	return []string{
		"postrider/activities", "postrider/api", "postrider/cmd", "postrider/egress", "postrider/receiver", "postrider/schema",
		"postrider/signing", "postrider/standalone/embedded", "postrider/store", "postrider/traces", "postrider/web",
		"postrider/worker", "postrider/workflows",
	}
}

// outside are packages of others that not every room may import.
func outside() []string {
	packages := []string{"database/sql", "log/slog", "math/rand/v2", "net", "net/http", "os"}
	for _, m := range modules() {
		packages = append(packages, m.imported)
	}
	return packages
}

// module is somebody else's module, and the package of it that is imported.
type module struct{ path, version, imported string }

func modules() []module {
	return []module{
		{"github.com/jmoiron/sqlx", "v1.0.0", "github.com/jmoiron/sqlx"},
		{"github.com/temporalio/ui-server/v2", "v2.0.0", "github.com/temporalio/ui-server/v2/server"},
		{"go.temporal.io/server", "v1.0.0", "go.temporal.io/server/temporal"},
	}
}

// arrows says, for a folder, which of rooms and outside it may import. Its own
// package counts as allowed: the planted file stands in a subfolder.
func arrows() map[string][]string {
	ordinary := []string{"log/slog", "math/rand/v2", "net", "net/http", "os"}
	return map[string][]string{
		".":          {"net/http"},
		"signing":    {"net/http"},
		"egress":     append(ordinary, "postrider/signing"),
		"receiver":   append(ordinary, "postrider/signing"),
		"schema":     ordinary,
		"traces":     ordinary,
		"web":        ordinary,
		"store":      append(ordinary, "database/sql", "github.com/jmoiron/sqlx", "postrider/schema", "postrider/store"),
		"activities": append(ordinary, "postrider/egress", "postrider/signing", "postrider/traces"),
		"workflows":  {"net", "postrider/activities", "postrider/traces"},
		"worker":     append(ordinary, "postrider/activities", "postrider/workflows"),
		"api":        append(ordinary, "postrider/signing", "postrider/traces", "postrider/workflows"),
		"cmd": append(ordinary, "postrider/activities", "postrider/api", "postrider/cmd", "postrider/egress", "postrider/receiver",
			"postrider/schema", "postrider/signing", "postrider/store", "postrider/traces", "postrider/web", "postrider/worker", "postrider/workflows"),
		"standalone": append(ordinary, "postrider/cmd", "postrider/egress", "postrider/receiver", "postrider/signing",
			"postrider/standalone/embedded", "postrider/workflows", "github.com/temporalio/ui-server/v2/server", "go.temporal.io/server/temporal"),
		"standalone/bench": append(ordinary, "database/sql", "github.com/jmoiron/sqlx", "postrider/activities", "postrider/api", "postrider/cmd",
			"postrider/egress", "postrider/signing", "postrider/standalone/embedded", "postrider/store",
			"github.com/temporalio/ui-server/v2/server", "go.temporal.io/server/temporal"),
	}
}

// TestArrows plants every import in every room and expects a finding exactly where
// the import is not allowed: the linter's configuration can go wrong silently.
func TestArrows(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	plantModule(t, dir)
	imports := append(rooms(), outside()...)
	for room := range arrows() {
		plant(t, dir, filepath.Join(room, "planted", "planted.go"), "planted", imports...)
	}
	plant(t, dir, "planted.go", "postrider", imports...)

	refused := findings(t, dir)
	for room, allowed := range arrows() {
		file := filepath.Join(room, "planted", "planted.go")
		if room == "." {
			file = "planted.go"
		}
		for _, imported := range imports {
			require.Equal(t, slices.Contains(allowed, imported), !slices.Contains(refused[file], imported), "%s may import %s", room, imported)
		}
	}
}

// TestArrowsOfTests guards what tests may not do either.
func TestArrowsOfTests(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	plantModule(t, dir)
	plant(t, dir, "api/api_test.go", "api", "postrider/store", "postrider/cmd", "go.temporal.io/server/temporal")
	require.ElementsMatch(t, []string{"postrider/cmd", "go.temporal.io/server/temporal"}, findings(t, dir)["api/api_test.go"])
}

// plantModule makes a module that looks like the project to the linter: empty
// rooms, empty stand-ins for the modules of others, and the project's rules.
func plantModule(t *testing.T, dir string) {
	t.Helper()
	rules, err := os.ReadFile("../.golangci.yml")
	require.NoError(t, err)
	write(t, filepath.Join(dir, ".golangci.yml"), string(rules))

	for _, room := range rooms() {
		plant(t, dir, strings.TrimPrefix(room, "postrider/")+"/room.go", filepath.Base(room))
	}
	var gomod strings.Builder
	gomod.WriteString("module postrider\n\ngo 1.26.5\n")
	for _, m := range modules() {
		plant(t, dir, filepath.Join("others", m.imported, "other.go"), "other")
		write(t, filepath.Join(dir, "others", m.path, "go.mod"), "module "+m.path+"\n\ngo 1.26.5\n")
		fmt.Fprintf(&gomod, "\nrequire %[1]s %[2]s\n\nreplace %[1]s => ./others/%[1]s\n", m.path, m.version)
	}
	write(t, filepath.Join(dir, "go.mod"), gomod.String())
}

// plant writes a Go file that imports packages.
func plant(t *testing.T, dir, file, name string, imports ...string) {
	t.Helper()
	var text strings.Builder
	text.WriteString("package " + name + "\n")
	for _, imported := range imports {
		fmt.Fprintf(&text, "\nimport _ %q\n", imported)
	}
	write(t, filepath.Join(dir, file), text.String())
}

func write(t *testing.T, path, text string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
}

// findings runs the linter's depguard in dir and returns the refused imports by file.
func findings(t *testing.T, dir string) map[string][]string {
	t.Helper()
	program, err := filepath.Abs(golangci)
	require.NoError(t, err)
	require.FileExists(t, program, "run `make tools` first")

	command := exec.CommandContext(t.Context(), program, "run", "--allow-parallel-runners", "--enable-only=depguard", "--issues-exit-code=0", "--output.json.path=stdout", "--show-stats=false", "./...")
	command.Dir = dir
	command.Env = append(os.Environ(), "GOWORK=off", "GOLANGCI_LINT_CACHE="+t.TempDir())
	var problems strings.Builder
	command.Stderr = &problems
	out, err := command.Output()
	require.NoError(t, err, problems.String())

	var report struct {
		Issues []struct {
			Text string
			Pos  struct{ Filename string }
		}
	}
	require.NoError(t, json.Unmarshal(out, &report), "%s", out)
	refused := map[string][]string{}
	quoted := regexp.MustCompile(`^import '([^']+)' is not allowed`)
	for _, issue := range report.Issues {
		match := quoted.FindStringSubmatch(issue.Text)
		require.NotNil(t, match, "%s: %s", issue.Pos.Filename, issue.Text)
		refused[issue.Pos.Filename] = append(refused[issue.Pos.Filename], match[1])
	}
	return refused
}
