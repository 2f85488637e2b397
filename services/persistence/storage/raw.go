package storage

import (
	"encoding/binary"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

const (
	// rawBytes is at least how many bytes of raw records are kept.
	rawBytes = 64 << 20
	// rawChunkBytes is how many of them leave at once.
	rawChunkBytes = 4 << 20
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

// appendRaw encodes all but the offset, which is in the key. A nil and an empty
// value differ: a nil value is a tombstone in Kafka.
func appendRaw(b []byte, r RawRecord) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(r.TimestampMS))
	b = appendOptional(b, r.Key)
	b = appendOptional(b, r.Value)
	for _, h := range r.Headers {
		b = appendOptional(b, h.Key)
		b = appendOptional(b, h.Value)
	}
	return b
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

func readRaw(offset int64, b []byte) (RawRecord, error) {
	if len(b) < 8 {
		return RawRecord{}, errMalformed
	}
	r := RawRecord{Offset: offset, TimestampMS: int64(binary.BigEndian.Uint64(b))}
	var err error
	if r.Key, b, err = readOptional(b[8:]); err != nil {
		return RawRecord{}, err
	}
	if r.Value, b, err = readOptional(b); err != nil {
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
	for ok := it.First(); ok; ok = it.Next() {
		r, err := readRaw(int64(binary.BigEndian.Uint64(it.Key()[1:])), it.Value())
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
