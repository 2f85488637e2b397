package decisions_test

import (
	"strings"
	"testing"

	"github.com/exesdb/exesdb/contracts"
	"github.com/exesdb/exesdb/contracts/decisions"
)

func TestEveryQuestionHasAPromise(t *testing.T) {
	read, err := decisions.Parse(contracts.Decisions)
	if err != nil {
		t.Fatal(err)
	}
	if len(read) != 20 {
		t.Errorf("%d decisions, the storming left 20 questions", len(read))
	}
	shows := make(map[string]string)
	for i, d := range read {
		if d.Number != i+1 {
			t.Errorf("decision %d has the number %d", i+1, d.Number)
		}
		if d.Promise == "" {
			t.Errorf("decision %d promises nothing", d.Number)
		}
		for _, test := range d.ShownBy {
			// One test may show several promises; it is planned for all of them or for none.
			planned, seen := shows[test.Package+":"+test.Name]
			if seen && planned != test.Planned {
				t.Errorf("decision %d: %s is planned as %q here and as %q elsewhere", d.Number, test.Name, test.Planned, planned)
			}
			shows[test.Package+":"+test.Name] = test.Planned
		}
	}
}

func TestParse(t *testing.T) {
	read, err := decisions.Parse("# Decisions\n\n### 1. First\n\nOne\nline.\n\nShown by: `acceptance/startup:TestA`\nShown by: `acceptance:TestB` (planned: cluster)\n\n## Chapter\n\nWords.\n")
	if err != nil {
		t.Fatal(err)
	}
	if len(read) != 1 || read[0].Title != "First" || read[0].Promise != "One\nline." {
		t.Fatalf("read %+v", read)
	}
	want := []decisions.Test{{Package: "acceptance/startup", Name: "TestA"}, {Package: "acceptance", Name: "TestB", Planned: "cluster"}}
	if len(read[0].ShownBy) != 2 || read[0].ShownBy[0] != want[0] || read[0].ShownBy[1] != want[1] {
		t.Errorf("shown by %+v, want %+v", read[0].ShownBy, want)
	}
}

func TestParseRefuses(t *testing.T) {
	for name, document := range map[string]string{
		"no test shows it":          "### 1. First\n\nWords.\n",
		"is not of the form \"###":  "### First\n",
		"is not of the form \"Show": "### 1. First\n\nShown by: TestA\n",
		"(planned: cluster)":        "### 1. First\n\nShown by: `acceptance/startup:TestA` (planned: later)\n",
	} {
		if _, err := decisions.Parse(document); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%q: error is %v, want %q", document, err, name)
		}
	}
}
