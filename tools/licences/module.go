package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/google/licensecheck"
)

// project begins the paths of the project's own modules.
const project = "postrider.dev/postrider"

// allowed are the licences that a module may have, by their SPDX names. All let the binaries be given
// away under the project's own licence. MPL-2.0 asks for the source of its own files, which are used as
// they are.
func allowed() []string {
	return []string{
		"0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-2-Clause-Views", "BSD-3-Clause", "CC0-1.0", "ISC", "MIT", "MPL-2.0", "Unlicense", "Zlib",
	}
}

// noFile is the file of an exception for a module that has no licence file.
const noFile = "-"

// exceptions are files that somebody has read because they are not recognized: what they say about
// the code, by module and file, or "" where they are about something else.
func exceptions() map[string]string {
	return map[string]string{
		// Modules below the root of a repository that has the file.
		"github.com/cactus/go-statsd-client/statsd " + noFile: "MIT", // as each of its files says

		// It comes with Temporal's API, and holds a file that protoc made. Its authors' other modules are MIT.
		"github.com/nexus-rpc/nexus-proto-annotations " + noFile: "none stated",

		"github.com/opencontainers/go-digest LICENSE.docs": "",              // of its documents
		"modernc.org/memory LICENSE-LOGO":                  "",              // of a picture
		"modernc.org/libc LICENSE-3RD-PARTY.md":            "BSD-3-Clause",  // Go's, musl's and NixOS's: BSD and MIT
		"modernc.org/sqlite LICENSE-3RD-PARTY.md":          "BSD-3-Clause",  // of what is linked: BSD, MIT, public domain
		"modernc.org/sqlite LICENSE-SQLITE":                "public domain", // SQLite itself
	}
}

// leastCoverage is how much of a file must be the text of known licences, in percent. What is left is
// names and years.
const leastCoverage = 75

// licenceFile matches the names of files that hold a licence.
var licenceFile = regexp.MustCompile(`(?i)^(licen[cs]e|copying|unlicen[cs]e)([-._].*)?$`)

// module is a module with the folders of its packages that are used.
type module struct {
	path, version, root string
	packages            []string
}

// modulesOf returns the modules that the packages and tests of the folders' modules import, by path.
func modulesOf(folders []string) ([]*module, error) {
	known := map[string]*module{}
	for _, folder := range folders {
		const format = "{{with .Module}}{{.Path}}\t{{.Version}}\t{{.Dir}}{{end}}\t{{.Dir}}"
		//nolint:gosec,noctx // our own folders; it ends with this program
		command := exec.Command("go", "list", "-C", folder, "-deps", "-test", "-f", format, "./...")
		var stderr bytes.Buffer
		command.Stderr = &stderr
		output, err := command.Output()
		if err != nil {
			return nil, fmt.Errorf("go list in %s: %w\n%s", folder, err, stderr.String())
		}
		for line := range strings.Lines(string(output)) {
			fields := strings.Split(strings.TrimSpace(line), "\t")
			if len(fields) != 4 || fields[0] == project || strings.HasPrefix(fields[0], project+"/") { // two fields: the standard library
				continue
			}
			key := fields[0] + "@" + fields[1]
			if known[key] == nil {
				known[key] = &module{path: fields[0], version: fields[1], root: fields[2]}
			}
			known[key].packages = append(known[key].packages, fields[3])
		}
	}
	modules := make([]*module, 0, len(known))
	for _, m := range known {
		modules = append(modules, m)
	}
	slices.SortFunc(modules, func(a, b *module) int { return strings.Compare(a.path+"@"+a.version, b.path+"@"+b.version) })
	return modules, nil
}

// licences returns the licences of the module and of its packages that are used, and what is wrong
// about them.
func (m *module) licences() (found, problems []string, err error) {
	files, err := m.files()
	if err != nil {
		return nil, nil, err
	}
	if id, known := exceptions()[m.path+" "+noFile]; known && len(files) == 0 {
		return []string{id}, nil, nil
	}
	if len(files) == 0 {
		return nil, []string{"has no licence file"}, nil
	}
	for _, file := range files {
		name := strings.TrimPrefix(file, m.root+string(filepath.Separator))
		if id, known := exceptions()[m.path+" "+filepath.ToSlash(name)]; known {
			if id != "" {
				found = append(found, id)
			}
			continue
		}
		text, err := os.ReadFile(file) //nolint:gosec // of Go's module cache
		if err != nil {
			return nil, nil, err
		}
		ids, problem := recognize(text)
		if problem != "" {
			problems = append(problems, name+" "+problem)
		}
		found = append(found, ids...)
	}
	slices.Sort(found)
	return slices.Compact(found), problems, nil
}

// recognize returns the licences in a text, and what is wrong about them or "".
func recognize(text []byte) (ids []string, problem string) {
	coverage := licensecheck.Scan(text)
	for _, match := range coverage.Match {
		if !match.IsURL && !slices.Contains(ids, match.ID) {
			ids = append(ids, match.ID)
		}
	}
	switch refused := slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return slices.Contains(allowed(), id) }); {
	case len(refused) > 0:
		return ids, "is " + strings.Join(refused, ", ")
	case len(ids) == 0 || coverage.Percent < leastCoverage:
		return ids, fmt.Sprintf("is a licence that is not recognized (%.0f %% of it is known)", coverage.Percent)
	}
	return ids, ""
}

// files returns the licence files of the module, and of the folders on the way to its packages that
// are used.
func (m *module) files() ([]string, error) {
	folders := map[string]bool{m.root: true}
	for _, dir := range m.packages {
		for ; len(dir) > len(m.root); dir = filepath.Dir(dir) {
			folders[dir] = true
		}
	}
	var files []string
	errs := make([]error, 0, len(folders))
	for folder := range folders {
		entries, err := os.ReadDir(folder)
		errs = append(errs, err)
		for _, entry := range entries {
			// A package may be called license.
			if entry.Type().IsRegular() && licenceFile.MatchString(entry.Name()) && filepath.Ext(entry.Name()) != ".go" {
				files = append(files, filepath.Join(folder, entry.Name()))
			}
		}
	}
	slices.Sort(files)
	return files, errors.Join(errs...)
}
