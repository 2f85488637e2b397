//go:build ignore

// Command gotests reads what `go test -json` wrote, prints the output of what failed, then the reason of each failure on
// a few lines, and ends with one line of counts: passed, failed, skipped. A test with subtests counts through them; a failure that belongs to no test (a build, a panic, a
// timeout) counts as one.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
)

type event struct {
	Action     string
	Package    string
	ImportPath string
	Test       string
	Output     string
}

type test struct{ pkg, name string }

// outputLines is how much of a failure is shown: its end. reasonLines is how much of what its checks say stands in the
// summary: the beginning.
const (
	outputLines = 60
	reasonLines = 4
)

// check is a line that a test's own check wrote; the output of processes, which the harness repeats, is none.
var check = regexp.MustCompile(`^\s+(\w+\.go:\d+): `)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: gotests FILE")
		os.Exit(2)
	}
	file, err := os.Open(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	defer file.Close()

	var order []test
	result := make(map[test]string)
	parent := make(map[test]bool)
	output := make(map[test][]string)
	reasons := make(map[test][]string)
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			continue // make's own lines
		}
		if e.Package == "" {
			// A build's output carries the import path, with the tested variant in brackets.
			e.Package, _, _ = strings.Cut(e.ImportPath, " ")
		}
		t := test{e.Package, e.Test}
		switch e.Action {
		case "output", "build-output":
			output[t] = append(output[t], e.Output)
			if check.MatchString(e.Output) && !strings.Contains(e.Output, " the last output of ") && len(reasons[t]) < reasonLines {
				reasons[t] = append(reasons[t], e.Output[:min(len(e.Output), 400)])
			}
			if len(output[t]) > outputLines {
				output[t] = output[t][1:]
			}
		case "run", "start":
			if _, seen := result[t]; !seen {
				order = append(order, t)
				result[t] = "unfinished"
			}
			for name := t.name; ; {
				i := strings.LastIndexByte(name, '/')
				if i < 0 {
					break
				}
				name = name[:i]
				parent[test{t.pkg, name}] = true
			}
		case "pass", "fail", "skip":
			if _, seen := result[t]; !seen {
				order = append(order, t)
			}
			result[t] = e.Action
		}
	}
	if err := lines.Err(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}

	var passed, failed, skipped int
	var summary strings.Builder
	below := func(t test) bool { // a failure that a finer one accounts for
		return slices.ContainsFunc(order, func(o test) bool {
			if o == t || o.pkg != t.pkg || result[o] != "fail" && result[o] != "unfinished" {
				return false
			}
			return t.name == "" || strings.HasPrefix(o.name, t.name+"/")
		})
	}
	for _, t := range order {
		switch result[t] {
		case "pass":
			if t.name != "" && !parent[t] {
				passed++
			}
		case "skip":
			if t.name != "" {
				skipped++
			}
		default:
			if below(t) {
				continue
			}
			failed++
			fmt.Printf("--- FAIL: %s %s (%s)\n%s\n", t.pkg, t.name, result[t], strings.Join(output[t], ""))
			fmt.Fprintf(&summary, "FAILED: %s %s\n%s\n", t.pkg, t.name, strings.TrimRight(strings.Join(reasons[t], ""), "\n"))
		}
	}
	fmt.Print(summary.String())
	fmt.Println(passed, failed, skipped)
}
