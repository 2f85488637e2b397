package api

import (
	"fmt"
	"io"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"

	apiv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/api/v1"
)

// jsonCodec is the gateway's Marshaler. Protobuf's own JSON would turn data into
// base64 and versions into strings; this one keeps data as the client sent it.
type jsonCodec struct{}

var _ runtime.Marshaler = jsonCodec{}

// Marshal implements runtime.Marshaler for the responses of the API.
func (jsonCodec) Marshal(v any) ([]byte, error) {
	var w writer
	if err := w.message(v); err != nil {
		return nil, err
	}
	return append(w.out, '\n'), nil
}

// Unmarshal implements runtime.Marshaler for the bodies of the API.
func (jsonCodec) Unmarshal(data []byte, v any) error {
	req, ok := v.(*apiv1.AppendRequest)
	if !ok {
		return typeError("read", v)
	}
	return decodeAppend(data, req)
}

// NewDecoder implements runtime.Marshaler.
func (c jsonCodec) NewDecoder(r io.Reader) runtime.Decoder {
	return runtime.DecoderFunc(func(v any) error {
		if whole, ok := r.(*wholeBody); ok {
			return c.Unmarshal(whole.bytes, v)
		}
		body, err := io.ReadAll(r)
		if err != nil {
			return fmt.Errorf("read the body: %w", err)
		}
		return c.Unmarshal(body, v)
	})
}

// NewEncoder implements runtime.Marshaler.
func (c jsonCodec) NewEncoder(w io.Writer) runtime.Encoder {
	return runtime.EncoderFunc(func(v any) error {
		out, err := c.Marshal(v)
		if err != nil {
			return err
		}
		if _, err := w.Write(out); err != nil {
			return fmt.Errorf("write the body: %w", err)
		}
		return nil
	})
}

// ContentType implements runtime.Marshaler.
func (jsonCodec) ContentType(v any) string {
	if _, ok := v.(*apiv1.Problem); ok {
		return "application/problem+json"
	}
	return "application/json"
}
