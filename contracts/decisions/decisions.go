// Package decisions reads the promises of DECISIONS.md, so that a test can check
// that each of them is shown by a test that exists.
//
// A promise is a heading and what follows it up to the next heading of its level:
//
//	### 3. The gateway refuses until the system is ready
//
//	The words of the promise, on one or more lines.
//
//	Shown by: `acceptance/startup:TestGatewayRefusesUntilSystemReady`
//	Shown by: `acceptance/failover:TestNewLeaderGoesOn` (planned: cluster)
//
// A line "Shown by" names the folder of a test package, from the root of the
// repository, and a test function in it. One that a later issue adds is planned.
package decisions

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Decision is one promise.
type Decision struct {
	// Number of the question, from 1 to 20.
	Number int
	// Title is the promise in one line.
	Title string
	// Promise in full.
	Promise string
	// ShownBy are the tests that show it; never empty.
	ShownBy []Test
}

// Test that shows a promise.
type Test struct {
	// Package is the folder of the test package, from the root of the repository.
	Package string
	// Name of the test function.
	Name string
	// Planned is the issue that will add the test ("cluster", "subscriptions"); empty when it must exist.
	Planned string
}

// The lines that are more than words.
var (
	headingLine = regexp.MustCompile(`^### ([0-9]+)\. (.+)$`)
	chapterLine = regexp.MustCompile(`^#{1,2} `)
	shownByLine = regexp.MustCompile("^Shown by: `(acceptance(?:/[a-z][a-z0-9]*)*):(Test[A-Z][A-Za-z0-9]*)`(?: \\(planned: (cluster|subscriptions)\\))?$")
)

// Parse reads the promises in their order. It fails at the first line that
// begins with "Shown by" or "###" and is not of the form above, and for a
// promise that no test shows.
func Parse(document string) ([]Decision, error) {
	var read []Decision
	open := false
	for number, line := range strings.Split(document, "\n") {
		switch {
		case chapterLine.MatchString(line):
			open = false
		case strings.HasPrefix(line, "###"):
			heading := headingLine.FindStringSubmatch(line)
			if heading == nil {
				return nil, fmt.Errorf("read line %d: %q is not of the form \"### <number>. <promise>\"", number+1, line)
			}
			question, err := strconv.Atoi(heading[1])
			if err != nil {
				return nil, fmt.Errorf("read line %d: %w", number+1, err)
			}
			read, open = append(read, Decision{Number: question, Title: heading[2]}), true
		case !open:
		case strings.HasPrefix(line, "Shown by"):
			shown := shownByLine.FindStringSubmatch(line)
			if shown == nil {
				return nil, fmt.Errorf("read line %d: %q is not of the form \"Shown by: `acceptance/<package>:Test<Name>`\", with or without \" (planned: cluster)\" or \" (planned: subscriptions)\"", number+1, line)
			}
			last := &read[len(read)-1]
			last.ShownBy = append(last.ShownBy, Test{Package: shown[1], Name: shown[2], Planned: shown[3]})
		default:
			last := &read[len(read)-1]
			last.Promise = strings.TrimSpace(last.Promise + "\n" + line)
		}
	}
	for _, d := range read {
		if len(d.ShownBy) == 0 {
			return nil, fmt.Errorf("read decision %d: no test shows it", d.Number)
		}
	}
	return read, nil
}
