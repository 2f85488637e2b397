// Package acceptance shows that the system keeps its promises: contracts/DECISIONS.md
// lists them, and the packages below have the tests.
package acceptance

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"testing"

	"github.com/exesdb/exesdb/acceptance/harness"
	"github.com/exesdb/exesdb/contracts"
	"github.com/exesdb/exesdb/contracts/decisions"
)

// TestEveryDecisionHasItsTests: each test that a decision names exists, unless it is planned.
func TestEveryDecisionHasItsTests(t *testing.T) {
	promises, err := decisions.Parse(contracts.Decisions)
	if err != nil {
		t.Fatal(err)
	}
	if len(promises) != 20 {
		t.Errorf("%d decisions, want the storming's twenty questions", len(promises))
	}
	root, err := harness.Root()
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]map[string]bool{}
	for _, p := range promises {
		for _, shown := range p.ShownBy {
			tests := known[shown.Package]
			if tests == nil {
				tests = testsIn(t, filepath.Join(root, filepath.FromSlash(shown.Package)))
				known[shown.Package] = tests
			}
			switch there := tests[shown.Name]; {
			case !there && shown.Planned == "":
				t.Errorf("decision %d (%s): there is no %s in %s", p.Number, p.Title, shown.Name, shown.Package)
			case there && shown.Planned != "":
				t.Errorf("decision %d (%s): %s is there and still marked as planned", p.Number, p.Title, shown.Name)
			}
		}
	}
}

// testsIn are the names of the test functions of a folder.
func testsIn(t *testing.T, folder string) map[string]bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]bool{}
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, declaration := range parsed.Decls {
			if f, ok := declaration.(*ast.FuncDecl); ok && f.Recv == nil {
				tests[f.Name.Name] = true
			}
		}
	}
	return tests
}
