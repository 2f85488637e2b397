package storage

import (
	"encoding/binary"
	"errors"

	"google.golang.org/protobuf/encoding/protowire"

	eventsv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/events/v1"
	"github.com/exesdb/exesdb/services/persistence/core"
)

var errMalformed = errors.New("malformed value")

// recorded is what a stored event has besides its NewEvent.
type recorded struct {
	stream      string
	version     int64
	createdAtMS int64
	shard       int32
	at          position
}

// appendRecorded encodes a RecordedEvent as protobuf does, without building
// one: the bytes are those of proto.Marshal (a test holds this to be so).
func appendRecorded(b []byte, e *eventsv1.NewEvent, r recorded) []byte {
	b = appendText(b, 1, e.EventId)
	b = appendText(b, 2, e.EventType)
	b = appendText(b, 3, r.stream)
	b = appendNumber(b, 4, r.version)
	b = appendBytes(b, 5, e.Data)
	if e.Binary {
		b = appendNumber(b, 6, 1)
	}
	b = appendBytes(b, 7, e.Metadata)
	for _, tag := range e.Tags {
		b = protowire.AppendTag(b, 8, protowire.BytesType)
		b = protowire.AppendString(b, tag)
	}
	b = appendNumber(b, 9, r.createdAtMS)
	b = appendNumber(b, 10, int64(r.shard))
	b = appendNumber(b, 11, r.at.offset)
	return appendNumber(b, 12, int64(r.at.index))
}

func appendText(b []byte, field protowire.Number, s string) []byte {
	if s == "" {
		return b
	}
	return protowire.AppendString(protowire.AppendTag(b, field, protowire.BytesType), s)
}

func appendBytes(b []byte, field protowire.Number, v []byte) []byte {
	if len(v) == 0 {
		return b
	}
	return protowire.AppendBytes(protowire.AppendTag(b, field, protowire.BytesType), v)
}

func appendNumber(b []byte, field protowire.Number, n int64) []byte {
	if n == 0 {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), uint64(n))
}

// peek reads stream and version out of an encoded RecordedEvent; they stand
// before its data, so the body is not touched.
func peek(raw []byte) (stream []byte, version int64, err error) {
	for len(raw) > 0 {
		field, kind, n := protowire.ConsumeTag(raw)
		if n < 0 {
			return nil, 0, errMalformed
		}
		if field > 4 { // fields are in order
			return stream, version, nil
		}
		raw = raw[n:]
		switch {
		case field == 3 && kind == protowire.BytesType:
			if stream, n = protowire.ConsumeBytes(raw); n < 0 {
				return nil, 0, errMalformed
			}
		case field == 4 && kind == protowire.VarintType:
			var v uint64
			if v, n = protowire.ConsumeVarint(raw); n < 0 {
				return nil, 0, errMalformed
			}
			version = int64(v)
		default:
			if n = protowire.ConsumeFieldValue(field, kind, raw); n < 0 {
				return nil, 0, errMalformed
			}
		}
		raw = raw[n:]
	}
	return stream, version, nil
}

// bytesFields gives the fields of bytes of an encoded message in turn, until fn has seen enough.
func bytesFields(raw []byte, fn func(field protowire.Number, value []byte) (more bool)) error {
	for len(raw) > 0 {
		field, kind, n := protowire.ConsumeTag(raw)
		if n < 0 {
			return errMalformed
		}
		raw = raw[n:]
		if kind != protowire.BytesType {
			if n = protowire.ConsumeFieldValue(field, kind, raw); n < 0 {
				return errMalformed
			}
			raw = raw[n:]
			continue
		}
		value, n := protowire.ConsumeBytes(raw)
		if n < 0 {
			return errMalformed
		}
		if !fn(field, value) {
			return nil
		}
		raw = raw[n:]
	}
	return nil
}

// eventData reads the data out of an encoded RecordedEvent; nil when there are none.
func eventData(raw []byte) (data []byte, err error) {
	err = bytesFields(raw, func(field protowire.Number, value []byte) bool {
		if field != 5 {
			return true
		}
		data = value
		return false
	})
	return data, err
}

// labels reads type and tags out of an encoded RecordedEvent; the tags are appended to tags.
func labels(raw []byte, tags []string) (eventType string, found []string, err error) {
	err = bytesFields(raw, func(field protowire.Number, value []byte) bool {
		switch field {
		case 2:
			eventType = string(value)
		case 8:
			tags = append(tags, string(value))
		}
		return true
	})
	return eventType, tags, err
}

func appendHead(b []byte, h core.Head) []byte {
	b = append(b, byte(h.State))
	b = binary.AppendVarint(b, h.Version)
	return binary.AppendVarint(b, h.FirstVersion)
}

func readHead(b []byte) (core.Head, error) {
	if len(b) < 3 {
		return core.Head{}, errMalformed
	}
	h := core.Head{State: core.StreamState(b[0])}
	version, n := binary.Varint(b[1:])
	if n <= 0 {
		return core.Head{}, errMalformed
	}
	first, m := binary.Varint(b[1+n:])
	if m <= 0 || 1+n+m != len(b) {
		return core.Head{}, errMalformed
	}
	h.Version, h.FirstVersion = version, first
	return h, nil
}

func appendPlace(b []byte, p core.Place) []byte {
	b = binary.AppendUvarint(b, uint64(p.Version))
	b = binary.AppendUvarint(b, uint64(p.Offset))
	return append(b, p.Stream...)
}

func readPlace(b []byte) (core.Place, error) {
	version, n := binary.Uvarint(b)
	if n <= 0 {
		return core.Place{}, errMalformed
	}
	offset, m := binary.Uvarint(b[n:])
	if m <= 0 {
		return core.Place{}, errMalformed
	}
	return core.Place{Version: int64(version), Offset: int64(offset), Stream: string(b[n+m:])}, nil
}

func appendWrite(b []byte, w core.Write) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(w.Offset))
	return append(b, w.BodyHash...)
}

func readWrite(b []byte) (core.Write, error) {
	if len(b) < 8 {
		return core.Write{}, errMalformed
	}
	return core.Write{Offset: int64(binary.BigEndian.Uint64(b)), BodyHash: append([]byte(nil), b[8:]...)}, nil
}
