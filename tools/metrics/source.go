package main

import (
	"errors"
	"fmt"
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"
)

// maxColumns is the longest line; a tab counts as one column, as the linter lll counts it. A line
// with a struct field's tag may be longer: Go has no way to break a tag.
const maxColumns = 140

// place is where something is, as a compiler prints it: file:line.
type place struct {
	file string
	line int
}

func (p place) String() string { return fmt.Sprintf("%s:%d", p.file, p.line) }

// function is a declared function or method; literals inside count as parts of it.
type function struct {
	place
	name       string
	lines      int
	complexity int
}

// source is a Go file that people write.
type source struct {
	test          bool // a test, or what only tests use
	lines         int
	long          []place // lines over maxColumns
	comments      int     // lines of comments
	wornComments  int     // those of them with a worn phrase
	functions     []function
	interfaces    []int // the methods of each; an embedded interface counts as one
	runnableTests bool  // examples that go test runs
}

// module is a folder with a go.mod, and the files that are in no module below it.
type module struct {
	name    string
	sources []source
}

// readModules reads every module in a folder; the folder's own comes first.
func readModules(folder string) ([]module, error) {
	if _, err := os.Stat(filepath.Join(folder, "go.mod")); err != nil {
		return nil, err
	}
	var modules []module
	err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && path != folder && skipped(entry.Name()):
			return filepath.SkipDir
		case entry.Name() != "go.mod":
			return nil
		}
		m, err := readModule(folder, filepath.Dir(path))
		modules = append(modules, m)
		return err
	})
	slices.SortStableFunc(modules, func(a, b module) int { return strings.Compare(a.name, b.name) })
	return modules, err
}

// skipped says whether a folder holds no code of a module: Go skips the same ones.
func skipped(name string) bool {
	return name == "testdata" || name == "vendor" || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_")
}

func readModule(folder, root string) (module, error) {
	name, err := filepath.Rel(folder, root)
	if err != nil {
		return module{}, err
	}
	m := module{name: filepath.ToSlash(name)}
	err = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir():
			if path != root && (skipped(entry.Name()) || isModule(path)) {
				return filepath.SkipDir
			}
			return nil
		case filepath.Ext(path) != ".go":
			return nil
		}
		s, err := readSource(folder, path)
		if errors.Is(err, errGenerated) {
			return nil
		}
		m.sources = append(m.sources, s)
		return err
	})
	return m, err
}

func isModule(folder string) bool {
	_, err := os.Stat(filepath.Join(folder, "go.mod"))
	return err == nil
}

// errGenerated says that nobody writes the file.
var errGenerated = errors.New("generated")

func readSource(folder, path string) (source, error) {
	text, err := os.ReadFile(path) //nolint:gosec // the folder is the caller's own
	if err != nil {
		return source{}, err
	}
	name, err := filepath.Rel(folder, path)
	if err != nil {
		return source{}, err
	}
	name = filepath.ToSlash(name)
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, name, text, parser.ParseComments)
	if err != nil {
		return source{}, err
	}
	if ast.IsGenerated(file) {
		return source{}, errGenerated
	}
	s := source{test: isTest(name)}
	s.readLines(name, string(text), tagLines(files, file))
	s.readComments(file)
	s.readDeclarations(files, file)
	if strings.HasSuffix(name, "_test.go") {
		s.runnableTests = slices.ContainsFunc(doc.Examples(file), func(e *doc.Example) bool {
			return e.Output != "" || e.EmptyOutput
		})
	}
	return s, nil
}

// isTest says whether a file is a test or is in a folder of test support: storetest, pgtest.
func isTest(name string) bool {
	if strings.HasSuffix(name, "_test.go") {
		return true
	}
	folders := strings.Split(name, "/")
	return slices.ContainsFunc(folders[:len(folders)-1], func(f string) bool { return strings.HasSuffix(f, "test") })
}

// tagLines returns the lines on which a struct field's tag begins.
func tagLines(files *token.FileSet, file *ast.File) map[int]bool {
	lines := map[int]bool{}
	ast.Inspect(file, func(n ast.Node) bool {
		if field, is := n.(*ast.Field); is && field.Tag != nil {
			lines[files.Position(field.Tag.Pos()).Line] = true
		}
		return true
	})
	return lines
}

// readLines counts lines, and notes those that are too long and may not be.
func (s *source) readLines(name, text string, mayBeLong map[int]bool) {
	for line := range strings.Lines(text) {
		s.lines++
		if !mayBeLong[s.lines] && utf8.RuneCountInString(strings.TrimRight(line, "\r\n")) > maxColumns {
			s.long = append(s.long, place{name, s.lines})
		}
	}
}

func (s *source) readComments(file *ast.File) {
	for _, group := range file.Comments {
		for _, comment := range group.List {
			for line := range strings.Lines(comment.Text) {
				s.comments++
				if worn(line) {
					s.wornComments++
				}
			}
		}
	}
}

func (s *source) readDeclarations(files *token.FileSet, file *ast.File) {
	ast.Inspect(file, func(node ast.Node) bool {
		switch n := node.(type) {
		case *ast.FuncDecl:
			start, end := files.Position(n.Pos()), files.Position(n.End())
			s.functions = append(s.functions, function{
				place:      place{start.Filename, start.Line},
				name:       n.Name.Name,
				lines:      end.Line - start.Line + 1,
				complexity: complexity(n),
			})
		case *ast.TypeSpec:
			if methods, ok := methods(n); ok {
				s.interfaces = append(s.interfaces, methods)
			}
		}
		return true
	})
}
