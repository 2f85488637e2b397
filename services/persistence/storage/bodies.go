package storage

import (
	"encoding/binary"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"google.golang.org/protobuf/encoding/protowire"
)

// fieldEvents is the number of HistoricalEventsLoaded.events: the events of a write are
// stored as an answer carries them, so that a page is made by copying.
const fieldEvents = protowire.Number(2)

// appendEntry encodes one event of a stored write.
func appendEntry(b, event []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, fieldEvents, protowire.BytesType), event)
}

// entry is one event of a stored write.
type entry struct {
	whole []byte // as an answer carries it
	event []byte // the encoded RecordedEvent
}

// appendEntries takes a stored write apart; the entries are parts of raw.
func appendEntries(entries []entry, raw []byte) ([]entry, error) {
	for len(raw) > 0 {
		field, kind, n := protowire.ConsumeTag(raw)
		if n < 0 || field != fieldEvents || kind != protowire.BytesType {
			return nil, errMalformed
		}
		event, m := protowire.ConsumeBytes(raw[n:])
		if m < 0 {
			return nil, errMalformed
		}
		entries = append(entries, entry{whole: raw[:n+m], event: event})
		raw = raw[n+m:]
	}
	return entries, nil
}

// writes reads the events of stored writes by log offset. Offsets that follow
// each other cost a step, others a seek.
type writes struct {
	it      *pebble.Iterator
	cur     int64 // of it, when it is valid
	key     []byte
	entries []entry
}

func newWrites(r pebble.Reader) (*writes, error) {
	it, err := r.NewIter(&pebble.IterOptions{LowerBound: []byte{prefixBody}, UpperBound: []byte{prefixBody + 1}})
	if err != nil {
		return nil, err
	}
	return &writes{it: it}, nil
}

// from gives the first write with events at a log offset or after it; it is valid until the next call.
func (w *writes) from(offset int64) (entries []entry, at int64, ok bool, err error) {
	valid := w.it.Valid()
	switch {
	case valid && w.cur == offset:
	case valid && w.cur < offset && offset-w.cur <= 2:
		valid = w.it.Next()
		if valid && w.offset() < offset {
			valid = w.seek(offset)
		}
	default:
		valid = w.seek(offset)
	}
	if !valid {
		return nil, 0, false, w.it.Error()
	}
	if len(w.it.Key()) != 1+8 {
		return nil, 0, false, errMalformed
	}
	w.cur = w.offset()
	raw, err := w.it.ValueAndErr()
	if err != nil {
		return nil, 0, false, err
	}
	if w.entries, err = appendEntries(w.entries[:0], raw); err != nil {
		return nil, 0, false, fmt.Errorf("events of the write at log offset %d: %w", w.cur, err)
	}
	return w.entries, w.cur, true, nil
}

func (w *writes) offset() int64 { return int64(binary.BigEndian.Uint64(w.it.Key()[1:])) }

func (w *writes) seek(offset int64) bool {
	w.key = offsetKey(w.key[:0], prefixBody, offset)
	return w.it.SeekGE(w.key)
}

// at gives the events of the write at a log offset; that there are none is an error.
func (w *writes) at(offset int64) ([]entry, error) {
	entries, at, ok, err := w.from(offset)
	if err != nil {
		return nil, err
	}
	if !ok || at != offset {
		return nil, fmt.Errorf("there are no events at log offset %d", offset)
	}
	return entries, nil
}

// data gives the data of one event of the write at a log offset.
func (w *writes) data(offset int64, index int) ([]byte, error) {
	entries, err := w.at(offset)
	if err != nil {
		return nil, err
	}
	if index >= len(entries) {
		return nil, errMalformed
	}
	return eventData(entries[index].event)
}

func (w *writes) close() error { return w.it.Close() }

// span is the run of versions that one write gave to a stream: the value of the index by version.
type span struct {
	offset int64
	count  int64
}

func appendSpan(b []byte, s span) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(s.offset))
	return binary.AppendUvarint(b, uint64(s.count))
}

func readSpan(b []byte) (span, error) {
	if len(b) < 8 {
		return span{}, errMalformed
	}
	count, n := binary.Uvarint(b[8:])
	if n <= 0 || n != len(b)-8 || count == 0 {
		return span{}, errMalformed
	}
	return span{offset: int64(binary.BigEndian.Uint64(b)), count: int64(count)}, nil
}
