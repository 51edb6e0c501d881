package tools

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// callbacks are the functions that lower rooms are handed, with the reason why they are no
// call back up into a higher room.
func callbacks() map[string]string {
	return map[string]string{
		"activities.Config.Now":       "the clock",
		"activities.Config.Random":    "the dice",
		"activities.Maintenance.Now":  "the clock",
		"activities.Replays.Now":      "the clock",
		"egress.Config.Now":           "the clock",
		"postrider.NewIDs":            "the clock",
		"receiver.Options.Now":        "the clock",
		"receiver.Options.OnReceived": "a command prints what came",
		"store.Options.Now":           "the clock",
		"store.Options.OnCancelled":   "it counts what was committed, and does no I/O",
		"store.Options.OnExpired":     "it counts what was committed, and does no I/O",
		"store.Options.OnReplayEnded": "it counts what was committed, and does no I/O",
		"store.Options.Random":        "the dice",
		"store.Store.CompactStats":    "it is told how far the work is",
		"store.Store.Reencrypt":       "it is told how far the work is",
		"store.Store.Retain":          "it is told how far the work is",
		"store.Store.RetainAudit":     "it is told how far the work is",
		"store.Store.RetainReplays":   "it is told how far the work is",
		"store.Store.RetainStats":     "it is told how far the work is",
		"store.Store.UpdateEventType": "it decides from what is stored, and does no I/O",
		"store.Store.UpdateWebhook":   "it decides from what is stored, and does no I/O",
	}
}

// TestNobodyIsCalledBack guards against loops between rooms: the rooms that deliver a
// webhook take no function of a higher room's, so that an event's way can be read downwards.
func TestNobodyIsCalledBack(t *testing.T) {
	t.Parallel()
	var found []string
	for _, room := range []string{".", "signing", "egress", "receiver", "schema", "store", "tracing", "activities", "workflows"} {
		found = append(found, handed(t, room)...)
	}
	slices.Sort(found)
	known := []string{}
	for name, reason := range callbacks() {
		require.NotEmpty(t, reason, name)
		known = append(known, name)
	}
	slices.Sort(known)
	require.Equal(t, known, slices.Compact(found), "a function that a lower room is handed needs a reason in callbacks()")
}

// handed returns the exported functions, methods and struct fields of a room by which it
// is handed a function.
func handed(t *testing.T, room string) []string {
	t.Helper()
	var names []string
	paths, err := filepath.Glob(filepath.Join("..", room, "*.go"))
	require.NoError(t, err)
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		require.NoError(t, err)
		for _, declared := range file.Decls {
			names = append(names, functionsOf(file.Name.Name, declared)...)
		}
	}
	return names
}

func functionsOf(pkg string, declared ast.Decl) []string {
	var names []string
	switch d := declared.(type) {
	case *ast.FuncDecl:
		name := pkg + "."
		if d.Recv != nil {
			receiver := strings.TrimPrefix(typeName(d.Recv.List[0].Type), "*")
			if !ast.IsExported(receiver) {
				return nil
			}
			name += receiver + "."
		}
		if d.Name.IsExported() && takesFunction(d.Type.Params) {
			names = append(names, name+d.Name.Name)
		}
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			if of, isType := spec.(*ast.TypeSpec); isType && of.Name.IsExported() {
				names = append(names, fieldsOf(pkg+"."+of.Name.Name+".", of.Type)...)
			}
		}
	}
	return names
}

// fieldsOf returns the exported fields of a struct that are functions.
func fieldsOf(prefix string, of ast.Expr) []string {
	structure, isStruct := of.(*ast.StructType)
	if !isStruct {
		return nil
	}
	var names []string
	for _, field := range structure.Fields.List {
		if _, isFunction := field.Type.(*ast.FuncType); !isFunction {
			continue
		}
		for _, name := range field.Names {
			if name.IsExported() {
				names = append(names, prefix+name.Name)
			}
		}
	}
	return names
}

func takesFunction(parameters *ast.FieldList) bool {
	return slices.ContainsFunc(parameters.List, func(p *ast.Field) bool {
		_, isFunction := p.Type.(*ast.FuncType)
		return isFunction
	})
}

func typeName(of ast.Expr) string {
	switch e := of.(type) {
	case *ast.StarExpr:
		return typeName(e.X)
	case *ast.Ident:
		return e.Name
	case *ast.IndexExpr:
		return typeName(e.X)
	case *ast.IndexListExpr:
		return typeName(e.X)
	}
	return ""
}
