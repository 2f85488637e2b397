package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
)

// writeLine writes v as one line of JSON without touching payloads: unlike
// json.Marshal it escapes no HTML. JSON payloads with line breaks are the one
// thing that a line cannot hold; they are written compact.
func writeLine(w io.Writer, v eventLine) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("write event %s of stream %s: %w", v.EventID, v.StreamID, err)
	}
	_, err := w.Write(b.Bytes())
	return err
}
