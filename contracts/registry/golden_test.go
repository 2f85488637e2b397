package registry_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/exesdb/exesdb/contracts/registry"
)

var update = flag.Bool("update", false, "write golden files for new events and new fields; bytes that can no longer be read stay an error")

const golden = "testdata/golden"

// TestGoldenBytes reads the bytes that an earlier release wrote for every event
// and compares what they say. With -update a field that was added since is
// written too, but never over bytes that today's schema reads differently.
func TestGoldenBytes(t *testing.T) {
	for _, e := range registry.Events() {
		t.Run(e.Name, func(t *testing.T) {
			bin, text := filepath.Join(golden, e.Name+".binpb"), filepath.Join(golden, e.Name+".json")
			written, err := os.ReadFile(bin)
			if os.IsNotExist(err) && *update {
				writeGolden(t, filled(e), bin, text)
				return
			}
			if err != nil {
				t.Fatalf("read the golden bytes (new event? go test ./registry -run TestGoldenBytes -update): %v", err)
			}
			want, err := os.ReadFile(text)
			if err != nil {
				t.Fatalf("read what the golden bytes say: %v", err)
			}
			read := e.Message()
			if err := proto.Unmarshal(written, read); err != nil {
				t.Fatalf("today's schema cannot read the golden bytes: %v", err)
			}
			if got := asJSON(t, read); !bytes.Equal(got, want) {
				t.Fatalf("today's schema reads the golden bytes differently; the change is not compatible.\ngot  %s\nwant %s", got, want)
			}
			if unknown := firstUnknown(read.ProtoReflect()); unknown != "" {
				t.Fatalf("the golden bytes have fields of %s that today's schema does not know: a field was removed", unknown)
			}
			again, err := proto.MarshalOptions{Deterministic: true}.Marshal(read)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(again, written) {
				t.Errorf("the golden bytes do not survive a round trip")
			}
			if !proto.Equal(read, filled(e)) {
				if *update {
					writeGolden(t, filled(e), bin, text)
					return
				}
				t.Errorf("the golden bytes lack a field that was added (go test ./registry -run TestGoldenBytes -update)")
			}
		})
	}
}

// TestGoldenFilesBelongToEvents finds files of events that are gone: their records are still in the topics.
func TestGoldenFilesBelongToEvents(t *testing.T) {
	files, err := os.ReadDir(golden)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(strings.TrimSuffix(file.Name(), ".json"), ".binpb")
		if _, ok := registry.ByName(name); !ok {
			t.Errorf("%s is of no event of the registry", file.Name())
		}
	}
	if want := 2 * len(registry.Events()); len(files) != want {
		t.Errorf("%d golden files, want %d", len(files), want)
	}
}

// TestUnknownFieldsSurvive passes a newer release's fields through this one: a
// service that reads and publishes again must lose nothing, at no depth.
func TestUnknownFieldsSurvive(t *testing.T) {
	future := protowire.AppendTag(nil, 18_999, protowire.BytesType)
	future = protowire.AppendString(future, "of a later release")
	for _, e := range registry.Events() {
		t.Run(e.Name, func(t *testing.T) {
			newer := filled(e)
			places := plant(newer.ProtoReflect(), future)
			sent, err := proto.MarshalOptions{Deterministic: true}.Marshal(newer)
			if err != nil {
				t.Fatal(err)
			}
			if got := bytes.Count(sent, future); got != places {
				t.Fatalf("planted the field in %d places, %d are in the bytes", places, got)
			}
			read := e.Message()
			if err := proto.Unmarshal(sent, read); err != nil {
				t.Fatal(err)
			}
			again, err := proto.MarshalOptions{Deterministic: true}.Marshal(read)
			if err != nil {
				t.Fatal(err)
			}
			if got := bytes.Count(again, future); got != places {
				t.Errorf("the field survives in %d of %d places", got, places)
			}
			if !bytes.Equal(again, sent) {
				t.Errorf("a round trip changes the bytes")
			}
		})
	}
}

// plant adds an unknown field to a message and all messages in it, and counts them.
func plant(m protoreflect.Message, unknown []byte) int {
	places := 1
	m.SetUnknown(unknown)
	eachMessage(m, func(inner protoreflect.Message) { places += plant(inner, unknown) })
	return places
}

// firstUnknown names the first message that has unknown fields; "" is none.
func firstUnknown(m protoreflect.Message) string {
	if len(m.GetUnknown()) > 0 {
		return string(m.Descriptor().Name())
	}
	found := ""
	eachMessage(m, func(inner protoreflect.Message) {
		if found == "" {
			found = firstUnknown(inner)
		}
	})
	return found
}

// eachMessage visits the messages directly in a message.
func eachMessage(m protoreflect.Message, visit func(protoreflect.Message)) {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.IsMap() && f.MapValue().Message() != nil:
			v.Map().Range(func(_ protoreflect.MapKey, value protoreflect.Value) bool {
				visit(value.Message())
				return true
			})
		case f.IsMap() || f.Message() == nil:
		case f.IsList():
			for i := range v.List().Len() {
				visit(v.List().Get(i).Message())
			}
		default:
			visit(v.Message())
		}
		return true
	})
}

// writeGolden writes both forms of a message.
func writeGolden(t *testing.T, m proto.Message, bin, text string) {
	t.Helper()
	written, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(golden, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(bin, written, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(text, asJSON(t, m), 0o644); err != nil {
		t.Fatal(err)
	}
}

// asJSON is protobuf's JSON in one fixed layout; protojson varies its spaces on purpose.
func asJSON(t *testing.T, m proto.Message) []byte {
	t.Helper()
	written, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	var layout bytes.Buffer
	if err := json.Indent(&layout, written, "", "  "); err != nil {
		t.Fatal(err)
	}
	layout.WriteByte('\n')
	return layout.Bytes()
}
