// Docs writes the documents that are generated from the contracts: CATALOGUE.md,
// asyncapi.yaml and openapi/exesdb.openapi.json. Run it in the contracts module
// ("go generate ./..."), after buf. With -check it writes nothing and says which
// document is out of date.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"github.com/exesdb/exesdb/contracts/internal/docs"
)

func main() {
	module := flag.String("module", ".", "folder of the contracts module")
	check := flag.Bool("check", false, "write nothing; fail when a document is out of date")
	flag.Parse()
	if err := run(*module, *check); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run generates the documents and writes or compares them.
func run(module string, check bool) error {
	files, err := docs.Generate(os.DirFS(module))
	if err != nil {
		return fmt.Errorf("generate the documents of %s: %w", module, err)
	}
	for _, file := range files {
		path := filepath.Join(module, filepath.FromSlash(file.Path))
		if check {
			written, err := os.ReadFile(path)
			if err != nil {
				return fmt.Errorf("read %s: %w", path, err)
			}
			if !bytes.Equal(written, file.Content) {
				return fmt.Errorf("%s is out of date: run \"go generate ./...\" in contracts", path)
			}
			continue
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return fmt.Errorf("make the folder of %s: %w", path, err)
		}
		if err := os.WriteFile(path, file.Content, 0o644); err != nil {
			return fmt.Errorf("write %s: %w", path, err)
		}
	}
	return nil
}
