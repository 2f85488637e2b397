//go:build ignore

// Command gotests reads what `go test -json` wrote, prints the output of what failed, and ends with one line of counts:
// passed, failed, skipped. A test with subtests counts through them; a failure that belongs to no test (a build, a panic, a
// timeout) counts as one.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
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

// outputLines is how much of a failure is shown: its end, where the reason is.
const outputLines = 60

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
		}
	}
	fmt.Println(passed, failed, skipped)
}
