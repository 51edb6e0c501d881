package main

import (
	"go/ast"
	"go/token"
	"regexp"
)

// complexity is the cyclomatic complexity of a function: one, and one more for each place
// where it can go two ways.
func complexity(f *ast.FuncDecl) int {
	ways := 1
	ast.Inspect(f, func(node ast.Node) bool {
		switch n := node.(type) {
		case *ast.IfStmt, *ast.ForStmt, *ast.RangeStmt:
			ways++
		case *ast.CaseClause:
			if n.List != nil { // not default
				ways++
			}
		case *ast.CommClause:
			if n.Comm != nil { // not default
				ways++
			}
		case *ast.BinaryExpr:
			if n.Op == token.LAND || n.Op == token.LOR {
				ways++
			}
		}
		return true
	})
	return ways
}

// methods counts the methods of an interface. It ignores lists of types for generics.
func methods(spec *ast.TypeSpec) (int, bool) {
	declared, ok := spec.Type.(*ast.InterfaceType)
	if !ok {
		return 0, false
	}
	count := 0
	for _, field := range declared.Methods.List {
		switch field.Type.(type) {
		case *ast.FuncType:
			count += len(field.Names)
		case *ast.Ident, *ast.SelectorExpr, *ast.IndexExpr:
			count++
		}
	}
	return count, count > 0
}

// phrases are the ways of speech that a reader has to turn round.
var phrases = regexp.MustCompile(`(?i)\b(what is|those that|so many|none)\b`)

func worn(line string) bool { return phrases.MatchString(line) }
