package storage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	eventsv1 "github.com/exesdb/exesdb/contracts/gen/go/exesdb/events/v1"
)

const (
	// rawBytes is at least how many bytes of raw records are kept.
	rawBytes = 64 << 20
	// rawChunkBytes is how many of them leave at once.
	rawChunkBytes = 4 << 20
	// maxRawValue bounds a value's size when it is read; Kafka's largest record is smaller.
	maxRawValue = 64 << 20
)

// RawRecord is a record of the log as it was read.
type RawRecord struct {
	Offset      int64
	TimestampMS int64
	Key, Value  []byte
	Headers     []RawHeader
}

// RawHeader is one header of a record.
type RawHeader struct{ Key, Value []byte }

// trim adds a record to the newest chunk and returns up to which offset raw
// records leave, or -1. It counts record by record, so that batches do not matter.
func (m *meta) trim(r RawRecord) int64 {
	size := int64(len(r.Key) + len(r.Value))
	if n := len(m.Raw); n == 0 || m.Raw[n-1].bytes >= rawChunkBytes {
		m.Raw = append(m.Raw, rawChunk{from: r.Offset})
	}
	m.Raw[len(m.Raw)-1].bytes += size
	var total int64
	for _, c := range m.Raw {
		total += c.bytes
	}
	if len(m.Raw) > 1 && total-m.Raw[0].bytes >= rawBytes {
		m.Raw = append([]rawChunk(nil), m.Raw[1:]...)
		return m.Raw[0].from
	}
	return -1
}

// appendRaw encodes all but the offset, which is in the key, and but the data of the
// events that the write stored: the body has those, and they are most of a record. A nil
// and an empty value differ: a nil value is a tombstone in Kafka.
func appendRaw(b []byte, r RawRecord, stored []*eventsv1.NewEvent) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(r.TimestampMS))
	b = appendOptional(b, r.Key)
	b = appendValue(b, r.Value, stored)
	for _, h := range r.Headers {
		b = appendOptional(b, h.Key)
		b = appendOptional(b, h.Value)
	}
	return b
}

// worthLeavingOut is the least size of data that is left out.
const worthLeavingOut = 64

// appendValue encodes a value as the bytes between the data that are left out, each with
// the index of the event whose data follow, from 1; 0 ends the value.
func appendValue(b, v []byte, stored []*eventsv1.NewEvent) []byte {
	if v == nil {
		return append(b, 0)
	}
	b = binary.AppendUvarint(b, uint64(len(v))+1)
	for i, e := range stored {
		if len(e.GetData()) < worthLeavingOut {
			continue
		}
		// Any place with these bytes will do.
		at := bytes.Index(v, e.GetData())
		if at < 0 {
			continue
		}
		b = binary.AppendUvarint(b, uint64(at))
		b = append(b, v[:at]...)
		b = binary.AppendUvarint(b, uint64(i)+1)
		v = v[at+len(e.GetData()):]
	}
	b = binary.AppendUvarint(b, uint64(len(v)))
	b = append(b, v...)
	return append(b, 0)
}

// readValue is the inverse of appendValue; dataOf gives the data of an event of the write.
func readValue(b []byte, dataOf func(index int) ([]byte, error)) (v, rest []byte, err error) {
	size, n := binary.Uvarint(b)
	switch {
	case n <= 0 || size > maxRawValue:
		return nil, nil, errMalformed
	case size == 0:
		return nil, b[n:], nil
	}
	b = b[n:]
	v = make([]byte, 0, size-1)
	for {
		between, n := binary.Uvarint(b)
		if n <= 0 || between > uint64(len(b)-n) {
			return nil, nil, errMalformed
		}
		v = append(v, b[n:n+int(between)]...)
		b = b[n+int(between):]
		event, n := binary.Uvarint(b)
		if n <= 0 {
			return nil, nil, errMalformed
		}
		b = b[n:]
		if event == 0 {
			break
		}
		data, err := dataOf(int(event - 1)) //nolint:gosec // checked there
		if err != nil {
			return nil, nil, err
		}
		v = append(v, data...)
	}
	if uint64(len(v)) != size-1 {
		return nil, nil, errMalformed
	}
	return v, b, nil
}

func appendOptional(b, v []byte) []byte {
	if v == nil {
		return append(b, 0)
	}
	b = binary.AppendUvarint(b, uint64(len(v))+1)
	return append(b, v...)
}

func readOptional(b []byte) (v, rest []byte, err error) {
	size, n := binary.Uvarint(b)
	switch {
	case n <= 0 || size > uint64(len(b)-n)+1:
		return nil, nil, errMalformed
	case size == 0:
		return nil, b[n:], nil
	}
	end := n + int(size) - 1
	return append([]byte{}, b[n:end]...), b[end:], nil
}

func readRaw(offset int64, b []byte, dataOf func(index int) ([]byte, error)) (RawRecord, error) {
	if len(b) < 8 {
		return RawRecord{}, errMalformed
	}
	r := RawRecord{Offset: offset, TimestampMS: int64(binary.BigEndian.Uint64(b))}
	var err error
	if r.Key, b, err = readOptional(b[8:]); err != nil {
		return RawRecord{}, err
	}
	if r.Value, b, err = readValue(b, dataOf); err != nil {
		return RawRecord{}, err
	}
	for len(b) > 0 {
		var h RawHeader
		if h.Key, b, err = readOptional(b); err != nil {
			return RawRecord{}, err
		}
		if h.Value, b, err = readOptional(b); err != nil {
			return RawRecord{}, err
		}
		r.Headers = append(r.Headers, h)
	}
	return r, nil
}

// RawRecords gives the kept raw records from an offset on, in order: what is
// needed to refill a log that lost its unsynced tail. The oldest kept record may
// be newer than from; the caller must look at the first offset. An error of fn ends it.
func (s *Shard) RawRecords(from int64, fn func(RawRecord) error) error {
	it, err := s.db.NewIter(&pebble.IterOptions{
		LowerBound: offsetKey(nil, prefixRaw, max(from, 0)),
		UpperBound: []byte{prefixRaw + 1},
	})
	if err != nil {
		return fmt.Errorf("read raw records of shard %d: %w", s.id, err)
	}
	writes, err := newWrites(s.db)
	if err != nil {
		return errors.Join(fmt.Errorf("read raw records of shard %d: %w", s.id, err), it.Close())
	}
	defer func() { _ = writes.close() }()
	for ok := it.First(); ok; ok = it.Next() {
		offset := int64(binary.BigEndian.Uint64(it.Key()[1:]))
		r, err := readRaw(offset, it.Value(), func(index int) ([]byte, error) { return writes.data(offset, index) })
		if err == nil {
			err = fn(r)
		}
		if err != nil {
			_ = it.Close()
			return fmt.Errorf("read raw record of shard %d: %w", s.id, err)
		}
	}
	if err := it.Close(); err != nil {
		return fmt.Errorf("read raw records of shard %d: %w", s.id, err)
	}
	return nil
}
