package docs

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/bufbuild/protocompile"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/exesdb/exesdb/contracts/registry"
)

// eventsFolder holds the messages of the events, below the proto root.
const eventsFolder = "exesdb/events/v1"

// Schema is what the .proto files of the events say, with their comments, which
// the generated Go code does not carry.
type Schema struct {
	// Files in the order of their paths.
	Files []protoreflect.FileDescriptor

	byName map[protoreflect.Name]protoreflect.MessageDescriptor
}

// LoadSchema parses the .proto files of the events below the contracts module's folder.
func LoadSchema(module fs.FS) (*Schema, error) {
	root, err := fs.Sub(module, "proto")
	if err != nil {
		return nil, fmt.Errorf("open the proto folder: %w", err)
	}
	paths, err := fs.Glob(root, eventsFolder+"/*.proto")
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", eventsFolder, err)
	}
	if len(paths) == 0 {
		return nil, fmt.Errorf("list %s: no .proto file", eventsFolder)
	}
	compiler := protocompile.Compiler{
		Resolver: protocompile.WithStandardImports(&protocompile.SourceResolver{
			Accessor: func(path string) (io.ReadCloser, error) { return root.Open(path) },
		}),
		SourceInfoMode: protocompile.SourceInfoStandard,
	}
	files, err := compiler.Compile(context.Background(), paths...)
	if err != nil {
		return nil, fmt.Errorf("parse the .proto files: %w", err)
	}
	schema := &Schema{byName: make(map[protoreflect.Name]protoreflect.MessageDescriptor)}
	for _, file := range files {
		schema.Files = append(schema.Files, file)
		for i := range file.Messages().Len() {
			message := file.Messages().Get(i)
			schema.byName[message.Name()] = message
		}
	}
	return schema, nil
}

// Message of an event, with its comments.
func (s *Schema) Message(e registry.Event) (protoreflect.MessageDescriptor, error) {
	name := MessageName(e.Name)
	message, ok := s.byName[name]
	if !ok {
		return nil, fmt.Errorf("find the message of event %s: no message %s in %s", e.Name, name, eventsFolder)
	}
	return message, nil
}

// Vocabulary are the messages that are parts of events, not events, in the order of the files.
func (s *Schema) Vocabulary() []protoreflect.MessageDescriptor {
	events := make(map[protoreflect.Name]bool)
	for _, e := range registry.Events() {
		events[MessageName(e.Name)] = true
	}
	var parts []protoreflect.MessageDescriptor
	for _, file := range s.Files {
		for i := range file.Messages().Len() {
			if message := file.Messages().Get(i); !events[message.Name()] {
				parts = append(parts, message)
			}
		}
	}
	return parts
}

// Enums of all files, those inside messages included.
func (s *Schema) Enums() []protoreflect.EnumDescriptor {
	var enums []protoreflect.EnumDescriptor
	for _, file := range s.Files {
		for i := range file.Enums().Len() {
			enums = append(enums, file.Enums().Get(i))
		}
		for i := range file.Messages().Len() {
			inner := file.Messages().Get(i).Enums()
			for j := range inner.Len() {
				enums = append(enums, inner.Get(j))
			}
		}
	}
	return enums
}

// MessageName is the camel-case form of an event's name.
func MessageName(event string) protoreflect.Name {
	var name strings.Builder
	for word := range strings.SplitSeq(event, "_") {
		name.WriteString(strings.ToUpper(word[:1]) + word[1:])
	}
	return protoreflect.Name(name.String())
}

// Comment of a declaration: the one before it, else the one behind it, on one line.
func Comment(d protoreflect.Descriptor) string {
	location := d.ParentFile().SourceLocations().ByDescriptor(d)
	comment := location.LeadingComments
	if strings.TrimSpace(comment) == "" {
		comment = location.TrailingComments
	}
	return strings.Join(strings.Fields(comment), " ")
}

// TypeName of a field as a reader of the .proto file knows it.
func TypeName(f protoreflect.FieldDescriptor) string {
	switch {
	case f.IsMap():
		return fmt.Sprintf("map<%s, %s>", TypeName(f.MapKey()), TypeName(f.MapValue()))
	case f.IsList():
		return elementName(f) + "[]"
	default:
		return elementName(f)
	}
}

// elementName of a field's type, without its cardinality.
func elementName(f protoreflect.FieldDescriptor) string {
	switch f.Kind() {
	case protoreflect.MessageKind, protoreflect.GroupKind:
		return string(f.Message().Name())
	case protoreflect.EnumKind:
		return enumName(f.Enum())
	default:
		return f.Kind().String()
	}
}

// enumName tells enums inside messages apart by their message.
func enumName(e protoreflect.EnumDescriptor) string {
	if message, ok := e.Parent().(protoreflect.MessageDescriptor); ok {
		return string(message.Name()) + "." + string(e.Name())
	}
	return string(e.Name())
}
