package docs_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/exesdb/exesdb/contracts/internal/docs"
	"github.com/exesdb/exesdb/contracts/registry"
)

// module is the contracts module's folder, seen from this package.
const module = "../.."

// documents are generated once for all tests, by path.
var documents = sync.OnceValues(generateAll)

func generateAll() (map[string][]byte, error) {
	files, err := docs.Generate(os.DirFS(module))
	if err != nil {
		return nil, err
	}
	byPath := make(map[string][]byte)
	for _, file := range files {
		byPath[file.Path] = file.Content
	}
	return byPath, nil
}

func generate(t *testing.T) map[string][]byte {
	t.Helper()
	generated, err := documents()
	if err != nil {
		t.Fatal(err)
	}
	return generated
}

func TestDocumentsAreUpToDate(t *testing.T) {
	for path, content := range generate(t) {
		committed, err := os.ReadFile(filepath.Join(module, filepath.FromSlash(path)))
		if err != nil {
			t.Errorf("read the committed document: %v", err)
			continue
		}
		if !bytes.Equal(committed, content) {
			t.Errorf("%s is out of date. Mend it: cd contracts && go generate ./...", path)
		}
	}
}

func TestGenerationIsDeterministic(t *testing.T) {
	first := generate(t)
	second, err := generateAll()
	if err != nil {
		t.Fatal(err)
	}
	for path := range first {
		if !bytes.Equal(first[path], second[path]) {
			t.Errorf("%s differs between two runs", path)
		}
	}
}

func TestGenerateNamesTheMissingSource(t *testing.T) {
	_, err := docs.Generate(os.DirFS(t.TempDir()))
	if err == nil || !strings.Contains(err.Error(), "no .proto file") {
		t.Errorf("error is %v, want it to name the missing .proto files", err)
	}
}

func TestCatalogueHasEveryEventAndFieldWithItsComment(t *testing.T) {
	catalogue := string(generate(t)[docs.CataloguePath])
	for _, e := range registry.Events() {
		_, section, found := strings.Cut(catalogue, "\n### "+e.Name+"\n")
		if !found {
			t.Errorf("no heading for %s", e.Name)
			continue
		}
		section, _, _ = strings.Cut(section, "\n##")
		for _, want := range []string{e.Doc, "`<store_id>." + e.Name + "`", "| key | " + string(e.Key) + " |"} {
			if !strings.Contains(section, want) {
				t.Errorf("the section of %s lacks %q", e.Name, want)
			}
		}
		fields := e.Message().ProtoReflect().Descriptor().Fields()
		for i := range fields.Len() {
			if name := string(fields.Get(i).Name()); !strings.Contains(section, "`"+name+"`") {
				t.Errorf("the section of %s lacks the field %s", e.Name, name)
			}
		}
		for _, p := range e.Policies() {
			if !strings.Contains(section, p.Name) {
				t.Errorf("the section of %s lacks the policy %s", e.Name, p.Name)
			}
		}
	}
	// A comment of the .proto file, which the generated code does not have.
	if !strings.Contains(catalogue, "| Identity of the write: the same id has one effect. |") {
		t.Error("the comments of the fields are missing")
	}
}

func TestCatalogueLinksLeadToHeadings(t *testing.T) {
	catalogue := string(generate(t)[docs.CataloguePath])
	anchors := make(map[string]bool)
	for line := range strings.Lines(catalogue) {
		if heading, ok := strings.CutPrefix(strings.TrimLeft(line, "#"), " "); ok && strings.HasPrefix(line, "#") {
			drop := strings.NewReplacer(" ", "-", ".", "", ":", "", ",", "", "\n", "")
			anchors[drop.Replace(strings.ToLower(heading))] = true
		}
	}
	links := 0
	for _, part := range strings.Split(catalogue, "](#")[1:] {
		anchor, _, _ := strings.Cut(part, ")")
		links++
		if !anchors[anchor] {
			t.Errorf("a link leads to #%s, which is no heading", anchor)
		}
	}
	if links < len(registry.Events()) {
		t.Errorf("only %d links", links)
	}
}

func TestSequencesNameEveryEventInOrder(t *testing.T) {
	for _, s := range registry.Scenarios() {
		diagram, at := docs.Sequence(s), 0
		for _, e := range s.Events() {
			next := strings.Index(diagram[at:], "->>kafka: "+e.Name+"\n")
			if next < 0 {
				t.Errorf("scenario %d: %s is missing or out of order", s.Number, e.Name)
				continue
			}
			at += next
			for _, consumer := range e.Consumers {
				if !strings.Contains(diagram[at:], "kafka-->>"+string(consumer)+": "+e.Name+"\n") {
					t.Errorf("scenario %d: %s does not reach %s", s.Number, e.Name, consumer)
				}
			}
		}
	}
}
