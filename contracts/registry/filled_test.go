package registry_test

import (
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/exesdb/exesdb/contracts/registry"
)

// eventFiles are the .proto files that the events are declared in, with those that they import.
func eventFiles() []protoreflect.FileDescriptor {
	var files []protoreflect.FileDescriptor
	seen := make(map[string]bool)
	add := func(file protoreflect.FileDescriptor) {
		if !seen[file.Path()] {
			seen[file.Path()] = true
			files = append(files, file)
		}
	}
	for _, e := range registry.Events() {
		file := e.Message().ProtoReflect().Descriptor().ParentFile()
		add(file)
		for i := range file.Imports().Len() {
			add(file.Imports().Get(i).FileDescriptor)
		}
	}
	return files
}

// filled is the event's message with every field set. A field's value follows from
// its number alone, so that a new field leaves the others' bytes as they were.
func filled(e registry.Event) proto.Message {
	message := e.Message()
	fill(message.ProtoReflect(), 0)
	return message
}

// fill sets every field. It descends four levels, more than any message has.
func fill(m protoreflect.Message, depth int) {
	if depth > 4 {
		return
	}
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		switch {
		case f.IsMap():
			entry := m.Mutable(f).Map()
			for n := range 2 {
				entry.Set(scalar(f.MapKey(), n).MapKey(), scalar(f.MapValue(), n))
			}
		case f.IsList():
			list := m.Mutable(f).List()
			for n := range 2 {
				if f.Message() != nil {
					fill(list.AppendMutable().Message(), depth+1)
				} else {
					list.Append(scalar(f, n))
				}
			}
		case f.Message() != nil:
			fill(m.Mutable(f).Message(), depth+1)
		default:
			m.Set(f, scalar(f, 0))
		}
	}
}

// scalar is the n-th value of a field without parts; never the zero value, which is not encoded.
func scalar(f protoreflect.FieldDescriptor, n int) protoreflect.Value {
	number := int64(f.Number())*100 + int64(n)
	switch f.Kind() {
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(fmt.Sprintf("text-%d", number))
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte{0xff, 0x00, byte(f.Number())})
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(true)
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(f.Enum().Values().Get(1).Number())
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		return protoreflect.ValueOfInt32(int32(number))
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		// Beyond what a float can hold.
		return protoreflect.ValueOfInt64(1<<53 + number)
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return protoreflect.ValueOfUint32(uint32(number))
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return protoreflect.ValueOfUint64(1<<63 + uint64(number))
	case protoreflect.FloatKind:
		return protoreflect.ValueOfFloat32(float32(number) / 4)
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64(float64(number) / 4)
	default:
		panic(fmt.Sprintf("fill %s: no value for a %s", f.FullName(), f.Kind()))
	}
}
