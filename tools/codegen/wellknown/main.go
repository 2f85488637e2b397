// Command wellknown writes the .proto files of google.api that our API imports,
// printed from the descriptors in Google's own Go module, so that no copy of
// them has to live in this repository.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/jhump/protoreflect/v2/protoprint"
	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/reflect/protoreflect"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: wellknown DIR")
		os.Exit(2)
	}
	files := []protoreflect.FileDescriptor{
		annotations.File_google_api_http_proto,
		annotations.File_google_api_annotations_proto,
		annotations.File_google_api_field_behavior_proto,
	}
	for _, fd := range files {
		if err := write(os.Args[1], fd); err != nil {
			fmt.Fprintf(os.Stderr, "write %s: %v\n", fd.Path(), err)
			os.Exit(1)
		}
	}
}

func write(dir string, fd protoreflect.FileDescriptor) error {
	text, err := (&protoprint.Printer{}).PrintProtoToString(fd)
	if err != nil {
		return err
	}
	path := filepath.Join(dir, fd.Path())
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(text), 0o644)
}
