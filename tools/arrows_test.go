// Package tools tests the rules that `make lint` enforces.
package tools

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"
)

// golangci is where `make tools` puts the linter.
const golangci = "../bin/tools/golangci-lint"

// project is the module's path.
const project = "postrider.dev/postrider"

// room is a folder of the project with its rule in the linter's file, which is named as
// the room is.
type room struct {
	name  string
	Allow []string `json:"allow"`
	Deny  []struct {
		Pkg string `json:"pkg"`
	} `json:"deny"`
}

// general are the rules that are no room's.
func general() []string { return []string{"processes", "production", "sql"} }

// rooms returns the rooms as the linter's file has them, by name.
func rooms(t *testing.T) map[string]room {
	t.Helper()
	text, err := os.ReadFile("../.golangci.yml")
	require.NoError(t, err)
	var config struct {
		Linters struct {
			Settings struct {
				Depguard struct {
					Rules map[string]room `json:"rules"`
				} `json:"depguard"`
			} `json:"settings"`
		} `json:"linters"`
	}
	require.NoError(t, yaml.Unmarshal(text, &config))
	found := config.Linters.Settings.Depguard.Rules
	for name, r := range found {
		r.name = name
		found[name] = r
	}
	for _, name := range general() {
		require.Contains(t, found, name)
		delete(found, name)
	}
	return found
}

// folder is where the room's packages are, from the project's folder.
func (r room) folder() string {
	switch r.name {
	case "postrider":
		return "."
	case "embedded":
		return "standalone/embedded"
	case "sqldb":
		return "store/sqldb"
	case "remote":
		return "cli/remote"
	case "rest":
		return "api/rest"
	}
	return r.name
}

// imported is how the room is imported.
func (r room) imported() string { return strings.TrimSuffix(project+"/"+r.folder(), "/.") }

// mayImport reports whether the rule allows a package of the project: as the linter reads
// it, an entry that ends with a dollar sign is that package alone, any other all that begin
// with it.
func (r room) mayImport(pkg string) bool {
	return slices.ContainsFunc(r.Allow, func(entry string) bool {
		exact, found := strings.CutSuffix(entry, "$")
		return found && pkg == exact || !found && strings.HasPrefix(pkg, entry)
	})
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

// everyday are packages of the standard library that most rooms may import.
func everyday() []string { return []string{"log/slog", "math/rand/v2", "net", "net/http", "os"} }

// fromOutside says which of outside a room may import.
func fromOutside(name string) []string {
	switch name {
	case "postrider", "signing":
		return []string{"net/http"}
	case "workflows":
		return []string{"net"}
	case "store", "sqldb":
		return append(everyday(), "database/sql", "github.com/jmoiron/sqlx")
	case "standalone":
		return append(everyday(), "github.com/temporalio/ui-server/v2/server", "go.temporal.io/server/temporal")
	case "embedded", "bench":
		return append(everyday(), "database/sql", "github.com/jmoiron/sqlx",
			"github.com/temporalio/ui-server/v2/server", "go.temporal.io/server/temporal")
	}
	return everyday()
}

// TestArrows plants every import in every room and expects a finding exactly where
// the import is not allowed: the linter's configuration can go wrong silently.
func TestArrows(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	plantModule(t, dir)
	known := rooms(t)
	imports := outside()
	for _, r := range known {
		imports = append(imports, r.imported())
	}
	for _, r := range known {
		if r.name == "postrider" { // what is below its folder is other rooms'
			others := slices.DeleteFunc(slices.Clone(imports), func(pkg string) bool { return pkg == project })
			plant(t, dir, "planted.go", "postrider", others...)
			continue
		}
		plant(t, dir, filepath.Join(r.folder(), "planted", "planted.go"), "planted", imports...)
	}

	refused := findings(t, dir)
	for _, r := range known {
		file := filepath.Join(r.folder(), "planted", "planted.go")
		if r.name == "postrider" {
			file = "planted.go"
		}
		for _, imported := range imports {
			if imported == project && r.name == "postrider" {
				continue
			}
			allowed := slices.Contains(fromOutside(r.name), imported) || r.mayImport(imported)
			require.Equal(t, allowed, !slices.Contains(refused[file], imported), "%s may import %s", r.name, imported)
		}
	}
}

// TestEveryRoomHasARule guards against a new folder that may import anything.
func TestEveryRoomHasARule(t *testing.T) {
	t.Parallel()
	known := rooms(t)
	for _, r := range known {
		require.DirExists(t, filepath.Join("..", r.folder()))
	}
	files, err := filepath.Glob("../*/*.go")
	require.NoError(t, err)
	without := []string{"deploy", "tools"} // they hold tests only
	for _, file := range files {
		if name := filepath.Base(filepath.Dir(file)); !slices.Contains(without, name) {
			require.Contains(t, known, name, "a rule in .golangci.yml")
		}
	}
}

var update = flag.Bool("update", false, "write the arrows into docs/architecture.md")

// TestArrowsAreDocumented keeps the arrows of docs/architecture.md those of the linter's
// file; `go -C tools test . -update` writes them.
func TestArrowsAreDocumented(t *testing.T) {
	t.Parallel()
	const page, begin, end = "../docs/architecture.md", "<!-- arrows: generated from .golangci.yml -->\n", "<!-- end of arrows -->"
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	before, rest, found := strings.Cut(string(text), begin)
	require.True(t, found)
	_, after, found := strings.Cut(rest, end)
	require.True(t, found)
	want := before + begin + drawn(rooms(t)) + end + after
	if *update {
		require.NoError(t, os.WriteFile(page, []byte(want), 0o600))
		return
	}
	require.Equal(t, want, string(text))
}

// drawn draws the arrows of the rooms, those first that nobody imports.
func drawn(known map[string]room) string {
	names := slices.SortedFunc(maps.Keys(known), func(a, b string) int {
		if order := len(targets(known, b)) - len(targets(known, a)); order != 0 {
			return order
		}
		return strings.Compare(a, b)
	})
	var text strings.Builder
	text.WriteString("```\n")
	for _, name := range names {
		fmt.Fprintln(&text, strings.TrimSpace(fmt.Sprintf("%-12s──▶ %s", name, strings.Join(targets(known, name), ", "))))
	}
	text.WriteString("```\n")
	return text.String()
}

// targets are the rooms that a room may import.
func targets(known map[string]room, name string) []string {
	found := []string{}
	for other, r := range known {
		if other != name && known[name].mayImport(r.imported()) {
			found = append(found, other)
		}
	}
	slices.Sort(found)
	return found
}

// TestArrowsOfTests guards what tests may not do either.
func TestArrowsOfTests(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	plantModule(t, dir)
	plant(t, dir, "api/api_test.go", "api", project+"/store", project+"/server", project+"/cli", "go.temporal.io/server/temporal")
	forbidden := []string{project + "/server", project + "/cli", "go.temporal.io/server/temporal"}
	require.ElementsMatch(t, forbidden, findings(t, dir)["api/api_test.go"])
}

// plantModule makes a module that looks like the project to the linter: empty
// rooms, empty stand-ins for the modules of others, and the project's rules.
func plantModule(t *testing.T, dir string) {
	t.Helper()
	rules, err := os.ReadFile("../.golangci.yml")
	require.NoError(t, err)
	write(t, filepath.Join(dir, ".golangci.yml"), string(rules))

	for _, r := range rooms(t) {
		plant(t, dir, filepath.Join(r.folder(), "room.go"), r.name)
	}
	var gomod strings.Builder
	gomod.WriteString("module " + project + "\n\ngo 1.26.5\n")
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

	command := exec.CommandContext(t.Context(), program, "run", "--allow-parallel-runners", "--enable-only=depguard",
		"--issues-exit-code=0", "--output.json.path=stdout", "--show-stats=false", "./...")
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
